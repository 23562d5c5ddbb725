"""Bounded samples of every layer, for what tensors of one role have in common without being counterparts.

Vectors are taken whole. Of a matrix the same evenly spread rows are taken in every layer and model of its shape.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.exact import distributions
from modelkin_indexer.exact.distributions import Counts
from modelkin_indexer.exact.pairing import PlacePair
from modelkin_indexer.exact.totals import PairTotals, Sides
from modelkin_indexer.exact.units import are_sixteen_bits
from modelkin_indexer.places import NO_LAYER, Piece
from modelkin_indexer.results.exact import LayerMatrix, TensorComparison
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored import values
from modelkin_indexer.sources.stored.usable import Unusable

Singles = npt.NDArray[np.float32]
SAMPLE_NUMBERS = 1 << 16  # of each matrix: unrelated ones correlate by 1/256 = 0.004 of chance in a cell
SAMPLE_RUNS = 8  # evenly spread runs of rows
ROUNDING_PLACES = 6
COUNTED = 1 << 14  # numbers from which counting them by their upper 16 bits is faster than sorting them

Role = tuple[str, str, str]


class LayerSample(Struct, frozen=True, dict=True):
    """Sampled rows of one place, (rows, columns), out of `of` numbers."""

    piece: Piece
    dtype: str
    rows: Singles
    of: int

    @property
    def key(self) -> tuple[Role, tuple[int, ...]]:
        """Samples with one key can be held against each other."""
        return role_of(self.piece), self.rows.shape

    @cached_property
    def ordered(self) -> Singles:
        """All its numbers, ascending: a sample is held against several others."""
        return np.sort(self.rows, axis=None)

    @cached_property
    def counts(self) -> Counts:
        """How often each number is there, of those that 16 bits tell apart."""
        return distributions.counted(self.rows)

    def distances(self, other: LayerSample) -> tuple[float, float]:
        """Wasserstein-1 and Kolmogorov-Smirnov distance to another of its size."""
        if self.rows.size >= COUNTED and are_sixteen_bits(self.dtype, other.dtype):
            return distributions.distances(distributions.positions(exact=True), self.counts, other.counts)
        return distributions.sorted_distances(self.ordered, other.ordered)


def role_of(piece: Piece) -> Role:
    """A place without its layer."""
    return piece.place.component, piece.place.family, piece.place.role


def sample_layer(source: Source, piece: Piece) -> LayerSample:
    """Read the sample of one place."""
    view = piece.views[0]
    dtype = source.tensors[view.tensor].dtype
    if piece.is_vector:
        parts = [values.read_rows(source, view, 0, view.rows).ravel() for view in piece.views]
        rows = np.concatenate(parts)[None, :]
    else:
        rows = np.concatenate([values.read_rows(source, piece.views[at], start, stop) for at, start, stop in _runs(piece)])
    Unusable(rows.size).take(0, rows)
    return LayerSample(piece, dtype, rows, piece.parameters)


def _runs(piece: Piece) -> Iterator[tuple[int, int, int]]:
    """(view, first row, row after the last) of the runs."""
    rows, count = piece.views[0].rows, len(piece.views)
    length = max(1, min(rows, SAMPLE_NUMBERS // (piece.views[0].columns * SAMPLE_RUNS)))
    runs = min(SAMPLE_RUNS, max(1, rows * count // length))
    if rows * count <= length * runs:
        yield from ((at, 0, rows) for at in range(count))
        return
    for run in range(runs):
        at, start = divmod(run * rows * count // runs, rows)
        start = min(start, rows - length)
        yield at, start, start + length


def sample_sides(a: Source, b: Source, pairs: Iterable[PlacePair]) -> Iterator[tuple[list[LayerSample], list[LayerSample]]]:
    """Samples of both sides of all pairs inside the layers, where both have one shape: role by role, since a role is held in memory."""
    inside = [pair for pair in pairs if pair.a.place.layer != NO_LAYER and pair.b.place.layer != NO_LAYER]
    alike = [pair for pair in inside if pair.a.is_vector or pair.same_views]
    ours, theirs = ([pair.a for pair in alike], [pair.b for pair in alike])
    for role in sorted({role_of(piece) for piece in (*ours, *theirs)}):
        yield [sample_layer(a, p) for p in ours if role_of(p) == role], [sample_layer(b, p) for p in theirs if role_of(p) == role]


def shifted(ours: Sequence[LayerSample], theirs: Sequence[LayerSample], axes: Mapping[Role, int]) -> list[TensorComparison]:
    """Each layer of `ours` against the next layer of `theirs` (the last against the first), role by role."""
    others = by_role(theirs)
    found = []
    for key, group in by_role(ours).items():
        other = others.get(key, [])
        if len(group) >= 2 and len(group) == len(other):
            found += [_measure(group[at], other[(at + 1) % len(other)], axes[key[0]]) for at in range(len(group))]
    return found


def by_role(samples: Iterable[LayerSample]) -> dict[tuple[Role, tuple[int, ...]], list[LayerSample]]:
    """Samples that can be held against each other, in the order of their layers."""
    groups: dict[tuple[Role, tuple[int, ...]], list[LayerSample]] = defaultdict(list)
    for sample in samples:
        groups[sample.key].append(sample)
    return {key: sorted(group, key=lambda s: s.piece.place.layer) for key, group in sorted(groups.items())}


def _measure(a: LayerSample, b: LayerSample, axis: int) -> TensorComparison:
    channels = a.rows.shape[1] if axis == 1 else a.rows.shape[0]
    totals = PairTotals(Sides(a.piece, b.piece, a.dtype, b.dtype, axis, permute=False), channels, a.rows.size, a.distances(b))
    totals.add(0, a.rows, b.rows)
    return totals.result()


def layer_matrices(sides: str, ours: Sequence[LayerSample], theirs: Sequence[LayerSample]) -> list[LayerMatrix]:
    """Every layer of one side against every layer of the other, role by role."""
    others = by_role(theirs)
    return [_matrix(sides, group, others[key]) for key, group in by_role(ours).items() if key in others]


def _matrix(sides: str, ours: Sequence[LayerSample], theirs: Sequence[LayerSample]) -> LayerMatrix:
    place = ours[0].piece.place
    return LayerMatrix(
        sides=sides,
        component=place.component,
        family=place.family,
        role=place.role,
        numbers=ours[0].rows.size,
        of=ours[0].of,
        layers=tuple(sample.piece.place.layer for sample in ours),
        other_layers=tuple(sample.piece.place.layer for sample in theirs),
        cosine=_products(ours, theirs, centred=False),
        pearson=_products(ours, theirs, centred=True),
    )


def _products(ours: Sequence[LayerSample], theirs: Sequence[LayerSample], *, centred: bool) -> tuple[tuple[float, ...], ...]:
    first, second = _units(ours, centred), _units(theirs, centred)
    return tuple(tuple(round(float(cell), ROUNDING_PLACES) for cell in row) for row in first @ second.T)


def _units(samples: Sequence[LayerSample], centred: bool) -> npt.NDArray[np.float64]:
    """Samples as rows of length 1; constant ones, centred, stay 0."""
    rows = np.stack([sample.rows.ravel() for sample in samples]).astype(np.float64)
    rows = rows - rows.mean(axis=1, keepdims=True) if centred else rows
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, length, out=np.zeros_like(rows), where=length > 0))
