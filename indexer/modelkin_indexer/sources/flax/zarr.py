"""Arrays of Zarr, versions 2 and 3, as Orbax and T5X keep them: a description in JSON, and chunks, each packed by itself.

https://zarr-specs.readthedocs.io
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from msgspec import Struct

from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.flax.arrays import DTYPES, MAX_AXES
from modelkin_indexer.sources.flax.compressed import Lies, Streams
from modelkin_indexer.sources.stored.decoded import Bytes, Decoder
from modelkin_indexer.sources.stored.files import FETCH_AGAIN
from modelkin_indexer.sources.stored.pieces import Joined, Piece

SECOND, THIRD = ".zarray", "zarr.json"  # what an array's description is called
MAX_JSON = 65_536  # bytes of one
MAX_CHUNKS = 100_000  # of one array
NUMPY = {"f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8", "u4": "U32", "u2": "U16", "u1": "U8"}
PACKED = ("zstd", "zlib", "gzip")
ENTRY = 16  # bytes of a chunk's place in a shard's index
NOWHERE = 2**64 - 1  # marks a chunk that was not written
Shape = tuple[int, ...]
Values = Callable[[str], Lies | None]


class Described(Struct, frozen=True):
    """An array: its chunks' shape, how they are packed and called. `inner`: the shape of the chunks inside of each, an index after them."""

    dtype: str
    shape: Shape
    chunks: Shape
    packed: str
    key: Callable[[Shape], str]
    inner: Shape | None = None
    checksum: int = 0  # bytes after a shard's index

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * BITS.get(self.dtype, 8) // 8


class _Unread(Exception):
    """A description that may be sound, of what is not read."""


def described(name: str, data: bytes, path: Path) -> Described | str:
    """What a description says, or the kind of array in words where that is not read. Raises DamagedFile."""
    try:
        said = json.loads(data) if len(data) <= MAX_JSON else None
        if not isinstance(said, dict):
            raise ValueError("no description")
        return _third(said) if "zarr_format" in said and said["zarr_format"] == 3 else _second(said)
    except _Unread as kind:
        return str(kind)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        problem = f"is described in no way that Zarr does ({type(error).__name__}: {error})"
        raise DamagedFile(problem[:300], path=path, tensor=name[:200], remedy=FETCH_AGAIN) from error


def _second(said: Mapping[str, Any]) -> Described:
    shape, chunks = _sizes(said["shape"]), _sizes(said["chunks"])
    packer = said["compressor"]
    kind = "" if packer is None else str(packer["id"])
    if said.get("filters") or said.get("order", "C") != "C" or kind not in ("", *PACKED):
        raise _Unread(f"Zarr, {kind or 'filters'}")
    text = str(said["dtype"])
    dtype = DTYPES.get(text) or (NUMPY.get(text[1:]) if text[:1] in "<|" else None) or ("BOOL" if text == "|b1" else "")
    mark = str(said.get("dimension_separator", "."))
    return _checked(Described(_known(dtype, text), shape, chunks, kind, lambda at: mark.join(map(str, at)) or "0"))


def _third(said: Mapping[str, Any]) -> Described:
    shape, grid = _sizes(said["shape"]), said["chunk_grid"]
    if grid["name"] != "regular" or said.get("node_type") != "array":
        raise _Unread(f"Zarr, {str(grid['name'])[:20]} chunks")
    chunks, text = _sizes(grid["configuration"]["chunk_shape"]), str(said["data_type"])
    encoding = said["chunk_key_encoding"]
    mark = str((encoding.get("configuration") or {}).get("separator", "/" if encoding["name"] == "default" else "."))
    front = ["c"] if encoding["name"] == "default" else []

    def key(at: Shape) -> str:
        return mark.join([*front, *map(str, at)]) or "0"

    inner, checksum, codecs = None, 0, list(said["codecs"])
    if codecs and codecs[0]["name"] == "sharding_indexed":
        inside = codecs[0]["configuration"]
        names = [codec["name"] for codec in inside["index_codecs"]]
        if len(codecs) > 1 or inside.get("index_location", "end") != "end" or names not in (["bytes"], ["bytes", "crc32c"]):
            raise _Unread("Zarr, shards of another order")
        inner, checksum, codecs = _sizes(inside["chunk_shape"]), 4 * ("crc32c" in names), list(inside["codecs"])
    return _checked(Described(_known(DTYPES.get(text, ""), text), shape, chunks, _packer(codecs), key, inner, checksum))


def _packer(codecs: Sequence[Mapping[str, Any]]) -> str:
    """How the bytes in C order, little end first, are packed."""
    plain = bool(codecs) and codecs[0]["name"] == "bytes" and (codecs[0].get("configuration") or {}).get("endian", "little") == "little"
    names = [str(codec["name"]) for codec in codecs]
    if not plain or len(codecs) > 2 or (len(codecs) == 2 and names[1] not in PACKED):
        raise _Unread(f"Zarr, {' and '.join(names)[:40]}")
    return names[1] if len(codecs) == 2 else ""


def _known(dtype: str, text: str) -> str:
    if not dtype or BITS.get(dtype, 0) % 8 or dtype not in BITS:
        raise _Unread(f"Zarr, {text[:20]}")
    return dtype


def _checked(found: Described) -> Described:
    pairs = [(found.shape, found.chunks)] + ([(found.chunks, found.inner)] if found.inner is not None else [])
    for whole, part in pairs:
        if len(whole) != len(part) or 0 in part:
            raise ValueError(f"chunks of {list(part)[:9]} for {list(whole)[:9]}")
    if found.inner is not None and any(n % m for n, m in zip(found.chunks, found.inner, strict=True)):
        raise ValueError("shards that are not full")
    if prod(-(-n // m) for n, m in zip(found.shape, found.inner or found.chunks, strict=True)) > MAX_CHUNKS:
        raise _Unread("Zarr, too many chunks")
    return found


def _sizes(value: Any) -> Shape:
    if not isinstance(value, list) or len(value) > MAX_AXES or not all(type(n) is int and 0 <= n < 1 << 40 for n in value):
        raise ValueError(f"the shape {str(value)[:60]}")
    return tuple(value)


def decoder(name: str, array: Described, values: Values, streams: Streams, path: Path) -> Decoder:
    """What makes an array's numbers. Raises SourceError where a chunk is missing."""
    pieces = []
    for at in _grid(array.shape, array.chunks):
        begin = tuple(number * n for number, n in zip(at, array.chunks, strict=True))
        lies = values(array.key(at))
        if lies is None:
            _fail(f"lacks the chunk {array.key(at)}", name, path)
        found = [(begin, array.chunks, lies)] if array.inner is None else _inside(begin, array, lies, name)
        for first, full, where in found:
            shape = tuple(min(n, end - low) for n, end, low in zip(full, array.shape, first, strict=True))
            if min(shape, default=1) > 0:
                piece = _Chunk(name, full or (1,), shape or (1,), BITS[array.dtype] // 8, array.packed, where, streams)
                pieces.append(Piece(first, shape, piece))
    return Joined(array.dtype, array.shape or (1,), tuple(pieces))


def _inside(begin: Shape, array: Described, lies: Lies, name: str) -> Iterator[tuple[Shape, Shape, Lies]]:
    """The chunks of a shard: where each begins in the array, its shape and its bytes."""
    inner = array.inner or ()
    places = list(_grid(array.chunks, inner))
    size = len(places) * ENTRY + array.checksum
    if lies.length < size:
        _fail("has a shard without its index", name, lies.path)
    index = np.frombuffer(lies.read(lies.length - size, len(places) * ENTRY), "<u8").reshape(-1, 2)
    for at, (offset, length) in zip(places, index.tolist(), strict=True):
        first = tuple(low + number * n for low, number, n in zip(begin, at, inner, strict=True))
        if any(low >= end for low, end in zip(first, array.shape, strict=True)):
            continue
        if offset == NOWHERE or offset + length > lies.length - size:
            _fail("lacks a chunk of a shard", name, lies.path)
        held = lies.held[offset : offset + length] if lies.held is not None else None
        yield first, inner, Lies(lies.path, lies.start + offset, length, held)


def _grid(shape: Shape, chunks: Shape) -> Iterator[Shape]:
    return product(*(range(-(-n // m)) for n, m in zip(shape, chunks, strict=True)))


class _Chunk(Struct, frozen=True):
    """Decodes what lies in the array of a chunk whose full shape may leave it (see `Decoder`)."""

    tensor: str
    full: Shape
    shape: Shape
    width: int
    packed: str
    lies: Lies
    streams: Streams
    block_bytes: int = 1

    def decode(self, start: int, out: Bytes) -> int:
        wanted = prod(self.full) * self.width
        if not self.packed and self.lies.length != wanted:
            _fail(f"has a chunk of {self.lies.length:,} bytes, not {wanted:,}", self.tensor, self.lies.path)
        if self.full[1:] == self.shape[1:]:
            return self.streams.decode(self.lies, self.packed, start, out, self.tensor, wanted)
        row, own = prod(self.full[1:]) * self.width, prod(self.shape[1:]) * self.width
        count, low, rows = 0, start // own, out.reshape(-1, *self.shape[1:], self.width)
        inside = tuple(slice(0, n) for n in self.shape[1:])
        step = max(1, (1 << 20) // row)
        for first in range(0, len(rows), step):
            some = np.empty(min(step, len(rows) - first) * row, np.uint8)
            count += self.streams.decode(self.lies, self.packed, (low + first) * row, some, self.tensor, wanted)
            rows[first : first + step] = some.reshape(-1, *self.full[1:], self.width)[(slice(None), *inside)]
        return count


def _fail(problem: str, name: str, path: Path) -> NoReturn:
    raise DamagedFile(problem, path=path, tensor=name[:200], remedy=FETCH_AGAIN)
