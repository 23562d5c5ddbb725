"""Submissions that nobody can read: what a careless or a hostile sender hands in. Each is made from a sound file."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

FILE = "model.safetensors"


class Runs:
    """A pickle that would run a command if anybody loaded it."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch ran",)


def _header(sound: bytes, change: Callable[[dict], object]) -> bytes:
    """The file with another header."""
    (length,) = struct.unpack("<Q", sound[:8])
    header = json.loads(sound[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + sound[8 + length :]


def _first(header: dict) -> dict:
    return next(value for name, value in header.items() if name != "__metadata__")


def _set(key: str, value: object) -> Callable[[dict], object]:
    return lambda header: _first(header).__setitem__(key, value)


def _overlap(header: dict) -> None:
    names = [name for name in header if name != "__metadata__"]
    header[names[1]]["data_offsets"] = header[names[0]]["data_offsets"]


def _zip(name: str, data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, data)
    return stream.getvalue()


KINDS: Mapping[str, tuple[str, Callable[[bytes], bytes]]] = {
    "empty": (FILE, lambda _: b""),
    "half": (FILE, lambda sound: sound[: len(sound) // 2]),
    "last byte gone": (FILE, lambda sound: sound[:-1]),
    "only a header": (FILE, lambda sound: sound[: 8 + struct.unpack("<Q", sound[:8])[0]]),
    "endless header": (FILE, lambda sound: struct.pack("<Q", 1 << 60) + sound[8:]),
    "no header": (FILE, lambda sound: b"\0" * 64 + sound[64:]),
    "text": (FILE, lambda _: b"these are no weights\n" * 100),
    "unknown type": (FILE, lambda sound: _header(sound, _set("dtype", "ZZ"))),
    "negative shape": (FILE, lambda sound: _header(sound, _set("shape", [-1, 4]))),
    "huge shape": (FILE, lambda sound: _header(sound, _set("shape", [1 << 40, 1 << 40]))),
    "reversed offsets": (FILE, lambda sound: _header(sound, _set("data_offsets", [64, 0]))),
    "beyond the end": (FILE, lambda sound: _header(sound, _set("data_offsets", [0, 1 << 50]))),
    "overlapping": (FILE, lambda sound: _header(sound, _overlap)),
    "a pickle that runs": ("pytorch_model.bin", lambda _: pickle.dumps(Runs())),
    "a zipped pickle that runs": ("pytorch_model.bin", lambda _: _zip("archive/data.pkl", pickle.dumps(Runs()))),
    "half a zip": ("pytorch_model.bin", lambda sound: _zip("archive/data.pkl", sound)[: len(sound) // 2]),
    "a web page": ("model.safetensors", lambda _: b"<html><body>404</body></html>"),
    "a pointer": (FILE, lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    "no weights": ("README.md", lambda _: b"# my model\n"),
    "half a gguf": ("model.gguf", lambda _: b"GGUF\x03\0\0\0" + b"\xff" * 40),
}


def write_all(folder: Path, sound: bytes) -> dict[str, Path]:
    """One folder a kind, by its name."""
    found = {}
    for number, (kind, (name, made)) in enumerate(KINDS.items()):
        target = folder / f"unreadable-{number:02}"
        target.mkdir(parents=True)
        (target / name).write_bytes(made(sound))
        found[kind] = target
    return found
