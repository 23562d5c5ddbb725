"""`.pdiparams`: the parameters of an exported program one after the other, each behind its shape and type; the program names them.

https://github.com/PaddlePaddle/Paddle/blob/develop/paddle/fluid/framework/lod_tensor.cc (SerializeToStream) and framework.proto.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from modelkin_indexer.errors import DamagedFile, SourceError
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.paddle.stored import Stored, plain_name
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, read_exact, read_small
from modelkin_indexer.sources.stored.messages import fields, varints

DTYPES = {
    0: "BOOL",
    1: "I16",
    2: "I32",
    3: "I64",
    4: "F16",
    5: "F32",
    6: "F64",
    20: "U8",
    21: "I8",
    22: "BF16",
    32: "F8_E4M3",
    33: "F8_E5M2",
}
MAX_TENSORS = 200_000
MAX_DESCRIPTION = 1024  # bytes of a shape and type
MAX_LEVELS = 8
MAX_PROGRAM = 64_000_000  # bytes of a program without its parameters; those of large public models have 3 MB
TENSOR = 7  # framework.proto's number of the type of parameters


def read_parameters(descriptor: int, size: int, path: Path, number: int) -> tuple[list[Stored], int, tuple[str, ...]]:
    """The parameters, how many bytes were read to know them, and notes. Raises SourceError."""
    found = list(_Reader(descriptor, size, path).parameters())
    names, notes = _names(path, len(found))
    stored = []
    for at, (dtype, shape, start, length) in enumerate(found):
        own = names[at] if names else f"parameter_{at:05}"
        stored.append(Stored(plain_name(own), own, dtype, shape, ((number, start, length),)))
    return stored, size - sum(length for _, _, _, length in found), notes


class _Reader:
    """Walks the file. Lengths are held against it before anything of them is read."""

    def __init__(self, descriptor: int, size: int, path: Path) -> None:
        self._descriptor, self._size, self._path, self._at = descriptor, size, path, 0

    def parameters(self) -> Iterator[tuple[str, tuple[int, ...], int, int]]:
        """Type, shape, first byte and length of each."""
        count = 0
        while self._at < self._size:
            count += 1
            if self._number(4) != 0 or count > MAX_TENSORS:
                self._fail("is no file of Paddle's parameters")
            levels = self._number(8)
            if levels > MAX_LEVELS:
                self._fail(f"claims {levels:,} levels")
            for _ in range(levels):
                self._take(self._number(8), MAX_PROGRAM)
            if self._number(4) != 0:
                self._fail("has a parameter of an unknown version")
            kind, shape = _description(self._take(self._number(4), MAX_DESCRIPTION), self._fail)
            if kind not in DTYPES:
                self._fail(f"has a parameter of unknown type {kind}")
            length = prod(shape) * BITS[DTYPES[kind]] // 8
            if length > self._size - self._at:
                self._fail(f"has a parameter of shape {list(shape)}, past its end")
            yield DTYPES[kind], shape, self._at, length
            self._at += length

    def _number(self, width: int) -> int:
        return int.from_bytes(self._take(width, width), "little")

    def _take(self, count: int, limit: int) -> bytes:
        if count > min(limit, self._size - self._at):
            self._fail("ends early, or claims too much")
        data = bytes(read_exact(self._descriptor, self._at, count, self._path))
        self._at += count
        return data

    def _fail(self, problem: str) -> NoReturn:
        raise DamagedFile(f"{problem}, at byte {self._at:,}", path=self._path, remedy=FETCH_AGAIN)


def _description(data: bytes, fail: Any) -> tuple[int, tuple[int, ...]]:
    """The type and shape of a parameter."""
    kind, shape = -1, list[int]()
    try:
        for field, value in fields(data):
            if field == 1 and isinstance(value, int):
                kind = value
            elif field == 2:
                shape += [value] if isinstance(value, int) else list(varints(value))
    except ValueError:
        fail("has an unsound description")
    if len(shape) > 32 or not all(0 <= n < 1 << 40 for n in shape):
        fail(f"has the impossible shape {shape[:9]}")
    return kind, tuple(shape)


def _names(path: Path, count: int) -> tuple[list[str], tuple[str, ...]]:
    """The parameters' names in the file's order, which is that of the names; none if the program does not tell as many."""
    for ending, reader in ((".json", _json_names), (".pdmodel", _program_names)):
        program = path.with_suffix(ending)
        if not os.path.lexists(program):
            continue
        try:
            names = sorted(reader(bytes(read_small(program, MAX_PROGRAM))))
        except (SourceError, ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
            return [], (f"{program.name} left out, so parameters have numbers for names: {str(error)[:200]}",)
        if len(names) == count and len(set(names)) == count:
            return names, ()
        return [], (f"{program.name} names {len(names)} parameters, not {count}: they have numbers for names.",)
    return [], (f"The program ({path.stem}.json or .pdmodel) is not beside {path.name}: parameters have numbers for names.",)


def _json_names(data: bytes) -> list[str]:
    """Of a program of newer versions (PIR)."""
    found = []
    for region in json.loads(data)["program"]["regions"]:
        for block in region["blocks"]:
            found += [one["A"][3] for one in block["ops"] if one.get("#") in ("p", "0.parameter", "builtin.parameter")]
    if not all(isinstance(name, str) and name.isprintable() and len(name) <= 1000 for name in found):
        raise ValueError("names that are no text")
    return found


def _program_names(data: bytes) -> list[str]:
    """Of a program of older versions: the variables of its first block that are kept and are tensors."""
    block = next(value for field, value in fields(data) if field == 1 and isinstance(value, bytes))
    found = []
    for field, value in fields(block):
        if field != 3 or not isinstance(value, bytes):
            continue
        parts = dict(fields(value))
        kind, name = parts.get(2), parts.get(1)
        is_tensor = isinstance(kind, bytes) and dict(fields(kind)).get(1) == TENSOR
        if parts.get(3) == 1 and is_tensor and isinstance(name, bytes):
            found.append(name.decode("utf-8"))
    return found
