"""What the index of a checkpoint says: the type, shape and bytes of each tensor, and the names that variables had in the program.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto, trackable_object_graph.proto
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.sources.stored.files import FETCH_AGAIN
from modelkin_indexer.sources.stored.messages import fields
from modelkin_indexer.sources.tensorflow.table import SAVE_AGAIN

DTYPES = {
    **{1: "F32", 2: "F64", 3: "I32", 4: "U8", 5: "I16", 6: "I8", 9: "I64", 10: "BOOL", 14: "BF16", 17: "U16", 19: "F16", 22: "U32"},
    **{23: "U64", 24: "F8_E5M2", 25: "F8_E4M3"},
}
TEXT = 7
MAX_AXES = 32
MAX_SHARDS = 512  # files of one checkpoint, which are open at once
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"  # the key of what says which object of a program each variable was
VALUE = "VARIABLE_VALUE"


class Entry(Struct, frozen=True):
    """A tensor: `length` bytes from `start` on in a shard. `dtype` is "" of one that is not read, `kind` TensorFlow's number for it."""

    kind: int
    dtype: str
    shape: tuple[int, ...]
    shard: int
    start: int
    length: int
    checksum: bytes
    in_slices: bool


def header(data: bytes, path: Path) -> int:
    """How many files hold the numbers. Raises SourceError."""
    found = _read(data, path)
    shards = next((value for number, value in found if number == 1), 0)
    if any(number == 2 and value for number, value in found):
        raise UnsupportedFormat("holds numbers with the big end first", path=path, remedy=SAVE_AGAIN)
    if not isinstance(shards, int) or not 1 <= shards <= MAX_SHARDS:
        raise DamagedFile(f"says that {str(shards)[:30]} files hold its numbers", path=path, remedy=FETCH_AGAIN)
    return shards


def entry(name: str, data: bytes, path: Path) -> Entry:
    """What the index says of a tensor. Raises DamagedFile."""
    kind = shard = start = length = 0
    shape: tuple[int, ...] = ()
    in_slices = False
    for number, value in _read(data, path):
        if number == 2 and isinstance(value, bytes):
            shape = _shape(name, value, path)
        elif number == 7:
            in_slices = True
        elif isinstance(value, int):
            kind, shard, start, length = (value if number == at else old for at, old in ((1, kind), (3, shard), (4, start), (5, length)))
    return Entry(kind, DTYPES.get(kind, ""), shape, shard, start, length, _checksum(data), in_slices)


def _checksum(data: bytes) -> bytes:
    """Field 6 of a message, four bytes, where it stands last as TensorFlow writes it."""
    return data[-4:] if data[-5:-4] == b"\x35" else b""


def _shape(name: str, data: bytes, path: Path) -> tuple[int, ...]:
    sizes = []
    for number, value in _read(data, path):
        if number == 2 and isinstance(value, bytes):
            sizes.append(next((n for at, n in _read(value, path) if at == 1 and isinstance(n, int)), 0))
    if len(sizes) > MAX_AXES or any(n >= 1 << 40 for n in sizes):
        raise DamagedFile(f"has the impossible shape {sizes[:9]}", path=path, tensor=name[:200], remedy=FETCH_AGAIN)
    return tuple(sizes)


def called(data: bytes, path: Path) -> Iterator[tuple[str, str]]:
    """Key -> the name that a variable had, of all that the graph of objects names. Raises DamagedFile."""
    for number, node in _read(data, path):
        if number != 1 or not isinstance(node, bytes):
            continue
        for inside, attribute in _read(node, path):
            if inside != 2 or not isinstance(attribute, bytes):
                continue
            texts = {at: value.decode("utf-8", "replace") for at, value in _read(attribute, path) if isinstance(value, bytes)}
            if texts.get(1) == VALUE and texts.get(2) and texts.get(3):
                yield texts[3], texts[2]


def text_in(data: bytes) -> bytes:
    """The one text of a tensor of texts: its length, a checksum of that, its bytes."""
    length = at = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            return b""
        length, at = length | (data[at] & 127) << shift, at + 1
        if data[at - 1] < 128:
            break
    return data[at + 4 : at + 4 + length]


def _read(data: bytes, path: Path) -> Sequence[tuple[int, int | bytes]]:
    try:
        return list(fields(data))
    except ValueError as error:
        raise DamagedFile(f"has an entry that cannot be read ({error})", path=path, remedy=FETCH_AGAIN) from error
