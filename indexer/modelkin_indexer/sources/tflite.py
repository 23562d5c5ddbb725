"""TFLite (LiteRT) models: constants out of the flatbuffer, oriented as PyTorch keeps them and dequantised. Nothing of the graph is run.

The `tflite` package has the schema's accessors; what they find is checked against the file. https://ai.google.dev/edge/litert/models
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import tflite as schema

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin, Presented
from modelkin_indexer.sources.stored.extents import Extent, OpenFiles, StoredTensor
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, PICK, read_config
from modelkin_indexer.sources.stored.scales import SCALED, Scales
from modelkin_indexer.sources.stored.strided import Strided

NAMES = ("FLOAT64", "FLOAT32", "FLOAT16", "BFLOAT16", "INT8", "UINT8", "INT16", "UINT16", "INT32", "INT4")
DTYPES = {
    getattr(schema.TensorType, name): word
    for name, word in zip(NAMES, ("F64", "F32", "F16", "BF16", "I8", "U8", "I16", "U16", "I32", "I4"), strict=True)
    if hasattr(schema.TensorType, name)
}
FLOATS = ("F64", "F32", "F16", "BF16")
MAX_TENSORS = 500_000  # as in the other containers
MAX_AXES = 8
KERNEL = 1  # the input of an operator that takes its kernel
# Kernels are stored channels last. Axes of the stored kernel in the order of PyTorch's.
TURNED = {
    schema.BuiltinOperator.CONV_2D: (0, 3, 1, 2),
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: (3, 0, 1, 2),
    schema.BuiltinOperator.TRANSPOSE_CONV: (3, 0, 1, 2),
    schema.BuiltinOperator.CONV_3D: (4, 3, 0, 1, 2),
}
# What the accessors raise on offsets that lead nowhere.
NONSENSE = (struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError, RecursionError)


@dataclass(frozen=True)
class _Constant:
    """A tensor that the file gives; `axes` as in TURNED, where an operator takes it as its kernel."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    extent: Extent
    scales: Scales | None
    axes: tuple[int, ...] | None


def open_weights(weights: Weights) -> DecodedSource:
    """Open one TFLite model. Raises SourceError."""
    if len(weights.files) != 1:
        raise UnsupportedFormat("is made of shards", path=weights.path, remedy=f"TFLite models are one file; {PICK}")
    files = OpenFiles()
    try:
        reader = _Reader(weights, files)
        presented = {constant.name: _presented(constant, files) for constant in reader.constants()}
        config, notes = read_config(weights.files[0].parent)
        stored = reader.bytes_of_weights
        origin = Origin(
            weights.path,
            weights.name,
            (SourceFile(weights.files[0].name, files.sizes[0]),),
            config,
            (*weights.notes, *reader.notes(), *notes),
            reader.quantization(),
            max(files.sizes[0] - stored, 0),
        )
        return DecodedSource(origin, presented, files.close)
    except BaseException:
        files.close()
        raise


class _Reader:
    """Walks the flatbuffer. What does not fit the file or itself is damage."""

    def __init__(self, weights: Weights, files: OpenFiles) -> None:
        self._path, self._files = weights.files[0], files
        self._number = files.open(self._path)
        self._taken: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self.bytes_of_weights = 0

    def constants(self) -> Iterator[_Constant]:
        """The weights of all subgraphs. Raises SourceError."""
        if not self._files.sizes[self._number]:
            raise DamagedFile("is empty", path=self._path, remedy=FETCH_AGAIN)
        with mmap.mmap(self._files.descriptor(self._number), 0, access=mmap.ACCESS_READ) as mapped:
            try:
                yield from self._walked(mapped)
            except NONSENSE as error:
                raise DamagedFile(f"is no sound flatbuffer ({error})", path=self._path, remedy=FETCH_AGAIN) from error

    def notes(self) -> tuple[str, ...]:
        """What was left out, for a person to know."""
        kinds = ", ".join(f"{count} {dtype}" for dtype, count in sorted(self._left_out.items()))
        return (f"Constants of the graph that are no weights were left out: {kinds}.",) if kinds else ()

    def quantization(self) -> str:
        """How most quantised weights are stored."""
        return f"TFLite {self._kinds.most_common(1)[0][0]}" if self._kinds else ""

    def _walked(self, mapped: mmap.mmap) -> Iterator[_Constant]:
        if mapped[4:8] != b"TFL3":
            raise DamagedFile("does not have the mark TFL3", path=self._path, remedy=FETCH_AGAIN)
        model = schema.Model.GetRootAsModel(mapped, 0)
        codes = [model.OperatorCodes(at).BuiltinCode() for at in range(self._few(model.OperatorCodesLength()))]
        seen = 0
        for at in range(self._few(model.SubgraphsLength())):
            graph = model.Subgraphs(at)
            axes = self._kernels(graph, codes)
            seen = self._few(seen + graph.TensorsLength())
            for number in range(graph.TensorsLength()):
                constant = self._constant(model, graph.Tensors(number), axes.get(number))
                if constant is not None:
                    yield constant

    def _few(self, count: int) -> int:
        if count > MAX_TENSORS or count > self._files.sizes[self._number] // 4:
            raise DamagedFile(f"claims {count:,} things of a kind", path=self._path, remedy=FETCH_AGAIN)
        return count

    def _kernels(self, graph: Any, codes: list[int]) -> dict[int, tuple[int, ...]]:
        """Tensor -> the order of its axes, for those that an operator takes as its kernel, also dequantised on the way."""
        axes: dict[int, tuple[int, ...]] = {}
        made_of: dict[int, int] = {}
        for at in range(self._few(graph.OperatorsLength())):
            operator = graph.Operators(at)
            code = codes[operator.OpcodeIndex()]
            if code == schema.BuiltinOperator.DEQUANTIZE and operator.InputsLength() and operator.OutputsLength():
                made_of[operator.Outputs(0)] = operator.Inputs(0)
            elif code in TURNED and operator.InputsLength() > KERNEL:
                kernel = operator.Inputs(KERNEL)
                axes[made_of.get(kernel, kernel)] = TURNED[code]
        return axes

    def _constant(self, model: Any, tensor: Any, axes: tuple[int, ...] | None) -> _Constant | None:
        extent = self._extent(model, tensor)
        if extent is None:
            return None
        shape = tuple(int(tensor.Shape(at)) for at in range(min(tensor.ShapeLength(), MAX_AXES + 1))) or (1,)
        if len(shape) > MAX_AXES or any(axis < 0 for axis in shape):
            raise DamagedFile(f"has the impossible shape {list(shape)}", path=self._path, remedy=FETCH_AGAIN)
        dtype = DTYPES.get(tensor.Type(), "")
        scales = self._scales(tensor, dtype, shape) if dtype in SCALED else None
        if (dtype not in FLOATS and scales is None) or tensor.Sparsity() is not None or prod(shape) < 2:
            self._left_out["single numbers" if prod(shape) == 1 else dtype or f"type {tensor.Type()}"] += 1
            return None
        if scales is not None and prod(shape) > max(shape):
            self._kinds[f"int{scales.bits}"] += 1
        self.bytes_of_weights += extent.length
        fitting = axes if axes is not None and len(axes) == len(shape) else None
        return _Constant(self._name(tensor), dtype, shape, extent, scales, fitting)

    def _name(self, tensor: Any) -> str:
        """The tensor's own name, with a number after it if another has it."""
        raw = tensor.Name() or b"tensor"
        name = "".join(letter if letter.isprintable() else "?" for letter in raw.decode("utf-8", "replace"))[:1000]
        self._taken[name] += 1
        return name if self._taken[name] == 1 else f"{name}.{self._taken[name]}"

    def _extent(self, model: Any, tensor: Any) -> Extent | None:
        """Where a tensor's bytes lie: in the flatbuffer, or behind it in files of more than 2 GB. None of tensors that are computed."""
        if tensor.Buffer() >= model.BuffersLength():
            raise DamagedFile("has a tensor whose buffer is not there", path=self._path, remedy=FETCH_AGAIN)
        buffer = model.Buffers(tensor.Buffer())
        if buffer.Size() > 1:
            return self._files.extent(self._number, buffer.Offset(), buffer.Size(), self._label(tensor))
        if not buffer.DataLength():
            return None
        start = buffer._tab.Vector(buffer._tab.Offset(4))  # `data` is the first field of a buffer
        return self._files.extent(self._number, start, buffer.DataLength(), self._label(tensor))

    def _label(self, tensor: Any) -> str:
        return (tensor.Name() or b"tensor").decode("utf-8", "replace")

    def _scales(self, tensor: Any, dtype: str, shape: tuple[int, ...]) -> Scales | None:
        """Scales of the tensor or of each of its slices along one axis; None for whole numbers that are no weights."""
        kept = tensor.Quantization()
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


def _presented(constant: _Constant, files: OpenFiles) -> Presented:
    """What readers see of a constant: a kernel with its axes in PyTorch's order."""
    stored = StoredTensor(constant.name, constant.dtype, constant.shape, (constant.extent,), constant.scales).presented(files)
    if constant.axes is None:
        return stored
    steps = [prod(constant.shape[at + 1 :]) for at in range(len(constant.shape))]
    shape = tuple(constant.shape[axis] for axis in constant.axes)
    turned = Strided(stored, files.paths[0], 0, shape, tuple(steps[axis] for axis in constant.axes))
    return Presented(TensorInfo(constant.name, stored.info.dtype, shape, stored.info.nbytes), turned)
