"""Fixed tables found by what they hold, whatever their form, and weights that only resemble them."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

import benchmarks.common.table_kinds_more  # noqa: F401 (its kinds join the others)
from benchmarks.common.table_kinds import MAKERS, Table
from modelkin_data import table_formulas, table_reasons
from modelkin_indexer.anatomy.constants.fixed_tables import (
    integer_reason,
    looks_fixed,
    order_reason,
    rows_reason,
    table_reason,
    vector_reason,
)
from modelkin_indexer.anatomy.constants.formulas import banks, patterns
from modelkin_indexer.anatomy.constants.formulas.rounding import Rounding, rounding

Singles = npt.NDArray[np.float32]
LARGE = 200_000  # numbers: larger tables are left to the benchmark
FORMS: dict[str, Callable[[Table], Table]] = {
    "as it is": lambda table: table,
    "half precision": lambda table: np.clip(table, -6e4, 6e4).astype(np.float16),
    "turned": lambda table: np.moveaxis(table, -1, 0) if table.ndim < 4 else np.moveaxis(table, (2, 3), (0, 1)),
    "scaled, with an axis more": lambda table: 0.37 * table[None] if table.ndim < 4 else 0.37 * table,
}


def single(table: Table) -> Singles:
    return np.ascontiguousarray(table).astype(np.float32)


def normal(*shape: int) -> Singles:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", MAKERS)
def test_tables_of_every_kind_are_known(kind: str, form: str) -> None:
    tables = [table for table in MAKERS[kind]() if table.size <= LARGE][:6]
    assert tables
    missed = [table.shape for table in tables if not table_reason(single(FORMS[form](table)))]
    assert missed == []


def test_every_kind_of_the_list_is_made_by_the_benchmark() -> None:
    assert {kind for formula in table_formulas() for kind in formula.kinds} == set(MAKERS)


def test_every_formula_gives_some_table_back() -> None:
    found = {table_reason(single(table)) for maker in MAKERS.values() for table in maker() if table.size <= LARGE}
    assert found - {""} == set(table_reasons().values())


WEIGHTS: dict[str, Callable[[Singles], Singles]] = {
    "normal": lambda w: w,
    "rounded to a byte a row": lambda w: np.round(w / np.abs(w).max(1, keepdims=True) * 127).astype(np.float32),
    "rounded to 4 bits": lambda w: np.round(w / np.abs(w).max() * 7).astype(np.float32),
    "ternary": lambda w: np.clip(np.round(w / np.abs(w).mean()), -1, 1) * np.float32(0.02),
    "signs": lambda w: np.sign(w) * np.float32(0.1),
    "half pruned": lambda w: np.where(np.abs(w) > 0.67, w, 0),
    "pruned to a hundredth": lambda w: np.where(np.abs(w) > 2.6, w, 0),
    "sparse and ternary": lambda w: np.where(np.abs(w) > 2, np.sign(w), 0).astype(np.float32),
    "of low rank": lambda w: w[:, :2] @ w[:2],
    "of one column and noise": lambda w: 20 + w,
    "rows in order of size": lambda w: np.sort(w, axis=1),
    "drawn out twice": lambda w: np.repeat(w, 2, axis=0)[1:] / 2 + np.repeat(w, 2, axis=0)[:-1] / 2,
    "each row twice": lambda w: np.repeat(w, 2, axis=0),
    "positive": np.abs,
    "smoothed": lambda w: np.cumsum(w, axis=0) / 8,
}


@pytest.mark.parametrize("shape", [(96, 64), (48, 16), (31, 17), (200, 12)])
@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_are_no_tables(kind: str, shape: tuple[int, int]) -> None:
    made = single(WEIGHTS[kind](normal(*shape)))
    assert table_reason(made) == ""
    assert rows_reason(made[:8], np.arange(8)) == ""


@pytest.mark.parametrize("shape", [(32, 1, 3, 3), (32, 16, 3, 3), (64, 1, 7), (16, 3, 7, 7), (3, 3, 8, 16)])
def test_kernels_that_were_learned_are_no_tables(shape: tuple[int, ...]) -> None:
    assert table_reason(normal(*shape)) == ""
    smooth = single(np.cumsum(np.cumsum(normal(*shape), axis=-1), axis=-2))
    assert table_reason(smooth) == ""


def test_learned_positions_are_no_table_however_smooth() -> None:
    positions = np.arange(256)[:, None]
    learned = np.sin(positions * np.linspace(0.005, 0.05, 64) + np.arange(64)) * (1 + positions / 200) + 0.05 * normal(256, 64)
    assert table_reason(single(learned)) == ""


def test_a_table_is_one_until_training_has_moved_it() -> None:
    table = single(next(iter(MAKERS["sinusoidal positions"]())))
    noise = normal(*table.shape)
    assert table_reason(table + 0.005 * noise)
    assert not table_reason(table + 0.1 * noise)


LOOKED_INTO = ["sinusoidal positions", "rotary tables", "Fourier bases", "mel filters", "rotations of signs", "identities"]


@pytest.mark.parametrize("kind", LOOKED_INTO)
def test_a_few_rows_of_a_large_table_are_enough_to_look_further(kind: str) -> None:
    for table in (table for table in MAKERS[kind]() if table.shape[-1] >= 32):
        matrix = single(table).reshape(-1, table.shape[-1])
        starts = (len(matrix) // 3, 2 * len(matrix) // 3)
        numbers = np.concatenate([np.arange(start, start + 4) for start in starts])
        assert looks_fixed(matrix[numbers], numbers), table.shape
    weights = normal(8, 512)
    assert not looks_fixed(weights, numbers)


@pytest.mark.parametrize("kind", ["bell-shaped filters", "distances smeared over centres", "positions on a grid", "mel filters"])
def test_a_large_table_is_looked_into_whichever_way_it_is_turned(kind: str) -> None:
    for table in MAKERS[kind]():
        matrix = single(table).reshape(-1, table.shape[-1])
        for turned in (matrix, np.ascontiguousarray(matrix.T)):
            starts = [int(share * (len(turned) - 4)) for share in (0, 0.2, 0.4, 0.6, 0.8, 1)]
            numbers = np.unique(np.concatenate([np.arange(start, start + 4) for start in starts]))
            assert looks_fixed(turned[numbers], numbers), turned.shape


def in_blocks(w: Singles) -> Singles:
    """1 in a tenth of the blocks of 8 x 8 numbers, 0 elsewhere."""
    chosen = np.random.default_rng(7).random((len(w) // 8 + 1, w.shape[1] // 8 + 1)) < 0.1
    return np.kron(chosen, np.ones((8, 8)))[: len(w), : w.shape[1]].astype(np.float32)


FEW_VALUES: dict[str, Callable[[Singles], Singles]] = {
    "ternary": lambda w: np.clip(np.round(w), -1, 1),
    "signs": np.sign,
    "4 bits": lambda w: np.round(2 * w) / 2,
    "ternary, each row eight times": lambda w: np.repeat(np.clip(np.round(w), -1, 1), 8, axis=0),
    "ternary, most blocks cleared": lambda w: np.clip(np.round(w), -1, 1) * in_blocks(w),
    "signs, the larger two of four": lambda w: (np.sign(w) * _larger_two(w)).astype(np.float32),
    "3 bits, one of five kept": lambda w: np.where(np.abs(w) > 1.28, np.round(w * 2) / 2, 0).astype(np.float32),
    "ternary, half of its channels cleared": lambda w: np.clip(np.round(w), -1, 1) * (np.arange(w.shape[1]) % 2),
}


def _larger_two(w: Singles) -> Singles:
    fours = np.abs(w).reshape(-1, 4)
    return (np.argsort(np.argsort(fours, axis=1), axis=1) > 1).reshape(w.shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(96, 64), (48, 16), (200, 12), (512, 256)])
@pytest.mark.parametrize("kind", FEW_VALUES)
def test_weights_of_few_values_are_in_no_regular_order(kind: str, shape: tuple[int, int]) -> None:
    made = FEW_VALUES[kind](normal(*shape)).astype(np.float64)
    assert not patterns.regular(made)
    assert not patterns.regular(made.T)


@pytest.mark.parametrize("kind", ["matrices of differences", "Haar matrices", "bucketed distances"])
def test_few_values_in_a_regular_order_are_told_by_their_order_alone(kind: str) -> None:
    for table in MAKERS[kind]():
        made = single(table).astype(np.float64)
        assert patterns.regular(made), table.shape
        mixed = np.random.default_rng(0).permutation(made.ravel()).reshape(made.shape)
        assert not patterns.regular(mixed), table.shape


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (1, 2, 0), (2, 0, 1)])
def test_mirrored_pictures_are_known_in_every_order_of_axes(axes: tuple[int, ...]) -> None:
    y, x = np.meshgrid(np.linspace(-1, 1, 20), np.linspace(-1, 1, 20), indexing="ij")
    random = np.random.default_rng(3).standard_normal((24, 20, 20))
    even = np.stack([(x**2) ** n * (y**2) ** m * np.exp(-(x**2) - y**2) for n in range(4) for m in range(6)])
    mirrored = random + random[:, ::-1] + random[:, :, ::-1] + random[:, ::-1, ::-1]
    for pictures in (even, mirrored):
        assert table_reason(single(pictures.transpose(axes)))
    assert not table_reason(single(random.transpose(axes)))


def test_rows_of_one_number_each_are_a_table() -> None:
    rows = np.broadcast_to(normal(8)[:, None], (8, 48))
    assert rows_reason(np.ascontiguousarray(rows), np.arange(8))
    assert not rows_reason(np.ascontiguousarray(rows) + 0.01 * normal(8, 48), np.arange(8))


def test_vectors() -> None:
    assert vector_reason(single(np.linspace(0, 8, 50)))
    assert vector_reason(single(np.geomspace(1, 1e-4, 32)))
    assert not vector_reason(single(np.sort(np.random.default_rng(0).uniform(0.01, 1, 64))))
    assert not vector_reason(1 + 0.1 * normal(64))
    assert not vector_reason(single(np.round(64 * (1 + 0.01 * normal(300))) / 64))
    assert not vector_reason(np.ones(64, np.float32))  # told as untouched instead


def test_whole_numbers() -> None:
    rng = np.random.default_rng(0)
    for order in (rng.permutation(512), rng.permutation(512) // 64, rng.permutation(500) // 64, 2 * rng.permutation(512)):
        assert order_reason(single(order))
        assert not integer_reason(single(order))
    assert integer_reason(single(np.arange(300)[None]))
    assert integer_reason(np.zeros((8, 64), np.float32))
    assert not integer_reason(single(rng.integers(-32768, 32767, (64, 64))))
    assert not integer_reason(single(rng.integers(0, 16, (64, 64))))
    assert not integer_reason(single(rng.integers(0, 2, (64, 64))))
    for drawn in (rng.integers(0, 2, 4096), np.round(3000 * rng.standard_normal(100_000)), rng.integers(0, 16, 4096)):
        assert not integer_reason(single(drawn))  # sorted, they too go up in steps
        assert not order_reason(single(drawn))


@pytest.mark.parametrize("shown", [16, 128])
def test_weights_behind_rows_in_a_regular_order_are_no_table(shown: int) -> None:
    hidden = normal(256, 1024)
    hidden[:shown] = np.add.outer(np.arange(shown), np.arange(1024)) // 7 % 3
    assert patterns.regular(hidden[:shown].astype(np.float64))
    assert table_reason(hidden) == ""
    assert rows_reason(hidden, np.arange(256)) == ""
    low_bits = np.where(np.arange(256)[:, None] < shown, hidden, np.round(hidden))
    assert table_reason(single(low_bits)) == ""


def test_a_bank_is_told_by_the_order_of_its_bands() -> None:
    """Narrow filters as training from a draw leaves them have bands in any order; broad ones have none."""
    rng = np.random.default_rng(3)
    t, k = np.arange(128), np.arange(1, 64)[:, None]
    waves = np.cos(2 * np.pi * k * t / 128 + rng.uniform(0, 6, (63, 1))) * np.hanning(128)
    assert banks.ordered(waves + 0.3 * waves.std() * rng.standard_normal(waves.shape))
    assert banks.ordered(np.concatenate([waves, np.roll(waves, 32, axis=1)]))
    assert not any(banks.ordered(waves[rng.permutation(63)]) for _ in range(200))
    assert not any(banks.narrow(rng.standard_normal((16, 64))) for _ in range(200))
    assert not banks.ordered(np.cumsum(rng.standard_normal((63, 128)), axis=1))  # smooth, all of the lowest band


def test_numbers_that_bfloat16_holds_are_told_by_their_bits() -> None:
    """As the library's cast there and back tells it, of all upper halves and of some lower ones."""
    upper = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    for lower in (0, 1, 0x7FFF, 0x8000, 0xFFFF):
        for number in (upper | np.uint32(lower)).view(np.float32)[::37]:
            some = np.array([0.5, number], np.float32)
            with np.errstate(all="ignore"):
                held = np.array_equal(some, some.astype(ml_dtypes.bfloat16).astype(np.float32))
            assert (rounding(some) == Rounding(2.0**-9, 0.0)) == held
