"""Which channels of one model's residual stream are which of another's: found on token tables, held out rows tell whether it holds.

The rows of two token tables stand for the same tokens, so whatever was done to the channels shows between the columns. A map is fitted on
every other row and judged on the rows between them. Memory: three matrices of channels x channels, and blocks of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import scipy.linalg
from msgspec import Struct
from scipy.optimize import linear_sum_assignment

from modelkin_indexer.aligned.finite_rows import finite_rows
from modelkin_indexer.exact.pairing import PlacePair
from modelkin_indexer.results.aligned import KINDS, ChannelMap
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored import values

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
AS_WELL = 0.98  # of the best map's r on held out rows
FEWEST_ROWS = 64  # a table with fewer common rows tells no map
TABLE_FAMILIES = ("embedding", "head")
SURE = "gesvd"  # LAPACK's older routine: slower, and decomposes what divide and conquer (gesdd, numpy's) gives up on
WIDEST = 16384  # channels up to which a map is worked out: 1 GiB a matrix


class _Products(Struct):
    """Sums over fitted rows of a table: cross products of counterparts and of neighbours, lengths and sums of columns."""

    cross: Floats
    shuffled: Floats
    squares: tuple[Floats, Floats]
    sums: tuple[Floats, Floats]
    rows: int = 0

    def centred(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Cross products of both kinds, and the lengths of columns, all less the tables' mean rows."""
        mean = np.outer(self.sums[0], self.sums[1]) / self.rows
        one, other = (np.sqrt(np.maximum(s - t**2 / self.rows, 0.0)) for s, t in zip(self.squares, self.sums, strict=True))
        return self.cross - mean, self.shuffled - mean, one, other


def find_channel_map(a: Source, b: Source, tables: Sequence[PlacePair]) -> ChannelMap | None:
    """The map that does best on held out rows of the first table that has one; None without a table that tells.

    Raises:
        SourceError: weights cannot be read.
    """
    found = [_fitted(a, b, pair) for pair in tables if _tells(pair)]
    return max(found, key=lambda one: one.after) if found else None


def _tells(pair: PlacePair) -> bool:
    widths = pair.a.views[0].columns, pair.b.views[0].columns
    return pair.a.place.family in TABLE_FAMILIES and pair.rows >= FEWEST_ROWS and max(widths) <= WIDEST and not pair.a.is_vector


def _fitted(a: Source, b: Source, pair: PlacePair) -> ChannelMap:
    products = _products(a, b, pair)
    cross, shuffled, one, other = products.centred()
    means = products.sums[0] / products.rows, products.sums[1] / products.rows
    candidates: dict[str, tuple[Singles | None, Singles | None]] = {}
    if cross.shape[0] == cross.shape[1]:
        candidates["same"] = None, None
        candidates["rotated"] = polar(cross), polar(shuffled)
    candidates["permuted"] = signed_permutation(cross, one, other), signed_permutation(shuffled, one, other)
    held = {kind: _held_out(a, b, pair, maps, means) for kind, maps in candidates.items()}
    best = max(after for after, _ in held.values())
    kind = next(kind for kind in KINDS if kind in held and held[kind][0] >= min(AS_WELL * best, best))
    matrix = candidates[kind][0]
    return ChannelMap(
        kind=kind,
        matrix=matrix,
        table=pair.a.views[0].tensor,
        rows=pair.rows // 2,
        before=held["same"][0] if "same" in held else None,
        after=held[kind][0],
        shuffled=held[kind][1],
        turned=int(np.count_nonzero(matrix < 0)) if kind == "permuted" and matrix is not None else 0,
    )


def _blocks(a: Source, b: Source, pair: PlacePair, first: int) -> Iterator[tuple[Floats, Floats]]:
    """Every other common row of both tables, from row `first` on."""
    ours, theirs = pair.a.views[0], pair.b.views[0]
    for start, stop in values.row_blocks(ours):
        if start >= pair.rows:
            return
        stop = min(stop, pair.rows)
        odd = (first - start) % 2
        rows = (finite_rows(side, view, start, stop)[odd::2].astype(np.float64) for side, view in ((a, ours), (b, theirs)))
        yield next(rows), next(rows)


def _products(a: Source, b: Source, pair: PlacePair) -> _Products:
    widths = pair.a.views[0].columns, pair.b.views[0].columns
    found = _Products(
        np.zeros(widths), np.zeros(widths), (np.zeros(widths[0]), np.zeros(widths[1])), (np.zeros(widths[0]), np.zeros(widths[1]))
    )
    for x, y in _blocks(a, b, pair, 0):
        found.cross += x.T @ y
        found.shuffled += x.T @ np.roll(y, max(1, len(y) // 2), axis=0)
        for side, rows in enumerate((x, y)):
            found.squares[side][:] += np.square(rows).sum(axis=0)
            found.sums[side][:] += rows.sum(axis=0)
        found.rows += len(x)
    return found


def _held_out(
    a: Source, b: Source, pair: PlacePair, maps: tuple[Singles | None, Singles | None], means: tuple[Floats, Floats]
) -> tuple[float, float]:
    """Correlation of held out rows under a map, and under the same fit to shuffled rows."""
    sums = np.zeros((2, 3))
    for x, y in _blocks(a, b, pair, 1):
        for which, (matrix, other) in enumerate(zip(maps, (y, np.roll(y, max(1, len(y) // 2), axis=0)), strict=True)):
            moved = x - means[0] if matrix is None else (x - means[0]) @ matrix
            other = other - means[1]
            kept = slice(None) if matrix is None else np.any(matrix, axis=0)
            moved, other = moved[:, kept].ravel(), other[:, kept].ravel()
            sums[which] += moved @ other, moved @ moved, other @ other
    return _cosine(sums[0]), _cosine(sums[1])


def _cosine(sums: Floats) -> float:
    lengths = float(np.sqrt(sums[1] * sums[2]))
    return float(sums[0]) / lengths if lengths > 0 else 0.0


def polar(cross: Floats) -> Singles:
    """The orthogonal matrix Q that makes A Q nearest to B, of A'B (Schoenemann 1966): the polar factor. It does not depend on the scale."""
    scaled = np.ldexp(cross, -int(np.frexp(np.abs(cross).max(initial=0.0))[1])).astype(np.float32)  # by a power of two: no bit changes
    try:
        left, _, right = np.linalg.svd(scaled, full_matrices=False)
    except np.linalg.LinAlgError:
        left, _, right = scipy.linalg.svd(scaled, full_matrices=False, lapack_driver=SURE)
    return np.asarray(left @ right, np.float32)


def nuclear_norm(matrix: Singles) -> float:
    """The sum of a matrix's singular values."""
    try:
        return float(np.linalg.norm(matrix, "nuc"))
    except np.linalg.LinAlgError:
        return float(scipy.linalg.svd(matrix, compute_uv=False, lapack_driver=SURE).sum())


def signed_permutation(cross: Floats, one: Floats, other: Floats) -> Singles:
    """The same among permutations with signs (Kuhn 1955, scipy's linear assignment), of correlations of columns."""
    lengths = np.outer(one, other)
    r = np.divide(cross, lengths, out=np.zeros_like(cross), where=lengths > 0)
    rows, columns = linear_sum_assignment(-np.abs(r))
    matrix = np.zeros(cross.shape, np.float32)
    matrix[rows, columns] = np.where(r[rows, columns] < 0, -1.0, 1.0)
    return matrix
