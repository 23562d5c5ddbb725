"""The statistics that tell a start from training, of matrices drawn as libraries draw starts, held against the nulls that are stated.

    python -m benchmarks.truth.start_statistics [--draws 200]

Each shape is drawn many times from each distribution and measured as the fingerprint measures it, at both levels, with gains folded in.
Writes results/start_statistics.json: of each statistic the mean and standard deviation that were found beside those of
`results/start_nulls.py`, and the z-scores' own, which are 0 and 1 where the null is exact. Fails where one is far from it.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from benchmarks.common.results import write_result
from modelkin_indexer import sketch, spec
from modelkin_indexer.fingerprinting.grams import Frame, MatrixGrams
from modelkin_indexer.fingerprinting.statistics import Moments, row_correlation
from modelkin_indexer.places import Piece, Place, View
from modelkin_indexer.results.start_nulls import STARTS, WIDE_ENOUGH, Null, kurtosis_null, spectrum_null, spread_null
from modelkin_indexer.spec import PUBLIC_KEY

SHAPES = ((32, 32), (64, 64), (96, 160), (256, 64), (64, 256), (2048, 128), (512, 512), (1024, 256), (300, 1200), (2048, 1024))
SIDES = ("in", "out", "none")
BLOCK_ROWS = 128
WORST_MEAN, WORST_SD = 0.35, (0.8, 1.25)  # of z-scores: 200 draws leave 0.07 and 0.05 to chance, float16 storage and series the rest
Singles = npt.NDArray[np.float32]
Scores = dict[str, tuple[float, Null]]


def truncated(rng: np.random.Generator, shape: tuple[int, int]) -> Singles:
    """Normal numbers without those beyond 2 standard deviations."""
    values = rng.standard_normal(shape)
    while (beyond := np.abs(values) > 2).any():
        values[beyond] = rng.standard_normal(int(beyond.sum()))
    return values.astype(np.float32)


DRAWN: dict[str, Callable[[np.random.Generator, tuple[int, int]], Singles]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape, np.float32),
    "uniform": lambda rng, shape: rng.uniform(-1, 1, shape).astype(np.float32),
    "normal truncated at 2 sd": truncated,
}


def at_full(matrix: Singles, start: str, side: str, gain: Singles | None) -> Scores:
    """Every statistic of level full, and its null."""
    rows, columns = matrix.shape
    piece = Piece(Place("text", 0, "mlp", "up"), (View("w", 0, matrix.shape, (columns, 1)),), residual=side)
    moments = Moments(matrix.size, columns)
    grams = MatrixGrams(piece, PUBLIC_KEY, Frame(gain), moments)
    for at in range(0, rows, BLOCK_ROWS):
        moments.add(matrix[at : at + BLOCK_ROWS])
        grams.add(0, at, matrix[at : at + BLOCK_ROWS])
    return scores(moments, grams.spectrum(), "full", start, matrix.shape)


def at_probe(matrix: Singles, start: str) -> Scores:
    """The same of level probe."""
    blocks = sketch.chosen_rows(PUBLIC_KEY, *matrix.shape)
    rows = np.concatenate([matrix[block.start : block.stop] for block in blocks])
    moments = Moments(rows.size, rows.shape[1])
    moments.add(rows)
    return scores(moments, row_correlation(rows), "probe", start, matrix.shape)


def scores(moments: Moments, spectrum: float, level: str, start: str, shape: tuple[int, int]) -> Scores:
    found = moments.statistics()
    rows, columns = shape[0] if level == "full" else sketch.sampled_rows(*shape), shape[1]
    both = {
        "kurtosis": (found.kurtosis, kurtosis_null(start, found.seen * columns)),
        "row_spread": (found.row_spread, spread_null(start, rows, columns)),
        "column_spread": (found.column_spread, spread_null(start, columns, found.seen)),
    }
    if columns >= WIDE_ENOUGH:
        both["spectrum"] = spectrum, spectrum_null(level, *shape)
    return both


def measured(shape: tuple[int, int], start: str, draws: int) -> dict[str, list[tuple[float, Null]]]:
    rng = np.random.default_rng([*shape, len(start)])
    found: dict[str, list[tuple[float, Null]]] = defaultdict(list)
    for number in range(draws):
        matrix = np.float32(0.02) * DRAWN[start](rng, shape)
        side = SIDES[number % len(SIDES)]
        gain = rng.uniform(0.2, 3.0, shape[1]).astype(np.float32) if side == "in" else None
        for level, one in (("full", at_full(matrix, start, side, gain)), ("probe", at_probe(matrix, start))):
            for name, score in one.items():
                found[f"{level} {name}"].append(score)
    return found


def row(values: list[tuple[float, Null]]) -> dict[str, float]:
    z = np.array([(value - mean) / sd for value, (mean, sd) in values])
    plain = np.array([value for value, _ in values])
    mean, sd = values[0][1]
    told = {"mean": plain.mean(), "sd": plain.std(), "null_mean": mean, "null_sd": sd}
    told |= {"z_mean": z.mean(), "z_sd": z.std(), "z_max": np.abs(z).max()}
    return {name: round(float(number), 4) for name, number in told.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    args = parser.parse_args()
    table, wrong = {}, []
    for shape in SHAPES:
        for start in STARTS:
            for name, values in measured(shape, start, args.draws).items():
                at = f"{shape[0]} x {shape[1]}, {start}, {name}"
                table[at] = found = row(values)
                if abs(found["z_mean"]) > WORST_MEAN or not WORST_SD[0] <= found["z_sd"] <= WORST_SD[1]:
                    wrong.append(at)
                    print(at, found)
    write_result("start_statistics", {"spec": spec.VERSION, "draws": args.draws, "far_from_null": wrong, "found": table})
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
