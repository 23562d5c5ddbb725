"""CTranslate2's model.bin: a header and the variables one after the other. The library itself has no reader that gives the values.

Format: python/ctranslate2/specs/model_spec.py (`ModelSpec._serialize`) and src/models/model.cc of CTranslate2, binary versions 4 to 6:
version, name and revision of the spec, number of variables; each with name, axes, type, bytes; then aliases. All little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.ctranslate2.names import renamed
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin
from modelkin_indexer.sources.stored.extents import Extent, OpenFiles, StoredTensor
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, PICK, read_config
from modelkin_indexer.sources.stored.scales import Scales

VERSIONS = range(4, 7)
DTYPES = ("F32", "I8", "I16", "I32", "F16", "BF16")  # by the number of the type in the file
FLOATS = ("F32", "F16", "BF16")
MAX_VARIABLES = 200_000  # the largest public models have 3,000
MAX_AXES = 8
SCALE = "_scale"  # after a weight's name: its scales, by which the weight was multiplied


class _Variable(Struct, frozen=True):
    name: str
    dtype: str
    shape: tuple[int, ...]
    extent: Extent


def open_weights(weights: Weights) -> DecodedSource:
    """Open one model.bin. Raises SourceError."""
    if len(weights.files) != 1:
        raise UnsupportedFormat("is made of shards", path=weights.path, remedy=f"CTranslate2 models are one file; {PICK}")
    files = OpenFiles()
    try:
        path = weights.files[0]
        variables = {variable.name: variable for variable in _Reader(files, path).variables()}
        tensors = [tensor for variable in variables.values() for tensor in _tensors(variable, variables, files)]
        presented = {tensor.name: tensor.presented(files) for tensor in tensors}
        quantised = {tensor.scales.bits for tensor in tensors if tensor.scales is not None}
        config, notes = read_config(path.parent)
        stored = sum(part.length for tensor in tensors for part in tensor.parts)
        origin = Origin(
            weights.path,
            weights.name,
            (SourceFile(path.name, files.sizes[0]),),
            config,
            (*weights.notes, *notes),
            f"CTranslate2 int{min(quantised)}" if quantised else "",
            files.sizes[0] - stored,
        )
        return DecodedSource(origin, presented, files.close)
    except BaseException:
        files.close()
        raise


class _Reader:
    """Walks the header. Lengths are checked against the file before anything of them is read."""

    def __init__(self, files: OpenFiles, path: Path) -> None:
        self._files, self._path, self._at = files, path, 0
        self._number = files.open(path)

    def variables(self) -> Iterator[_Variable]:
        """The variables, in the file's order."""
        version = self._unsigned("<I")
        if version not in VERSIONS:
            problem = f"is of version {version}; this reads {VERSIONS[0]} to {VERSIONS[-1]}"
            raise UnsupportedFormat(problem, path=self._path, remedy="Convert the model again with a newer CTranslate2.")
        self._text()
        self._unsigned("<I")
        count = self._unsigned("<I")
        if count > MAX_VARIABLES:
            self._fail(f"claims {count:,} variables")
        seen: set[str] = set()
        for _ in range(count):
            variable = self._variable()
            if variable.name in seen:
                self._fail(f"has the variable {variable.name!r} twice")
            seen.add(variable.name)
            yield variable
        for _ in range(self._unsigned("<I")):
            self._text()
            if self._text() not in seen:
                self._fail("has an alias of a variable that is not there")
        if self._at != self._files.sizes[self._number]:
            self._fail("goes on after its last alias")

    def _variable(self) -> _Variable:
        name = self._text()
        axes = self._unsigned("<B")
        if axes > MAX_AXES:
            self._fail(f"has a variable of {axes} axes")
        shape = tuple(self._unsigned("<I") for _ in range(axes))
        kind = self._unsigned("<B")
        if kind >= len(DTYPES):
            self._fail(f"has a variable of unknown type {kind}")
        length = self._unsigned("<I")
        if length != prod(shape) * BITS[DTYPES[kind]] // 8 % 2**32:
            self._fail(f"has {length:,} bytes for the variable {name!r} of shape {list(shape)}")
        length = prod(shape) * BITS[DTYPES[kind]] // 8  # the file keeps 32 bits of it
        extent = self._files.extent(self._number, self._at, length, name)
        self._at += length
        return _Variable(name, DTYPES[kind], shape, extent)

    def _text(self) -> str:
        """A length, and as many bytes, the last of them zero."""
        raw = self._bytes(self._unsigned("<H"))
        try:
            text = raw[:-1].decode("utf-8")
        except UnicodeDecodeError:
            self._fail("has a name that is not UTF-8")
        if raw[-1:] != b"\0" or not text.isprintable():
            self._fail("has a name that is not text")
        return text

    def _unsigned(self, form: str) -> int:
        return int(struct.unpack(form, self._bytes(struct.calcsize(form)))[0])

    def _bytes(self, count: int) -> bytes:
        if self._at + count > self._files.sizes[self._number]:
            self._fail("ends inside its header")
        raw = np.empty(count, np.uint8)
        self._files.fill(self._number, self._at, raw)
        self._at += count
        return raw.tobytes()

    def _fail(self, problem: str) -> NoReturn:
        raise DamagedFile(f"{problem}, at byte {self._at:,}", path=self._path, remedy=FETCH_AGAIN)


def _tensors(variable: _Variable, variables: Mapping[str, _Variable], files: OpenFiles) -> Iterator[StoredTensor]:
    """The tensors that a variable holds: one, or the rows of several. Settings and scales are none."""
    if not variable.shape or (variable.name.endswith(SCALE) and variable.name.removesuffix(SCALE) in variables):
        return
    scale = _scale(variable, variables, files)
    names, start = renamed(variable.name, variables.keys()), 0
    for name, rows in zip(names, _rows(variable, len(names), variables), strict=True):
        size = variable.extent.length // max(1, variable.shape[0])
        part = replace(variable.extent, start=variable.extent.start + start * size, length=rows * size)
        shape = (rows, *variable.shape[1:])
        scales = None
        if scale is not None:
            some = scale[start : start + rows] if len(scale) > 1 else scale
            some = some.reshape(-1, *[1] * (len(shape) - 1))
            scales = Scales(variable.dtype, shape, some, np.zeros_like(some[:1]))
        yield StoredTensor(name, variable.dtype, shape, (part,), scales)
        start += rows


def _rows(variable: _Variable, parts: int, variables: Mapping[str, _Variable]) -> list[int]:
    """How the rows are shared out: of q, k and v those of q are as many as the output's columns."""
    rows = variable.shape[0]
    if parts == 1:
        return [rows]
    output = variables.get(variable.name.rpartition("/linear_0/")[0] + "/linear_1/weight")
    first = output.shape[1] if parts == 3 and output is not None and len(output.shape) == 2 else rows // parts
    rest = (rows - first) // (parts - 1)
    return [first, *[rest] * (parts - 2), rows - first - rest * (parts - 2)]


def _scale(variable: _Variable, variables: Mapping[str, _Variable], files: OpenFiles) -> npt.NDArray[np.float32] | None:
    """What the stored whole numbers have to be multiplied with: one number, or one a row. None for plain numbers."""
    scale = variables.get(variable.name + SCALE)
    if scale is None or variable.dtype not in ("I8", "I16") or scale.dtype != "F32" or prod(scale.shape) not in (1, variable.shape[0]):
        return None
    stored = np.frombuffer(files.read(scale.extent, scale.name), np.float32)
    if not (np.isfinite(stored) & (stored != 0)).all():
        raise DamagedFile("has scales of zero", path=files.paths[0], tensor=scale.name, remedy=FETCH_AGAIN)
    return np.asarray(1 / stored, np.float32)
