"""The same weights in several registries: one model, which is looked at and counted once, in the first of those that have it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from modelkin_registry.joined.numbers import Numbers
from modelkin_registry.store.protocol import Store


class Twins(Struct, frozen=True):
    """`kept`: a revision that is not looked at -> the one of the same weights that is; `others`: the other way round; `models` that are
    not counted, since their current weights are those of a model in another registry. All numbers are those among all registries."""

    kept: Mapping[int, int] = field(default_factory=dict)
    others: Mapping[int, Sequence[int]] = field(default_factory=dict)
    models: frozenset[int] = frozenset()

    def standing_for(self, revision: int) -> int:
        """The revision that is looked at for this one."""
        return self.kept.get(revision, revision)


def twins_of(stores: Sequence[Store], numbers: Numbers) -> Twins:
    """What these registries have in common, by the digests of weights. Weights that were read only in part are nobody's twins.

    Of a registry with others much smaller than it only what those have is looked up.
    """
    found = _contents(stores)
    places: dict[str, set[int]] = defaultdict(set)
    for place, contents in enumerate(found):
        for content in contents.values():
            places[content].add(place)
    common = {content for content, at in places.items() if len(at) > 1}
    held: dict[str, dict[int, list[int]]] = defaultdict(dict)
    for place, contents in enumerate(found):
        some = {revision: content for revision, content in contents.items() if content in common}
        in_part = stores[place].in_part(some) if some else set()
        for revision in sorted(some.keys() - in_part):
            held[some[revision]].setdefault(place, []).append(numbers.of(place, revision))
    kept: dict[int, int] = {}
    others: dict[int, Sequence[int]] = {}
    for by_place in held.values():
        first, *rest = (by_place[place] for place in sorted(by_place))
        hidden = [revision for revisions in rest for revision in revisions]
        if hidden:
            kept |= dict.fromkeys(hidden, first[0])
            others |= dict.fromkeys(first, tuple(hidden))
    return Twins(kept, others, _models(stores, numbers, kept))


def _contents(stores: Sequence[Store]) -> list[dict[int, str]]:
    """Of each registry its contents; of the largest those alone that another one has."""
    largest = max(range(len(stores)), key=lambda place: (stores[place].count_revisions(), place))
    found = [{} if place == largest else store.contents() for place, store in enumerate(stores)]
    found[largest] = stores[largest].contents({content for contents in found for content in contents.values()})
    return found


def _models(stores: Sequence[Store], numbers: Numbers, kept: Mapping[int, int]) -> frozenset[int]:
    found: set[int] = set()
    for place, revisions in numbers.by_place(kept).items():
        hidden, models = set(revisions), set(stores[place].models_of(revisions).values())
        newest = stores[place].newest_of(models)
        found |= {numbers.of(place, model) for model, revision in newest.items() if revision in hidden}
    return frozenset(found)
