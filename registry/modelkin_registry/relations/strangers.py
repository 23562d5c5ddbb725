"""How far a registry's own strangers spread about a query, where that is more than unrelated models do elsewhere.

Strangers may share something with a query that no shipped background knows; evidence has to exceed it then. Models that were planted to
look a little like the query would hide its relatives in this way. But what unrelated models share, they share with one another too: a
likeness to the query counts no further than the strangers are like each other, one of each lineage.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.relations import has_evidence
from modelkin_registry.evidence.judge import Judge, Strangers
from modelkin_registry.evidence.nulls import FEWEST_STRANGERS, median, strangers_spread
from modelkin_registry.evidence.places import INFORMATIVE
from modelkin_registry.relations.pairs import Kin, hold

Key = tuple[str, str]  # family and channel
WIDER = 1.5  # times the null's own spread from which a background counts as wider; below, it is what chance makes of few strangers
MOST_LINEAGES = 10  # strangers held against one another: 45 pairs, half a second
MOST_READ = 30  # strangers read to find these


class Background(Struct, frozen=True):
    """`spread` by family and channel; `wider`: informative families in which strangers resemble each other more than elsewhere.

    `strangers`: how many could be compared in the family that most of them have; of fewer than FEWEST_STRANGERS nothing is measured.
    """

    spread: Strangers
    wider: tuple[str, ...] = ()
    strangers: int = 0

    @property
    def note(self) -> str:
        """What an answer says of it, or ""."""
        if not self.wider:
            return ""
        return (
            f"Unrelated models of this registry resemble the query, and each other, more than elsewhere ({', '.join(self.wider)}): "
            "evidence was judged against what they show."
        )

    @property
    def note_on_few(self) -> str:
        """What an answer says where too few strangers were asked to tell what they show of the query, or ""."""
        if self.strangers >= FEWEST_STRANGERS:
            return ""
        count = f"{self.strangers or 'none'} {'is' if self.strangers == 1 else 'are'}"
        return (
            f"Of the models asked {count} unrelated and comparable: what strangers show of this very query is measured on "
            f"{FEWEST_STRANGERS} or more, so evidence was judged by the background of other models alone. A question to the whole registry "
            "is judged by both."
        )


def own_strangers(kin: Iterable[Kin]) -> tuple[dict[Key, float], dict[Key, float]]:
    """What those without evidence, the nearest, show of a query: the spread of r about its null, and the null's own spread."""
    values, nulls = _shown(one.relative for one in kin)
    return {key: strangers_spread(found) for key, found in values.items()}, {key: median(found) for key, found in nulls.items()}


def _shown(relatives: Iterable[Relative]) -> tuple[Mapping[Key, list[float]], Mapping[Key, list[float]]]:
    values: dict[Key, list[float]] = defaultdict(list)
    nulls: dict[Key, list[float]] = defaultdict(list)
    for relative in relatives:
        if relative.relation == "unrelated":
            for family in (f for c in relative.components for f in c.families):
                if family.r is not None and family.null_mean is not None and family.null_sd is not None:
                    values[family.family, family.channel].append(family.r - family.null_mean)
                    nulls[family.family, family.channel].append(family.null_sd)
    return values, nulls


def background(kin: Sequence[Kin], strangers: Iterable[Fingerprint], judge: Judge) -> Background:
    """The background of a query. `strangers` are the fingerprints of those without evidence; they are read only where it matters."""
    spread, nulls = own_strangers(kin)
    count = max(map(len, _shown(one.relative for one in kin)[0].values()), default=0)
    wide = {key for key, value in spread.items() if value > WIDER * nulls[key]}
    if not wide:
        return Background(spread, strangers=count)
    alike = among(strangers, judge)
    spread |= {key: max(WIDER * nulls[key], min(spread[key], alike.get(key, 0.0))) for key in wide}
    still = {family for family, channel in wide if family in INFORMATIVE and spread[family, channel] > WIDER * nulls[family, channel]}
    return Background(spread, tuple(sorted(still)), count)


def among(models: Iterable[Fingerprint], judge: Judge) -> dict[Key, float]:
    """What strangers show of one another. Models with evidence between them are one lineage, of which the first counts."""
    kept: list[Fingerprint] = []
    pairs: list[Relative] = []
    for _, model in zip(range(MOST_READ), models, strict=False):
        found = [hold(model, other, "", judge).kin().relative for other in kept]
        if not any(has_evidence(one) for one in found):
            kept.append(model)
            pairs += found
        if len(kept) == MOST_LINEAGES:
            break
    values, _ = _shown(pairs)
    return {key: strangers_spread(found) for key, found in values.items()}
