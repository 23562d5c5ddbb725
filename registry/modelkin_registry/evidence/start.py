"""How much of a matrix cannot be a random start: what independent draws do not give, training (or a designer) must have put there.

Four statistics of the matrix itself, each with its null for independent draws (modelkin_indexer.results.start_nulls): kurtosis, the spread
of row norms and of column norms, and how far the Gram matrix is from white. Each bounds from below the share of the matrix's energy that
was learned. A start drawn from a seed is white, so a share above 0 is what two models can have in common beyond a start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from modelkin_indexer import sketch
from modelkin_indexer.results.fingerprint import SIDES, Matrices
from modelkin_indexer.results.start_nulls import STARTS, Null, kurtosis_null, spectrum_null, spread_null
from modelkin_registry.evidence.scales import drawn_in_parts
from modelkin_registry.evidence.side import Side
from modelkin_registry.evidence.similarity import all_independent_rows

Floats = npt.NDArray[np.float64]
CHANCE_SD = 3.5  # standard deviations of a statistic that are chance: of 3,000 drawn matrices none had a learned share (common_start.json)
STORED = 0.01  # what storing in a short number format adds to a kurtosis
FEWEST_NUMBERS = 64  # numbers from which these statistics say anything
WIDEST = "normal"  # of the starts the one whose rows and columns differ most in their norms
BY_KURTOSIS = sorted(STARTS, key=lambda name: -STARTS[name].kurtosis)
NORMAL = 3.0  # kurtosis that independent changes lead to, whatever the start was
TALL_SD = 2.0  # standard errors of the energy of a tall table's sampled rows: rows that did not move must not pass for moved ones
TINY = float(np.finfo(np.float64).tiny)
ROW_NORMS = ("weight_g", "original0")  # what torch calls the norms of a matrix' rows where it normalises weights
# Of the norms of a matrix' rows: a start makes stored ones equal to them, and what was trained until they differ by more is hardly that.
# Half of the gains of published models are as near to lines of their length by chance, and say nothing then (odd_starts.json).
NEAR_NORM = 1.5
# Of the spread of independent draws: even numbers reach down to 0.53, what is drawn a fixed number a line, at places of chance, to 0.66;
# orthonormal lines, permutations and shifts have none (odd_starts.json).
EVEN = 0.5
# Of drawn matrices under a random mask with so many numbers left in a line or more, the spread of the lines is at most 3.9 standard
# deviations above that of as heavy-tailed normal numbers; with fewer than 10 up to 14 (sparse_starts.json, level full).
MASKED, FEWEST_LEFT = 0.05, 24
HEAVY, HEAVY_CHANCE = 1.5, 1.5  # from this heaviness on so much more room for chance: 5.25 sd; Cauchy draws reach 6.5 (sparse_starts.json)
MOST_VARIED = 4.0  # up to which the logarithms' variance of energies is taken at its word: half precision holds no larger variances
FEWEST_DRAWN = 8  # numbers of a vector from which its quantiles say anything
ENDS = 8.0  # of the mean distance between neighbours that a uniform draw's ends are from its bounds: exceeded once in exp(8)
HALF_STEP = 2.0**-10  # of a number stored in half precision, as quantiles are
LISTED = ("rows", "columns", "side", "experts", "mean", "sd", "zeros", "seen", "kurtosis", "column_spread", "row_spread", "spectrum")
TILTED = 4.0  # a common offset of all numbers is one strong direction; its share of the spectrum, with room for 16 directions' chance


def learned_shares(side: Side, rows: Sequence[int]) -> Floats:
    """Of each of these matrices a lower bound of the share of its energy that no start of independent draws has; 0 to 1."""
    return _learned(side.matrices, side.about.level)[list(rows)]


def learned_share(table: Matrices, row: int, level: str) -> float:
    """The same of one whole matrix of a fingerprint of that level."""
    return float(_learned(table, level)[row])


def sampled_shares(side: Side, rows: Sequence[int]) -> Floats:
    """The same of what the probe channel compares: the rows looked at, without what they have in common.

    Where these hold less energy than the matrix has on average, they hold as much of the start and less of what was learned: gates of an
    LSTM that did not move, a direction that all rows follow, tokens that were never seen.
    """
    return _sampled(side.matrices, side.about.level)[list(rows)]


def _learned(table: Matrices, level: str) -> Floats:
    """Of every matrix of a table, worked out once: it is asked for with every model that this one is held against."""
    known: dict[Any, Floats] = table.worked_out
    if (_learned, level) not in known:
        listed, in_parts = _listed(table), drawn_in_parts(table).tolist()
        shares = [_learned_share(listed, row, level, in_parts=in_parts[row]) for row in range(len(table))]
        known[_learned, level] = np.array(shares, np.float64)
    return known[_learned, level]


def _listed(table: Matrices) -> Matrices:
    """The columns that single rows are looked up in, as lists: numbers come out of these several times as fast."""
    return cast(Matrices, SimpleNamespace(**{name: getattr(table, name).tolist() for name in LISTED}))


def _sampled(table: Matrices, level: str) -> Floats:
    known: dict[Any, Floats] = table.worked_out
    if (_sampled, level) not in known:
        rows = range(len(table))
        free = all_independent_rows(table) * (table.columns.astype(np.int64) - 1)
        looked_at = table.scale.astype(float) ** 2 / np.maximum(free, 1)
        whole = np.maximum(table.sd.astype(float) ** 2, TINY)
        chance = np.where([_is_tall(table, row) for row in rows], TALL_SD * np.sqrt(2 / np.maximum(free, 1)), 0.0)
        energy = np.minimum(looked_at / whole, 1.0) - chance
        known[_sampled, level] = np.maximum(0.0, 1 - (1 - _learned(table, level)) / np.maximum(energy, TINY))
    return known[_sampled, level]


def _learned_share(table: Matrices, row: int, level: str, *, in_parts: bool) -> float:
    if int(table.seen[row]) * int(table.columns[row]) < FEWEST_NUMBERS:
        return 0.0
    by_rows, by_columns = (0.0, 0.0) if _is_tall(table, row) else _by_spreads(table, row, level)
    if by_rows > 0 and in_parts and _may_be_scaled(table, row, level, by_columns):
        return 0.0
    return min(1.0, max(_by_kurtosis(table, row), _by_spectrum(table, row, level), by_rows, by_columns))


def _may_be_scaled(table: Matrices, row: int, level: str, by_columns: float) -> bool:
    """Whether scales of its rows, which differ by parts (scales.py), make of independent numbers what else this matrix shows.

    Starts are drawn at a scale a part: queries, keys and values in one matrix (T5, DeepNorm), gates of a cell, Fourier features of several
    octaves. Then columns are as even as rows of unequal energy leave them, the Gram matrix as white as such scales leave it, and the
    kurtosis that of the draw times one and the relative variance of the rows' energies. `by_columns`: what of it looks learned.
    """
    kurtosis = float(table.kurtosis[row])
    most = kurtosis / min(start.kurtosis for start in STARTS.values()) - 1
    varied = max(0.0, min(_energies_vary(table, row)[0], most))
    uneven = _by_spread(float(table.column_spread[row]), int(table.columns[row]), int(table.seen[row]) / (1 + varied))
    if (by_columns and uneven) or _by_spectrum(table, row, level, varied):
        return False
    return any(kurtosis / (1 + varied) <= start.kurtosis <= kurtosis for start in STARTS.values()) or not _by_kurtosis(table, row)


def _energies_vary(table: Matrices, row: int) -> tuple[float, float]:
    """Relative variances of the energies of rows and of columns: exp(4 s^2) - 1 where the logarithms of norms spread by s (log-normal)."""
    spreads = (float(table.row_spread[row]), float(table.column_spread[row]))
    rows, columns = (math.expm1(min(4 * value**2, MOST_VARIED)) if math.isfinite(value) else 0.0 for value in spreads)
    return rows, columns


def _is_tall(table: Matrices, row: int) -> bool:
    """Whether this is a table of many short rows: training may move a few and leave the rest, so that norms of rows say little."""
    return sketch.is_tall(int(table.rows[row]) // int(table.experts[row]), int(table.columns[row]))


def _by_kurtosis(table: Matrices, row: int) -> float:
    """From the kurtosis k0 of the start that is least exceeded: independent changes of share f leave 3 + (k0 - 3)(1 - f)^2."""
    kurtosis, numbers = float(table.kurtosis[row]), int(table.seen[row]) * int(table.columns[row])
    smaller = min(int(table.rows[row]) // int(table.experts[row]), int(table.columns[row]))
    for start in BY_KURTOSIS:
        value, sd = kurtosis_null(start, numbers)
        orthogonal = 6 / (smaller + 2) if value == NORMAL else 0.0  # rows of an orthogonal start are a sphere's points
        if kurtosis >= value - orthogonal - CHANCE_SD * sd - STORED:
            least = kurtosis - CHANCE_SD * sd - STORED
            return 1 - math.sqrt(min(1.0, max(0.0, NORMAL - least) / (NORMAL - value))) if value < NORMAL else 0.0
    return 0.0


def _by_spectrum(table: Matrices, row: int, level: str, scaled: float | None = None) -> float:
    """A share f in one direction adds f^2 to the sum of squared eigenvalues; in several directions less, so this is a lower bound.

    `scaled`: the relative variance of the energies of rows that is taken for scales, and explains what it can.
    """
    value, columns, experts = float(table.spectrum[row]), int(table.columns[row]), int(table.experts[row])
    if not math.isfinite(value):
        return 0.0
    rows = int(table.rows[row])
    mean, sd = spectrum_null(level, rows // experts, columns, experts)
    freedom = _freedom(table, row, level)
    if scaled is not None:
        mean, sd = _of_scaled(table, row, (mean, sd), scaled) if level == "full" else (mean, sd)
    elif level == "full":
        uneven = 1 + _unevenness(table, row, min(rows // experts, columns))
        mean, sd = mean * uneven, sd * uneven
    offset = float(table.mean[row]) ** 2
    tilt = offset / (offset + float(table.sd[row]) ** 2) if offset else 0.0
    return math.sqrt(max(0.0, (value - mean - CHANCE_SD * _wider(heaviness(table, row, level)) * sd) / freedom - TILTED * tilt**2))


def _of_scaled(table: Matrices, row: int, null: Null, scaled: float) -> Null:
    """The null of level full of scaled rows: sums over rows of unequal energy vary more, and sums over columns see scales, no identity."""
    (mean, sd), experts = null, int(table.experts[row])
    if table.side[row] != SIDES.index("out"):
        return mean * (1 + scaled), sd * (1 + scaled)
    length = int(table.rows[row]) // experts
    return mean + _freedom(table, row, "full") / experts * scaled / length, sd * (1 + scaled)


def _freedom(table: Matrices, row: int, level: str) -> int:
    """Independent vectors that the Gram matrix behind `spectrum` sums over."""
    if level != "full":
        return int(table.columns[row])
    if table.side[row] == SIDES.index("out"):
        return int(table.columns[row]) * int(table.experts[row])
    return int(table.rows[row]) if table.side[row] == SIDES.index("in") else max(int(table.seen[row]), 1)


def _by_spreads(table: Matrices, row: int, level: str) -> tuple[float, float]:
    """Rows (columns) whose energies differ by a share f: their norms spread by f / 2 where what was learned is as uneven as the rows."""
    columns, seen = int(table.columns[row]), int(table.seen[row])
    rows = int(table.rows[row]) if level == "full" else seen
    lines = (float(table.row_spread[row]), rows, columns), (float(table.column_spread[row]), columns, seen)
    heavy = heaviness(table, row, level)
    if all(_is_even(value, norms, numbers / heavy) for value, norms, numbers in lines):
        heavy = 1.0
    masked = float(table.zeros[row]) >= MASKED and heavy > 1.0
    left = 1 - float(table.zeros[row]) if masked else 1.0
    by_rows, by_columns = (
        0.0 if masked and numbers * left < FEWEST_LEFT else _by_spread(value, norms, numbers / heavy, _wider(heavy))
        for value, norms, numbers in lines
    )
    return by_rows, by_columns


def _is_even(value: float, norms: int, numbers: float) -> bool:
    """Whether lines are far more even than such independent draws: a shift's or a permutation's, which nobody draws number by number."""
    return math.isfinite(value) and norms >= 2 and value < EVEN * spread_null(WIDEST, norms, numbers)[0]


def heaviness(table: Matrices, row: int, level: str) -> float:
    """Variance of a square of the matrix' numbers over that of normal ones, 1 at least.

    Any independent draws may be a start: masked (lottery tickets, sparse reservoirs) or heavy-tailed ones as well. The energy of a line
    of n such numbers varies as that of n / heaviness normal ones, so what is more than that is no draw's, whatever it was drawn from.

    At level probe masked ones alone: in a few sampled rows most of what training makes uneven looks like heavy tails, and real kin would be
    a common start (benchmarks/truth/real_models.py tells).
    """
    if level != "full" and float(table.zeros[row]) < MASKED:
        return 1.0
    kurtosis = float(table.kurtosis[row])
    return max(1.0, (kurtosis - 1) / (NORMAL - 1)) if math.isfinite(kurtosis) else 1.0


def _wider(heavy: float) -> float:
    """How much more room chance needs where numbers are heavy-tailed."""
    return HEAVY_CHANCE if heavy > HEAVY else 1.0


def _unevenness(table: Matrices, row: int, shorter: int) -> float:
    """Relative variance of the energies of lines, by which a sum of squares over them grows: no more than heavy-tailed draws have."""
    drawn = 2 * (heaviness(table, row, "full") - 1) / max(1, shorter)
    known = math.isfinite(table.row_spread[row]) or math.isfinite(table.column_spread[row])
    return min(drawn, max(_energies_vary(table, row))) if known else drawn


def _by_spread(value: float, norms: int, numbers: float, wider: float = 1.0) -> float:
    if not math.isfinite(value) or min(norms, numbers) < 2:
        return 0.0
    mean, sd = spread_null(WIDEST, norms, numbers)
    least = value - CHANCE_SD * wider * sd
    return 2 * math.sqrt(least**2 - mean**2) if least > mean else 0.0


def may_be_drawn(side: Side, row: int) -> bool:
    """Whether a start gives this vector: constant, drawn evenly from around 0 as torch draws biases, or a drawn matrix' norms.

    What is too short to tell says nothing against it.
    """
    vectors = side.vectors
    if vectors.constant[row] or int(vectors.length[row]) < FEWEST_DRAWN or are_row_norms(side, row):
        return True
    return vectors.places[row].family == "bias" and _is_uniform(vectors.quantiles[row].astype(float), int(vectors.length[row]))


def are_row_norms(side: Side, row: int) -> bool:
    """Whether a vector may be the norms of a matrix' rows or columns, which weight normalisation stores beside it: by name or size.

    A seed gives them as it gives the matrix.
    """
    vectors, table = side.vectors, side.matrices
    length = int(vectors.length[row])
    if vectors.places[row].role.endswith(ROW_NORMS):
        return True
    energy = float(vectors.mean[row]) ** 2 + float(vectors.sd[row]) ** 2
    if vectors.quantiles[row][0] <= 0 or energy <= 0:
        return False
    numbers = table.mean.astype(float) ** 2 + table.sd.astype(float) ** 2
    rows, columns = table.rows == length, table.columns == length
    lines = np.concatenate([numbers[rows] * table.columns[rows], numbers[columns] * table.rows[columns]])
    return bool((np.abs(np.log(np.maximum(lines, TINY) / energy)) <= 2 * math.log(NEAR_NORM)).any())


def _is_uniform(quantiles: Floats, count: int) -> bool:
    """Whether quantiles in even steps are those of `count` numbers drawn evenly between two bounds around 0."""
    bound = float(np.abs(quantiles).max())
    if bound <= 0:
        return False
    rank = np.linspace(0, 1, len(quantiles))
    off = np.abs(quantiles - bound * (2 * rank - 1)) / (2 * bound)
    allowed = CHANCE_SD * np.sqrt(rank * (1 - rank) / count) + np.where((rank == 0) | (rank == 1), ENDS / count, 0) + HALF_STEP
    return bool((off <= allowed).all())
