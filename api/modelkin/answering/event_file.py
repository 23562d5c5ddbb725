"""Event files of TensorBoard: the scalars that a run wrote, by step.

A file is a row of records (tensorflow.org/tutorials/load_data/tfrecord), each an Event (tensorboard/compat/proto/event.proto): its length,
its bytes, and a CRC-32C of either, masked. Of the messages only the fields are named here that tell a scalar; protobuf passes over the
rest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from modelkin_indexer.errors import DamagedFile, SourceNotFound

LARGEST = 1 << 16  # bytes of a record that is parsed: a row of scalars has a few hundred; larger ones are pictures, graphs and texts
MOST_SCALARS = 5_000_000  # of one run
HEAD, CRC = struct.Struct("<QI"), struct.Struct("<I")
POLYNOMIAL, MASK = 0x82F63B78, 0xA282EAD8  # Castagnoli's, reflected; what TFRecord adds to a sum
FLOAT, DOUBLE = 1, 2  # DT_FLOAT, DT_DOUBLE
PACKED = {FLOAT: "<f", DOUBLE: "<d"}
AGAIN = "Copy it again from where the run wrote it."
# Fields: name, number, type (descriptor.proto), whether repeated, the message that it holds.
MESSAGES: Mapping[str, tuple[tuple[str, int, str, bool, str | None], ...]] = {
    "Tensor": (
        ("dtype", 1, "INT32", False, None),
        ("content", 4, "BYTES", False, None),
        ("floats", 5, "FLOAT", True, None),
        ("doubles", 6, "DOUBLE", True, None),
    ),
    "Value": (("tag", 1, "STRING", False, None), ("simple", 2, "FLOAT", False, None), ("tensor", 8, "MESSAGE", False, "Tensor")),
    "Summary": (("values", 1, "MESSAGE", True, "Value"),),
    "Event": (("step", 2, "INT64", False, None), ("summary", 5, "MESSAGE", False, "Summary")),
}


def read_events(files: Iterable[Path]) -> list[dict[str, float]]:
    """A row a step of these files of a run, in the order in which it wrote them: `step`, and the scalars by their tags.

    Where steps of a tag go back, as a resumed run's do, new rows begin.

    Raises:
        SourceNotFound: a file cannot be read.
        DamagedFile: one is no event file, or changed since it was written. One that ends amid a record, as a running one does, is sound.
    """
    rows: list[dict[str, float]] = []
    for file in files:
        try:
            with file.open("rb") as stream:
                rows += _rows(file, _scalars(file, stream))
        except OSError as error:
            raise SourceNotFound(f"cannot be read ({error.strerror})", path=file, remedy=AGAIN) from error
    return rows


def _rows(path: Path, scalars: Iterable[tuple[int, str, float]]) -> list[dict[str, float]]:
    """Scalars put together by step."""
    rows: dict[tuple[int, int], dict[str, float]] = {}
    last: dict[str, tuple[int, int]] = {}
    for number, (step, tag, value) in enumerate(scalars):
        if number == MOST_SCALARS:
            raise DamagedFile(f"has more than {MOST_SCALARS:,} scalars", path=path, remedy="Give the log of one run.")
        part, before = last.get(tag, (0, step))
        last[tag] = at = (part + (step < before), step)
        rows.setdefault(at, {"step": float(step)})[tag] = value
    return [rows[at] for at in sorted(rows)]


def _scalars(path: Path, stream: BinaryIO) -> Iterator[tuple[int, str, float]]:
    """(step, tag, value) in the file's order."""
    event = _event()
    for data, crc, at in _records(path, stream):
        found = event()
        try:
            found.ParseFromString(data)
        except message.DecodeError:
            raise DamagedFile(f"holds no event at byte {at:,}", path=path, remedy=AGAIN) from None
        if not found.summary.values:
            continue
        if masked(data) != crc:
            raise DamagedFile(f"the event at byte {at:,} is not as it was written", path=path, remedy=AGAIN)
        for one in found.summary.values:
            if (value := _value(one)) is not None:
                yield found.step, one.tag, value


def _records(path: Path, stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """The bytes of each small record, the sum that goes with them, and where it begins."""
    at = 0
    while len(head := stream.read(HEAD.size)) == HEAD.size:
        length, crc = HEAD.unpack(head)
        if masked(head[:8]) != crc:
            raise DamagedFile(f"is no event file of TensorBoard: no record is at byte {at:,}", path=path, remedy=AGAIN)
        begin, at = at, at + HEAD.size + length + CRC.size
        if length > LARGEST:
            stream.seek(min(at, 1 << 62))
            continue
        data, tail = stream.read(length), stream.read(CRC.size)
        if len(tail) == CRC.size:
            yield data, CRC.unpack(tail)[0], begin


def _value(one: Any) -> float | None:
    """A scalar, in either of the two forms that writers use; None of what is none."""
    if one.HasField("simple"):
        return float(one.simple)
    if not one.HasField("tensor") or one.tensor.dtype not in PACKED:
        return None
    tensor, form = one.tensor, PACKED[one.tensor.dtype]
    values = tensor.floats if tensor.dtype == FLOAT else tensor.doubles
    if len(values) == 1:
        return float(values[0])
    return float(struct.unpack(form, tensor.content)[0]) if len(tensor.content) == struct.calcsize(form) else None


def masked(data: bytes) -> int:
    """The CRC-32C (RFC 3720, appendix B.4) of some bytes as TFRecord writes it."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
        found.append(value)
    return tuple(found)


@cache
def _event() -> Any:
    """The class of an Event, of a pool of its own: TensorBoard's names may be taken where it is installed."""
    file = descriptor_pb2.FileDescriptorProto(name="modelkin/event.proto", package="modelkin.event")
    for name, told in MESSAGES.items():
        kind = file.message_type.add(name=name)
        for label, number, type_name, repeated, inner in told:
            how = "LABEL_REPEATED" if repeated else "LABEL_OPTIONAL"
            one = kind.field.add(name=label, number=number, type=f"TYPE_{type_name}", label=how)
            if inner is not None:
                one.type_name = f".{file.package}.{inner}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.Event"))
