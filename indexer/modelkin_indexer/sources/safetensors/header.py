"""What a safetensors header and a shard index say, believed only where it agrees with itself and with the file.

The format: 8 bytes with the header's length (little endian), the header (a JSON object: tensor name -> dtype, shape, data_offsets;
`__metadata__` -> strings), then the tensors' bytes, which must cover the rest of the file exactly once.
https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from msgspec import Struct

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.source import BITS, PACKED_BITS
from modelkin_indexer.sources.safetensors.strict_json import Cursor
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, read_exact, read_small

LENGTH_BYTES = 8
MAX_HEADER = 100_000_000  # the format's own limit
MAX_METADATA = 16_000_000  # bytes of one metadata string; training logs kept there reach a few MB
KEPT_METADATA = 16_000_000  # characters of all metadata that are kept: what libraries say of quantised tensors takes 200 for each
MAX_INDEX = 32_000_000  # twice the index of the largest public models (140,000 tensors)
MAX_INDEX_NOTES = 65_536  # text of an index member that is not the weight map
MAX_AXES = 64  # numpy's limit
MAX_SIZE = 2**63 - 1  # bytes a tensor can have and still be addressed
METADATA = "__metadata__"
KEYS = {"dtype", "shape", "data_offsets"}  # others may stand beside them, as the library allows
COMPLEX = "C64"  # presented as pairs of numbers, the last axis real and imaginary part
SUFFIX = ".safetensors"


class Stored(Struct, frozen=True):
    """A tensor and where its bytes begin in the file."""

    info: TensorInfo
    start: int

    @property
    def stop(self) -> int:
        return self.start + self.info.nbytes


def read_header(descriptor: int, size: int, path: Path, metadata: dict[str, str] | None = None) -> dict[str, Stored]:
    """The tensors of one safetensors file of `size` bytes, those without a number too.

    What its metadata says is added to `metadata`, up to KEPT_METADATA characters.

    Raises:
        DamagedFile: the header contradicts the format, itself or the file.
        UnsupportedFormat: a dtype that this version does not read.
    """
    cursor, data_start = _open_header(descriptor, size, path)
    stored: dict[str, Stored] = {}
    for name in cursor.members():
        if name == METADATA:
            if cursor.null():
                continue
            kept = 0
            for key in cursor.members():
                value = cursor.string("metadata value", MAX_METADATA)
                kept += len(value)
                if metadata is not None and kept <= KEPT_METADATA:
                    metadata[key] = value
        else:
            stored[name] = _entry(name, cursor.value(name), data_start, path)
    cursor.end()
    _check_cover(sorted(stored.values(), key=lambda tensor: (tensor.start, tensor.stop)), data_start, size, path)
    return stored


def _open_header(descriptor: int, size: int, path: Path) -> tuple[Cursor, int]:
    """A cursor over the header's text, and where the data begins."""
    if size < LENGTH_BYTES:
        raise DamagedFile(f"has {size} bytes, too few for a safetensors file", path=path, remedy=FETCH_AGAIN)
    length = int.from_bytes(read_exact(descriptor, 0, LENGTH_BYTES, path), "little")
    if length == 0:
        raise DamagedFile("has an empty header", path=path, remedy=FETCH_AGAIN)
    if length > MAX_HEADER:
        problem = f"says that its header has {length:,} bytes, more than the format's limit of {MAX_HEADER:,}"
        raise DamagedFile(problem, path=path, remedy="If it is not a safetensors file, convert it to one; else download it again.")
    if length > size - LENGTH_BYTES:
        problem = f"says that its header has {length:,} bytes but has only {size - LENGTH_BYTES:,} after the length"
        raise DamagedFile(problem, path=path, remedy=FETCH_AGAIN)
    data = read_exact(descriptor, LENGTH_BYTES, length, path)
    if not data.startswith(b"{"):
        raise DamagedFile("has a header that is not a JSON object", path=path, remedy=FETCH_AGAIN)
    return Cursor(data, path, "header"), LENGTH_BYTES + length


def _entry(name: str, entry: Any, data_start: int, path: Path) -> Stored:
    """One checked header entry."""

    def damaged(problem: str) -> DamagedFile:
        return DamagedFile(problem, path=path, tensor=name, remedy=FETCH_AGAIN)

    if not isinstance(entry, dict):
        raise damaged("header entry is not an object")
    if not entry.keys() >= KEYS:
        raise damaged(f"header entry must have the keys dtype, shape and data_offsets, not only {sorted(entry)}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str):
        raise damaged("dtype is not a string")
    if not _naturals(shape) or len(shape) > MAX_AXES:
        raise damaged(f"shape is not a list of at most {MAX_AXES} whole numbers >= 0 below 2^63")
    if not _naturals(offsets) or len(offsets) != 2:
        raise damaged("data_offsets is not a pair of whole numbers >= 0 below 2^63")
    begin, end = offsets
    if begin > end:
        raise damaged(f"data_offsets are reversed ({begin:,} after {end:,})")
    if dtype == COMPLEX:
        dtype, shape = "F32", [*shape, 2]
    bits = BITS.get(dtype, PACKED_BITS.get(dtype))
    if bits is None:
        remedy = f"Convert the tensor to one of {', '.join(BITS)}, or leave this file out."
        raise UnsupportedFormat(f"has dtype {dtype!r}, which this version does not decode", path=path, tensor=name, remedy=remedy)
    nbytes = prod(shape) * bits // 8
    if nbytes > MAX_SIZE:
        raise damaged(f"shape {shape} overflows: more bytes than a file can have")
    if nbytes != end - begin:
        raise damaged(f"has {end - begin:,} bytes by its data_offsets, but {nbytes:,} by its shape {shape} and dtype {dtype}")
    return Stored(TensorInfo(name, dtype, tuple(shape), nbytes), data_start + begin)


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number <= MAX_SIZE for number in value)


def _check_cover(tensors: list[Stored], data_start: int, size: int, path: Path) -> None:
    """The tensors, in the order of their bytes, must cover the data without overlap or hole."""
    for tensor in tensors:
        if tensor.stop > size:
            problem = f"ends {tensor.stop - size:,} bytes past the end of the file ({size:,} bytes)"
            raise DamagedFile(problem, path=path, tensor=tensor.info.name, remedy=f"The file is cut short. {FETCH_AGAIN}")
    reached, before = data_start, "the header"
    for tensor in tensors:
        name = tensor.info.name
        if tensor.start < reached:
            raise DamagedFile(f"overlaps with {before}", path=path, tensor=name, remedy=FETCH_AGAIN)
        if tensor.start > reached:
            problem = f"comes after {tensor.start - reached:,} bytes that belong to no tensor"
            raise DamagedFile(problem, path=path, tensor=name, remedy=FETCH_AGAIN)
        reached, before = tensor.stop, f"tensor {name!r}"
    if reached != size:
        problem = f"has {size - reached:,} bytes after the last tensor that belong to none"
        raise DamagedFile(problem, path=path, remedy=FETCH_AGAIN)


def read_index(path: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    """The weight map of a shard index: tensor name -> plain name of a file beside the index, which ends in one of `suffixes`.

    Raises:
        SourceError: the index cannot be read, contradicts itself or points out of its folder.
    """
    cursor = Cursor(read_small(path, MAX_INDEX), path, "index")
    shards: dict[str, str] | None = None
    for key in cursor.members():
        if key == "weight_map":
            shards = {name: _shard_name(cursor.string("shard name"), name, path, suffixes) for name in cursor.members()}
        else:
            cursor.value(limit=MAX_INDEX_NOTES)
    cursor.end()
    if not shards:
        cursor.fail("has no weight_map, or an empty one")
    return shards


def _shard_name(shard: str, tensor: str, path: Path, suffixes: tuple[str, ...]) -> str:
    """A shard must be a plain file name: nothing that could lead out of the folder."""
    if any(mark in shard for mark in "/\\\0") or not shard.endswith(suffixes) or shard in suffixes:
        problem = f"is said to be in {shard!r}, which is not the plain name of a {suffixes[0]} file beside the index"
        raise DamagedFile(problem, path=path, tensor=tensor, remedy="Do not trust this model's index; get it from its publisher.")
    return shard
