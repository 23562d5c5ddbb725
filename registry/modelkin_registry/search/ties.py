"""Which of several leading relatives comes first where their agreement with the query does not tell them apart.

Children of one ancestor differ from it by one change and from one another by two. Of candidates that a query is equally near to, the one in
the middle of the others (their medoid) is thus the likeliest ancestor. Only a tie is decided so, and its error is measured: on the
matrices that both candidates were held against.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

import numpy as np

from modelkin_indexer.places import Place
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.relations import COPIES, is_descent
from modelkin_registry.evidence.families import judge_components
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.evidence.places import SHOWN_AS
from modelkin_registry.relations.pairs import Held, hold

MOST_TIED = 8  # leading relatives that are looked at: at most 28 comparisons, a third of a second
FEWEST_TIED = 3  # two are as far from each other as the other way round
TIED_SD = 1.0  # standard errors of a difference within which it tells nothing
Agreement = dict[Place, tuple[float, float]]  # matrix of the query -> numbers in it, |r| with a candidate


def middle_first(relatives: Sequence[Relative], evident: Iterable[Held], judge: Judge) -> list[Relative]:
    """The same relatives; of those that are as near as the first one behind the query's copies, the one in their middle comes before them.

    `judge` judges candidates among themselves.
    """
    copies = list(takewhile(lambda one: one.relation in COPIES, relatives))
    others = relatives[len(copies) :]
    leading = [one for one in others[:MOST_TIED] if _alike(one, others[0])]
    known = {held.name: held for held in evident}
    if len(leading) < FEWEST_TIED or any(one.model not in known for one in leading):
        return list(relatives)
    first = _agreement(known[leading[0].model])
    tied = [leading[0], *(one for one in leading[1:] if _equal(first, _agreement(known[one.model])))]
    if len(tied) < FEWEST_TIED:
        return list(relatives)
    middle = tied[_medoid([known[one.model] for one in tied], judge)]
    return [*copies, middle, *(one for one in others if one is not middle)]


def _alike(one: Relative, first: Relative) -> bool:
    """Whether nothing but closeness orders these two."""
    same = (one.relation, one.shared_of_all) == (first.relation, first.shared_of_all)
    return same and is_descent(one) and not one.declared


def _agreement(held: Held) -> Agreement:
    """Of each informative matrix of the query that is inherited how far it agrees, in the channel that its family is judged by."""
    found: Agreement = {}
    own = held.common.own_names[0].matrices  # counterparts' names may differ from candidate to candidate
    for pair in (judge_components(measured, held.judge) for measured in held.measured):
        channels: Mapping[str, str] = {f.family: f.channel for f in pair.families if f.inherited and f.informative}
        for place in pair.places:
            if channels.get(SHOWN_AS.get(place.family, place.family)) == place.channel:
                found[own.places[place.query_row]] = float(pair.query.matrices.parameters[place.query_row]), abs(place.cosine)
    return found


def _equal(one: Agreement, other: Agreement) -> bool:
    """Whether two candidates agree with the query as far as each other, within the error that the matrices' own differences show."""
    both = sorted(one.keys() & other.keys())
    if len(both) < 2:
        return False
    differences = np.array([one[place][0] * (one[place][1] - other[place][1]) for place in both])
    error = np.std(differences, ddof=1) * len(both) ** 0.5
    return bool(abs(differences.sum()) <= TIED_SD * error)


def _medoid(tied: Sequence[Held], judge: Judge) -> int:
    """The one that the others are closest to, the earliest of several."""
    near = np.zeros((len(tied), len(tied)))
    for a, one in enumerate(tied):
        for b, other in enumerate(tied[:a]):
            near[a, b] = near[b, a] = hold(one.relative, other.relative, other.name, judge).kin().closeness
    return int(np.argmax(near.sum(axis=1)))
