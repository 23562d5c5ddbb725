"""Bundles of models for devices written byte by byte, every number of them at choice: LiteRT-LM's, MediaPipe's tasks, ExecuTorch's."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np

BLOCK = 16_384  # bytes at whose multiples LiteRT-LM's sections begin
CODES = {"float32": 6, "float16": 5, "int8": 1, "int64": 4}


class _Tables:
    """Tables of a flatbuffer, whose fields are given by their numbers, the first 0."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(0)

    def table(self, *fields: tuple[int, str, Any]) -> int:
        b = self.builder
        b.StartObject(max((number for number, _, _ in fields), default=0) + 1)
        for number, form, value in fields:
            if form == "ref":
                b.PrependUOffsetTRelativeSlot(number, value, 0)
            else:
                getattr(b, f"Prepend{form}Slot")(number, value, 0)
        return int(b.EndObject())

    def list(self, items: Sequence[int]) -> int:
        b = self.builder
        b.StartVector(4, len(items), 4)
        for item in reversed(items):
            b.PrependUOffsetTRelative(item)
        return int(b.EndVector())

    def numbers(self, values: Any, kind: Any) -> int:
        return int(self.builder.CreateNumpyVector(np.array(values, kind)))

    def text(self, text: str) -> int:
        return int(self.builder.CreateString(text))

    def done(self, root: int, mark: bytes | None = None) -> bytes:
        self.builder.Finish(root, mark)
        return bytes(self.builder.Output())


def litertlm_bytes(models: Mapping[str, bytes], lies: Mapping[str, dict[str, Any]] | None = None, **all_lies: Any) -> bytes:
    """A bundle of TFLite models. `lies`: begin, end or kind of a section other than the true one."""
    head = _described(models, dict.fromkeys(models, (1, 1)), lies)
    at, places = -(-(32 + len(head)) // BLOCK) * BLOCK, {}
    for name, data in models.items():
        places[name] = at, at + len(data)
        at = -(-(at + len(data)) // BLOCK) * BLOCK
    head = _described(models, places, lies)
    end = all_lies.get("end", 32 + len(head)) % (1 << 64)
    out = bytearray(all_lies.get("mark", b"LITERTLM") + struct.pack("<IIIIQ", all_lies.get("version", 1), 7, 0, 0, end) + head)
    for name, data in models.items():
        out += bytes(places[name][0] - len(out)) + data
    return bytes(out)


def _described(models: Mapping[str, bytes], places: Mapping[str, tuple[int, int]], lies: Mapping[str, dict[str, Any]] | None) -> bytes:
    made, sections = _Tables(), []
    for name in models:
        said = dict((lies or {}).get(name, {}))
        value = made.table((0, "ref", made.text(f"tf_lite_{name}")))
        key = made.text("model_type")
        item = made.table((0, "ref", key), (1, "Uint8", 9), (2, "ref", value))
        items = made.list([item])
        begin, end = (said.get(word, n) % (1 << 64) for word, n in zip(("begin", "end"), places[name], strict=True))
        sections.append(made.table((0, "ref", items), (1, "Uint64", begin), (2, "Uint64", end), (3, "Uint8", said.get("kind", 3))))
    held = made.table((0, "ref", made.list(sections)))
    return made.done(made.table((1, "ref", held)))


def task_bytes(models: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in {**models, "METADATA": b"about"}.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)  # without the time, so that the same bytes come every time
    return stream.getvalue()


def ptd_bytes(tensors: Mapping[str, Any], lies: Mapping[str, dict[str, Any]] | None = None) -> bytes:
    """Named tensors of ExecuTorch's. `lies`: shape, order, type, segment, start or size of one, other than the true ones."""
    made, named, segments, data = _Tables(), [], [], b""
    for number, (name, array) in enumerate(tensors.items()):
        said = dict((lies or {}).get(name, {}))
        raw = np.ascontiguousarray(array.transpose(said.get("memory", range(array.ndim)))).tobytes()
        sizes = made.numbers(said.get("shape", array.shape), np.int32)
        order = made.numbers(said.get("order", said.get("memory", range(array.ndim))), np.uint8)
        kind = said.get("type", CODES[str(array.dtype)])
        layout = made.table((0, "Int8", kind), (1, "ref", sizes), (2, "ref", order))
        fields = [(0, "ref", made.text(name)), (1, "Uint32", said.get("segment", number))]
        named.append(made.table(*fields, *([] if said.get("bare") else [(2, "ref", layout)])))
        start, size = said.get("start", len(data)), said.get("size", len(raw))
        segments.append(made.table((0, "Uint64", start % (1 << 64)), (1, "Uint64", size % (1 << 64))))
        data += raw
    held, names = made.list(segments), made.list(named)
    return _headed(made.done(made.table((0, "Uint32", 1), (1, "ref", held), (2, "ref", names)), b"FT01"), b"FH01", data)


def _headed(buffer: bytes, mark: bytes, data: bytes) -> bytes:
    """The header that ExecuTorch puts behind a buffer's mark, and the segments after it."""
    size = 40 if mark == b"FH01" else 32
    base = -(-(len(buffer) + size) // 16) * 16
    said = (size, len(buffer), base, len(data)) if mark == b"FH01" else (len(buffer), base, len(data))
    header = mark + struct.pack("<I" + "Q" * len(said), size, *said)
    whole = struct.pack("<I", int.from_bytes(buffer[:4], "little") + size) + buffer[4:8] + header.ljust(size, b"\0") + buffer[8:]
    return whole.ljust(base, b"\0") + data


def pte_bytes(arrays: Sequence[Any], delegate: bytes = b"", names: Sequence[str] = (), **lies: Any) -> bytes:
    """A program whose constants lie in one segment, and a delegate's bytes in another."""
    made, values, places, data = _Tables(), [], [0], b""
    for number, array in enumerate(arrays, 1):
        sizes, order = made.numbers(lies.get("shape", array.shape), np.int32), made.numbers(lies.get("order", range(array.ndim)), np.uint8)
        fields = [(0, "Int8", lies.get("type", CODES[str(array.dtype)])), (2, "ref", sizes), (3, "ref", order)]
        if names:
            named = made.text(names[number - 1])
            fields.append((9, "ref", made.table((1, "ref", named), (2, "Int8", lies.get("location", 0)))))
        tensor = made.table(*fields, (5, "Uint32", lies.get("buffer", number)))
        values.append(made.table((0, "Uint8", 5), (1, "ref", tensor)))
        places.append(lies.get("place", len(data)))
        data += np.ascontiguousarray(array).tobytes()
    plan_fields = [(2, "ref", made.list(values))]
    if delegate:
        where = made.table((0, "Int8", 1), (1, "Uint32", 1))
        plan_fields.append((7, "ref", made.list([made.table((0, "ref", made.text("XnnpackBackend")), (1, "ref", where))])))
    plans = made.list([made.table(*plan_fields)])
    spans = [(lies.get("start", 0), lies.get("size", len(data))), (len(data), len(delegate))]
    segments = made.list([made.table((0, "Uint64", start % (1 << 64)), (1, "Uint64", size % (1 << 64))) for start, size in spans])
    offsets = made.numbers(places, np.uint64)
    constants = made.table((0, "Uint32", lies.get("segment", 0)), (1, "ref", offsets))
    top = made.table((1, "ref", plans), (4, "ref", segments), (5, "ref", constants))
    return _headed(made.done(top, b"ET12"), b"eh00", data + delegate)
