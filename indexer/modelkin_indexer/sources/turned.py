"""Weights some of whose matrices are stored [in, out], as what another model holds shows: presented [out, in], and else as they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from modelkin_indexer.places import Anatomy, Place, TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import Source, Unread


class TurnedSource:
    """A source with these tensors turned round (see `Source` for the attributes)."""

    def __init__(self, source: Source, turned: Collection[str]) -> None:
        """Takes over the source. `turned` are tensors of two axes."""
        self._source = source
        self.path: Path = source.path
        self.name: str = source.name
        self.config: Mapping[str, Any] = source.config
        self.files: tuple[SourceFile, ...] = source.files
        self.notes: tuple[str, ...] = source.notes
        self.quantization: str = source.quantization
        self.metadata: Mapping[str, str] = source.metadata
        self.unread: Unread = source.unread
        self.tensors: Mapping[str, TensorInfo] = {
            name: replace(info, shape=info.shape[::-1], transposed=True) if name in turned else info
            for name, info in source.tensors.items()
        }

    @property
    def bytes_read(self) -> int:
        """What was really fetched."""
        return self._source.bytes_read

    @bytes_read.setter
    def bytes_read(self, count: int) -> None:
        self._source.bytes_read = count

    def read(self, tensor: str, start: int, stop: int, out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
        """Bytes as they are stored: see `Source.read`."""
        return self._source.read(tensor, start, stop, out)

    def close(self) -> None:
        self._source.close()


def may_turn(source: Source, anatomy: Anatomy, places: Collection[Place]) -> frozenset[str]:
    """The tensors of these places that are whole matrices, read in the order in which they are stored."""
    read: dict[str, set[bool]] = {}
    wanted = set()
    for piece in anatomy.pieces:
        for view in piece.views:
            read.setdefault(view.tensor, set()).add(len(view.shape) == 2 and view.strides == (view.columns, 1))
            if piece.place in places:
                wanted.add(view.tensor)
    infos = source.tensors
    return frozenset(n for n in wanted if read[n] == {True} and len(infos[n].shape) == 2 and not infos[n].transposed)
