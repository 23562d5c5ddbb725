"""GGUF weights, one file or its splits: dequantised block by block, and as they were before llama.cpp's converter changed them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType, dequantize

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.gguf.header import Entry, Header, read_header
from modelkin_indexer.sources.gguf.names import Restored, Restoring, config
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import Bytes, DecodedSource, Origin, Plain, Presented
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, PICK, fill, open_regular
from modelkin_indexer.sources.stored.shards import NAMED

MAX_HEAD = 64 << 20  # decoded bytes of one head's rows: those of the largest models have 16 MB (128 rows of 32,768 numbers)
MAX_EXPERTS = 65_536  # a stack of more is no stack of experts
FILE_TYPE, SPLITS = "general.file_type", "split.count"
# What a stored bfloat16 gain plus 1 may be off by after 1 is taken away again: half a step of float32 near 2.
SHIFT_ERROR = 2.0**-23


@dataclass(frozen=True)
class _File:
    path: Path
    descriptor: int
    size: int
    header: Header


def open_weights(weights: Weights) -> DecodedSource:
    """The file, or all splits, of one model.

    Raises:
        SourceError: a file is missing, damaged or not to be read, or a tensor is of a type that is not decoded.
    """
    with ExitStack() as opened:
        files = [_open(path, opened) for path in weights.files]
        metadata = files[0].header.metadata
        _check_places(files)
        every = [(file, entry) for file in files for entry in file.header.entries]
        entries = [(file, entry) for file, entry in every if 0 not in entry.shape]
        empty = [entry.name for _, entry in every if 0 in entry.shape]
        told = (f"Tensors without a number are left out: {', '.join(empty[:NAMED])}.",) if empty else ()
        restoring = Restoring({entry.name: entry.shape for _, entry in entries}, metadata)
        presented: dict[str, Presented] = {}
        for file, entry in entries:
            for shown in _presented(file, entry, restoring.restored(entry.name)):
                if shown.info.name in presented:
                    raise DamagedFile("is there twice", path=file.path, tensor=shown.info.name, remedy=FETCH_AGAIN)
                presented[shown.info.name] = shown
        origin = Origin(
            weights.path,
            weights.name,
            tuple(SourceFile(file.path.name, file.size) for file in files),
            config(metadata),
            weights.notes + _split_notes(files) + told,
            _quantization(files),
            sum(file.header.header_bytes for file in files),
        )
        return DecodedSource(origin, presented, opened.pop_all().close)


def _open(path: Path, opened: ExitStack) -> _File:
    descriptor = open_regular(path)
    opened.callback(os.close, descriptor)
    size = os.fstat(descriptor).st_size
    return _File(path, descriptor, size, read_header(descriptor, size, path))


def _split_notes(files: list[_File]) -> tuple[str, ...]:
    count = files[0].header.metadata.get(SPLITS, 1)
    if isinstance(count, int) and count > len(files):
        return (f"{files[0].path.name} is one of {count} splits; only it is read. To read the model, name its folder, and do not {PICK}",)
    return ()


def _quantization(files: list[_File]) -> str:
    """By the type of most quantised numbers, or the recipe that the file names; "" where there are none."""
    numbers: dict[str, int] = {}
    for file in files:
        for entry in file.header.entries:
            kind = GGMLQuantizationType(entry.kind).name
            if kind not in BITS:
                numbers[kind] = numbers.get(kind, 0) + prod(entry.shape)
    if not numbers:
        return ""
    stated = files[0].header.metadata.get(FILE_TYPE)
    recipes = {int(recipe): recipe.name for recipe in LlamaFileType}
    recipe = recipes.get(stated, "") if type(stated) is int else ""
    word = recipe.removeprefix("MOSTLY_")
    return f"GGUF {word if word[:1] in 'IQTMN' and word else max(numbers, key=lambda kind: (numbers[kind], kind))}"


def _kind(file: _File, entry: Entry) -> GGMLQuantizationType:
    """The type of a tensor, with sizes that fit. Raises UnsupportedFormat, DamagedFile."""
    try:
        kind = GGMLQuantizationType(entry.kind)
    except ValueError:
        kind = None
    if kind is None or not (kind.name in BITS or _decodes(kind)):
        word = f"unknown type {entry.kind}" if kind is None else f"type {kind.name}"
        remedy = "Get the model in another form; this library does not decode the type."
        raise UnsupportedFormat(f"has the {word}", path=file.path, tensor=entry.name, remedy=remedy)
    if 0 not in entry.shape and entry.shape[-1] % GGML_QUANT_SIZES[kind][0]:
        problem = f"has rows of {entry.shape[-1]:,} numbers, no multiple of the {GGML_QUANT_SIZES[kind][0]} in a block of {kind.name}"
        raise DamagedFile(problem, path=file.path, tensor=entry.name, remedy=FETCH_AGAIN)
    return kind


@cache
def _decodes(kind: GGMLQuantizationType) -> bool:
    try:
        with np.errstate(all="ignore"):
            dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def _stored_bytes(kind: GGMLQuantizationType, numbers: int) -> int:
    block, size = GGML_QUANT_SIZES[kind]
    return numbers // block * size


def _check_places(files: list[_File]) -> None:
    """All tensors are of types that are decoded, within their file, and do not overlap."""
    for file in files:
        reached, before = file.header.header_bytes, "the header"
        for entry in sorted(file.header.entries, key=lambda entry: (entry.start, entry.name)):
            stop = entry.start + _stored_bytes(_kind(file, entry), prod(entry.shape))
            if stop > file.size:
                problem = f"ends {stop - file.size:,} bytes past the end of the file ({file.size:,} bytes)"
                raise DamagedFile(problem, path=file.path, tensor=entry.name, remedy=f"The file is cut short. {FETCH_AGAIN}")
            if entry.start < reached:
                raise DamagedFile(f"overlaps with {before}", path=file.path, tensor=entry.name, remedy=FETCH_AGAIN)
            reached, before = stop, f"tensor {entry.name!r}"


def _presented(file: _File, entry: Entry, restored: Restored) -> Iterator[Presented]:
    """The tensors that a stored one holds: itself, or one an expert."""
    kind = _kind(file, entry)
    if "#" not in restored.name:
        yield _shown(file, kind, restored, entry.shape, entry.start)
        return
    count, shape = entry.shape[0], entry.shape[1:]
    if not shape or count > MAX_EXPERTS:
        raise DamagedFile(f"is no stack of experts (shape {entry.shape})", path=file.path, tensor=entry.name, remedy=FETCH_AGAIN)
    for expert in range(count):
        name = restored.name.replace("#", str(expert))
        start = entry.start + expert * _stored_bytes(kind, prod(shape))
        yield _shown(file, kind, Restored(name), shape, start)


def _shown(file: _File, kind: GGMLQuantizationType, restored: Restored, shape: tuple[int, ...], start: int) -> Presented:
    changed = restored.less_one or restored.log
    dtype = kind.name if kind.name in BITS and not changed else "F32"
    shape = _published_shape(restored.name, shape)
    info = TensorInfo(restored.name, dtype, shape, prod(shape) * BITS[dtype] // 8)
    heads = restored.heads if restored.heads and shape[0] % (2 * restored.heads) == 0 else 0
    if kind.name in BITS and not changed and not heads:
        return Presented(info, Plain(file.descriptor, file.path, restored.name, start))
    numbers = prod(shape) // heads if heads else GGML_QUANT_SIZES[kind][0]
    if numbers * 4 > MAX_HEAD:
        raise DamagedFile(f"has {heads} heads of {numbers:,} numbers each", path=file.path, tensor=restored.name, remedy=FETCH_AGAIN)
    return Presented(info, _Blocks(file, kind, restored, start, dtype, numbers, shape[0] // heads if heads else 0))


def _published_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Vectors of state-space layers are stored with a second axis: [n, 1], or groups of a gain."""
    if name.endswith((".A_log", ".D")) and shape[-1] == 1:
        return shape[:-1] or shape
    return (prod(shape),) if name.endswith("mixer.norm.weight") else shape


@dataclass(frozen=True)
class _Blocks:
    """Decodes multiples of `numbers`, those of one block; where `head_rows`, a block is the rows of one head, put back
    into order."""

    file: _File
    kind: GGMLQuantizationType
    restored: Restored
    start: int
    dtype: str
    numbers: int
    head_rows: int

    @property
    def block_bytes(self) -> int:
        return self.numbers * BITS[self.dtype] // 8

    def decode(self, start: int, out: Bytes) -> int:
        count = out.nbytes * 8 // BITS[self.dtype]
        stored = np.empty(_stored_bytes(self.kind, count), np.uint8)
        first = self.start + _stored_bytes(self.kind, start * 8 // BITS[self.dtype])
        fill(self.file.descriptor, first, stored.data, self.file.path, self.restored.name)
        out[:] = self._ordered(self._values(stored))
        return stored.nbytes

    def _values(self, stored: Bytes) -> npt.NDArray[Any]:
        """The published numbers, as floats where they are not stored as presented."""
        if self.dtype == self.kind.name and not (self.restored.less_one or self.restored.log):
            return stored.view(f"u{BITS[self.dtype] // 8}")
        with np.errstate(all="ignore"):
            values: npt.NDArray[np.float32] = dequantize(stored.reshape(1, -1), self.kind).reshape(-1)
            if self.restored.less_one:
                return _without_one(values)
            return np.log(-values) if self.restored.log else values

    def _ordered(self, values: npt.NDArray[Any]) -> Bytes:
        if self.head_rows:
            values = np.ascontiguousarray(values.reshape(-1, self.head_rows // 2, 2, self.numbers // self.head_rows).swapaxes(1, 2))
        return values.reshape(-1).view(np.uint8)


def _without_one(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Gains less 1, rounded to the bfloat16 numbers that they were where all of them fit some."""
    less = values - np.float32(1)
    rounded = less.astype(ml_dtypes.bfloat16).astype(np.float32)
    return rounded if bool((np.abs(rounded - less) <= SHIFT_ERROR).all()) else less
