"""Nulls of the thresholds that tell odd starts and banks of filters: what chance gives, what training gives, and what they are for.

    python -m benchmarks.truth.odd_starts [--draws 100]

*Parts*: the likelihood by which rows are told to be drawn at scales a part (evidence/scales.py), of draws at one scale, of the matrices of
every model of the starter registry, and of draws at two to four scales. *Norms*: how far the gains of published models are
from the norms of lines as long as they are: within NEAR_NORM a vector may be stored norms, and says nothing. *Even*: the spread
of lines beside that of independent draws, of orthogonal and permuted starts and of draws of a fixed number a line. *Banks*: the share of
narrow lines and of falls (anatomy/constants/formulas/banks.py), of independent numbers, of smooth ones, of narrow filters in any order,
and of waves in their order with noise as training leaves it. Each beside its threshold; writes results/odd_starts.json.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from benchmarks.common.results import write_result
from benchmarks.truth.start_statistics import DRAWN
from modelkin_data import starter
from modelkin_indexer import sketch, spec
from modelkin_indexer.anatomy.constants.formulas import banks
from modelkin_indexer.anatomy.constants.formulas.waves import NEAR
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.fingerprinting.statistics import Moments
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.results.start_nulls import spread_null
from modelkin_registry.evidence import scales, start
from modelkin_registry.registry import Registry

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Rng = np.random.Generator
SHAPES = ((64, 64), (256, 64), (192, 768), (768, 768), (3072, 768), (96, 2048))
LINES, LENGTHS = (16, 32, 64, 128), (64, 128, 256, 512)
NOISES = (0.0, 0.1, 0.2, 0.3)  # of a wave's own size, as training leaves it
SCALES = {2: (1.0, 3.0), 3: (1.0, 2.0, 4.0), 4: (1.0, 1.5, 3.0, 5.0)}


# parts


def gain_of(matrix: Singles) -> float:
    """How much likelier a model's one matrix is by parts: the sum behind scales.drawn_in_parts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file({"model.layers.0.mlp.up_proj.weight": matrix}, path)
        with closing(open_source(path)) as source:
            table = fingerprint_source(source).matrices
    return likelihood(table.probe.astype(np.float64), table.row_spread)


def likelihood(probe: Floats, row_spread: npt.NDArray[np.floating[Any]]) -> float:
    """Of matrices of one shape, as scales adds them up; NaN where rows are zeros is left out."""
    within = scales._variance_within(probe)
    each = scales.NOISE + 4 * row_spread.astype(np.float64) ** 2
    return float(scales.FREEDOM / 2 * np.nansum(np.log(each / scales.NOISE) + within * (1 / each - 1 / scales.NOISE)))


@cache
def starter_models() -> tuple[Fingerprint, ...]:
    """What is shipped: public models, trained."""
    packaged = starter.path()
    assert packaged is not None
    with (
        tempfile.TemporaryDirectory() as folder,
        Registry.open(shutil.copy(packaged, Path(folder) / "starter.db"), create=False) as registry,
    ):
        return tuple(registry.get(listed.model) for listed in registry.list())


def of_published() -> dict[str, object]:
    """The likelihood of each shape of each published model; how many matrices are told, and how many of these then hold nothing learned."""
    gains, told, nothing = [], 0, 0
    for model in starter_models():
        table = model.matrices
        shapes: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row in range(len(table)):
            rows, columns = int(table.rows[row]), int(table.columns[row])
            if (
                table.experts[row] == 1
                and rows >= scales.ROWS
                and not sketch.is_tall(rows, columns)
                and math.isfinite(table.row_spread[row])
            ):
                shapes[rows, columns].append(row)
        gains += [likelihood(table.probe[at].astype(np.float64), table.row_spread[at]) for at in shapes.values()]
        parts = np.flatnonzero(scales.drawn_in_parts(table))
        told += len(parts)
        nothing += sum(start.learned_share(table, int(row), model.about.level) == 0 for row in parts)
    many = sum(gain >= scales.LIKELIER for gain in gains)
    return ends(gains) | {"told": many, "of": len(gains), "matrices told": told, "of these with nothing learned": nothing}


def in_parts(rng: Rng, shape: tuple[int, int], parts: int, draw: Callable[[Rng, tuple[int, int]], Singles]) -> Singles:
    """Independent numbers whose rows have scales by parts, in their order."""
    sizes = np.repeat(SCALES[parts], -(-shape[0] // parts))[: shape[0]]
    return np.asarray(draw(rng, shape) * sizes[:, None], np.float32)


# even lines


def spread_share(matrix: Singles) -> float:
    """Spread of the rows' norms beside that of independent draws which are as heavy-tailed, as start.heaviness has it."""
    norms = np.linalg.norm(matrix.astype(np.float64), axis=1)
    moments = Moments(matrix.size, matrix.shape[1])
    moments.add(matrix)
    heavy = max(1.0, (moments.statistics().kurtosis - 1) / (start.NORMAL - 1))
    mean, _ = spread_null(start.WIDEST, matrix.shape[0], matrix.shape[1] / heavy)
    return float(norms.std() / norms.mean() / mean)


def orthogonal(rng: Rng, shape: tuple[int, int]) -> Singles:
    """Rows or columns of an orthogonal matrix."""
    q = np.linalg.qr(rng.standard_normal((max(shape), min(shape))))[0]
    return np.asarray(q if shape[0] >= shape[1] else q.T, np.float32)


def fixed_number(rng: Rng, shape: tuple[int, int]) -> Singles:
    """Normal numbers at as many places of each row, drawn by chance; zeros elsewhere."""
    kept = np.argsort(rng.random(shape), axis=1) < max(1, shape[1] // 10)
    return np.where(kept, rng.standard_normal(shape, np.float32), 0).astype(np.float32)


def ones_shifted(rng: Rng, shape: tuple[int, int]) -> Singles:
    """A permutation of columns, repeated, as wide as the matrix."""
    return np.eye(shape[1], dtype=np.float32)[rng.integers(0, shape[1], shape[0])]


# banks


def waves(rng: Rng, lines: int, length: int, noise: float) -> Floats:
    """Cosines of rising frequency, and what training adds: noise of a share of a wave's size."""
    times = np.arange(length)
    rising = np.linspace(0.02, 0.45, lines)[:, None]
    plain = np.cos(2 * np.pi * rising * times + rng.uniform(0, 2 * np.pi, (lines, 1))) * np.hanning(length)
    return np.asarray(plain + noise * plain.std(axis=1, keepdims=True) * rng.standard_normal(plain.shape), np.float64)


def smooth(rng: Rng, lines: int, length: int) -> Floats:
    """Independent numbers that neighbours share: learned kernels are smooth."""
    drawn = rng.standard_normal((lines, length + 8))
    return np.asarray(np.apply_along_axis(np.convolve, 1, drawn, np.hanning(9), "valid"), np.float64)


def bank_of(kind: str, rng: Rng, lines: int, length: int) -> Floats:
    if kind == "normal numbers":
        return rng.standard_normal((lines, length))
    if kind == "even numbers":
        return rng.uniform(-1, 1, (lines, length))
    if kind == "smooth numbers":
        return smooth(rng, lines, length)
    if kind == "waves in any order":
        return rng.permutation(waves(rng, lines, length, 0.1))
    return waves(rng, lines, length, float(kind.rpartition(" ")[2]))


BANKS = ("normal numbers", "even numbers", "smooth numbers", "waves in any order", *(f"waves in order, noise {noise}" for noise in NOISES))


def of_banks(kind: str, draws: int) -> dict[str, object]:
    """How many are told, the largest (smallest) share of narrow lines and of falls."""
    rng = np.random.default_rng([BANKS.index(kind)])
    told, near, falls = 0, [], []
    for number in range(draws):
        lines = bank_of(kind, rng, LINES[number % len(LINES)], LENGTHS[number // len(LINES) % len(LENGTHS)])
        told += banks.ordered(lines)
        power = banks._power(lines)
        strongest = power.argmax(axis=1)
        away = np.abs(np.arange(power.shape[1]) - strongest[:, None])
        near.append(float(np.mean(np.where(away <= NEAR, power, 0.0).sum(axis=1) >= banks.NARROW * power.sum(axis=1))))
        falls.append(np.count_nonzero(np.diff(strongest) < 0) / (len(lines) - 1))
    return {"draws": draws, "told as a bank": told, "narrow lines": ends(near), "falls": ends(falls)}


# all


def ends(values: Sequence[float]) -> dict[str, object]:
    """Least, median and most."""
    return {name: round(float(np.quantile(values, at)), 3) for name, at in (("least", 0), ("median", 0.5), ("most", 1))}


def of_parts(draws: int) -> dict[str, object]:
    """Likelihoods beside scales.LIKELIER."""
    found: dict[str, object] = {}
    rng = np.random.default_rng(3)
    for name, draw in DRAWN.items():
        plain = [gain_of(draw(rng, SHAPES[number % len(SHAPES)])) for number in range(draws)]
        found[f"one scale, {name}"] = ends(plain) | {"told": sum(value >= scales.LIKELIER for value in plain), "of": draws}
    found["published models, a shape each"] = of_published()
    for parts in SCALES:
        drawn = [gain_of(in_parts(rng, SHAPES[number % len(SHAPES)], parts, DRAWN["normal"])) for number in range(draws)]
        found[f"{parts} scales"] = ends(drawn) | {"told": sum(value >= scales.LIKELIER for value in drawn), "of": draws}
    return found


def of_even(draws: int) -> dict[str, object]:
    """Spreads of lines beside start.EVEN."""
    kinds = {**DRAWN, "orthogonal": orthogonal, "a fixed number a line": fixed_number, "one a line": ones_shifted}
    rng = np.random.default_rng(5)
    return {name: ends([spread_share(draw(rng, SHAPES[n % len(SHAPES)])) for n in range(draws)]) for name, draw in kinds.items()}


def of_norms() -> dict[str, object]:
    """Of all vectors of published models whose numbers are above 0, as long as a matrix' lines: how far they are from those lines' size."""
    far = []
    for model in starter_models():
        table, vectors = model.matrices, model.vectors
        numbers = table.mean.astype(float) ** 2 + table.sd.astype(float) ** 2
        for row in range(len(vectors)):
            energy = float(vectors.mean[row]) ** 2 + float(vectors.sd[row]) ** 2
            length = int(vectors.length[row])
            lines = np.concatenate([numbers[table.rows == length] * table.columns[table.rows == length]])
            if vectors.quantiles[row][0] > 0 and energy > 0 and lines.size and not vectors.places[row].role.endswith(start.ROW_NORMS):
                far.append(float(np.exp(np.abs(np.log(np.maximum(lines, start.TINY) / energy)).min() / 2)))
    return ends(far) | {"within": sum(value <= start.NEAR_NORM for value in far), "of": len(far)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=100)
    draws = parser.parse_args().draws
    found = {
        "parts": {"threshold": round(scales.LIKELIER, 2), **of_parts(draws)},
        "even lines": {"threshold": start.EVEN, **of_even(draws)},
        "gains of published models beside lines of their length": {"threshold": start.NEAR_NORM, **of_norms()},
        "banks": {"narrow": banks.NARROW, "most": banks.MOST, "falls": banks.FALLS, **{kind: of_banks(kind, 10 * draws) for kind in BANKS}},
    }
    write_result("odd_starts", {"spec": spec.VERSION, "draws": draws, **found})
    for name, rows in found.items():
        print(name, *(f"  {kind}: {told}" for kind, told in rows.items()), sep="\n")


if __name__ == "__main__":
    main()
