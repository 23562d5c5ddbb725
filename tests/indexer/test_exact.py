"""Exact comparison: each figure against a plain computation of the same, and what streams must not change."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import models
from modelkin_indexer.exact import compiled, distributions, layer_samples
from modelkin_indexer.exact import totals as pair_measure
from modelkin_indexer.exact.comparison import ExactOptions, common_places, compare_places, read_exact
from modelkin_indexer.exact.delta_spectrum import Sketch, delta_spectrum, described
from modelkin_indexer.exact.layer_samples import layer_matrices, role_of, sample_sides
from modelkin_indexer.exact.part_sums import Centre, PartSums
from modelkin_indexer.exact.units import coarser
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.exact import ExactReading, TensorComparison
from modelkin_indexer.sources.stored import values

OLD_FIGURES = Path(__file__).parents[1] / "data" / "exact_figures.json"


def read(
    folder: Path, a: models.Tensors, b: models.Tensors, dtypes: tuple[type, type] = (np.float32, np.float32), **more: Any
) -> ExactReading:
    first, second = models.write(folder / "a", a, dtypes[0]), models.write(folder / "b", b, dtypes[1])
    with closing(open_source(first)) as one, closing(open_source(second)) as other:
        return read_exact(one, other, ExactOptions(**more))


def find(reading: ExactReading, role: str, layer: int = 0) -> TensorComparison:
    return next(pair for pair in reading.pairs if (pair.role, pair.layer) == (role, layer))


def test_figures_are_those_of_a_plain_computation(tmp_path: Path) -> None:
    a, b = models.llama(1, 1), models.trained_on(models.llama(1, 1), 2, 0.5)
    pair = find(read(tmp_path, a, b), "gate")
    x, y = (t["model.layers.0.mlp.gate_proj.weight"].astype(np.float64).ravel() for t in (a, b))
    assert pair.n == x.size
    assert pair.cosine == pytest.approx(x @ y / np.sqrt((x @ x) * (y @ y)), rel=1e-9)
    assert pair.cosine_floor == pytest.approx(x.mean() * y.mean() / np.sqrt((x**2).mean() * (y**2).mean()), rel=1e-6)
    assert pair.pearson == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-9)
    assert pair.relative_l2 == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x), rel=1e-9)
    assert pair.mean_abs_difference == pytest.approx(np.abs(y - x).mean(), rel=1e-6)
    assert pair.p99_abs_difference == pytest.approx(np.quantile(np.abs(y - x), 0.99), rel=1e-3)
    assert pair.variance_ratio == pytest.approx(y.var() / x.var(), rel=1e-9)
    assert pair.wasserstein == pytest.approx(np.abs(np.sort(x) - np.sort(y)).mean() / x.std(), rel=1e-6)
    grid = np.sort(np.concatenate([x, y]))
    gap = np.searchsorted(np.sort(x), grid, side="right") - np.searchsorted(np.sort(y), grid, side="right")
    assert pair.kolmogorov == pytest.approx(np.abs(gap).max() / x.size, abs=1e-12)
    assert pair.distribution_error == 0


def test_floor_of_norms_is_their_raw_cosine_and_coefficients_of_variation(tmp_path: Path) -> None:
    pair = find(read(tmp_path, models.llama(1, 1), models.llama(2, 1)), "attention_input")
    c1, c2 = pair.sd_a / pair.mean_a, pair.sd_b / pair.mean_b
    assert pair.cosine_floor == pytest.approx(1 / np.sqrt((1 + c1**2) * (1 + c2**2)), rel=1e-9)
    assert pair.cosine == pytest.approx(pair.cosine_floor, abs=0.01)
    assert pair.cv_difference == pytest.approx(abs(c1 - c2), rel=1e-9)
    assert pair.cosine > 0.97
    assert abs(pair.pearson or 1) < 0.5


def test_streamed_in_many_blocks_as_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = models.llama(1, 2), models.trained_on(models.llama(1, 2), 2, 0.5)
    whole = read(tmp_path / "whole", a, b)
    monkeypatch.setattr(values, "BLOCK_BYTES", 20 * 4 * models.HIDDEN)
    monkeypatch.setattr(values.row_blocks, "__defaults__", (32, 20 * 4 * models.HIDDEN))
    monkeypatch.setattr(pair_measure, "EXACT_NUMBERS", 100)
    for one, other in zip(whole.pairs, read(tmp_path / "parts", a, b, threads=3).pairs, strict=True):
        for field in ("cosine", "pearson", "relative_l2", "mean_abs_difference", "equal_fraction", "half_unit_fraction"):
            assert getattr(one, field) == pytest.approx(getattr(other, field), rel=1e-6), field
        if one.n > 100:
            assert other.distribution_error > 0
            assert other.kolmogorov == pytest.approx(one.kolmogorov, abs=other.distribution_error)
            assert other.wasserstein == pytest.approx(one.wasserstein, abs=0.01)
            assert other.p99_abs_difference == pytest.approx(one.p99_abs_difference, rel=0.01)


@pytest.mark.parametrize("narrow", [np.float16, ml_dtypes.bfloat16])
def test_a_change_of_type_stays_within_half_a_unit(tmp_path: Path, narrow: type) -> None:
    reading = read(tmp_path, models.llama(1, 2), models.llama(1, 2), (np.float32, narrow))
    assert {pair.half_unit_fraction for pair in reading.pairs} == {1.0}
    assert all(pair.equal_fraction < 0.1 for pair in reading.pairs if pair.family != "norm")
    noisy = read(tmp_path / "noisy", models.llama(1, 2), models.noised(models.llama(1, 2), 3, 0.05), (np.float32, narrow))
    assert all(pair.half_unit_fraction < 0.9 for pair in noisy.pairs)


def test_a_model_with_itself(tmp_path: Path) -> None:
    for pair in read(tmp_path, models.llama(1), models.llama(1)).pairs:
        assert (pair.equal_fraction, pair.half_unit_fraction, pair.pearson, pair.relative_l2) == (1, 1, 1, 0)
        assert (pair.wasserstein, pair.kolmogorov, pair.p99_abs_difference, pair.delta) == (0, 0, 0, None)


def test_low_rank_changes_come_with_their_rank(tmp_path: Path) -> None:
    rng, tuned = np.random.default_rng(5), dict(models.llama(1, 2))
    for name in [name for name in tuned if "_proj" in name]:
        rows, columns = tuned[name].shape
        change = rng.standard_normal((rows, 6)) @ rng.standard_normal((6, columns))
        tuned[name] = (tuned[name] + 0.001 * change).astype(np.float32)
    for dtype in (np.float32, ml_dtypes.bfloat16):
        found = read(tmp_path / np.dtype(dtype).name, models.llama(1, 2), tuned, (dtype, dtype)).pairs
        changed = [pair.delta for pair in found if pair.family in ("attention", "mlp")]
        assert {delta.rank for delta in changed if delta is not None} == {6}
    dense = read(tmp_path / "dense", models.llama(1, 2), models.noised(models.llama(1, 2), 3, 0.1))
    assert {pair.delta.rank for pair in dense.pairs if pair.delta is not None} == {0}


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(0, 2**32 - 1))  # of 12 directions in 50, one matrix in some hundreds passes for dense
def test_the_range_finder_finds_the_rank_of_any_low_rank_matrix(rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    delta = (rng.standard_normal((70, rank)) @ rng.standard_normal((rank, 50))).astype(np.float32)
    blocks = [(0, delta[:30]), (30, delta[30:])]
    sketch = Sketch(70, 50)
    for start, block in blocks:
        sketch.add(start, block)
    values = delta_spectrum(sketch, blocks)
    assert values is not None
    found = described(sketch, values, 0.0)
    assert found.rank == rank
    assert found.captured == pytest.approx(1, abs=1e-6)
    assert found.values[0] == pytest.approx(np.linalg.svd(delta, compute_uv=False)[0], rel=1e-3)


def test_grown_vocabularies_are_compared_on_their_common_rows(tmp_path: Path) -> None:
    a = models.llama(1)
    grown = {k: np.vstack([v, v[:7]]) if k in ("model.embed_tokens.weight", "lm_head.weight") else v for k, v in a.items()}
    reading = read(tmp_path, a, grown)
    assert not reading.not_compared
    assert {pair.equal_fraction for pair in reading.pairs} == {1.0}


def test_what_has_no_counterpart_of_its_shape_is_named(tmp_path: Path) -> None:
    a, b = models.llama(1), models.with_layers(models.llama(1), [0, 1, 2])
    b["model.layers.1.mlp.up_proj.weight"] = b["model.layers.1.mlp.up_proj.weight"][:100]
    b["model.layers.2.mlp.extra.weight"] = b["model.layers.1.mlp.up_proj.weight"]
    left = {(found.layer, found.role): found.reason for found in read(tmp_path, a, b).not_compared}
    assert left[1, "up"] == f"shape {models.NEURONS} x {models.HIDDEN} against 100 x {models.HIDDEN}"
    assert left[4, "q"] == "B has no such place"
    assert "A has no such place" in left.values()


def test_layer_maps_say_which_layers_are_counterparts(tmp_path: Path) -> None:
    a = models.llama(1)
    moved = models.with_layers(a, [0, 1, 1, 2, 3, 4, 5])
    chosen = [(new, old) for new, old in enumerate([0, 1, 1, 2, 3, 4, 5])]
    reading = read(tmp_path, moved, a, layer_maps={"text": ("text", chosen)})
    assert {pair.equal_fraction for pair in reading.pairs} == {1.0}
    assert find(reading, "q", 4).layer_b == 3


def test_fixed_tables_are_never_compared(tmp_path: Path) -> None:
    positions = np.arange(64)[:, None] * np.exp(-np.log(10000.0) / 48 * np.arange(48))
    table = np.hstack([np.sin(positions), np.cos(positions)]).astype(np.float32)
    sides = [models.llama(seed) | {"model.embed_positions.weight": table} for seed in (1, 2)]
    reading = read(tmp_path, sides[0], sides[1])
    assert [found.reason for found in reading.not_compared] == ["never evidence: sines and cosines of positions (a fixed table)"]


def test_every_layer_against_every_other(tmp_path: Path) -> None:
    a, b = models.llama(1), models.with_layers(models.llama(1), [1, 0, 2, 3, 4, 5])
    with closing(open_source(models.write(tmp_path / "a", a))) as one, closing(open_source(models.write(tmp_path / "b", b))) as other:
        samples = [*sample_sides(one, other, common_places(one, other)[0])]
        found = [matrix for ours, theirs in samples for matrix in layer_matrices("a-b", ours, theirs)]
    assert all(len({role_of(sample.piece) for sample in (*ours, *theirs)}) == 1 for ours, theirs in samples)  # a role at a time
    assert {(matrix.family, matrix.role) for matrix in found} >= {("attention", "q"), ("norm", "mlp_input")}
    for matrix in found:
        cells = np.array(matrix.pearson)
        assert cells.argmax(axis=1).tolist() == [1, 0, 2, 3, 4, 5]
        assert cells.max(axis=1) == pytest.approx(1)


def test_numbers_that_are_none_count_as_zeros(tmp_path: Path) -> None:
    bad = {name: values.copy() for name, values in models.llama(1).items()}
    bad["model.layers.3.mlp.up_proj.weight"][5, 5] = np.nan
    bad["model.layers.2.input_layernorm.weight"][3] = np.inf
    reading = read(tmp_path, models.llama(1), bad)
    moved = {pair.a: pair for pair in reading.pairs if pair.relative_l2}
    assert set(moved) == {"model.layers.3.mlp.up_proj.weight", "model.layers.2.input_layernorm.weight"}
    assert all(np.isfinite([pair.pearson, pair.relative_l2]).all() for pair in moved.values())


def test_an_interrupted_comparison_stops_its_threads(tmp_path: Path) -> None:
    first, second = models.write(tmp_path / "a", models.llama(1)), models.write(tmp_path / "b", models.llama(2))
    told: list[int] = []

    def interrupted(done: int) -> None:
        told.append(done)
        raise KeyboardInterrupt

    with closing(open_source(first)) as one, closing(open_source(second)) as other:
        pairs = common_places(one, other)[0]
        with pytest.raises(KeyboardInterrupt):
            list(compare_places(one, other, pairs, ExactOptions(progress=interrupted, threads=2)))
        assert 1 <= len(told) < len(pairs)


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.floats(-4, 4, width=32)] * 2), min_size=1, max_size=60))
def test_binned_distances_are_near_the_sorted_ones(both: list[tuple[float, float]]) -> None:
    x, y = np.ascontiguousarray(np.array(both, np.float32).T)
    w1, largest = distributions.sorted_distances(np.sort(x), np.sort(y))
    grid = np.union1d(x, y)
    steps = [np.searchsorted(np.sort(side), grid, side="right") / len(both) for side in (x, y)]
    assert largest == pytest.approx(np.abs(steps[0] - steps[1]).max(), abs=1e-12)
    first, second = distributions.Histogram(), distributions.Histogram()
    first.add(x)
    second.add(y)
    binned = distributions.distances(distributions.positions(exact=False), first.ordered(), second.ordered())
    assert binned[0] == pytest.approx(w1, abs=4 * 2**-7)


@pytest.mark.parametrize("narrow", ["BF16", "F8_E4M3"])
def test_samples_are_counted_as_they_are_sorted(monkeypatch: pytest.MonkeyPatch, narrow: str) -> None:
    first, second = (layer_samples.LayerSample(None, narrow, part, part.size) for part in parts(16, 1024))  # type: ignore[arg-type]
    counted = first.distances(second)
    monkeypatch.setattr(layer_samples, "COUNTED", first.rows.size + 1)
    assert counted[0] > 0 < counted[1]
    assert first.distances(second) == pytest.approx(counted, rel=1e-9)


@settings(deadline=None)
@given(st.lists(st.floats(0, 4, width=32), min_size=1, max_size=60), st.sampled_from([0.5, 0.99, 1.0]))
def test_the_tail_is_numpy_s_higher_quantile(values: list[float], share: float) -> None:
    numbers = np.array(values, np.float32)
    assert distributions.largest_but(numbers, share) == np.quantile(numbers, share, method="higher")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_rounding_moves_a_number_by_half_a_unit_at_most(dtype: type) -> None:
    word = {"float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}[np.dtype(dtype).name]
    wide = (np.random.default_rng(1).standard_normal(4000) * 10.0 ** np.random.default_rng(2).uniform(-9, 1, 4000)).astype(np.float32)
    narrow = wide.astype(dtype).astype(np.float32)
    units = coarser("F32", word, np.maximum(np.abs(wide), np.abs(narrow)))
    assert (np.abs(wide - narrow) <= units / 2).all()
    assert (np.abs(wide - narrow) > units / 5).any()


def parts(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Two that share something, with equal numbers and numbers half a unit apart."""
    rng = np.random.default_rng([rows, columns])
    a = (0.3 + rng.standard_normal((rows, columns))).astype(ml_dtypes.bfloat16).astype(np.float32)
    b = np.where(rng.random(a.shape) < 0.2, a, a * (1 + 2**-8) + 0.01 * rng.standard_normal(a.shape))
    return a, b.astype(ml_dtypes.bfloat16).astype(np.float32)


@pytest.mark.skipif(compiled.CORE is None, reason="no C compiler was at hand when modelkin was installed")
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 8), (40, 1023), (9, 2500), (1000, 3)])
@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("dtypes", [("BF16", "BF16"), ("F32", "F16"), ("F8_E5M2", "BF16")])
@pytest.mark.parametrize(("wide", "counted"), [(False, 3), (True, 3), (True, 0)])
def test_the_compiled_form_adds_up_what_numpy_does(
    shape: tuple[int, int], by_rows: bool, dtypes: tuple[str, str], wide: bool, counted: int
) -> None:
    a, b = parts(*shape)
    centre = Centre.of_rows(a, b, wide) if by_rows else None
    sums = PartSums(*dtypes), compiled.CompiledSums(*dtypes)
    histograms = [tuple(distributions.Histogram() for _ in range(counted)) for _ in sums]
    first, second = (one.add(a, b, centre, counts, wide) for one, counts in zip(sums, histograms, strict=True))
    size = np.sqrt(sums[0].values[2] * sums[0].values[3])
    near = 1e-12 if wide else 1e-6
    assert second == pytest.approx(first, abs=near * size)
    assert sums[1].values[:7] == pytest.approx(sums[0].values[:7], rel=near * 10, abs=near * size)
    assert sums[1].values[7] == pytest.approx(sums[0].values[7], rel=1e-5)  # units are float32
    assert (sums[0].n, sums[0].equal, sums[0].within) == (sums[1].n, sums[1].equal, sums[1].within)
    for one, other in zip(*histograms, strict=True):
        assert (one.ordered() == other.ordered()).all()


@pytest.mark.skipif(compiled.CORE is None, reason="no C compiler was at hand when modelkin was installed")
@pytest.mark.parametrize("wide", [False, True])
def test_the_compiled_form_refuses_buffers_of_other_sizes(wide: bool) -> None:
    a, b = parts(4, 8)
    counts = [np.zeros(1 << 16, np.uint32) for _ in range(3)]
    for rows, columns, channels in ((5, 8, 8), (4, 8, 7), (0, 8, 8), (-4, -8, 8)):
        with pytest.raises(ValueError, match="sizes"):
            compiled.CORE.add(a, b, None, None, rows, columns, np.zeros(channels), np.zeros(8), *counts, wide, 1.0, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="sizes"):
        compiled.CORE.add(a, b, a[0], a[0].astype(np.float64), 4, 8, np.zeros(4), np.zeros(8), *counts, wide, 1.0, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="sizes"):
        compiled.CORE.add(a, b, None, None, 4, 8, np.zeros(8), np.zeros(8), counts[0], None, counts[2], wide, 1.0, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="sizes"):
        compiled.CORE.add(a, b, a[0], None, 4, 8, np.zeros(4), np.zeros(8), *counts, wide, 1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("core", [None, compiled.CORE])
def test_long_tensors_are_measured_as_short_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, core: object) -> None:
    a, b = models.llama(1, 2), models.trained_on(models.llama(1, 2), 2, 0.5)
    short = read(tmp_path / "short", a, b)
    monkeypatch.setattr(pair_measure, "EXACT_NUMBERS", 0)
    monkeypatch.setattr(compiled, "CORE", core)
    for one, other in zip(short.pairs, read(tmp_path / "long", a, b).pairs, strict=True):
        assert (other.n, other.equal_fraction, other.half_unit_fraction) == (one.n, one.equal_fraction, one.half_unit_fraction)
        for field in ("cosine", "pearson", "mean_a", "sd_b", "relative_l2", "mean_abs_difference"):
            assert getattr(other, field) == pytest.approx(getattr(one, field), rel=1e-5, abs=1e-7), field
        assert other.channel_t == pytest.approx(one.channel_t, rel=1e-4)
        if one.delta is not None and other.delta is not None:
            assert other.delta.rank == one.delta.rank
            assert other.delta.left_over_rounding == pytest.approx(one.delta.left_over_rounding, rel=1e-4)


@pytest.mark.parametrize("core", [None, compiled.CORE])
@pytest.mark.parametrize("length", ["short", "long"])
@pytest.mark.parametrize("narrow", ["BF16", "F32"])
def test_figures_are_those_of_the_first_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, core: object, length: str, narrow: str
) -> None:
    """Correlations to 1e-6; spectra of dense changes, which are found by sketches, to 1 %."""
    kept = json.loads(OLD_FIGURES.read_text())
    if length == "long":
        monkeypatch.setattr(pair_measure, "EXACT_NUMBERS", 0)
    monkeypatch.setattr(compiled, "CORE", core)
    monkeypatch.setattr(layer_samples, "COUNTED", 1)
    dtype = ml_dtypes.bfloat16 if narrow == "BF16" else np.float32
    others = {"related": models.trained_on(models.llama(1, 2), 2, 0.5), "strangers": models.llama(3, 2)}
    for what, other in others.items():
        reading = read(tmp_path / what, models.llama(1, 2), other, (dtype, dtype))
        for kind, rows in kept["answers"][f"{length} {narrow} {what}"].items():
            found = {(one.a, one.layer): one for one in getattr(reading, kind)}
            assert len(found) == len(rows)
            for row in rows:
                told = dict(zip(kept["columns"], row, strict=True))
                one = found[told.pop("tensor"), told.pop("layer")]
                spectrum = [told.pop(name) for name in ("rank", "largest", "stable_rank")]
                assert one.wasserstein == pytest.approx(told.pop("wasserstein"), rel=1e-5, abs=1e-6)
                assert one.channel_t == pytest.approx(told.pop("channel_t"), rel=1e-4, abs=1e-5)
                assert {name: getattr(one, name) for name in told} == pytest.approx(told, rel=1e-6, abs=1e-6), one.a
                now = [None] * 3 if one.delta is None else [one.delta.rank, one.delta.values[0], one.delta.stable_rank]
                assert now == (spectrum if spectrum[0] is None else pytest.approx(spectrum, rel=0.01)), one.a
