"""Safetensors weights: one file, or the shards of one model, read by position. Nothing is mapped, nothing is run."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import Source, Unread
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.safetensors.header import SUFFIX, Stored, read_header, read_index
from modelkin_indexer.sources.safetensors.pieces import Shard, joined, places_of
from modelkin_indexer.sources.stored.files import fill, open_regular, read_config, read_exact
from modelkin_indexer.sources.stored.shards import NAMED, settled, stale

COMPARED = 1 << 20  # bytes at each end of a tensor that stands in two files


class SafetensorsSource:
    """The weights of one model in one or more safetensors files (see `Source` for the attributes).

    Several threads may read at once. Close it, or use it in `contextlib.closing`.
    """

    def __init__(
        self, path: Path, name: str, shards: Sequence[Shard], notes: tuple[str, ...] = (), index: Mapping[str, str] | None = None
    ) -> None:
        """Take over `shards`, at least one and all in one folder. `index`: the file of each tensor, if one says so.

        Raises:
            SourceError: two files hold different tensors of one name, or none holds any.
        """
        self.path, self.name, self.quantization = path, name, ""
        self.unread: Unread = ()
        self._closed = False
        self._lock = threading.Lock()
        self._shards = tuple(shards)
        self._where: dict[str, tuple[Shard, Stored]] = {}
        self.metadata: Mapping[str, str] = {key: value for shard in self._shards for key, value in shard.metadata.items()}
        try:
            notes += self._settle(index or {})
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

    def _settle(self, index: Mapping[str, str]) -> tuple[str, ...]:
        """Find the file of each tensor; what a person should know of it."""
        shards = {shard.path.name: shard for shard in self._shards}
        where, notes = settled({name: shard.tensors for name, shard in shards.items()}, index, self._same, self._shards[0].path.parent)
        empty = sorted(tensor for tensor, file in where.items() if not shards[file].tensors[tensor].info.elements)
        self._where = {tensor: (shards[file], shards[file].tensors[tensor]) for tensor, file in where.items() if tensor not in empty}
        return (*notes, *([f"Tensors without a number are left out: {', '.join(empty[:NAMED])}."] if empty else []))

    def _same(self, tensor: str, file: str, other: str) -> bool:
        """Whether two files hold a tensor with equal bytes; of a large one its ends are looked at."""
        one, two = ((shard, shard.tensors[tensor]) for shard in self._shards if shard.path.name in (file, other))
        if one[1].info != two[1].info:
            return False
        size, step = one[1].info.nbytes, min(one[1].info.nbytes, COMPARED)
        for start in (0, size - step):
            parts = [read_exact(shard.descriptor, stored.start + start, step, shard.path) for shard, stored in (one, two)]
            if parts[0] != parts[1]:
                return False
        return True


def open_weights(weights: Weights) -> Source:
    """The files of one model, or all shards that its index names.

    Where files and index do not agree, as loaders do: the index decides between several, what it leaves out is read too, and an index of
    files that are not there gives way to files that are complete by their names. Notes say so.

    Raises:
        SourceError: a file is missing, damaged or not to be read, or most of what the index names is in none.
    """
    if weights.index is None:
        return _opened(weights, weights.files, weights.notes)
    weight_map = read_index(weights.index, (SUFFIX,))
    shards = [weights.index.parent / shard for shard in sorted(set(weight_map.values()))]
    if weights.files and not all(shard.exists() for shard in shards):
        return _opened(weights, weights.files, (*weights.notes, stale(weights.index)))
    return _opened(weights, shards, weights.notes, weight_map)


def _opened(weights: Weights, paths: Iterable[Path], notes: tuple[str, ...], index: Mapping[str, str] | None = None) -> Source:
    """The files as one model, whose tensors they hold whole or in pieces."""
    with ExitStack() as opened:
        shards = []
        for path in paths:
            shards.append(_open_shard(path))
            opened.callback(os.close, shards[-1].descriptor)
        if (places := places_of(shards)) is not None:
            source = joined(replace(weights, notes=notes), shards, places, opened)
            opened.pop_all()
            return source
        opened.pop_all()
    return SafetensorsSource(weights.path, weights.name, shards, notes, index)


def _open_shard(path: Path) -> Shard:
    descriptor = open_regular(path)
    try:
        size, metadata = os.fstat(descriptor).st_size, dict[str, str]()
        return Shard(path, descriptor, size, read_header(descriptor, size, path, metadata), metadata)
    except BaseException:
        os.close(descriptor)
        raise
