"""Whether a common start rests on one or few matrices, where all else that was compared shows nothing: then only that may be said.

A table that anybody computes by a formula that the indexer does not know, a start that hardly moved in one place, a part that one took from
the other: all of them leave it, and no figure tells them apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelkin_indexer.places import name_of
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.parts import Lone
from modelkin_registry.counterparts.copying.alike import contents_of, told_once
from modelkin_registry.evidence.alignment import CHANNEL_R
from modelkin_registry.evidence.nulls import two_sided_p
from modelkin_registry.evidence.places import FURTHER_P, ComponentPair, PlaceCosine
from modelkin_registry.evidence.standing import STRONG_R
from modelkin_registry.relations.descent import kept_places

FEW = 3  # different matrices up to which they are named one by one, if they are fewer than half of those compared; a single one in any case


def lone_matrices(pairs: Sequence[ComponentPair], named: Fingerprint, total: int) -> tuple[Lone, ...]:
    """The few matrices that these components' common start rests on; none where it rests on more. `total`: the query's parameters.

    `named` is the query under its own names.
    """
    found = [_lone(pair) for pair in pairs]
    if not all(found):
        return ()
    return tuple(_told(pair, place, named, total) for pair, places in zip(pairs, found, strict=True) for place in places)


def _lone(pair: ComponentPair) -> list[PlaceCosine]:
    """The first place of each matrix that agrees by itself, if they are few and the others together show nothing."""
    if pair.changes_only:
        return []
    table, kept = pair.query.matrices, kept_places(pair)
    strong = {p.query_row: p for p in kept if _p_value([p]) <= FURTHER_P and abs(p.cosine) >= STRONG_R}
    rest = [p for p in pair.places if p.channel == "probe" and p.query_row not in strong]
    once = told_once(table, strong)
    compared = told_once(table, {*strong, *(p.query_row for p in rest)})
    if not once or (len(once) > 1 and (len(once) > FEW or 2 * len(once) >= len(compared))):
        return []
    elsewhere = any(f.informative and f.inherited and f.channel != "probe" for f in pair.families)
    if elsewhere or (rest and (_p_value(rest) <= FURTHER_P or _mean(rest) >= CHANNEL_R["probe"])):
        return []
    return [strong[row] for row in once]


def _p_value(places: Sequence[PlaceCosine]) -> float:
    """Of so much agreement of all of them together, by Stouffer's sum of z."""
    return two_sided_p(sum((p.cosine - p.null.mean) / p.null.sd for p in places) / math.sqrt(len(places)))


def _mean(places: Sequence[PlaceCosine]) -> float:
    """Mean |r|: where a model's own layers resemble each other, none stands out from the others, and yet they agree."""
    return sum(abs(p.cosine) for p in places) / len(places)


def _told(pair: ComponentPair, place: PlaceCosine, named: Fingerprint, total: int) -> Lone:
    table = pair.query.matrices
    held = contents_of(table, place.query_row)
    rows = [row for row, p in enumerate(table.places) if p.component == pair.query.component and contents_of(table, row) == held]
    share = int(table.parameters[rows].sum()) / max(total, 1)
    return Lone(name_of(named.matrices.places[place.query_row]), len(rows), round(abs(place.cosine), 4), round(min(share, 1.0), 4))
