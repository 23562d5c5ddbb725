"""PyTorch checkpoints: zip files, the older stream of pickles, and TorchScript archives, one file or shards.

`torch.load` is not used: it takes older files whole into memory, and cannot read a TorchScript archive without compiling its code. The
pickle is read by a machine that runs nothing (`inert_pickle`), and storages by position.
https://docs.pytorch.org/docs/stable/notes/serialization.html
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from math import prod
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import BITS, Source
from modelkin_indexer.sources.pytorch.inert_pickle import SAVE_AGAIN, Persistent, read_pickle
from modelkin_indexer.sources.pytorch.signs import turned
from modelkin_indexer.sources.pytorch.values import STORAGES, Found, Stored, find_tensors, is_allowed, within
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.safetensors.header import read_index
from modelkin_indexer.sources.sliced import SlicedSource, are_slices
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin, Plain, Presented
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, open_regular, read_config, read_exact
from modelkin_indexer.sources.stored.shards import settled, stale
from modelkin_indexer.sources.stored.strided import Strided
from modelkin_indexer.sources.stored.zip_files import BoundedFile, Member, read_members

SUFFIXES = (".bin", ".pt", ".pth", ".pth.tar", ".ckpt")
ZIP_MARK, PICKLE_MARK = b"PK\x03\x04", b"\x80"
LEGACY_MAGIC, LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
COMPARED = 1 << 20  # bytes of a tensor that stands in two files
MAX_PICKLE = 64_000_000  # bytes of the pickle that names the tensors: 100,000 tensors take 20 MB


class File(Struct, frozen=True):
    """One open file: its tensors, where its storages begin and how many bytes they have."""

    path: Path
    descriptor: int
    size: int
    found: Found
    storages: Mapping[str, tuple[int, int]]
    header_bytes: int


def open_weights(weights: Weights) -> Source:
    """The file, all shards that the index names, or slices of one model.

    Raises:
        SourceError: a file is missing, damaged, would run code, or holds a tensor of a kind that is not read.
    """
    if weights.index is None and are_slices(weights.files):
        with ExitStack() as opened:
            slices = []
            for file in weights.files:
                slices.append(_open_model(replace(weights, files=(file,))))
                opened.callback(slices[-1].close)
            joined = SlicedSource(slices)
            opened.pop_all()
            return joined
    return _open_model(weights)


def _open_model(weights: Weights) -> DecodedSource:
    shards, weight_map, notes = weights.files, dict[str, str](), weights.notes
    if weights.index is not None:
        weight_map = read_index(weights.index, SUFFIXES)
        named = tuple(weights.index.parent / name for name in sorted(set(weight_map.values())))
        if shards and not all(path.exists() for path in named):
            weight_map, notes = {}, (*notes, stale(weights.index))
        else:
            shards = named
    with ExitStack() as opened:
        files = [_open(path, opened) for path in shards]
        shown = {file.path.name: {name: presented_of(file, name, stored) for name, stored in file.found.tensors.items()} for file in files}
        where, told = settled(shown, weight_map, lambda name, *two: _same(*(shown[file][name] for file in two)), shards[0].parent)
        presented = {name: shown[file][name] for name, file in where.items()}
        weights = replace(weights, notes=(*notes, *told))
        config, config_notes = read_config(shards[0].parent)
        origin = Origin(
            weights.path,
            weights.name,
            tuple(SourceFile(file.path.name, file.size) for file in files),
            config,
            weights.notes + tuple(note for file in files for note in file.found.notes) + config_notes,
            header_bytes=sum(file.header_bytes for file in files),
            metadata={name: said for file in files for name, said in file.found.metadata.items()},
        )
        return DecodedSource(origin, presented, opened.pop_all().close)


def _same(one: Presented, two: Presented) -> bool:
    """Whether two tensors have equal bytes; of large ones the first are looked at."""
    if one.info != two.info:
        return False
    steps = {one.decoder.block_bytes, two.decoder.block_bytes}
    count = min(one.info.nbytes, max(COMPARED, *steps))
    out = [np.empty(count, np.uint8) for _ in range(2)]
    for some, shown in zip(out, (one, two), strict=True):
        shown.decoder.decode(0, some)
    return bool(np.array_equal(out[0], out[1]))


def _open(path: Path, opened: ExitStack) -> File:
    descriptor = open_regular(path)
    opened.callback(os.close, descriptor)
    size = os.fstat(descriptor).st_size
    head = bytes(read_exact(descriptor, 0, min(4, size), path))
    if head == ZIP_MARK:
        return open_zip(path, descriptor, size)
    if head[:1] == PICKLE_MARK:
        return _open_legacy(path, descriptor, size)
    raise UnsupportedFormat("is no PyTorch checkpoint (neither a zip archive nor a pickle)", path=path, remedy=SAVE_AGAIN)


def open_zip(path: Path, descriptor: int, size: int, alone: bool = False) -> File:
    """A zip archive: one folder with data.pkl and data/KEY for each storage. TorchScript's has code beside it, which is not looked at.

    The archive ends at byte `size`. `alone`: it holds one tensor without a name.
    """
    members = read_members(descriptor, size, path)
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise UnsupportedFormat(f"has {len(pickles)} pickles named data.pkl in its archive, not one", path=path, remedy=SAVE_AGAIN)
    root = pickles[0].removesuffix("data.pkl")
    order = members.get(f"{root}byteorder")
    if order is not None and bytes(read_exact(descriptor, order.start, min(order.stored, 6), path)) != b"little":
        raise UnsupportedFormat("holds big-endian numbers", path=path, remedy=SAVE_AGAIN)
    member = _plain(members[pickles[0]], path)
    if member.size > MAX_PICKLE:
        raise UnsupportedFormat(f"has a pickle of {member.size:,} bytes, more than {MAX_PICKLE:,}", path=path, remedy=SAVE_AGAIN)
    value = read_pickle(BoundedFile(descriptor, member.start, member.start + member.size, path), path, is_allowed)
    found = find_tensors(value, path, alone)
    keys = {stored.storage for stored in found.tensors.values()}
    places = {key: _plain(members[f"{root}data/{key}"], path) for key in keys if f"{root}data/{key}" in members}
    storages = {key: (place.start, place.size) for key, place in places.items()}
    return File(path, descriptor, size, found, storages, member.size)


def _plain(member: Member, path: Path) -> Member:
    if not member.plain:
        raise UnsupportedFormat(f"holds {member.name!r} compressed, which PyTorch does not do", path=path, remedy=SAVE_AGAIN)
    return member


def _open_legacy(path: Path, descriptor: int, size: int) -> File:
    """Pickles (magic, version, system, the tensors, their storages' keys), then each storage: its length, its numbers."""
    stream = BoundedFile(descriptor, 0, min(size, MAX_PICKLE), path)
    if read_pickle(stream, path, is_allowed) != LEGACY_MAGIC or read_pickle(stream, path, is_allowed) != LEGACY_VERSION:
        raise UnsupportedFormat("is a pickle, but no PyTorch checkpoint", path=path, remedy=SAVE_AGAIN)
    system = read_pickle(stream, path, is_allowed)
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise UnsupportedFormat("holds big-endian numbers", path=path, remedy=SAVE_AGAIN)
    outside: list[Persistent] = []
    found = find_tensors(read_pickle(stream, path, is_allowed, outside), path)
    keys = read_pickle(stream, path, is_allowed)
    widths = {str(item.key[2]): _width(item) for item in outside if isinstance(item.key, tuple) and len(item.key) >= 5}
    at, storages = stream.tell(), dict[str, tuple[int, int]]()
    for key in keys if isinstance(keys, list) else ():
        count = int.from_bytes(read_exact(descriptor, at, 8, path), "little") if at <= size - 8 else size
        nbytes = count * widths.get(str(key), size)
        if nbytes > size - at - 8:
            problem = f"has a storage of {nbytes:,} bytes at byte {at:,}, past its end ({size:,} bytes)"
            raise DamagedFile(problem, path=path, remedy=f"The file is cut short. {FETCH_AGAIN}")
        storages[str(key)] = (at + 8, nbytes)
        at += 8 + nbytes
    return File(path, descriptor, size, found, storages, stream.tell() + 8 * len(storages))


def _width(storage: Persistent) -> int:
    """Bytes of one number in a storage; of a kind that is not read, 8 or 16 (complex), which only its own tensors tell."""
    kind = getattr(storage.key[1], "name", "").rpartition(".")[2]
    return BITS[STORAGES[kind]] // 8 if kind in STORAGES else _OTHER_WIDTHS.get(kind, 1)


_OTHER_WIDTHS = {"ComplexFloatStorage": 8, "ComplexDoubleStorage": 16, "QInt32Storage": 4}


def presented_of(file: File, name: str, stored: Stored) -> Presented:
    """A tensor of an open file, as readers see it. Raises DamagedFile."""
    width = BITS[stored.dtype] // 8
    if stored.storage not in file.storages:
        problem = f"is in storage {stored.storage!r}, which the file does not hold"
        raise DamagedFile(problem, path=file.path, tensor=name, remedy=FETCH_AGAIN)
    start, nbytes = file.storages[stored.storage]
    if not within(stored, nbytes // width):
        problem = f"leaves its storage of {nbytes:,} bytes (shape {stored.shape}, strides {stored.strides}, offset {stored.offset})"
        raise DamagedFile(problem, path=file.path, tensor=name, remedy=FETCH_AGAIN)
    info = TensorInfo(name, stored.dtype, stored.shape, prod(stored.shape) * width)
    if stored.contiguous:
        return turned(Presented(info, Plain(file.descriptor, file.path, name, start + stored.offset * width)), *stored.turned)
    storage = Presented(TensorInfo(name, stored.dtype, (nbytes // width,), nbytes), Plain(file.descriptor, file.path, name, start))
    return turned(Presented(info, Strided(storage, file.path, stored.offset, stored.shape, stored.strides)), *stored.turned)
