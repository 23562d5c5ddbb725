"""Safetensors weights: one file, or the shards of one model, read by position. Nothing is mapped, nothing is run."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import Unread
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.safetensors.header import SUFFIX, Stored, read_header, read_index
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, PICK, fill, open_regular, read_config


@dataclass(frozen=True)
class _Shard:
    """One open file. `tensors` holds what its header says; `header_bytes` what reading that cost."""

    path: Path
    descriptor: int
    size: int
    tensors: Mapping[str, Stored]

    @property
    def header_bytes(self) -> int:
        return self.size - sum(stored.info.nbytes for stored in self.tensors.values())


class SafetensorsSource:
    """The weights of one model in one or more safetensors files (see `Source` for the attributes).

    Several threads may read at once. Close it, or use it in `contextlib.closing`.
    """

    def __init__(self, path: Path, name: str, shards: Iterable[Path], notes: tuple[str, ...] = ()) -> None:
        """Open `shards`, at least one and all in one folder, and check their headers.

        Raises:
            SourceError: a file cannot be read or is damaged, or two of them hold a tensor of the same name.
        """
        self.path, self.name, self.quantization = path, name, ""
        self.unread: Unread = ()
        self._closed = False
        self._lock = threading.Lock()
        self._shards: list[_Shard] = []
        self._where: dict[str, tuple[_Shard, Stored]] = {}
        self.metadata: dict[str, str] = {}
        try:
            for shard in shards:
                self._add(shard)
            if not self._where:
                raise DamagedFile("holds no tensors", path=path, remedy="Check that this is the file with the weights.")
        except BaseException:
            self.close()
            raise
        self.tensors: Mapping[str, TensorInfo] = {tensor: self._where[tensor][1].info for tensor in sorted(self._where)}
        self.files = tuple(SourceFile(shard.path.name, shard.size) for shard in self._shards)
        config, config_notes = read_config(self._shards[0].path.parent)
        self.config: Mapping[str, Any] = config
        self.notes = notes + config_notes
        self.bytes_read = sum(shard.header_bytes for shard in self._shards)

    def shard_of(self, tensor: str) -> str:
        """The name of the file that holds a tensor, "" if none does."""
        return self._where[tensor][0].path.name if tensor in self._where else ""

    def read(self, tensor: str, start: int, stop: int, out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
        """Bytes [start, stop) of a tensor's data: in the first bytes of `out` (contiguous) if given, else in a fresh array.

        Raises:
            DamagedFile: the file shrank or cannot be read any more.
            KeyError: no such tensor.
            ValueError: bytes outside the tensor, `out` too small or not contiguous, or the source is closed.
        """
        if self._closed:
            raise ValueError(f"{self.path} is closed")
        shard, stored = self._where[tensor]
        if not 0 <= start <= stop <= stored.info.nbytes:
            raise ValueError(f"bytes [{start}, {stop}) are not within the {stored.info.nbytes} of tensor {tensor!r}")
        wanted = np.empty(stop - start, np.uint8) if out is None else out[: stop - start]
        if wanted.shape != (stop - start,) or not wanted.flags.c_contiguous:
            raise ValueError(f"out must be contiguous and hold {stop - start} bytes")
        fill(shard.descriptor, stored.start + start, wanted.data, shard.path, tensor)
        with self._lock:
            self.bytes_read += stop - start
        return wanted

    def close(self) -> None:
        """Close the files; reading raises ValueError afterwards."""
        if not self._closed:
            self._closed = True
            for shard in self._shards:
                os.close(shard.descriptor)

    def _add(self, path: Path) -> None:
        shard = _open_shard(path, self.metadata)
        self._shards.append(shard)
        for name, stored in shard.tensors.items():
            if name in self._where:
                problem = f"is also in {self._where[name][0].path.name}"
                raise DamagedFile(problem, path=path, tensor=name, remedy=f"Remove the file that does not belong to the model, or {PICK}")
            self._where[name] = shard, stored


def open_weights(weights: Weights) -> SafetensorsSource:
    """The files of one model, or all shards that its index names.

    Tensors that a shard holds but the index leaves out are read too, since loaders that walk the shards see them; a note says so.

    Raises:
        SourceError: a file is missing, damaged or not to be read, or lacks a tensor that the index puts there.
    """
    if weights.index is None:
        return SafetensorsSource(weights.path, weights.name, weights.files, weights.notes)
    index = weights.index
    weight_map = read_index(index, (SUFFIX,))
    shards = [index.parent / shard for shard in sorted(set(weight_map.values()))]
    source = SafetensorsSource(weights.path, weights.name, shards, weights.notes)
    for tensor, shard in weight_map.items():
        if source.shard_of(tensor) != shard:
            source.close()
            raise DamagedFile(f"is not in {shard!r}, where the index puts it", path=index, tensor=tensor, remedy=FETCH_AGAIN)
    extra = len(source.tensors) - len(weight_map)
    if extra:
        source.notes += (f"{index.name} leaves out {extra} tensors that its shards hold; they are read too.",)
    return source


def _open_shard(path: Path, metadata: dict[str, str]) -> _Shard:
    descriptor = open_regular(path)
    try:
        size = os.fstat(descriptor).st_size
        return _Shard(path, descriptor, size, read_header(descriptor, size, path, metadata))
    except BaseException:
        os.close(descriptor)
        raise
