"""What every container of weights offers: names with shapes, and bytes by position."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile

# Bits of one stored number, by safetensors' word for its type: the types that this version decodes.
BITS: Mapping[str, int] = {
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
    "I64": 64,
    "I32": 32,
    "I16": 16,
    "I8": 8,
    "U64": 64,
    "U32": 32,
    "U16": 16,
    "U8": 8,
    "BOOL": 8,
}

# The same of types whose numbers are only decoded by a scheme that knows their scales.
PACKED_BITS: Mapping[str, int] = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}

Unread = tuple[tuple[str, int], ...]


class Source(Protocol):
    """Read access to one model's weights. Reading never runs code from the file and never leaves the folder.

    `tensors` is sorted by name; `config` is the parsed config.json, {} where there is none; `notes` are things a person should know that
    did not stop the reading; `bytes_read` counts what was really fetched, headers included. `quantization` is "" for plain numbers, else
    how the container stores them, in words (e.g. "GGUF Q4_K_M"); what `tensors` and `read` present are then the decoded values.
    `metadata` is text that the container keeps beside its tensors. `unread` are weights that are stored in a way that is known but not
    decoded: what they are in words ("MLX, 4 bits, groups of 64") and their stored bytes; they are not in `tensors`.
    """

    path: Path
    name: str
    tensors: Mapping[str, TensorInfo]
    config: Mapping[str, Any]
    files: tuple[SourceFile, ...]
    notes: tuple[str, ...]
    bytes_read: int
    quantization: str
    metadata: Mapping[str, str]
    unread: Unread

    def read(self, tensor: str, start: int, stop: int, out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
        """Bytes [start, stop) of a tensor's data, as `tensors` presents it: in the first bytes of `out` if given, else in a fresh array.

        Several threads may read at once.
        """
        ...

    def close(self) -> None: ...
