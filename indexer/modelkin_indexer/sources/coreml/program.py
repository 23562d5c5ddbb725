"""An ML Program out of its protobuf: operations, and which of their values are blobs of the file of weights. Nothing of it is run.

https://github.com/apple/coremltools/blob/main/mlmodel/format/MIL.proto
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from modelkin_indexer.sources.stored.messages import fields, varints

PROGRAM = 502  # Model.proto's field of an ML Program
BLOBS = b"@model_path/weights/weight.bin"
MAX_OPERATIONS = 500_000
# MIL.proto's numbers of types: safetensors' words, or those of `stored.scales`.
DTYPES = {10: "F16", 11: "F32", 12: "F64", 13: "BF16", 21: "I8", 22: "I16", 23: "I32", 24: "I64", 25: "I4"}
DTYPES |= {1: "BOOL", 31: "U8", 32: "U16", 33: "U32", 34: "U64", 35: "U4", 36: "U2", 37: "U1", 38: "U6", 39: "U3"}
DTYPES |= {40: "F8_E4M3", 41: "F8_E5M2"}


class Value(Struct, frozen=True):
    """A constant: its type and shape, and where it is: in a blob that begins at `blob`, or as it stands in the program (`held`)."""

    dtype: str
    shape: tuple[int, ...]
    blob: int | None
    held: bytes


class Operation(Struct):
    """One operation: `values` are its constants by name, `inputs` the names of what it takes."""

    kind: str
    output: str
    values: dict[str, Value] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)


def operations(data: bytes) -> list[Operation] | None:
    """The operations of the first function; None where the model is no ML Program. Raises ValueError."""
    program = next((value for number, value in fields(data) if number == PROGRAM and isinstance(value, bytes)), None)
    if program is None:
        return None
    function = _mapped(program, 2)
    blocks = [block for _, block in _entries(function, 3)] if function is not None else []
    found = [_operation(value) for block in blocks[:1] for number, value in fields(block) if number == 3 and isinstance(value, bytes)]
    if len(found) > MAX_OPERATIONS:
        raise ValueError("too many operations")
    return found


def _entries(message: bytes, number: int) -> Iterator[tuple[str, bytes]]:
    """Key and value of each entry of a map."""
    for at, entry in fields(message):
        if at == number and isinstance(entry, bytes):
            parts = dict(fields(entry))
            key, value = parts.get(1), parts.get(2, b"")
            if isinstance(key, bytes) and isinstance(value, bytes):
                yield key.decode("utf-8", "replace"), value


def _mapped(message: bytes, number: int) -> bytes | None:
    """The entry `main` of a map, else its first."""
    found = dict(_entries(message, number))
    return found.get("main", next(iter(found.values()), None))


def _operation(message: bytes) -> Operation:
    parts: dict[int, bytes] = {}
    for number, value in fields(message):
        if number in (1, 3) and isinstance(value, bytes):
            parts.setdefault(number, value)
    output = next((value for number, value in fields(parts.get(3, b"")) if number == 1 and isinstance(value, bytes)), b"")
    made = Operation(parts.get(1, b"").decode("utf-8", "replace"), output.decode("utf-8", "replace"))
    for name, argument in _entries(message, 2):
        for number, binding in fields(argument):
            if number != 1 or not isinstance(binding, bytes):
                continue
            for kind, value in fields(binding):
                if kind == 1 and isinstance(value, bytes):
                    made.inputs[name] = value.decode("utf-8", "replace")
                elif kind == 2 and isinstance(value, bytes):
                    made.values[name] = _value(value)
    for name, attribute in _entries(message, 5):
        if name != "name":
            made.values[name] = _value(attribute)
    return made


def _value(message: bytes) -> Value:
    dtype, shape, blob, held = "", tuple[int, ...](), None, b""
    for number, value in fields(message):
        if not isinstance(value, bytes):
            continue
        if number == 2:
            dtype, shape = _type(value)
        elif number == 3:
            held = value
        elif number == 5:
            parts = dict(fields(value))
            offset = parts.get(2, 0)
            blob = offset if parts.get(1) == BLOBS and isinstance(offset, int) else -1
    return Value(dtype, shape, blob, held)


def _type(message: bytes) -> tuple[str, tuple[int, ...]]:
    """The type and shape of a tensor."""
    tensor = next((value for number, value in fields(message) if number == 1 and isinstance(value, bytes)), b"")
    number, shape = 0, []
    for at, value in fields(tensor):
        if at == 1 and isinstance(value, int):
            number = value
        elif at == 3 and isinstance(value, bytes):
            constant = dict(fields(value)).get(1, b"")
            size = dict(fields(constant)).get(1, 0) if isinstance(constant, bytes) else 0
            shape.append(size if isinstance(size, int) else 0)
    return DTYPES.get(number, f"type {number}"), tuple(shape)


def small(value: Value) -> tuple[str, bytes]:
    """What stands in the program: which kind of numbers (`floats`, `ints`, `bools`, `bytes`), and their bytes."""
    tensor = dict(fields(value.held)).get(1, b"")
    for number, inside in fields(tensor) if isinstance(tensor, bytes) else ():
        kind = {1: "floats", 2: "ints", 3: "bools", 7: "bytes"}.get(number)
        data = dict(fields(inside)).get(1, b"") if isinstance(inside, bytes) else b""
        if kind is not None:
            if isinstance(data, int):
                data = bytes([data & 255])
            return kind, data
    return "", b""


def is_true(value: Value | None) -> bool:
    """Whether a constant is the truth value true."""
    kind, data = small(value) if value is not None else ("", b"")
    return kind == "bools" and any(varints(data))
