"""Masked, heavy-tailed and scaled draws, which a public seed gives to anybody: what share of them is taken for learned, at both levels.

    python -m benchmarks.truth.sparse_starts [--draws 200]

Lottery tickets under one mask, sparse reservoirs and heavy-tailed draws are starts as well; only their lines differ more in energy than
those of normal numbers, and so do parts that are drawn at scales of their own into one matrix. Each kind is drawn many times in each shape,
written as a model's matrices and read as any model is. Told are how many have a learned share (`evidence/start.py`), the largest, and what
the thresholds there stand on: by how many of the null's standard deviations the spread of their lines exceeds that of as heavy-tailed
normal numbers, the fewest numbers left in a line beside it. Writes results/sparse_starts.json; exits 1 where one in a hundred of a kind
that level full has room for is taken for learned.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from benchmarks.common.results import write_result
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Matrices
from modelkin_indexer.results.start_nulls import spread_null
from modelkin_indexer.spec import LEVELS
from modelkin_registry.evidence.start import FEWEST_LEFT, WIDEST, heaviness, learned_share

SHAPES = ((96, 96), (64, 512), (512, 512), (300, 1200))
DENSITIES = (0.5, 0.25, 0.1, 0.02)
WORST = 0.01  # share of a kind's draws
Draw = Callable[[np.random.Generator, tuple[int, int]], npt.NDArray[np.float64]]


def masked(density: float) -> Draw:
    """Normal numbers, of which a mask of chance leaves so many."""
    return lambda rng, shape: rng.standard_normal(shape) * (rng.random(shape) < density)


HEAVY: dict[str, Draw] = {
    "Laplace": lambda rng, shape: rng.laplace(size=shape),
    "Student t, 3": lambda rng, shape: rng.standard_t(3, shape),
    "Cauchy, cut at 100": lambda rng, shape: np.clip(rng.standard_cauchy(shape), -100, 100),
    "log-normal": lambda rng, shape: np.exp(rng.standard_normal(shape)),
}


def scaled(low: float, parts: int, *, even: bool = False) -> Draw:
    """Normal (`even`: uniform) numbers whose rows are in so many parts, at scales from `low` to 1 in even steps of their logarithms."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
        values = rng.uniform(-1, 1, shape) if even else rng.standard_normal(shape)
        part = np.arange(shape[0]) * parts // shape[0]
        return values * (low ** (part / (parts - 1)))[:, None]

    return draw


SCALED: dict[str, Draw] = {
    "queries at a quarter (T5)": lambda rng, shape: (
        rng.standard_normal(shape) * np.where(np.arange(shape[0]) < shape[0] // 3, 0.25, 1.0)[:, None]
    ),
    "three parts of the rows, 0.35 to 1": scaled(0.35, 3),
    "three parts of the rows, uniform, 0.35 to 1": scaled(0.35, 3, even=True),
    "rows over three octaves": scaled(0.125, 48),
}
KINDS = {"normal": masked(1.0)} | {f"masked, {density} left": masked(density) for density in DENSITIES} | HEAVY | SCALED


def read(draw: Draw, shape: tuple[int, int], draws: int, folder: Path) -> Iterator[tuple[str, Matrices]]:
    """A model of so many drawn matrices, one a layer, as it is read at each level."""
    rng = np.random.default_rng([*shape, draws])
    tensors = {f"model.layers.{at}.mlp.up_proj.weight": (0.02 * draw(rng, shape)).astype(np.float32) for at in range(draws)}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    for level in LEVELS:
        yield level, fingerprint_source(open_source(folder / "model.safetensors"), level=level).matrices


def beyond(table: Matrices, row: int, level: str) -> tuple[float, float]:
    """The larger excess of both spreads in standard deviations of the null of as heavy-tailed normal numbers, and the numbers left."""
    columns, seen, heavy = int(table.columns[row]), int(table.seen[row]), heaviness(table, row, "full")
    rows = int(table.rows[row]) if level == "full" else seen
    found = []
    for value, norms, numbers in ((table.row_spread[row], rows, columns), (table.column_spread[row], columns, seen)):
        if np.isfinite(value) and min(norms, numbers) >= 2:
            mean, sd = spread_null(WIDEST, norms, numbers / heavy)
            found.append(((float(value) - mean) / sd, numbers * (1 - float(table.zeros[row]))))
    return max(found, default=(0.0, 0.0))


def told(table: Matrices, level: str) -> dict[str, Any]:
    """What becomes of one kind's draws of one shape."""
    rows = range(len(table))
    shares = [learned_share(table, row, level) for row in rows]
    excess = [beyond(table, row, level) for row in rows]
    return {
        "draws": len(table),
        "with_a_learned_share": sum(share > 0 for share in shares),
        "largest_share": round(max(shares), 4),
        "heaviness": round(float(np.median([heaviness(table, row, "full") for row in rows])), 2),
        "largest_excess_sd": round(max(z for z, _ in excess), 2),
        "fewest_left_in_a_line": round(min(left for _, left in excess), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    args = parser.parse_args()
    found: dict[str, dict[str, Any]] = {level: {} for level in LEVELS}
    for name, draw in KINDS.items():
        for shape in SHAPES:
            with tempfile.TemporaryDirectory(prefix="modelkin-starts-") as folder:
                for level, table in read(draw, shape, args.draws, Path(folder)):
                    found[level][f"{name}, {shape[0]} x {shape[1]}"] = told(table, level)
            print(name, shape, {level: found[level][f"{name}, {shape[0]} x {shape[1]}"] for level in LEVELS}, flush=True)
    wrong = [at for at, one in found["full"].items() if one["with_a_learned_share"] > WORST * one["draws"]]
    write_result("sparse_starts", {"draws": args.draws, "fewest_left": FEWEST_LEFT, "taken_for_learned": wrong, "found": found})
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
