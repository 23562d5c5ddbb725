"""Which tensor of the query stands for which of the relative, how that was found and how far they agree: counted, and one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.places import Place, name_of
from modelkin_indexer.results.channels import CHANNELS
from modelkin_indexer.results.fingerprint import Fingerprint, Matrices, Vectors
from modelkin_registry.answers.parts import Counterpart, Counterparts
from modelkin_registry.counterparts.common_names import Common
from modelkin_registry.counterparts.contents import Keys, same_contents, same_vectors, value_keys, vector_keys
from modelkin_registry.counterparts.copying.copies import same_in_order
from modelkin_registry.counterparts.copying.faces import united, units_of
from modelkin_registry.counterparts.copying.vector_unions import vector_unions
from modelkin_registry.counterparts.matching import at_odds
from modelkin_registry.counterparts.pairing import DIGEST, NAME, SHAPE, SKETCH, Pair
from modelkin_registry.evidence.places import Measurement, PlaceCosine

MOST_LEFT = 256  # tensors of one side without a counterpart, up to which sums of them are tried: a deep model's fused ones
TOGETHER = " + "  # between the names of tensors that stand for one
PROBE, VECTOR = CHANNELS[0], "vector"


class Match(Struct, frozen=True):
    """Rows of the query's table and the rows of the relative's that stand for them, none where nothing does."""

    ours: tuple[int, ...]
    theirs: tuple[int, ...] = ()
    found: str | None = None
    r: float | None = None
    channel: str | None = None


def counterparts(common: Common, measured: Sequence[Measurement], *, copied: bool = False, tensors: bool = False) -> Counterparts:
    """All tensors of the query that say something, with what they were held against; `tensors` lists them, the largest first. `copied`:
    all that the query holds is known to be the relative's, so that sums tell what its other vectors were put together of.
    """
    ours, theirs = common.own_names
    matrices = _by_name(_matrices(common, measured, copied=copied), ours.matrices, theirs.matrices)
    vectors = _by_name(_vectors(common, measured, copied=copied), ours.vectors, theirs.vectors)
    counts: Counter[str] = Counter()
    for match in chain(matrices, vectors):
        counts[match.found or "none"] += len(match.ours)
    renamed = _renamed(matrices, ours.matrices, theirs.matrices, copied) + _renamed(vectors, ours.vectors, theirs.vectors, copied)
    rows = None
    if tensors:
        told = [*_told(matrices, ours.matrices, theirs.matrices, ours.matrices.parameters.tolist())]
        told += _told(vectors, ours.vectors, theirs.vectors, ours.vectors.length.tolist())
        rows = tuple(sorted(told, key=lambda row: (-row.parameters, row.query)))
    return Counterparts(**counts, renamed=renamed, tensors=rows)


def _by_name(matches: Iterable[Match], ours: Matrices | Vectors, theirs: Matrices | Vectors) -> list[Match]:
    """The matches; what was left over and has a counterpart of its own name is told by that, not by its shape alone."""
    return [
        replace(match, found=NAME) if match.found == SHAPE and ours.places[match.ours[0]] == theirs.places[match.theirs[0]] else match
        for match in matches
    ]


def alike_in_order(found: Counterparts | None) -> dict[str, str]:
    """Of each of the query's tensors whose counterpart was told by what both hold, and row by row, that one's name."""
    told = found.tensors or () if found is not None else ()
    return {
        row.query: row.relative
        for row in told
        if row.relative is not None
        and row.found in (DIGEST, SKETCH)
        and row.channel in (DIGEST, PROBE, VECTOR)
        and TOGETHER not in row.query + row.relative
    }


def _matrices(common: Common, measured: Sequence[Measurement], *, copied: bool) -> Iterator[Match]:
    table, other = common.query.matrices, common.relative.matrices
    cosines = _best(chain.from_iterable(one.places for one in measured))
    pairs = (*same_contents(table, other), *common.pairs.matrices) if copied else common.pairs.matrices
    single = _single(pairs, cosines, value_keys(table), value_keys(other))
    sure = {row for row, (other, found) in single.items() if _is_sure(found, cosines.get((row, other)))}
    unions = _unions(common.query, common.relative, sure, {single[row][0] for row in sure})
    joined = {row for match in unions for row in match.ours}
    yield from unions
    alone = [row for row in np.flatnonzero(table.sd > 0).tolist() if row not in joined]
    taken = {single[row][0] for row in sure}
    left = [row for row in alone if row not in sure], [row for row in range(len(other)) if row not in taken]
    laid_out = dict(same_in_order(table, other, *left)) if copied and table.digest.shape[1] and other.digest.shape[1] else {}
    for row in alone:
        if row in laid_out:
            yield Match((row,), (laid_out[row],), DIGEST, 1.0, DIGEST)
        else:
            yield _match(row, single.get(row), cosines)


def _vectors(common: Common, measured: Sequence[Measurement], *, copied: bool) -> Iterator[Match]:
    table, other = common.query.vectors, common.relative.vectors
    unions = vector_unions(table, other).found if copied else ()
    joined = {row for rows, _ in unions for row in rows}
    yield from (Match(rows, others, SKETCH) for rows, others in unions)
    cosines = _best(chain.from_iterable(one.vectors for one in measured))
    pairs = (*same_vectors(table, other), *common.pairs.vectors) if copied else common.pairs.vectors
    single = _single(pairs, cosines, vector_keys(table), vector_keys(other))
    for row in np.flatnonzero(np.logical_not(table.constant)).tolist():
        if row not in joined:
            yield _match(row, single.get(row), cosines)


Cosines = dict[tuple[int, int], tuple[float, str]]  # (row of ours, row of theirs) -> cosine and its channel


def _best(places: Iterable[PlaceCosine]) -> Cosines:
    """Of each pair that was measured the cosine in the first channel that it has."""
    found: Cosines = {}
    order = {channel: at for at, channel in enumerate((*CHANNELS, VECTOR))}
    for place in sorted(places, key=lambda place: order[place.channel]):
        found.setdefault((place.query_row, place.relative_row), (place.cosine, place.channel))
    return found


def _single(pairs: Sequence[Pair], cosines: Cosines, ours: Keys, theirs: Keys) -> dict[int, tuple[int, str]]:
    """Of each row its counterpart, and how it was found: by contents, else by name; equal numbers are told as such in any case."""
    found = {pair.ours: (pair.theirs, pair.found) for pair in pairs}
    for (row, other), _ in sorted(cosines.items(), key=lambda item: -item[1][0]):
        found.setdefault(row, (other, NAME))
    if not (len(ours) and len(theirs)):
        return found
    return {a: (b, DIGEST if ours[a] == theirs[b] and ours[a] != 0 else how) for a, (b, how) in found.items()}


def _is_sure(found: str, cosine: tuple[float, str] | None) -> bool:
    """Whether no sum of tensors has to be tried for a row: its name and shape tell one, or its contents."""
    return found in (DIGEST, SKETCH) or (found == NAME and cosine is not None and cosine[1] == PROBE)


def _match(row: int, counterpart: tuple[int, str] | None, cosines: Cosines) -> Match:
    if counterpart is None:
        return Match((row,))
    other, found = counterpart
    r, channel = (1.0, DIGEST) if found == DIGEST else cosines.get((row, other), (None, None))
    return Match((row,), (other,), found, r, channel)


def _unions(query: Fingerprint, relative: Fingerprint, ours: set[int], theirs: set[int]) -> list[Match]:
    """What is left and was put together or cut apart: digests add up (level full)."""
    table, other = query.matrices, relative.matrices
    keys = value_keys(table), value_keys(other)
    rest = [[row for row in np.flatnonzero(side).tolist() if row not in known] for side, known in zip(keys, (ours, theirs), strict=True)]
    if not all(rest) or max(map(len, rest)) > MOST_LEFT:
        return []
    units = units_of(query, rest[0]), units_of(relative, rest[1])
    found: dict[tuple[int, ...], set[int]] = {}
    for mine, their in united(*units):
        rows = tuple(sorted({units[0][number].row for number in mine}))
        found.setdefault(rows, set()).update(units[1][number].row for number in their)
    taken: set[int] = set()
    kept = []
    for rows, others in found.items():
        if taken.isdisjoint(rows):
            taken.update(rows)
            kept.append(Match(rows, tuple(sorted(others)), DIGEST, 1.0, DIGEST))
    return kept


def _renamed(matches: Iterable[Match], ours: Matrices | Vectors, theirs: Matrices | Vectors, copied: bool) -> int:
    """How many bear other names there, though they hold what these hold; in a copy of the same names a layer's number is a name too."""
    exchanged = copied and set(ours.places) == set(theirs.places)
    return sum(
        len(match.ours)
        for match in matches
        if match.found not in (None, NAME, SHAPE)
        and all(_other_name(ours.places[a], theirs.places[b], exchanged) for a in match.ours for b in match.theirs)
    )


def _other_name(ours: Place, theirs: Place, exchanged: bool) -> bool:
    return ours != theirs if exchanged else at_odds(ours, theirs)


def _told(matches: Iterable[Match], ours: Matrices | Vectors, theirs: Matrices | Vectors, sizes: Sequence[int]) -> Iterator[Counterpart]:
    for match in matches:
        yield Counterpart(
            query=TOGETHER.join(name_of(ours.places[row]) for row in match.ours),
            relative=TOGETHER.join(name_of(theirs.places[row]) for row in match.theirs) or None,
            found=match.found,
            r=None if match.r is None else round(match.r, 6),
            channel=match.channel,
            parameters=sum(sizes[row] for row in match.ours),
        )
