"""Decoding against the libraries that define the types, and oriented rows against numpy's own strides."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from modelkin_indexer.opening import open_source
from modelkin_indexer.places import View
from modelkin_indexer.source import BITS, Source
from modelkin_indexer.sources.stored import values

NUMPY_TYPES = {
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
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


def write(path: Path, dtype: str, array: np.ndarray) -> Source:
    """A safetensors file with one tensor `w`, written byte by byte, opened."""
    entry = {"dtype": dtype, "shape": array.shape, "data_offsets": [0, array.nbytes]}
    header = json.dumps({"w": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + array.tobytes())
    return open_source(path)


def test_every_stored_type_has_a_decoder() -> None:
    assert set(NUMPY_TYPES) == set(BITS)
    for dtype, numpy_type in NUMPY_TYPES.items():
        assert values.bits(dtype) == np.dtype(numpy_type).itemsize * 8


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F8_E4M3", "F8_E5M2", "I8", "U8", "I16", "U16"])
@pytest.mark.parametrize("finite", [True, False])
def test_narrow_types_decode_every_pattern(dtype: str, finite: bool) -> None:
    """All bit patterns, with and without infinities and NaN among them: the two ways of decoding agree with the library's cast."""
    patterns = np.arange(2 ** BITS[dtype], dtype=f"u{BITS[dtype] // 8}")
    with np.errstate(invalid="ignore"):
        expected = patterns.view(NUMPY_TYPES[dtype]).astype(np.float32)
    if finite:
        patterns, expected = patterns[np.isfinite(expected)], expected[np.isfinite(expected)]
    decoded = values.decode(dtype, patterns.view(np.uint8))
    np.testing.assert_array_equal(decoded, expected)
    np.testing.assert_array_equal(np.signbit(decoded[decoded == 0]), np.signbit(expected[expected == 0]))


@settings(deadline=None)
@given(data=st.data(), dtype=st.sampled_from(sorted(BITS)), count=st.integers(0, 70))
def test_decode_agrees_with_numpy(data: st.DataObject, dtype: str, count: int) -> None:
    raw = np.frombuffer(data.draw(st.binary(min_size=count * BITS[dtype] // 8, max_size=count * BITS[dtype] // 8)), np.uint8)
    stored = raw != 0 if dtype == "BOOL" else raw.view(NUMPY_TYPES[dtype])
    with np.errstate(all="ignore"):
        expected = stored.astype(np.float32)
    out = np.full(count, 7, np.float32)
    assert values.decode(dtype, raw, out) is out
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(values.decode(dtype, raw), expected)


def test_decode_refuses_scattered_output() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        values.decode("F32", np.zeros(16, np.uint8), np.empty((4, 2), np.float32)[:, 0])


def test_decode_without_subnormals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another library flushes subnormal numbers to zero, the slow cast is taken and gives the same values."""
    raw = np.arange(1000, dtype=np.uint16).view(np.uint8)
    fast = values.decode("F16", raw)
    monkeypatch.setattr(values, "_keeps_subnormals", lambda: False)
    np.testing.assert_array_equal(values.decode("F16", raw), fast)


@st.composite
def strided_views(draw: st.DrawFn) -> tuple[int, View]:
    """A number of stored elements and a view within them: axes of a random tensor, cut, stepped, reversed and permuted."""
    stored = draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    elements, offset, shape, strides = prod(stored), 0, [], []
    for axis, n in enumerate(stored):
        step = draw(st.sampled_from([1, 1, 2, 3, -1]))
        first = draw(st.integers(0, n - 1))
        count = draw(st.integers(1, (first if step < 0 else n - 1 - first) // abs(step) + 1))
        stride = prod(stored[axis + 1 :])
        offset += first * stride
        shape.append(count)
        strides.append(step * stride)
    order = draw(st.permutations(range(len(shape))))
    return elements, View("w", offset, tuple(shape[i] for i in order), tuple(strides[i] for i in order))


@settings(deadline=None, max_examples=300)
@given(case=strided_views(), dtype=st.sampled_from(["F64", "F32", "F16", "U8"]), data=st.data(), tight=st.booleans())
def test_rows_agree_with_numpy_strides(case: tuple[int, View], dtype: str, data: st.DataObject, tight: bool, tmp_path_factory) -> None:
    """Any view, any row range; with tiny limits too, so that every way of cutting a view is taken."""
    elements, view = case
    array = (np.arange(elements) % 251).astype(NUMPY_TYPES[dtype])
    steps = [stride * array.itemsize for stride in view.strides]
    oriented = as_strided(array[view.offset :], view.shape, steps).reshape(view.rows, view.columns).astype(np.float32)
    start = data.draw(st.integers(0, view.rows))
    stop = data.draw(st.integers(start, view.rows))
    source = write(tmp_path_factory.getbasetemp() / "strided.safetensors", dtype, array)
    with pytest.MonkeyPatch.context() as patch:
        if tight:
            patch.setattr(values, "SMALL_SPAN", data.draw(st.integers(1, 64)))
            patch.setattr(values, "SPAN_BYTES", data.draw(st.integers(1, 256)))
            patch.setattr(values, "GROUP_STRIPS", data.draw(st.integers(1, 3)))
        rows = values.read_rows(source, view, start, stop)
    source.close()
    np.testing.assert_array_equal(rows, oriented[start:stop])


@pytest.fixture
def matrix(tmp_path: Path) -> Source:
    """A [300, 200] float16 matrix of random values."""
    array = np.random.default_rng(0).standard_normal((300, 200)).astype(np.float16)
    return write(tmp_path / "matrix.safetensors", "F16", array)


def test_adjoining_rows_are_one_read_of_their_bytes(matrix: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[tuple[int, int]] = []
    read = matrix.read
    monkeypatch.setattr(matrix, "read", lambda tensor, start, stop, out: reads.append((start, stop)) or read(tensor, start, stop, out))
    before = matrix.bytes_read
    values.read_rows(matrix, View("w", 0, (3, 100, 200), (20000, 200, 1)), 40, 160)
    assert sum(stop - start for start, stop in reads) == matrix.bytes_read - before == 120 * 200 * 2
    assert len(reads) == 2  # the rest of one leading index and the beginning of the next
    reads.clear()
    values.read_rows(matrix, View("w", 0, (300, 200), (200, 1)), 40, 160)
    assert reads == [(40 * 400, 160 * 400)]


def test_few_rows_of_a_transposed_matrix_cost_few_bytes(tmp_path: Path) -> None:
    source = write(tmp_path / "wide.safetensors", "F32", np.ones((64, 4096), np.float32))
    before = source.bytes_read
    assert values.read_rows(source, View("w", 0, (4096, 64), (1, 4096)), 8, 12).shape == (4, 64)
    assert source.bytes_read - before == 4 * 64 * 4


def test_rows_go_where_told(matrix: Source) -> None:
    view, out = View("w", 0, (300, 200), (200, 1)), np.empty((7, 200), np.float32)
    assert values.read_rows(matrix, view, 3, 10, out) is out
    np.testing.assert_array_equal(out, values.read_rows(matrix, view, 3, 10))


@pytest.mark.parametrize(
    ("view", "start", "stop"),
    [
        (View("w", 0, (300, 200), (200, 1)), 0, 301),
        (View("w", 0, (300, 200), (200, 1)), 5, 4),
        (View("w", 0, (301, 200), (200, 1)), 0, 1),
        (View("w", 1, (300, 200), (200, 1)), 0, 1),
        (View("w", 0, (2, 200), (-200, 1)), 0, 1),
    ],
)
def test_rows_outside_are_refused(matrix: Source, view: View, start: int, stop: int) -> None:
    with pytest.raises(ValueError, match=r"rows|view"):
        values.read_rows(matrix, view, start, stop)


@given(rows=st.integers(1, 5000), columns=st.integers(1, 5000), target=st.integers(1, 1 << 20), transposed=st.booleans())
def test_row_blocks_cover_the_rows_once(rows: int, columns: int, target: int, transposed: bool) -> None:
    view = View("w", 0, (rows, columns), (1, rows) if transposed else (columns, 1))
    blocks = list(values.row_blocks(view, 32, target))
    assert [row for start, stop in blocks for row in range(start, stop)] == list(range(rows))
    largest = max(stop - start for start, stop in blocks)
    assert largest == 1 or largest * columns * 4 <= target * values.SCATTERED


@pytest.mark.skipif(values.CORE is None, reason="no C compiler was at hand when modelkin was installed")
@pytest.mark.parametrize("dtype", ["F16", "F8_E5M2", "F8_E4M3"])
@pytest.mark.parametrize("finite", [True, False])
def test_the_compiled_form_decodes_as_numpy_does(dtype: str, finite: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.arange(1 << 16, dtype=np.uint16) if dtype == "F16" else np.arange(256, dtype=np.uint8)
    stored = codes.view({"F16": np.float16, "F8_E5M2": ml_dtypes.float8_e5m2, "F8_E4M3": ml_dtypes.float8_e4m3fn}[dtype])
    raw = np.ascontiguousarray(codes[np.isfinite(stored)] if finite else codes).view(np.uint8)
    compiled = values.decode(dtype, raw)
    monkeypatch.setattr(values, "CORE", None)
    plain = values.decode(dtype, raw)
    assert (np.isnan(compiled) == np.isnan(plain)).all()
    assert (compiled.view(np.uint32) == plain.view(np.uint32))[~np.isnan(plain)].all()


@pytest.mark.skipif(values.CORE is None, reason="no C compiler was at hand when modelkin was installed")
def test_the_compiled_form_refuses_buffers_of_other_sizes() -> None:
    for narrow, singles, special in ((4, 3, 0x7F), (4, 4, 0x7C00), (0, 1, 0x7F)):
        with pytest.raises(ValueError, match="sizes"):
            values.CORE.widen(np.zeros(narrow, np.uint8), np.zeros(singles, np.float32), special, 20, 0x87F00000, 1.0, None)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F16", "I8"])
@pytest.mark.parametrize("core", [None, values.CORE])
def test_numbers_of_groups_are_multiplied_as_one_after_the_other(monkeypatch: pytest.MonkeyPatch, dtype: str, core: object) -> None:
    """Bit by bit, NaN among them: every byte there is, in groups whose factors are large, small, negative, zero."""
    monkeypatch.setattr(values, "CORE", core)
    for stop in (256, 120):  # the last ones are no numbers
        raw = np.resize(np.arange(stop, dtype=np.uint8), 64 * 24)
        factors = (np.random.default_rng(1).standard_normal((4, 16)) * 10.0 ** np.arange(-8, 8)).astype(np.float32)
        factors[0, 0] = 0
        once = values.decode(dtype, raw).reshape(64, -1)
        out = np.empty(once.size, np.float32)
        with np.errstate(invalid="ignore"):
            values.decode_groups(dtype, raw, out, factors)
            expected = once * factors.reshape(-1, 1)
        assert np.array_equal(out, expected.reshape(-1), equal_nan=True)
        assert np.array_equal(np.signbit(out), np.signbit(expected.reshape(-1)))


@pytest.mark.skipif(values.CORE is None, reason="no C compiler was at hand when modelkin was installed")
@pytest.mark.parametrize("factors", [0, 3, 5])
def test_factors_that_divide_no_numbers_are_refused(factors: int) -> None:
    with pytest.raises(ValueError, match="sizes"):
        values.CORE.widen(
            np.zeros(64, np.uint8), np.zeros(64, np.float32), 0x7F, 20, 0x87F00000, 1.0, np.ones(factors, np.float32) if factors else b""
        )
