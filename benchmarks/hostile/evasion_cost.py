"""What would make it dearer to hide a copy from a key that is known: bytes of a fingerprint against the change that hiding takes.

    python -m benchmarks.hostile.evasion_cost

Of square matrices with unequal rows and some strong directions, of several widths, the least change is made after which nothing is left of
what a key saw: of more sampled rows, of more numbers of each, of more directions of the gram channel. Each was checked to leave a
correlation of nothing. Of exact digests of blocks of rows the least change is one number's last bit in every block, whatever their number:
they tell what is untouched, and hold nobody up. Beside it stands the same for an unknown key: noise of that size leaves r as told.
Writes results/evasion_cost.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common.results import write_result
from benchmarks.hostile.adversary import matrix_of
from benchmarks.hostile.attacks import elsewhere, with_gram
from modelkin_indexer import sketch, spec
from modelkin_indexer.spec import PUBLIC_KEY

Floats = npt.NDArray[np.float64]
WIDTHS = (256, 1024, 2048)
ROWS, NUMBERS, DIRECTIONS = (8, 32, 128), (16, 64), (16, 32, 64, 128)
BLOCKS = (8, 64, 512)  # of rows with a digest of 8 bytes each
HALF = 2  # bytes of a number of a fingerprint
MATRICES = 3  # of each width, over which figures are averaged


def rows_cost(values: Floats, rows: int, numbers: int, random: np.random.Generator) -> tuple[float, float]:
    """Relative change, and the correlation that is left, where so many numbers of so many rows are seen."""
    signs = sketch.signs(PUBLIC_KEY, "cost", values.shape[1], numbers).astype(np.float64)
    basis = np.linalg.qr(signs)[0]
    seen = values[:rows] - values[:rows].mean(axis=1, keepdims=True)
    drawn = values[:rows].std() * random.standard_normal(seen.shape)
    move = (drawn - seen) @ basis @ basis.T
    return float(np.linalg.norm(move) / np.linalg.norm(values)), _cosine(seen @ signs, (seen + move) @ signs)


def gram_cost(values: Floats, count: int, random: np.random.Generator) -> tuple[float, float]:
    """Relative change, and the correlation that is left, where the products with so many directions are seen."""
    directions = sketch.signs(PUBLIC_KEY, "gram", values.shape[1], count).astype(np.float64)
    before = (values @ directions).T @ (values @ directions)
    changed = with_gram(values, directions, elsewhere(before, random))
    after = (changed @ directions).T @ (changed @ directions)
    isotropic = directions.T @ directions
    return float(np.linalg.norm(changed - values) / np.linalg.norm(values)), _cosine(*(_apart(one, isotropic) for one in (before, after)))


def _apart(products: Floats, isotropic: Floats) -> Floats:
    return products - isotropic * float(np.sum(products * isotropic) / np.sum(isotropic * isotropic))


def _cosine(a: Floats, b: Floats) -> float:
    return float(np.sum(a * b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def measure() -> list[dict[str, Any]]:
    rows = []
    for width in WIDTHS:
        random = np.random.default_rng(width)
        matrices = [matrix_of(random, width, width).astype(np.float64) for _ in range(MATRICES)]
        looks: list[tuple[str, int, list[tuple[float, float]]]] = []
        for count in ROWS:
            for numbers in NUMBERS:
                looks.append(
                    (
                        f"{count} rows, {numbers} numbers each",
                        HALF * count * numbers,
                        [rows_cost(one, count, numbers, random) for one in matrices],
                    )
                )
        for count in DIRECTIONS:
            looks.append((f"{count} directions", HALF * count * (count + 1) // 2, [gram_cost(one, count, random) for one in matrices]))
        for what, size, found in looks:
            change, left = (float(np.mean([one[part] for one in found])) for part in (0, 1))
            row = {"width": width, "seen": what, "bytes": size, "change": round(change, 4), "r_left": round(left, 3)}
            rows.append(row | {"r_under_an_unknown_key": round(float(1 / np.sqrt(1 + change**2)), 4)})
            print(rows[-1], flush=True)
        for blocks in BLOCKS:
            change = float(np.sqrt(blocks) * np.finfo(np.float32).eps / width)  # numbers of the root of the mean square, by their last bit
            row = {"width": width, "seen": f"digests of {blocks} blocks of rows", "bytes": 8 * blocks, "change": change, "r_left": None}
            rows.append(row | {"r_under_an_unknown_key": 1.0})
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(arguments)
    spent = {"rows": spec.MATRIX_BLOCKS * spec.MATRIX_BLOCK_ROWS, "numbers": spec.PROBE_NUMBERS, "directions": spec.DIRECTIONS}
    write_result("evasion_cost", {"present": spent, "rows": measure()}, out=args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
