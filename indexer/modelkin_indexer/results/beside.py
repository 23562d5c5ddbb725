"""What lies beside the weights: the files they came in, what is said of them, and the structure around them. Never evidence."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

SHINGLE = np.dtype([("hash", "<u8"), ("line", "<u4")])  # one kept shingle of a file of code
LINEAGE_KINDS = ("base_model", "merged_from", "name_or_path")  # claims that name another model


class SourceFile(Struct, frozen=True):
    """A file that belongs to the weights. `digest` is a content digest where one is known without reading (else "")."""

    name: str
    size: int
    digest: str = ""


class Claim(Struct, frozen=True):
    """Something said about a model, e.g. kind `base_model`, value `org/name`, source `README.md`. Never evidence."""

    kind: str
    value: str
    source: str


class StructurePart(Struct, frozen=True):
    """A thing beside the weights that is shown apart and is never evidence. `kind` is "vocabulary", "code" or "licence"; `name` the file.

    `data` is what of it is kept: of a vocabulary a sketch, of code its shingles, of a licence the text (UTF-8); `digest` is that of `data`.
    """

    kind: str
    name: str
    digest: str
    data: bytes
