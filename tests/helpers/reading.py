"""A source's tensors as a reader of them sees them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from modelkin_indexer.opening import open_source
from modelkin_indexer.sources.stored import values


def read(path: Path) -> dict[str, Any]:
    """Every tensor of a model, decoded, as it is presented."""
    found = {}
    with closing(open_source(path)) as source:
        for name, info in source.tensors.items():
            array = values.decode(info.dtype, source.read(name, 0, info.nbytes))
            found[name] = np.array(array.reshape(info.shape[::-1]).T if info.transposed else array.reshape(info.shape))
    return found
