"""What is said of the whole model: from digests of all that it holds, else from its components, their sizes and what was compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from modelkin_indexer.places import Place
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.results.once import once
from modelkin_registry.answers.parts import Part
from modelkin_registry.answers.relations import COPIES, RELATIONS
from modelkin_registry.counterparts.copying.copies import Copy
from modelkin_registry.evidence.places import ComponentPair, is_informative
from modelkin_registry.relations.decisions import OTHER_PARTS, Relation
from modelkin_registry.relations.deltas import whole_copy

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
KNOWN_LAYOUTS = 256  # lists of places whose components are remembered: models of one architecture share theirs
Found = Sequence[tuple[ComponentPair, Relation]]
CUT_OUT = {
    "layers rearranged",
    "upcycled",
}  # what the parts say of a copy that lacks layers or experts tells more than that it is contained
LEAST_COMPARED = 0.5  # share of the query's informative numbers that must have been compared before anything is said of the whole


@once
def informative_sizes(model: Fingerprint) -> Mapping[str, int]:
    """Informative parameters by component; of a model without any, all that it holds."""
    sizes = dict.fromkeys(model.about.components, 0)
    for component, (rows, informative) in _rows_by_component(model.matrices.places).items():
        sizes[component] = int(model.matrices.parameters[rows[informative]].sum())
    if any(sizes.values()):
        return sizes
    everything = Counter(sizes)
    for places, numbers in ((model.matrices.places, model.matrices.parameters), (model.vectors.places, model.vectors.length)):
        for component, (rows, _) in _rows_by_component(places).items():
            everything[component] += int(numbers[rows].astype(np.int64).sum())
    return dict(everything)


@lru_cache(maxsize=KNOWN_LAYOUTS)
def _rows_by_component(places: tuple[Place, ...]) -> dict[str, tuple[Ints, Bools]]:
    """Where each component stands in a table with these places, and which of its rows are informative."""
    rows: dict[str, list[int]] = {}
    for row, place in enumerate(places):
        rows.setdefault(place.component, []).append(row)
    telling = np.array([is_informative(place) for place in places], np.bool_)
    return {component: (np.array(found), telling[found]) for component, found in rows.items()}


def best_found(found: Found) -> dict[str, tuple[ComponentPair, Relation]]:
    """Of each component of the query the counterpart that tells most."""
    ranked = sorted(found, key=lambda one: (RELATIONS[one[1].name].rank, one[0].inherited_parameters, one[0].comparable_parameters))
    return {pair.query.component: (pair, relation) for pair, relation in ranked}


def copied_relation(copy: Copy | None, otherwise: Callable[[], Relation]) -> Relation | None:
    """The relation of a model whose every number is the relative's; None of one that holds others as well.

    Where the relative is mostly something else, or has layers more, its parts have to show descent too (`otherwise`), and nothing that says
    what was left out.
    """
    if copy is None or copy.whole:
        return copy_relation(copy) if copy is not None else None
    relation = otherwise()
    return copy_relation(copy) if relation.is_descent and CUT_OUT.isdisjoint((relation.name, *relation.also)) else None


def copy_relation(copy: Copy) -> Relation:
    """What a model is whose every number is the relative's: as they are, however laid out; in other number formats, or in another order."""
    return Relation("reparameterised" if copy.reordered else "identical" if copy.exact or copy.same_types else "recast")


def parts_of(found: Found, query: Fingerprint, *, copied: str) -> tuple[Part, ...]:
    """Every component of the query, the largest first. `copied`: the relation of a whole that is known to hold the same numbers."""
    sizes, best = informative_sizes(query), best_found(found)
    total = sum(sizes.values()) or 1
    parts = []
    for name, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        pair, relation = best.get(name, (None, Relation("not comparable")))
        if copied:
            parts.append(Part(name, round(size / total, 4), copied, pair.relative.component if pair else None, 1.0, 1.0))
        elif pair is None or relation.name == "not comparable" or not size:
            parts.append(Part(name, round(size / total, 4), None, None, 0.0, 0.0))
        else:
            shared = pair.inherited_parameters if relation.is_descent else 0
            compared = min(1.0, pair.comparable_parameters / size)
            parts.append(
                Part(
                    name,
                    round(size / total, 4),
                    relation.name,
                    pair.relative.component,
                    round(compared, 4),
                    round(min(1.0, shared / size), 4),
                )
            )
    return tuple(parts)


def copied_throughout(found: Found, query: Fingerprint) -> Found:
    """The same with every part as the copy that it is, where all of them are: one that hardly left its random start is none by itself."""
    best = best_found(found)
    started = {name: pair for name, (pair, one) in best.items() if one.name == "shared initialisation"}
    copies = {name: whole_copy(pair) for name, pair in started.items()}
    whole = best.keys() >= informative_sizes(query).keys() and len(best) > 1
    if whole and all(copies.values()) and all(one.name in COPIES for name, (_, one) in best.items() if name not in copies):
        found = [(pair, Relation(copies[pair.query.component]) if pair in started.values() else one) for pair, one in found]
    return [(_shared_whole(pair) if one.name in COPIES else pair, one) for pair, one in found]


def _shared_whole(pair: ComponentPair) -> ComponentPair:
    """A component that is a copy with all that is compared as shared: of small layers of few matrices a layer map may find none."""
    known, every = pair.inherited_parameters, pair.comparable_parameters
    return replace(pair, inherited_parameters=every, inherited_weight=pair.inherited_weight * every / known if known else 1.0)


def model_relation(found: Found, query: Fingerprint) -> Relation:
    """The relation of the whole: of the part that changed most if every part came over, else that parts did."""
    best, sizes = best_found(found), informative_sizes(query)
    if not best:
        return Relation("not comparable")
    kin = {name: one for name, one in best.items() if one[1].is_descent}
    if not kin:
        return max((relation for _, relation in best.values()), key=lambda relation: RELATIONS[relation.name].rank)
    total = sum(sizes.values())
    relation = _most_changed(kin, sizes, total)
    foreign = sum(size for name, size in sizes.items() if name not in kin)
    compared = sum(pair.comparable_parameters for pair, _ in best.values())
    if foreign > (0 if relation.name in COPIES else OTHER_PARTS * total) or compared < LEAST_COMPARED * total:
        lone = len(sizes) == 1
        return Relation("transplanted" if lone else "component reused", tuple(dict.fromkeys((relation.name, *relation.also))))
    return relation


def _most_changed(kin: dict[str, tuple[ComponentPair, Relation]], sizes: Mapping[str, int], total: int) -> Relation:
    """Of parts that came over: what was done to those that are not copies, the largest first; to a copy nothing."""
    ordered = [relation for _, (_, relation) in sorted(kin.items(), key=lambda item: (-sizes.get(item[0], 0), item[0]))]
    changed = [relation for relation in ordered if relation.name not in COPIES]
    first = changed[0] if changed else next((relation for relation in ordered if relation.name == "recast"), ordered[0])
    further = [name for relation in ordered for name in (relation.name, *relation.also) if name not in (first.name, *COPIES)]
    return Relation(first.name, tuple(dict.fromkeys((*first.also, *further))))
