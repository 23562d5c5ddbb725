"""torchao: the inner tensors of a weight under `_weight_qdata`, `_weight_scale` and so on, in safetensors, and as torch.save's files are
read; what they are stands in the metadata of the file under the weight's own name, and where that is lost in their dtypes and shapes.

Int8, Intx, Float8   one byte a number, scales as in scaled.py, the zero point subtracted before
MX                   E4M3, E5M2 or E2M1 (two a byte, the low half first), powers of two for 32 numbers
NVFP4                E2M1, E4M3 scales for 16 numbers, `per_tensor_scale` for all or for each matrix
Int4                 two signed numbers a byte, the low half first: q * scale[group, row] + zero point[group, row]

Scales of MX and NVFP4 may be in tiles; those of a stack as if it were one matrix. Forms in the order of a kernel are not decoded.
https://github.com/pytorch/ao (torchao/prototype/safetensors, torchao/prototype/mx_formats, torchao/quantization/quantize_/workflows)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised.group_scales import GroupScales, tiled_size
from modelkin_indexer.quantised.packing import Floats, by_groups, nibbles
from modelkin_indexer.quantised.parts import Found, Parts, Plain, Undecoded
from modelkin_indexer.quantised.scaled import scaled_weight
from modelkin_indexer.quantised.small_floats import BITS, Overall, SmallFloats

FLOATS = ("F8_E4M3", "F8_E5M2")
DATA = ("qdata", "qdata_and_metadata")
GROUPS = {"F8_E8M0": 32, "F8_E4M3": 16}  # numbers under one scale, by the scales' dtype
FORMS = {"F8_E8M0": "mx", "F8_E4M3": "nv"}


def plain_tensors(parts: Parts) -> Iterator[Found]:
    """Every weight that is stored as its inner tensors."""
    for name in parts.tensors:
        module, _, last = name.rpartition(".")
        data = next((data for data in DATA if last.startswith("_") and last.endswith(f"_{data}")), None)
        if data is not None:
            weight = _Weight(parts, f"{module}.{last[1:].removesuffix(f'_{data}')}", parts.tensors[name])
            yield weight.found()


class _Weight(Struct, frozen=True):
    parts: Parts
    name: str
    data: TensorInfo

    @property
    def prefix(self) -> str:
        module, _, last = self.name.rpartition(".")
        return f"{module}._{last}_"

    @property
    def uses(self) -> tuple[str, ...]:
        inner = (name for name in self.parts.tensors if name.startswith(self.prefix) and name != self.data.name)
        return (self.data.name, *sorted(inner))

    def side(self, last: str) -> TensorInfo | None:
        return self.parts.tensors.get(self.prefix + last)

    def stated(self) -> Mapping[str, Any]:
        """What the metadata says of the weight: `_type`, and its attributes as `_data`."""
        try:
            said = json.loads(self.parts.metadata.get(self.name, "{}"))
        except (ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}

    def found(self) -> Found:
        plain = self._plain()
        if plain is None:
            kind = str(self.stated().get("_type", ""))[:40] or f"{self.data.dtype} numbers"
            return Undecoded(f"torchao {kind}", self.uses)
        return replace(self._smoothed(plain), name=self.name, uses=self.uses)

    def _plain(self) -> Plain | None:
        scale, data = self.side("scale"), self.data
        if self.side("sparse_metadata") is not None or scale is None or len(data.shape) < 2:
            return None
        if scale.dtype in GROUPS and (data.dtype in FLOATS or data.dtype == "U8"):
            return self._small_floats(scale)
        if data.dtype in FLOATS:
            return scaled_weight(self.parts, data, scale.name)
        if data.dtype != "I8":
            return None
        zero = self.side("zero_point")
        is_int4 = zero is not None and zero.dtype not in ("I8", "I32", "I64") and scale.shape[-1] == data.shape[-2]
        return self._int4(scale, zero) if is_int4 and zero is not None else scaled_weight(self.parts, data, scale.name)

    def _small_floats(self, scale: TensorInfo) -> Plain:
        data, size = self.data, GROUPS[scale.dtype]
        code = data.dtype if data.dtype in FLOATS else "E2M1"
        columns, rows = data.shape[-1] * 8 // BITS[code], prod(data.shape[:-1])
        groups = -(-columns // size)
        is_plain = scale.shape == (*data.shape[:-1], groups)
        if not is_plain and scale.elements != tiled_size(rows, groups):
            raise self.parts.damaged(scale.name, f"has shape {list(scale.shape)}, which contradicts {list(data.shape)} of {data.name!r}")
        overall = self.side("per_tensor_scale")
        if overall is not None and overall.elements not in (1, prod(data.shape[:-2])):
            raise self.parts.damaged(overall.name, f"has {overall.elements} numbers for {prod(data.shape[:-2])} matrices")
        scales = GroupScales(self.parts, scale.name, groups, tiled=not is_plain, height=rows)
        whole = Overall(overall.name, height=data.shape[-2]) if overall is not None else None
        weight = SmallFloats(self.parts, data.name, code, columns, size, scales, whole)
        return Plain(self.name, (*data.shape[:-1], columns), f"{FORMS[scale.dtype]}fp{BITS[code]}", self.uses, weight.rows)

    def _int4(self, scale: TensorInfo, zero: TensorInfo) -> Plain | None:
        columns = 2 * self.data.shape[-1]
        if len(self.data.shape) != 2 or len(scale.shape) != 2 or columns % scale.shape[0] or zero.shape != scale.shape:
            return None
        size = columns // scale.shape[0]

        def rows(start: int, stop: int) -> Floats:
            numbers = ((nibbles(self.parts.raw_rows(self.data.name, start, stop)).astype(np.int8) ^ 8) - np.int8(8)).astype(np.float32)
            by_groups(np.multiply, numbers, self.parts.columns(scale.name, start, stop), size)
            by_groups(np.add, numbers, self.parts.columns(zero.name, start, stop), size)
            return numbers

        return Plain(self.name, (self.data.shape[0], columns), f"int4, groups of {size}", self.uses, rows)

    def _smoothed(self, plain: Plain) -> Plain:
        """With what the inputs are multiplied with before the layer."""
        before = self.side("act_pre_scale")
        if before is None or before.elements not in (1, plain.shape[-1]):
            return plain
        return replace(
            plain, rows=lambda start, stop: plain.rows(start, stop) * self.parts.span(before.name, 0, before.elements), fill=None
        )
