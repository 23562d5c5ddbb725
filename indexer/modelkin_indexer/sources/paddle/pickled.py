"""`.pdparams`: a pickle of NumPy arrays, whose bytes stay where they are. It is read by the machine that runs nothing.

https://github.com/PaddlePaddle/Paddle/blob/develop/python/paddle/framework/io.py
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.paddle.stored import Stored
from modelkin_indexer.sources.pytorch.inert_pickle import Call, read_pickle
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, read_exact
from modelkin_indexer.sources.stored.zip_files import BoundedFile

NAMES = "StructuredToParameterName@@"  # under which older versions keep the parameters' own names
WEIGHTS = ("model", "state_dict", "model_state", "params", "net")  # where a training checkpoint keeps its weights
HELD = 4096  # bytes of an array from which on they are not read
MAX_DEPTH = 64
SAVE_AGAIN = "Save the state dict alone with paddle.save, or as safetensors."
RECONSTRUCT = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
SCALAR = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
ALLOWED = {*RECONSTRUCT, *SCALAR, "numpy.ndarray", "numpy.dtype", "builtins.tuple", "builtins.dict", "builtins.list", "builtins.int"}
ALLOWED |= {"collections.OrderedDict", "collections.defaultdict", "builtins.set", "builtins.float", "builtins.bytearray", "_codecs.encode"}
DTYPES = {
    **{"f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8"},
    **{"u1": "U8", "b1": "BOOL", "u2": "BF16"},  # Paddle has no numbers of 16 bits without sign: it says bfloat16 so
}


class _Held:
    """Bytes of the file that are not read."""

    def __init__(self, start: int, length: int) -> None:
        self.start, self.length = start, length

    def __len__(self) -> int:
        return self.length


class _Stream:
    """The pickle, of which long runs of bytes are passed over."""

    def __init__(self, descriptor: int, size: int, path: Path) -> None:
        self._file, self._size = BoundedFile(descriptor, 0, size, path), size
        self.passed = 0

    def read(self, count: int) -> Any:
        at = self._file.tell()
        if count < HELD:
            return self._file.read(count)
        if count > self._size - at:
            return b""
        self._file.seek(at + count)
        self.passed += count
        return _Held(at, count)

    def readline(self) -> bytes:
        return self._file.readline()

    def tell(self) -> int:
        return self._file.tell()


def read_pickled(descriptor: int, size: int, path: Path, number: int) -> tuple[list[Stored], int]:
    """The arrays of a checkpoint and how many bytes were read to know them. Raises SourceError."""
    protocol = bytes(read_exact(descriptor, 0, min(2, size), path))[1:]
    if protocol < b"\x03":
        raise UnsupportedFormat("keeps its numbers as text (protocol 2 or older)", path=path, remedy="Save it with protocol 4.")
    stream = _Stream(descriptor, size, path)
    value = read_pickle(stream, path, ALLOWED.__contains__)
    if stream.tell() != size:
        raise DamagedFile("goes on after its end", path=path, remedy=FETCH_AGAIN)
    value = _chosen(value)
    names = _parts(_parts(value).get(NAMES))
    found = list(_arrays(value, "", {}, 0, path, number))
    return [replace(one, own=str(names.get(one.name, one.own))) for one in found], size - stream.passed


def _chosen(value: Any) -> Any:
    """The state dict: the value itself, or what a training checkpoint keeps under a usual word."""
    for _ in range(MAX_DEPTH):
        parts = _parts(value)
        word = next((word for word in WEIGHTS if _parts(parts.get(word))), None)
        if word is None or any(_is_array(_one(part)) for part in parts.values()):
            return value
        value = parts[word]
    return value


def _parts(value: Any) -> dict[Any, Any]:
    if isinstance(value, dict):
        return value
    return value.items if isinstance(value, Call) and not _is_array(value) else {}


def _one(value: Any) -> Any:
    """The array of a pair of a parameter's own name and its array."""
    if isinstance(value, Call) and value.function == "builtins.tuple" and value.arguments:
        value = value.arguments[0]
    if isinstance(value, (tuple, list)) and len(value) == 2 and isinstance(value[0], str):
        return value[1]
    return value


def _is_array(value: Any) -> bool:
    return isinstance(value, Call) and value.function in RECONSTRUCT


def _arrays(value: Any, name: str, seen: dict[int, str], depth: int, path: Path, number: int) -> Iterator[Stored]:
    if depth > MAX_DEPTH:
        raise UnsupportedFormat(f"nests dictionaries more than {MAX_DEPTH} deep", path=path, remedy=SAVE_AGAIN)
    for key, part in _parts(value).items():
        if key == NAMES or id(part) in seen:
            continue
        label = f"{name}.{key}" if name else str(key)
        seen[id(part)] = label
        array = _one(part)
        if _is_array(array):
            pair = part.arguments[0] if isinstance(part, Call) and part.function == "builtins.tuple" else part
            own = pair[0] if isinstance(pair, (tuple, list)) else ""
            yield _array(array, label, own if isinstance(own, str) else "", path, number)
        else:
            yield from _arrays(part, label, seen, depth + 1, path, number)


def _array(array: Call, name: str, own: str, path: Path, number: int) -> Stored:
    """What the state of an array says. Raises SourceError."""
    state = array.state
    if not isinstance(state, tuple) or len(state) != 5:
        raise DamagedFile("is not described as an array is", path=path, tensor=name[:200], remedy=SAVE_AGAIN)
    _, shape, kind, fortran, data = state
    arguments = kind.arguments if isinstance(kind, Call) and kind.function == "numpy.dtype" else ()
    word = arguments[0] if isinstance(arguments, tuple) and arguments else ""
    if isinstance(kind, Call) and isinstance(kind.state, tuple) and len(kind.state) > 1 and kind.state[1] == ">":
        word = f">{word}"
    dtype = DTYPES.get(str(word).lstrip("<|="))
    if dtype is None:
        raise UnsupportedFormat(f"holds numbers of the kind {str(word)[:50]!r}", path=path, tensor=name[:200], remedy=SAVE_AGAIN)
    sizes = shape if isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 1 << 40 for n in shape) and len(shape) <= 32 else None
    if sizes is None or not isinstance(data, (bytes, _Held)) or prod(sizes) * BITS[dtype] // 8 != len(data):
        there = len(data) if isinstance(data, (bytes, _Held)) else 0
        raise DamagedFile(f"has {there:,} bytes for shape {str(shape)[:100]}", path=path, tensor=name[:200], remedy=FETCH_AGAIN)
    held = data if isinstance(data, bytes) else None
    return Stored(name, own, dtype, sizes, ((number, data.start, len(data)),) if isinstance(data, _Held) else (), held, fortran is True)
