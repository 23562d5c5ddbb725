"""Statistics that tell a start from training: what they are of independent numbers, and what they are of learned ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import models
from modelkin_indexer import sketch, spec
from modelkin_indexer.fingerprinting.grams import Frame, MatrixGrams
from modelkin_indexer.fingerprinting.statistics import Moments, log_spread, quantiles, row_correlation
from modelkin_indexer.places import Piece, Place, View
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.results.start_nulls import STARTS, kurtosis_null, polygamma3, spectrum_null, spread_null, trigamma
from modelkin_indexer.spec import PUBLIC_KEY

Singles = npt.NDArray[np.float32]
FAR = 5.0  # standard deviations that no start reaches


def moments(matrix: Singles, rows: int = 50) -> Moments:
    found = Moments(matrix.size, matrix.shape[1])
    for start in range(0, len(matrix), rows):
        found.add(matrix[start : start + rows])
    return found


def spectrum(matrix: Singles, side: str, gain: Singles | None = None) -> float:
    piece = Piece(Place("text", 0, "mlp", "up"), (View("w", 0, matrix.shape, (matrix.shape[1], 1)),), residual=side)
    grams = MatrixGrams(piece, PUBLIC_KEY, Frame(gain), moments(matrix))
    for start in range(0, len(matrix), 50):
        grams.add(0, start, matrix[start : start + 50])
    return grams.spectrum()


@pytest.mark.parametrize("scale", [1e-17, 1e-9, 0.02, 1.0, 1e9, 1e15])
def test_kurtosis_and_spreads_are_those_of_the_values_at_any_size(scale: float) -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((300, 80)) * rng.uniform(0.5, 2, (300, 1)) + 0.3
    found = moments((values * scale).astype(np.float32)).statistics()
    apart = values - values.mean()
    assert found.seen == 300
    assert found.kurtosis == pytest.approx(np.mean(apart**4) / np.mean(apart**2) ** 2, rel=1e-4)
    assert found.row_spread == pytest.approx(np.log(np.linalg.norm(values, axis=1)).std(), rel=1e-4)
    assert found.column_spread == pytest.approx(np.log(np.linalg.norm(values, axis=0)).std(), rel=1e-4)


@pytest.mark.parametrize("shape", [(64, 32), (32, 9), (48, 64)])
@pytest.mark.parametrize("value", [0.37 / 9, 0.37, 0.7, -1e-9, 1e9])
def test_of_equal_numbers_the_kurtosis_is_none_and_no_rounding(value: float, shape: tuple[int, int]) -> None:
    assert moments(np.full(shape, value, np.float32)).statistics().kurtosis == 0


@pytest.mark.parametrize("mean", [0.0, 1.0, 10.0])
def test_kurtosis_beside_a_mean_is_kept_as_long_as_it_has_digits(mean: float) -> None:
    values = np.random.default_rng(4).standard_normal((200, 64)).astype(np.float32)
    assert moments(values + np.float32(mean)).statistics().kurtosis == pytest.approx(3.0, abs=0.15)


def test_of_large_matrices_a_share_of_every_block_is_seen() -> None:
    found = moments(np.random.default_rng(2).standard_normal((2100, 600)).astype(np.float32), 100)
    assert found.statistics().seen == 21 * 7
    assert found.rows == 2100


def test_rows_of_zeros_say_nothing() -> None:
    values = np.random.default_rng(3).standard_normal((200, 64)).astype(np.float32)
    padded = np.concatenate([values[:90], np.zeros((40, 64), np.float32), values[90:]])
    whole, left = moments(values).statistics(), moments(padded).statistics()
    assert left.seen == whole.seen == 200
    assert (left.kurtosis, left.row_spread, left.column_spread) == pytest.approx((whole.kurtosis, whole.row_spread, whole.column_spread))
    assert spectrum(padded[:, :64], "none") == pytest.approx(spectrum(values, "none"), rel=1e-5)


def test_nothing_is_said_of_nothing() -> None:
    nothing = moments(np.zeros((8, 40), np.float32)).statistics()
    assert nothing.seen == 0
    assert nothing.kurtosis == 0
    assert np.isnan([nothing.row_spread, nothing.column_spread, spectrum(np.zeros((8, 40), np.float32), "in")]).all()
    assert np.isnan(
        [log_spread(np.ones(1)), row_correlation(np.ones((1, 64), np.float32)), row_correlation(np.ones((8, 31), np.float32))]
    ).all()


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("side", ["in", "out", "none"])
def test_a_start_is_at_its_nulls(start: str, side: str) -> None:
    rng = np.random.default_rng(4)
    gain = rng.uniform(0.2, 3, 96).astype(np.float32) if side == "in" else None
    for shape in ((96, 96), (400, 96)):
        wide = rng.uniform(-1, 1, shape) if start == "uniform" else rng.standard_normal(shape)
        while start.endswith("2 sd") and (beyond := np.abs(wide) > 2).any():
            wide[beyond] = rng.standard_normal(int(beyond.sum()))
        values = wide.astype(np.float32)
        found = moments(values).statistics()
        rows = np.concatenate([values[block.start : block.stop] for block in sketch.chosen_rows(PUBLIC_KEY, *shape)])
        for value, (mean, sd) in (
            (found.kurtosis, kurtosis_null(start, values.size)),
            (found.row_spread, spread_null(start, *shape)),
            (found.column_spread, spread_null(start, shape[1], shape[0])),
            (spectrum(values, side, gain), spectrum_null("full", *shape)),
            (row_correlation(rows), spectrum_null("probe", *shape)),
        ):
            assert abs(value - mean) < FAR * sd


def learned(found: Fingerprint, level: str) -> list[float]:
    """How many standard deviations of a start each matrix that reads the stream is from white."""
    table = found.matrices
    rows = [row for row, place in enumerate(table.places) if place.role in ("q", "k", "v", "gate", "up")]
    nulls = [spectrum_null(level, int(table.rows[row]), int(table.columns[row])) for row in rows]
    return [(float(table.spectrum[row]) - mean) / sd for row, (mean, sd) in zip(rows, nulls, strict=True)]


@pytest.mark.parametrize("level", spec.LEVELS)
def test_what_is_learned_is_not_white(tmp_path: Path, level: str) -> None:
    """The part that all layers share adds a quarter to the variance: 20 sd from a start at level full, 9 at level probe."""
    trained = learned(models.fingerprint(tmp_path / "t", models.llama(1), level=level), level)
    start = learned(models.fingerprint(tmp_path / "s", models.initialised(1), level=level), level)
    assert np.median(trained) > FAR
    assert max(map(abs, start)) < FAR


def test_polygamma_functions() -> None:
    """Of 1: pi^2 / 6 and pi^4 / 15; of 1/2: pi^2 / 2 and pi^4."""
    assert (trigamma(1.0), polygamma3(1.0)) == pytest.approx((np.pi**2 / 6, np.pi**4 / 15), rel=1e-7)
    assert (trigamma(0.5), polygamma3(0.5)) == pytest.approx((np.pi**2 / 2, np.pi**4), rel=1e-7)
    assert trigamma(1e4) == pytest.approx(1e-4 + 0.5e-8, rel=1e-9)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 100, 2049])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_quantiles_are_those_of_numpy(size: int, count: int) -> None:
    values = np.random.default_rng(size).standard_normal(size).round(1).astype(np.float32)
    expected = np.quantile(values, np.linspace(0, 1, count))
    assert quantiles(values, count).dtype == expected.dtype
    assert (quantiles(values, count) == expected).all()
