"""Numbers of small constants of a graph: scales, zero points, and what is decoded as a whole."""

from __future__ import annotations

from math import prod
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from modelkin_indexer.sources.onnx.graph import Constant, Graph
from modelkin_indexer.sources.stored.extents import OpenFiles
from modelkin_indexer.sources.stored.scales import PACKED, WHOLE, Scales

FLOATS: dict[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F64": np.float64}
NUMBERS: dict[str, Any] = {**FLOATS, **WHOLE, "F8_E8M0": ml_dtypes.float8_e8m0fnu}
MAX_BYTES = 1 << 28  # of one constant
ONE = np.ones(1, np.float32)
Floats = npt.NDArray[np.float32]


class Numbers:
    """Reads constants, and values that are nothing but scaled constants, as floats."""

    def __init__(self, graph: Graph, files: OpenFiles) -> None:
        self.graph, self._files = graph, files

    def constant(self, value: str) -> Constant | None:
        """The constant of a value, if it is one."""
        return self.graph.constants.get(value)

    def of(self, value: str) -> Floats | None:
        """The numbers in their own shape; None if they are no constant, or a large one."""
        constant = self.constant(value)
        if constant is None:
            return self._scaled(value)
        if constant.extent.length > MAX_BYTES:
            return None
        raw = np.frombuffer(self._files.read(constant.extent, constant.name), np.uint8)
        count = prod(constant.shape)
        if constant.dtype in PACKED:
            scales = Scales(constant.dtype, (count,), ONE, 0 * ONE)
            whole = len(raw) == -(-count * scales.bits // 8)
            return scales.decode(raw, 0, count).reshape(constant.shape) if count and whole else None
        kind = NUMBERS.get(constant.dtype)
        if kind is None or len(raw) != count * np.dtype(kind).itemsize:
            return None
        numbers: Floats = raw.view(kind).astype(np.float32)
        return numbers.reshape(constant.shape)

    def _scaled(self, value: str) -> Floats | None:
        """Scales that are themselves stored with one scale, as NVFP4 has them."""
        maker = self.graph.makers.get(value)
        if maker is None or maker.op != "DequantizeLinear" or len(maker.inputs) < 2:
            return None
        few, one = (self.of(inner) if inner in self.graph.constants else None for inner in maker.inputs[:2])
        if few is None or one is None or one.size != 1:
            return None
        scaled: Floats = few * one.reshape(-1)[:1]
        return scaled

    def sources(self, value: str) -> tuple[str, ...]:
        """The constants behind a value that `of` reads."""
        maker = self.graph.makers.get(value)
        inputs = maker.inputs if maker is not None and value not in self.graph.constants else (value,)
        return tuple(name for name in inputs if name in self.graph.constants)
