"""ComfyUI's layers of whole numbers, each a row [out, in] of codes; most are turned group by group before they are rounded (ConvRot).

int8_tensorwise  q * scale, a scale for all or for each row; turned if `convrot` says so
convrot_w4a4     two signed numbers of 4 bits a byte, the low half first, a scale a row; turned
asym_w4a8_int8   round(level * s_rel[group]) * s_channel[row] + correction[group, row]; the levels are a code book of 16, or codes less 8,
                 or less 32 where two more bits of each code stand behind the row; turned
awq_w4a16        (q - 8) * scale[group, row] + zeros[group, row], the low half first

https://github.com/Comfy-Org/comfy-kitchen (tensor/int8.py, convrot_w4a4.py, w4a8_int8.py, awq_w4a16.py)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from msgspec import Struct

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised.group_scales import GroupScales
from modelkin_indexer.quantised.packing import Bytes, Floats, by_groups, nibbles, unpack_bits
from modelkin_indexer.quantised.parts import Parts, Plain
from modelkin_indexer.quantised.rotated import is_size, turned
from modelkin_indexer.quantised.scaled import scaled_weight

BYTES = ("I8", "U8")
TURN, W4A8_GROUP, AWQ_GROUP = 256, 16, 64  # sizes where nothing is stated
INT8 = 127.0


class Layer(Struct, frozen=True):
    """A marked module: its stored weight [..., out, bytes of a row], and what the mark says."""

    parts: Parts
    module: str
    weight: TensorInfo
    stated: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """Of one matrix."""
        return self.weight.shape[-2]

    @property
    def matrices(self) -> int:
        """Of a stack."""
        return prod(self.weight.shape[:-2])

    def need(self, last: str) -> TensorInfo:
        return self.parts.need(f"{self.module}.{last}", self.weight.name)

    def size(self, key: str, default: int) -> int:
        """A stated size, in the mark itself or among its `params`. Raises DamagedFile."""
        params = self.stated.get("params")
        found = self.stated.get(key, params.get(key, default) if isinstance(params, dict) else default)
        if type(found) is not int or found <= 0:
            raise self.parts.damaged(self.weight.name, f"is said to have the {key} {str(found)[:40]!r}")
        return found

    def says(self, key: str) -> bool:
        params = self.stated.get("params")
        return bool(self.stated.get(key, params.get(key, False) if isinstance(params, dict) else False))

    def bytes_of(self, start: int, stop: int) -> Bytes:
        """Stored rows, counted over the stack."""
        width = self.weight.shape[-1]
        return self.parts.raw_bytes(self.weight.name, start * width, stop * width).reshape(stop - start, width)

    def plain(self, columns: int, kind: str, rows: Callable[[int, int], Floats]) -> Plain:
        return Plain(f"{self.module}.weight", (*self.weight.shape[:-1], columns), kind, (self.weight.name,), rows)

    def turn(self, columns: int) -> int:
        """The size of the turned groups. Raises DamagedFile."""
        size = self.size("convrot_groupsize", TURN)
        if not is_size(size) or columns % size:
            raise self.parts.damaged(self.weight.name, f"is said to be turned in groups of {size}, which {columns} columns do not allow")
        return size

    def check(self, info: TensorInfo, wanted: int) -> None:
        if info.elements != wanted:
            problem = f"has {info.elements} numbers, but {wanted} belong to {self.weight.name!r} of shape {list(self.weight.shape)}"
            raise self.parts.damaged(info.name, problem)


def _int8(layer: Layer) -> Plain | None:
    if layer.weight.dtype != "I8" or len(layer.weight.shape) < 2:
        return None
    scaled = scaled_weight(layer.parts, layer.weight, layer.need("weight_scale").name)
    if not layer.says("convrot"):
        return scaled
    columns = layer.weight.shape[-1]
    size = layer.turn(columns)
    return layer.plain(columns, "int8, turned (ConvRot)", lambda start, stop: turned(scaled.rows(start, stop), size))


def _w4a4(layer: Layer) -> Plain | None:
    if layer.weight.dtype not in BYTES or len(layer.weight.shape) < 2:
        return None
    columns, scale = 2 * layer.weight.shape[-1], layer.need("weight_scale")
    layer.check(scale, layer.matrices * layer.rows)
    size = layer.turn(columns)

    def rows(start: int, stop: int) -> Floats:
        numbers = ((nibbles(layer.bytes_of(start, stop)).astype(np.int8) ^ 8) - np.int8(8)).astype(np.float32)
        numbers *= layer.parts.span(scale.name, start, stop)[:, None]
        return turned(numbers, size)

    return layer.plain(columns, "int4, turned (ConvRot W4A4)", rows)


def _w4a8(layer: Layer) -> Plain | None:
    if layer.weight.dtype not in BYTES or len(layer.weight.shape) < 2:
        return None
    relative, channel, size = layer.need("weight_s_rel"), layer.need("weight_s_channel"), layer.size("group_size", W4A8_GROUP)
    columns, height = relative.shape[-1] * size if relative.shape else 0, layer.matrices * layer.rows
    layer.check(relative, height * columns // size)
    layer.check(channel, height)
    bits = next((bits for bits in (4, 6) if columns * bits == 8 * layer.weight.shape[-1]), 0)
    if not bits:
        raise layer.parts.damaged(
            layer.weight.name, f"has {layer.weight.shape[-1]} bytes a row for {columns} columns, neither 4 nor 6 bits each"
        )
    return layer.plain(columns, f"int{bits}, turned (ConvRot W{bits}A8)", _Grouped(layer, columns, bits, size, layer.turn(columns)).rows)


class _Grouped(Struct, frozen=True):
    """Codes of 4 or 6 bits on a grid of int8 (asym_w4a8_int8)."""

    layer: Layer
    columns: int
    bits: int
    size: int
    turn: int

    def rows(self, start: int, stop: int) -> Floats:
        parts, module, groups = self.layer.parts, self.layer.module, self.columns // self.size
        dtype = parts.tensors[f"{module}.weight_s_rel"].dtype
        kind = "F8_E4M3" if dtype == "U8" else ""  # a float kept as bytes
        relative = GroupScales(parts, f"{module}.weight_s_rel", groups, kind).rows(start, stop)
        numbers = self._levels(self._codes(self.layer.bytes_of(start, stop)))
        by_groups(np.multiply, numbers, relative, self.size)
        numbers = np.clip(np.rint(numbers), -INT8, INT8)
        numbers *= parts.span(f"{module}.weight_s_channel", start, stop)[:, None]
        if f"{module}.weight_correction" in parts.tensors:
            correction = parts.columns(f"{module}.weight_correction", start, stop)
            by_groups(np.add, numbers, correction, self.size)
        return turned(numbers, self.turn)

    def _codes(self, packed: Bytes) -> Bytes:
        codes = nibbles(np.ascontiguousarray(packed[:, : self.columns // 2]))
        if self.bits == 6:
            codes |= unpack_bits(packed[:, self.columns // 2 :], 2, self.columns) << np.uint8(4)
        return codes

    def _levels(self, codes: Bytes) -> Floats:
        name = f"{self.layer.module}.weight_codebook"
        if name not in self.layer.parts.tensors:
            return codes.astype(np.float32) - np.float32(1 << self.bits - 1)
        found: Floats = self.layer.parts.span(name, 0, 16)[codes]
        return found


def _awq(layer: Layer) -> Plain | None:
    if layer.weight.dtype not in BYTES or len(layer.weight.shape) != 2:
        return None
    scale, zeros = layer.need("weight_scale"), layer.need("weight_zeros")
    columns, size = 2 * layer.weight.shape[-1], layer.size("group_size", AWQ_GROUP)
    if scale.shape != (-(-columns // size), layer.rows) or zeros.shape != scale.shape:
        raise layer.parts.damaged(scale.name, f"has shape {list(scale.shape)}, not {[-(-columns // size), layer.rows]}")

    def rows(start: int, stop: int) -> Floats:
        numbers = nibbles(layer.bytes_of(start, stop)).astype(np.float32) - np.float32(8)
        by_groups(np.multiply, numbers, layer.parts.columns(scale.name, start, stop), size)
        by_groups(np.add, numbers, layer.parts.columns(zeros.name, start, stop), size)
        return numbers

    return layer.plain(columns, f"awq 4 bits, groups of {size} (ComfyUI)", rows)


FORMS: Mapping[str, Callable[[Layer], Plain | None]] = {
    "int8_tensorwise": _int8,
    "convrot_w4a4": _w4a4,
    "asym_w4a8_int8": _w4a8,
    "awq_w4a16": _awq,
}
