"""Stored bytes to numbers: decoded to float32 and oriented as rows of a view."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from numpy.lib.stride_tricks import as_strided

from modelkin_indexer.places import View
from modelkin_indexer.source import BITS, Source

try:
    from modelkin_indexer.sources.stored import _value_core  # type: ignore[attr-defined, unused-ignore]
except ImportError:
    _value_core = None
CORE: Any = _value_core  # decodes in one pass, and the same; None where no C compiler was at hand when modelkin was installed

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Words = npt.NDArray[Any]

BLOCK_BYTES = 2 << 20  # decoded bytes of a row block: stays in a core's cache from decoding to the last sum, and calls still cost nothing
# Blocks of a transposed matrix are this much larger: they are read run by run, and runs of under 4 KiB cost more time than their bytes.
SCATTERED = 32
# Stored bytes read at once beside the result itself; bounds the memory of reading scattered rows.
SPAN_BYTES = 16 << 20
# Scattered values are read as one span if that fetches at most this many times the bytes that are wanted, ...
WASTE = 4
# ... or if the span is this small: storage is read in pages of 4 KiB anyway, and a call costs as much as copying about this much.
SMALL_SPAN = 16 << 10
CACHE_LINE = 64
GROUP_STRIPS = 256  # strips transposed together: one cache line of each fits the smallest cache (16 of 32 KiB)

_TYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,  # the upper half of a single
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
# What numpy has not: names in ml_dtypes, which takes a hundredth of a query to import and few models need.
_FURTHER = {
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}


class _SmallFloat(Struct, frozen=True):
    """How a narrow float becomes a float32: sign-extend it, shift its exponent and mantissa into place, keep sign and those, rescale.

    `special` are the bits that are all set in infinities and NaN (in NaN alone where there are no infinities).
    """

    signed: Any
    special: int
    shift: int
    keep: int
    scale: float


# 4 to 6 times faster than numpy's or ml_dtypes' cast and than a table (2.5 against 0.4 and 0.7 G numbers per CPU second), and exact.
_SMALL_FLOATS = {
    "F16": _SmallFloat(np.int16, 0x7C00, 13, 0x8FFFE000, 2.0**112),
    "F8_E5M2": _SmallFloat(np.int8, 0x7C, 21, 0x8FE00000, 2.0**112),
    "F8_E4M3": _SmallFloat(np.int8, 0x7F, 20, 0x87F00000, 2.0**120),
}


def bits(dtype: str) -> int:
    """Bits of one stored number. Raises KeyError for a dtype that is not decoded."""
    return BITS[dtype]


def decode(dtype: str, raw: Bytes, out: Floats | None = None) -> Floats:
    """Stored bytes (1-D, contiguous) as float32 values, in `out` (contiguous, of as many values) if given, else in a fresh 1-D array.

    Narrow floats convert exactly, F64 and integers round to nearest; F64 beyond float32's range becomes infinite.
    """
    stored = raw.view(_type(dtype))
    if out is None:
        out = np.empty(stored.shape, np.float32)
    if not out.flags.c_contiguous:
        raise ValueError("out must be contiguous")
    flat = out.reshape(-1)
    small = _SMALL_FLOATS.get(dtype)
    if small is not None and _decode_small(small, raw, flat):
        return out
    if dtype == "BF16":
        np.left_shift(stored, 16, out=flat.view(np.uint32), dtype=np.uint32)
        return out
    if dtype == "BOOL":
        stored = raw != 0
    with np.errstate(over="ignore", invalid="ignore"):
        np.copyto(flat, stored, casting="unsafe")
    return out


def _type(dtype: str) -> Any:
    """The type of stored numbers, as numpy views them."""
    if dtype not in _FURTHER:
        return _TYPES[dtype]
    import ml_dtypes

    return getattr(ml_dtypes, _FURTHER[dtype])


def decode_groups(dtype: str, raw: Bytes, out: Floats, factors: Floats) -> None:
    """As `decode` into `out`, each number multiplied by the factor of its group: as many groups of one length as there are factors."""
    small = _SMALL_FLOATS.get(dtype)
    factors = np.ascontiguousarray(factors, np.float32)
    if small is None or CORE is None or not _decode_small(small, raw, out.reshape(-1), factors):
        groups = decode(dtype, raw, out).reshape(factors.size, -1)
        np.multiply(groups, factors.reshape(-1, 1), out=groups)


def decoded_in(dtype: str, raw: Bytes, room: Floats) -> Floats:
    """The values in `room` (contiguous, of as many numbers), or where they are if they are stored as they are read."""
    return raw.view(np.float32).reshape(room.shape) if dtype == "F32" else decode(dtype, raw, out=room)


def _decode_small(small: _SmallFloat, raw: Bytes, flat: Floats, factors: Floats | None = None) -> bool:
    """Decode by integer shifts; False, and nothing useful in `flat`, where that would be wrong: infinities, NaN, flushed subnormals.

    With `factors` (see `decode_groups`) only compiled.
    """
    if CORE is not None:
        return _keeps_subnormals() and bool(CORE.widen(raw, flat, small.special, small.shift, small.keep, small.scale, factors))
    signed = raw.view(small.signed)
    if signed.size and int((signed & small.signed(small.special)).max()) == small.special:
        return False
    if not _keeps_subnormals():
        return False
    np.copyto(flat.view(np.int32), signed)
    np.left_shift(flat.view(np.int32), small.shift, out=flat.view(np.int32))
    np.bitwise_and(flat.view(np.uint32), np.uint32(small.keep), out=flat.view(np.uint32))
    np.multiply(flat, np.float32(small.scale), out=flat)
    return True


def _keeps_subnormals() -> bool:
    """Whether this thread's processor state is as IEEE says; other libraries can switch it to flush subnormal numbers to zero."""
    return bool((_SUBNORMAL * np.float32(2.0**112))[0])


_SUBNORMAL = np.array([1 << 9], np.uint32).view(np.float32)  # 2^-140


def row_blocks(view: View, bits: int = 32, target_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, int]]:
    """Bounds [start, stop) that cut a view's rows into blocks of about `target_bytes` at `bits` a number.

    Views whose rows are scattered in the file get larger blocks. The bounds depend on the view alone, so that sums over blocks come out
    the same on every machine; keep `bits` at its default where models stored in different types must be cut alike.
    """
    scattered = view.columns > 1 and view.strides[-1] != 1
    rows = max(1, target_bytes * (SCATTERED if scattered else 1) * 8 // (view.columns * bits))
    for start in range(0, view.rows, rows):
        yield start, min(start + rows, view.rows)


def read_rows(source: Source, view: View, start: int, stop: int, out: Floats | None = None) -> Floats:
    """Values of rows [start, stop) of a view, oriented: float32 [stop - start, columns], in `out` (contiguous, of that shape) if given.

    Reads as `read_stored` does, and raises what it raises.
    """
    stored = read_stored(source, view, start, stop)
    result = np.empty((stop - start, view.columns), np.float32) if out is None else out
    return decode(source.tensors[view.tensor].dtype, stored, result)


def read_stored(source: Source, view: View, start: int, stop: int, out: Bytes | None = None) -> Bytes:
    """Stored bytes of rows [start, stop) of a view in oriented order, 1-D: in the first bytes of `out` if given, else in a fresh array.

    Any pattern of strides works. Adjoining rows are one read; scattered values are read as spans where that costs little
    (`WASTE`, `SMALL_SPAN`), else run by run. Needs memory for the result and one span of `SPAN_BYTES`.

    Raises:
        DamagedFile: the file shrank or cannot be read any more.
        ValueError: rows outside the view, or a view outside its tensor.
    """
    info = source.tensors[view.tensor]
    if not 0 <= start <= stop <= view.rows:
        raise ValueError(f"rows [{start}, {stop}) are not within the {view.rows} of the view of {view.tensor!r}")
    width, columns = BITS[info.dtype] // 8, view.columns
    length = (stop - start) * columns * width
    target = np.empty(length, np.uint8) if out is None else out[:length]
    if view.strides == (columns, 1) and 0 <= view.offset <= info.elements - view.rows * columns:  # as most are: one read
        first = (view.offset + start * columns) * width
        source.read(view.tensor, first, first + length, target)
        return target
    whole = _Box(view.offset, view.shape, view.strides)
    if whole.first < 0 or whole.last >= info.elements:
        raise ValueError(f"the view {view} leaves its tensor of {info.elements} numbers")
    stored = target.view(f"u{width}").reshape(stop - start, columns)
    reader = _Reader(source, view.tensor, width)
    at = 0
    for box in _row_boxes(whole, start, stop):
        rows = prod(box.shape[:-1])
        reader.box(box, stored[at : at + rows].reshape(box.shape))
        at += rows
    return target


class _Box(Struct, frozen=True):
    """Numbers of a stored tensor on a strided grid, as in a View."""

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def first(self) -> int:
        """The smallest element on the grid."""
        return self.offset + sum(min(0, (n - 1) * stride) for n, stride in zip(self.shape, self.strides, strict=True))

    @property
    def last(self) -> int:
        """The largest element on the grid."""
        return self.offset + sum(max(0, (n - 1) * stride) for n, stride in zip(self.shape, self.strides, strict=True))

    @property
    def span(self) -> int:
        """Elements from the first to the last."""
        return self.last - self.first + 1

    @property
    def widest(self) -> int:
        """The axis with the largest stride among those longer than 1."""
        return max((axis for axis, n in enumerate(self.shape) if n > 1), key=lambda axis: abs(self.strides[axis]))

    @property
    def contiguous(self) -> bool:
        """Whether C order walks the elements one after the other."""
        step = 1
        for n, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if n > 1 and stride != step:
                return False
            step *= n
        return True

    def part(self, axis: int, start: int, stop: int) -> _Box:
        """Indices [start, stop) of an axis."""
        shape = (*self.shape[:axis], stop - start, *self.shape[axis + 1 :])
        return _Box(self.offset + start * self.strides[axis], shape, self.strides)


def _row_boxes(box: _Box, start: int, stop: int) -> Iterator[_Box]:
    """Rows [start, stop) of a box, counted over its leading axes in C order, as few boxes in that order."""
    if start == stop:
        return
    inner = prod(box.shape[1:-1])
    if len(box.shape) <= 2:
        yield box.part(0, start, stop) if len(box.shape) == 2 else box
        return
    low, high = -(-start // inner), stop // inner
    if low > high:
        yield from _row_boxes(_inside(box, high), start - high * inner, stop - high * inner)
        return
    if low * inner > start:
        yield from _row_boxes(_inside(box, low - 1), start % inner, inner)
    if high > low:
        yield box.part(0, low, high)
    if high * inner < stop:
        yield from _row_boxes(_inside(box, high), 0, stop % inner)


def _inside(box: _Box, index: int) -> _Box:
    """The box at one index of the first axis."""
    return _Box(box.offset + index * box.strides[0], box.shape[1:], box.strides[1:])


class _Reader:
    """Fetches boxes of one tensor as stored words of `width` bytes."""

    def __init__(self, source: Source, tensor: str, width: int) -> None:
        self._source, self._tensor, self._width = source, tensor, width

    def box(self, box: _Box, out: Words) -> None:
        """Fill `out` (of the box's shape) with its words."""
        if box.contiguous and out.flags.c_contiguous:
            self._run(box.offset, out.reshape(-1))
            return
        if box.span * self._width <= SMALL_SPAN:
            self._strips(_Box(box.offset, (1, *box.shape), (0, *box.strides)), 0, out[np.newaxis])
            return
        axis = box.widest
        strip = box.part(axis, 0, 1)
        if self._pays(strip):
            self._strips(box, axis, out)
            return
        for index in range(box.shape[axis]):
            self.box(box.part(axis, index, index + 1), out[_at(axis, index, index + 1)])

    def _pays(self, strip: _Box) -> bool:
        """Whether to read all from the strip's first to its last element at once."""
        span = strip.span * self._width
        return span <= SPAN_BYTES and span <= max(SMALL_SPAN, WASTE * prod(strip.shape) * self._width)

    def _strips(self, box: _Box, axis: int, out: Words) -> None:
        """Read a box strip by strip, one strip an index of `axis`, and copy a group of strips at a time to where they belong.

        Groups are small and their strips lie an odd number of cache lines apart: transposing would otherwise spend its time on
        cache misses (4 times slower measured on 4096 x 4096).
        """
        strip, stride = box.part(axis, 0, 1), box.strides[axis]
        first, span = strip.first, strip.span
        pitch = (span * self._width // CACHE_LINE | 1) * CACHE_LINE // self._width + CACHE_LINE * 2 // self._width
        group = max(1, min(box.shape[axis], GROUP_STRIPS, SPAN_BYTES // (pitch * self._width)))
        words = np.empty((group, pitch), out.dtype)
        steps = [step * self._width for step in box.strides]
        steps[axis] = pitch * self._width
        for start in range(0, box.shape[axis], group):
            part = box.part(axis, start, min(start + group, box.shape[axis]))
            for index in range(part.shape[axis]):
                self._run(first + (start + index) * stride, words[index, :span])
            np.copyto(out[_at(axis, start, start + group)], as_strided(words[0, box.offset - first :], part.shape, steps, writeable=False))

    def _run(self, start: int, words: Words) -> None:
        """Elements from `start` on, as many as `words` holds."""
        first = start * self._width
        self._source.read(self._tensor, first, first + words.nbytes, words.view(np.uint8))


def _at(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(start, stop))
