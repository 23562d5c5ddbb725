"""Checkpoints written byte by byte, every number of them at choice: Orbax's (OCDBT with Zarr) and TensorFlow's."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

Files = dict[str, bytes]
MANIFEST, NODE = b"\x0c\xdb\x3a\x2a", b"\x0c\xdb\x20\xde"


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def numbers(values: list[int]) -> bytes:
    return b"".join(map(varint, values))


def _framed(mark: bytes, body: bytes, **lies: Any) -> bytes:
    size = lies.get("size", len(body) + 18)
    return mark + struct.pack("<Q", size % (1 << 64)) + bytes([lies.get("version", 0), lies.get("packed", 0)]) + body + bytes(4)


def _table(names: list[str], base: int = 0) -> bytes:
    """A table of data files."""
    raw = [name.encode() for name in names]
    sizes = numbers([len(name) for name in raw])
    return varint(len(raw)) + bytes(max(0, len(raw) - 1)) + sizes + numbers([base] * len(raw)) + b"".join(raw)


def ocdbt_node(values: Mapping[str, bytes], where: Mapping[str, tuple[int, int]], files: list[str], **lies: Any) -> bytes:
    """A leaf: `where` says of values outside where they begin and how long they are, in the first file."""
    keys = [key.encode() for key in values]
    outside = [key for key in values if key in where]
    body = bytes([lies.get("height", 0)]) + _table(files) + varint(lies.get("count", len(keys)))
    body += bytes(max(0, len(keys) - 1)) if "prefix" not in lies else bytes([lies["prefix"]]) * (len(keys) - 1)
    body += numbers([lies.get("key", len(key)) for key in keys]) + b"".join(keys)
    body += numbers([where[key][1] if key in where else len(value) for key, value in values.items()])
    body += numbers([lies.get("kind", int(key in where)) for key in values])
    body += numbers([lies.get("file", 0)] * len(outside)) + numbers([where[key][0] for key in outside])
    return _framed(NODE, body + b"".join(value for key, value in values.items() if key not in where), **lies.get("node", {}))


def ocdbt_files(values: Mapping[str, bytes], manifest: str = "manifest.ocdbt", node: bytes | None = None, **lies: Any) -> Files:
    """A database whose larger values lie in a data file before its one node. `lies`: numbers other than the true ones."""
    data, where = b"", dict[str, tuple[int, int]]()
    for key, value in values.items():
        if len(value) > 100:
            where[key] = lies.get("where", (len(data), len(value)))
            data += value
    name = lies.get("name", "d/0123")
    leaf = node if node is not None else ocdbt_node(values, where, [name], **lies.get("leaf", {}))
    body = bytes(16) + numbers([lies.get("numbered", 0), 100, 1 << 20]) + b"\x04\x00" + _table([name], lies.get("base", 0))
    place = lies.get("root", (len(data), len(leaf)))
    versions = lies.get("versions", 1)
    body += varint(versions) + b"\x01" * min(versions, 1) + bytes([lies.get("height", 0)]) + numbers([lies.get("file", 0), *place, 1, 1, 1])
    return {manifest: _framed(MANIFEST, body + bytes(8) + b"\x00", **lies.get("head", {})), "d/0123": data + leaf}


def described(array: Any, **lies: Any) -> bytes:
    """Zarr's description, version 2."""
    kind = {"float32": "<f4", "float16": "<f2"}.get(str(array.dtype), str(array.dtype))
    said = {"zarr_format": 2, "shape": list(array.shape), "chunks": list(array.shape), "dtype": kind, "compressor": None, "order": "C"}
    return json.dumps(said | {"filters": None, "fill_value": None, "dimension_separator": "."} | lies).encode()


def chunked(array: Any, chunks: tuple[int, ...]) -> dict[str, Any]:
    """The chunks of an array by their places, those at its ends filled up with zeros."""
    found = {}
    for at in np.ndindex(*(-(-n // m) for n, m in zip(array.shape, chunks, strict=True))):
        whole = np.zeros(chunks, array.dtype)
        part = array[tuple(slice(i * m, (i + 1) * m) for i, m in zip(at, chunks, strict=True))]
        whole[tuple(slice(0, n) for n in part.shape)] = part
        found[".".join(map(str, at))] = whole
    return found


def zarr_values(tensors: Mapping[str, Any], packed: bool = False, lies: Mapping[str, dict[str, Any]] | None = None) -> dict[str, bytes]:
    """Keys and values of arrays, each in four chunks, which are packed with gzip if asked for. Kernels are turned as Flax stores them."""
    found = {}
    for name, array in tensors.items():
        turned = array.T if array.ndim == 2 else array
        chunks = tuple(-(-n // 2) for n in turned.shape)
        said = {"chunks": list(chunks), "compressor": {"id": "gzip", "level": 1} if packed else None}
        found[f"{name}/.zarray"] = described(turned, **(said | dict((lies or {}).get(name, {}))))
        for at, chunk in chunked(turned, chunks).items():
            found[f"{name}/{at}"] = gzip.compress(chunk.tobytes(), mtime=0) if packed else chunk.tobytes()
    return dict(sorted(found.items()))


def flax_named(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Sound weights under names of Flax's."""
    return {f"params.{name.removesuffix('.weight').replace('.', '_')}.kernel": array for name, array in tensors.items()}


def table_bytes(entries: Mapping[str, bytes], **lies: Any) -> bytes:
    """A table of LevelDB's with one block."""

    def block(items: list[tuple[bytes, bytes]]) -> bytes:
        out = b"".join(bytes([lies.get("shared", 0)]) + varint(lies.get("own", len(k))) + varint(len(v)) + k + v for k, v in items)
        return out + bytes(4) + struct.pack("<I", lies.get("restarts", 1))

    data = block([(key.encode(), value) for key, value in entries.items()])
    handle = varint(lies.get("start", 0)) + varint(lies.get("length", len(data)))
    index = block([(b"\xff", handle)])
    kind = bytes([lies.get("packed", 0)])
    out = data + kind + bytes(4) + index + b"\0" + bytes(4)
    footer = numbers([0, 0, lies.get("index", len(data) + 5), len(index)])
    return out + footer.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")


def _field(number: int, value: bytes | int) -> bytes:
    return varint(number << 3) + varint(value) if isinstance(value, int) else varint(number << 3 | 2) + varint(len(value)) + value


def tensorflow_files(
    tensors: Mapping[str, Any], stem: str = "model.ckpt", lies: Mapping[str, dict[str, Any]] | None = None, **all_lies: Any
) -> Files:
    """A checkpoint: arrays as they are. `lies`: type, shape, start, length, file or more bytes of an entry, other than the true ones."""
    data, entries = (
        b"",
        {"": _field(1, all_lies.get("shards", 1)) + (_field(2, 1) if all_lies.get("big") else b"") + _field(3, b"\x08\x01")},
    )
    for name, array in sorted(tensors.items()):
        said = dict((lies or {}).get(name, {}))
        shape = b"".join(_field(2, _field(1, n)) for n in said.get("shape", array.shape))
        kind = said.get("kind", {"float32": 1, "float16": 19, "int64": 9, "bfloat16": 14}[str(array.dtype)])
        out = _field(1, kind) + _field(2, shape) + (_field(3, said["file"]) if "file" in said else b"")
        out += _field(4, said.get("start", len(data))) + _field(5, said.get("length", array.nbytes))
        crc = zlib.crc32(np.ascontiguousarray(array).tobytes()).to_bytes(4, "little")
        entries[name] = out + b"\x35" + crc + said.get("more", b"")
        data += np.ascontiguousarray(array).tobytes()
    if graph := all_lies.get("graph"):
        text = varint(len(graph)) + bytes(4) + graph
        entries["_CHECKPOINTABLE_OBJECT_GRAPH"] = (
            _field(1, 7) + _field(2, b"") + _field(4, len(data)) + _field(5, len(text)) + b"\x35" + bytes(4)
        )
        data += text
    index = table_bytes(dict(sorted(entries.items())), **all_lies.get("table", {}))
    return {f"{stem}.index": index, f"{stem}.data-00000-of-00001": data}


def object_graph(names: Mapping[str, str]) -> bytes:
    """Which key holds the variable of which name."""
    nodes = []
    for key, name in names.items():
        attribute = _field(1, b"VARIABLE_VALUE") + _field(2, name.encode()) + _field(3, key.encode())
        nodes.append(_field(1, _field(2, attribute)))
    return b"".join(nodes)
