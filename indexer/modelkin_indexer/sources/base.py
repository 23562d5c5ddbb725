"""What every container of weights offers: names with shapes, and bytes by position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from modelkin_indexer.places import TensorInfo


@dataclass(frozen=True)
class SourceFile:
    """A file that belongs to the weights. `digest` is a content digest where one is known without reading (else "")."""

    name: str
    size: int
    digest: str = ""


class Source(Protocol):
    """Read access to one model's weights. Reading never runs code from the file and never leaves the folder."""

    path: Path
    name: str
    tensors: Mapping[str, TensorInfo]
    config: Mapping[str, Any]
    files: tuple[SourceFile, ...]
    bytes_read: int

    def read(self, tensor: str, start: int, stop: int, out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
        """Bytes [start, stop) of a tensor's data, as stored: in the first bytes of `out` if given, else in a fresh array.

        Several threads may read at once.
        """
        ...

    def close(self) -> None: ...
