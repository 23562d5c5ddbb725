"""TFLite (LiteRT) models: constants out of the flatbuffer, oriented as PyTorch keeps them and dequantised. Nothing of the graph is run.

The `tflite` package has the schema's accessors; what they find is checked against the file. https://ai.google.dev/edge/litert/models
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tflite as schema
from flatbuffers.number_types import Int32Flags
from msgspec import Struct

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.sources.flat_tables import NONSENSE
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin, Presented
from modelkin_indexer.sources.stored.extents import Extent, OpenFiles, StoredTensor
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, PICK, read_config
from modelkin_indexer.sources.stored.scales import SCALED, Scales
from modelkin_indexer.sources.stored.strided import Strided
from modelkin_indexer.sources.tflite.graph import TurnedBack, Uses, codes_of, uses

# Types that the schema of the package does not name yet.
NEWER = {19: "I2", 20: "U4", 21: "F8_E4M3", 22: "F8_E5M2"}
NAMES = ("FLOAT64", "FLOAT32", "FLOAT16", "BFLOAT16", "INT8", "UINT8", "INT16", "UINT16", "INT32", "INT4")
DTYPES = {
    getattr(schema.TensorType, name): word
    for name, word in zip(NAMES, ("F64", "F32", "F16", "BF16", "I8", "U8", "I16", "U16", "I32", "I4"), strict=True)
    if hasattr(schema.TensorType, name)
} | NEWER
FLOATS = ("F64", "F32", "F16", "BF16")
NO_WEIGHTS = ("I32", "I64", "I16", "U16", "")  # matrices of these without scales are indices, masks and texts
BLOCKWISE = (
    2  # the number of the table that says of a tensor's scales that they are another tensor: its number, zero points, numbers a block
)
BLOCK_FIELDS = (4, 6, 8)  # where a flatbuffer's table says that these three are
MOST_SQUARE = 4096  # rows of a matrix that may be a turn
MOST_SCALES = 64_000_000  # bytes of one tensor's scales
MAX_TENSORS = 500_000  # as in the other containers
MAX_AXES = 8


class _Constant(Struct, frozen=True):
    """A tensor that the file gives; `axes` as in TURNED, where an operator takes it as its kernel; turned in groups of `turned`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    extent: Extent
    scales: Scales | None
    axes: tuple[int, ...] | None
    turned: int = 0


class Section(Struct, frozen=True):
    """A model in bytes [start, start + length) of a file; `called`: what its tensors' names begin with."""

    start: int
    length: int
    called: str = ""


def open_weights(weights: Weights) -> DecodedSource:
    """Open one TFLite model. Raises SourceError."""
    if len(weights.files) != 1:
        raise UnsupportedFormat("is made of shards", path=weights.path, remedy=f"TFLite models are one file; {PICK}")
    files = OpenFiles()
    try:
        size = files.sizes[files.open(weights.files[0])]
        return opened(weights, files, [Section(0, size)])
    except BaseException:
        files.close()
        raise


def opened(
    weights: Weights, files: OpenFiles, sections: Sequence[Section], notes: tuple[str, ...] = (), unread: Mapping[str, int] | None = None
) -> DecodedSource:
    """The models of one open file, whose closing the source takes over. Raises SourceError."""
    readers = [Reader(weights.files[0], files, section) for section in sections]
    presented: dict[str, Presented] = {}
    for reader in readers:
        presented |= {constant.name: _presented(constant, files) for constant in reader.constants()}
    config, told = read_config(weights.files[0].parent)
    stored = sum(reader.bytes_of_weights for reader in readers)
    kinds = sum((reader.kinds for reader in readers), Counter[str]())
    counted = sum((reader.unread for reader in readers), Counter(unread or {}))
    origin = Origin(
        weights.path,
        weights.name,
        (SourceFile(weights.files[0].name, files.sizes[0]),),
        config,
        (*weights.notes, *notes, *dict.fromkeys(note for reader in readers for note in reader.notes()), *told),
        f"TFLite {kinds.most_common(1)[0][0]}" if kinds else "",
        max(sum(section.length for section in sections) - stored, 0),
        unread=tuple(sorted(counted.items())),
    )
    return DecodedSource(origin, presented, files.close)


class Reader:
    """Walks the flatbuffer of one model. What does not fit the file or itself is damage."""

    def __init__(self, path: Path, files: OpenFiles, section: Section) -> None:
        self._path, self._files, self._section, self._number = path, files, section, 0
        self._taken: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.unread: Counter[str] = Counter()
        self.bytes_of_weights = 0

    def constants(self) -> Iterator[_Constant]:
        """The weights of all subgraphs. Raises SourceError."""
        if not self._section.length:
            raise DamagedFile("is empty", path=self._path, remedy=FETCH_AGAIN)
        start, stop = self._section.start, self._section.start + self._section.length
        with (
            mmap.mmap(self._files.descriptor(self._number), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as whole,
            whole[start:stop] as data,
        ):
            try:
                yield from self._walked(data)
            except NONSENSE as error:
                raise DamagedFile(f"is no sound flatbuffer ({error})", path=self._path, remedy=FETCH_AGAIN) from error

    def notes(self) -> tuple[str, ...]:
        """What was left out, for a person to know."""
        kinds = ", ".join(f"{count} {dtype}" for dtype, count in sorted(self._left_out.items()))
        return (f"Constants of the graph that are no weights were left out: {kinds}.",) if kinds else ()

    def _walked(self, data: memoryview) -> Iterator[_Constant]:
        if bytes(data[4:8]) != b"TFL3":
            raise DamagedFile("does not have the mark TFL3", path=self._path, remedy=FETCH_AGAIN)
        model = schema.Model.GetRootAsModel(data, 0)
        codes = codes_of(model, self._few(model.OperatorCodesLength()))
        seen = 0
        for at in range(self._few(model.SubgraphsLength())):
            graph = model.Subgraphs(at)
            found = uses(graph, self._few(graph.OperatorsLength()), codes, lambda number, graph=graph: self._small(model, graph, number))  # type: ignore[misc]
            seen = self._few(seen + graph.TensorsLength())
            for number in range(graph.TensorsLength()):
                constant = None if number in found.turning else self._constant(model, graph, number, found)
                if constant is not None:
                    yield constant

    def _few(self, count: int) -> int:
        if count > MAX_TENSORS or count > self._section.length // 4:
            raise DamagedFile(f"claims {count:,} things of a kind", path=self._path, remedy=FETCH_AGAIN)
        return count

    def _small(self, model: Any, graph: Any, number: int) -> Any:
        """The numbers of a square constant of float32, up to the size of a turn; None of any other."""
        tensor = graph.Tensors(number) if 0 <= number < graph.TensorsLength() else None
        if tensor is None or DTYPES.get(tensor.Type()) != "F32" or tensor.ShapeLength() != 2 or tensor.Shape(0) != tensor.Shape(1):
            return None
        extent, size = self._extent(model, tensor), tensor.Shape(0)
        if extent is None or not 2 <= size <= MOST_SQUARE or extent.length != 4 * size * size:
            return None
        return np.frombuffer(self._files.read(extent, self._label(tensor)), np.float32).reshape(size, size)

    def _constant(self, model: Any, graph: Any, number: int, found: Uses) -> _Constant | None:
        tensor, axes, turned = graph.Tensors(number), found.axes.get(number), found.turned.get(number, 0)
        extent = self._extent(model, tensor)
        if extent is None:
            return None
        shape = tuple(int(tensor.Shape(at)) for at in range(min(tensor.ShapeLength(), MAX_AXES + 1))) or (1,)
        if len(shape) > MAX_AXES or any(axis < 0 for axis in shape):
            raise DamagedFile(f"has the impossible shape {list(shape)}", path=self._path, remedy=FETCH_AGAIN)
        dtype = DTYPES.get(tensor.Type(), "")
        scales = self._scales(model, graph, tensor, dtype, shape) if dtype in SCALED else None
        if (dtype not in FLOATS and scales is None) or tensor.Sparsity() is not None or prod(shape) < 2:
            if prod(shape) > max(shape) and dtype not in NO_WEIGHTS:
                kind = "sparse" if tensor.Sparsity() is not None else f"{dtype} with scales of another kind"
                self.unread[f"TFLite, {kind}"] += extent.length
            self._left_out["single numbers" if prod(shape) == 1 else dtype or f"type {tensor.Type()}"] += 1
            return None
        if scales is not None and prod(shape) > max(shape):
            self.kinds[f"int{scales.bits}"] += 1
        self.bytes_of_weights += extent.length
        fitting = axes if axes is not None and len(axes) == len(shape) else None
        if turned and (shape[-1] % turned or (scales is None and dtype != "F32")):
            self.unread["TFLite, weights that are turned"] += extent.length
            return None
        return _Constant(self._name(tensor), dtype, shape, extent, scales, fitting, turned)

    def _name(self, tensor: Any) -> str:
        """The tensor's own name, with a number after it if another has it."""
        raw = tensor.Name() or b"tensor"
        name = "".join(letter if letter.isprintable() else "?" for letter in raw.decode("utf-8", "replace"))[:1000]
        name = self._section.called + name
        self._taken[name] += 1
        return name if self._taken[name] == 1 else f"{name}.{self._taken[name]}"

    def _extent(self, model: Any, tensor: Any) -> Extent | None:
        """Where a tensor's bytes lie: in the flatbuffer, or behind it in files of more than 2 GB. None of tensors that are computed."""
        if tensor.Buffer() >= model.BuffersLength():
            raise DamagedFile("has a tensor whose buffer is not there", path=self._path, remedy=FETCH_AGAIN)
        buffer = model.Buffers(tensor.Buffer())
        if buffer.Size() > 1:
            return self._within(buffer.Offset(), buffer.Size(), tensor)
        if not buffer.DataLength():
            return None
        start = buffer._tab.Vector(buffer._tab.Offset(4))  # `data` is the first field of a buffer
        return self._within(start, buffer.DataLength(), tensor)

    def _within(self, start: int, length: int, tensor: Any) -> Extent:
        """An extent of the section. Raises DamagedFile of one that leaves it."""
        if start + length > self._section.length:
            problem = f"bytes [{start:,}, {start + length:,}) are not within the {self._section.length:,} of the model"
            raise DamagedFile(problem, path=self._path, tensor=self._label(tensor), remedy=f"The file is cut short. {FETCH_AGAIN}")
        return self._files.extent(self._number, self._section.start + start, length, self._label(tensor))

    def _label(self, tensor: Any) -> str:
        return (tensor.Name() or b"tensor").decode("utf-8", "replace")

    def _scales(self, model: Any, graph: Any, tensor: Any, dtype: str, shape: tuple[int, ...]) -> Scales | None:
        """Scales of the tensor, of each of its slices along one axis or of each block; None for whole numbers that are no weights."""
        kept = tensor.Quantization()
        if kept is not None and kept.DetailsType() == BLOCKWISE and kept.Details() is not None:
            return self._blockwise(model, graph, tensor, dtype, shape)
        if kept is not None and kept.DetailsType():
            return None
        count = 0 if kept is None else self._few(kept.ScaleLength())
        if kept is None or not count:
            return None
        axis = kept.QuantizedDimension()
        if count > 1 and not (0 <= axis < len(shape) and shape[axis] == count):
            raise DamagedFile(
                f"has {count} scales for shape {list(shape)}", path=self._path, tensor=self._label(tensor), remedy=FETCH_AGAIN
            )
        form = tuple(count if at == axis and count > 1 else 1 for at in range(len(shape)))
        scale = np.array(kept.ScaleAsNumpy(), np.float32)
        zeros = np.array(kept.ZeroPointAsNumpy(), np.float32) if kept.ZeroPointLength() else np.zeros(count, np.float32)
        if zeros.size not in (1, count) or not np.isfinite(scale).all():
            raise DamagedFile("has scales and zero points that do not fit", path=self._path, tensor=self._label(tensor), remedy=FETCH_AGAIN)
        return Scales(dtype, shape, scale.reshape(form), zeros.reshape(form if zeros.size == count else (1,) * len(shape)))

    def _blockwise(self, model: Any, graph: Any, tensor: Any, dtype: str, shape: tuple[int, ...]) -> Scales | None:
        """Scales of each block of the last axis, which are a tensor of the graph."""
        table = tensor.Quantization().Details()
        where, zeros, block = (
            table.Get(Int32Flags, offset + table.Pos) if (offset := table.Offset(field)) else 0 for field in BLOCK_FIELDS
        )
        form = (*shape[:-1], shape[-1] // block) if block > 0 and shape[-1] % block == 0 else ()
        if zeros not in (-1, where) and zeros > 0:
            return None  # zero points of their own are not written yet
        kept = graph.Tensors(where) if 0 <= where < graph.TensorsLength() else None
        extent = None if kept is None else self._extent(model, kept)
        kind = None if kept is None else {"F16": np.float16, "F32": np.float32}.get(DTYPES.get(kept.Type(), ""))
        if (
            kind is None
            or extent is None
            or not form
            or extent.length != prod(form) * np.dtype(kind).itemsize
            or extent.length > MOST_SCALES
        ):
            raise DamagedFile("has scales of blocks that do not fit", path=self._path, tensor=self._label(tensor), remedy=FETCH_AGAIN)
        scale = np.frombuffer(self._files.read(extent, self._label(tensor)), kind).astype(np.float32)
        if not np.isfinite(scale).all():
            raise DamagedFile("has scales that are no numbers", path=self._path, tensor=self._label(tensor), remedy=FETCH_AGAIN)
        return Scales(dtype, shape, scale.reshape(form), np.zeros((1,) * len(shape), np.float32), block)


def _presented(constant: _Constant, files: OpenFiles) -> Presented:
    """What readers see of a constant: a kernel with its axes in PyTorch's order."""
    stored = StoredTensor(constant.name, constant.dtype, constant.shape, (constant.extent,), constant.scales).presented(files)
    if constant.turned:
        stored = Presented(stored.info, TurnedBack(stored.decoder, constant.turned))
    if constant.axes is None:
        return stored
    steps = [prod(constant.shape[at + 1 :]) for at in range(len(constant.shape))]
    shape = tuple(constant.shape[axis] for axis in constant.axes)
    turned = Strided(stored, files.paths[0], 0, shape, tuple(steps[axis] for axis in constant.axes))
    return Presented(TensorInfo(constant.name, stored.info.dtype, shape, stored.info.nbytes), turned)
