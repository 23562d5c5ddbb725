"""Models with several parents: weighted merges, and composites whose components or families come from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
from msgspec import Struct

from modelkin_registry.batches.layouts import layout_of
from modelkin_registry.merging.decomposition import Decomposition, find_merge
from modelkin_registry.trees.directions import STRONG, Hint
from modelkin_registry.trees.forests import Kinship
from modelkin_registry.trees.pairs.links import Link, Part
from modelkin_registry.trees.pairs.measurer import Measurer

# Share of the squared distance to its nearest parent that a merge must explain: exact merges reach 1, while a base is explained by the mean
# of k of its children up to 1 - 1/k, 0.67 for the three that are tried.
MERGE_GAIN = 0.9
LARGEST_WEIGHT = 1.0  # of models on one line or plane each is a mix of the others; the merge is the one whose weights all stay below 1
AS_CLOSE = 0.001  # difference of closeness below which one donor of a part is as good as another, so that the middle one stands for them
PARENTS_TRIED = 12  # nearest different models that may be parents
NEAREST_TRIED = 24  # nearest models from which these are chosen: each of them is held against the others
FARTHER = 2.0  # times the nearest model's distance that the nearest possible parent has at most, where the nearest shares parts alone
RIDGE = 1e-9  # of the squares: keeps a fit of equal parents solvable
SAME_PARENT = 0.2  # share of the distance to a model below which two possible parents are one: a copy or light fine-tune of the other


class Parts(Struct, frozen=True):
    """A link of parts, not of whole models, as one model sees it: the (component, family) pairs that it explains there."""

    link: Link
    whole: str
    covers: frozenset[Part]


def merge_of(name: str, links: Sequence[Link], measured: Measurer, kin: Kinship) -> Decomposition | None:
    """The weighted merge that a model is, among its linked models; None unless it explains nearly all that the nearest one leaves."""
    links = sorted((link for link in links if not link.is_moved), key=lambda link: (link.distance, link.other(name)))[:NEAREST_TRIED]
    if len(links) < 2 or (left := _least_left(name, links, measured)) > (1 - MERGE_GAIN) * (FARTHER * links[0].distance) ** 2:
        return None
    if left > (1 - MERGE_GAIN) * _reach(name, links, measured, kin) ** 2:
        return None
    measured.screen(combinations([link.other(name) for link in links], 2))
    chosen = _different(name, links, kin)
    while parts := [link for link in chosen if not link.is_whole]:
        links = [link for link in links if link not in parts]
        chosen = _different(name, links, kin)
    parents = {link.other(name): measured.fingerprint(link.other(name)) for link in chosen}
    while len(parents) > 1:
        blend = find_merge(measured.fingerprint(name), parents)
        if blend is None:
            return None
        weight, largest = max(zip(blend.weights, blend.names, strict=True))
        if weight < LARGEST_WEIGHT:
            nearest = min(link.distance for link in chosen)
            return blend if blend.residual**2 <= (1 - MERGE_GAIN) * nearest**2 else None
        del parents[largest]
    return None


def _reach(name: str, links: Sequence[Link], measured: Measurer, kin: Kinship) -> float:
    """The distance that the nearest possible parent has at most: that of the nearest whole model, or of one that may stand for it.

    Those that `_different` may take instead are nearly the same as it, or as one that may. Infinite where it is not among the first.
    """
    first = next((at for at, link in enumerate(links[:PARENTS_TRIED]) if link.is_whole), None)
    if first is None:
        return math.inf
    stands, others = [*links[: first + 1]], [*links[first + 1 :]]
    for one in stands:  # grows
        measured.screen((one.other(name), link.other(name)) for link in others)
        same = [link for link in others if kin.distance(link.other(name), one.other(name)) <= SAME_PARENT * link.distance]
        others = [link for link in others if link not in same]
        stands += same
    return max(link.distance for link in stands)


def _different(name: str, links: Sequence[Link], kin: Kinship) -> list[Link]:
    """Of links, the nearest first, those to possible parents; one of those that are nearly the same model, the middle one."""
    chosen: list[Link] = []
    for link in links:
        same = [c for c in chosen if kin.distance(link.other(name), c.other(name)) <= SAME_PARENT * link.distance]
        if not same:
            chosen.append(link)
        elif kin.is_nearer_to_all(link.other(name), same[0].other(name)):
            chosen[chosen.index(same[0])] = link
    return chosen[:PARENTS_TRIED]


def _least_left(name: str, links: Sequence[Link], measured: Measurer) -> float:
    """Share of a model's squares that all of these leave together, with free coefficients in every matrix; 0 where that is not known.

    No set of parents among them and no way of merging leaves less. Known of models of one layout; others have to be fitted.
    """
    query, parents = measured.fingerprint(name), [measured.fingerprint(link.other(name)) for link in links]
    tables = [model.matrices for model in (query, *parents)]
    if any(layout_of(parent) is not layout_of(query) for parent in parents) or not all((table.scale > 0).all() for table in tables):
        return 0.0
    size = query.matrices.scale.astype(np.float64)
    values = np.stack([table.sketches["probe"][0].astype(np.float64) * (table.scale / size)[:, None] for table in tables], axis=1)
    products = values @ values.transpose(0, 2, 1)
    own, across, square = products[:, 1:, 1:], products[:, 1:, 0], products[:, 0, 0]
    ridge = RIDGE * np.trace(own, axis1=1, axis2=2)[:, None, None] * np.eye(len(parents))
    explained = np.einsum("pi,pi->p", across, np.linalg.solve(own + ridge, across[:, :, None])[:, :, 0])
    return float(np.mean(np.maximum(square - explained, 0.0)))


def merges_among(whole: Mapping[str, Sequence[Link]], measured: Measurer, kin: Kinship) -> dict[str, Decomposition]:
    """Merges by name. Models on one line are mixes of each other, so parents that are no mix themselves are tried again alone."""
    found: dict[str, Decomposition] = {}
    tried: dict[str, int] = {}  # among how many links
    for _ in range(2):
        for name, links in sorted(whole.items()):
            plain = [link for link in links if link.other(name) not in found]
            if (name not in found and tried.get(name) != len(plain)) or (name in found and not found.keys().isdisjoint(found[name].names)):
                tried[name] = len(plain)
                blend = merge_of(name, plain, measured, kin)
                found |= {name: blend} if blend is not None else {}
    return found


def may_come_whole(name: str, links: Iterable[Link], own: frozenset[Part]) -> list[Link]:
    """The links by which a model may have come from another with all of its parts, the nearest first."""
    return sorted((link for link in links if link.may_be_whole and link.may_parts(name) >= own), key=lambda link: link.weight)


def comes_whole(name: str, links: Iterable[Link], own: frozenset[Part]) -> bool:
    """Whether a model may have come from another with all of its parts."""
    return any(link.is_whole and link.parts(name) >= own for link in may_come_whole(name, links, own))


def composites(
    links: Mapping[str, Sequence[Link]], own: Callable[[str], frozenset[Part]], linked: Callable[[str, str], bool], kin: Kinship
) -> set[str]:
    """Of models that did not come whole those that are put together from several that share nothing, and hold nothing else."""
    found = set()
    for name, around in links.items():
        donors = part_links(name, frozenset(), around, kin)
        covered: frozenset[Part] = frozenset().union(*(p.covers for p in donors))
        if covered >= own(name) and composite_hints(name, [p.link.other(name) for p in donors], linked):
            found.add(name)
    return found


def part_links(
    name: str, covered: frozenset[Part], links: Iterable[Link], kin: Kinship, stands: Callable[[Link], bool] = lambda link: True
) -> list[Parts]:
    """The fewest nearest links that explain further parts of a model, beyond those that its place in the tree explains.

    `stands` says of a link that may explain some whether it counts.
    """
    waiting = [(link, link.parts(name)) for link in links if link.may_parts(name) - covered and stands(link)]
    found: list[Parts] = []
    while True:
        new = [(len(parts - covered), link.closeness, link) for link, parts in waiting]
        count, closeness, best = min(new, key=lambda item: (-item[0], -item[1], item[2].a, item[2].b), default=(0, 0.0, None))
        if not count or best is None:
            return found
        for alike in (link for number, close, link in new if number == count and close >= closeness - AS_CLOSE):
            best = alike if kin.is_nearer_to_all(alike.other(name), best.other(name)) else best
        found.append(Parts(best, name, best.parts(name) - covered))
        covered |= best.parts(name)


def composite_hints(name: str, donors: Sequence[str], linked: Callable[[str, str], bool]) -> list[Hint]:
    """A model whose parts come from models that share nothing with each other was put together from them."""
    strangers = {donor for pair in combinations(sorted(donors), 2) if not linked(*pair) for donor in pair}
    reason = "its parts come from several models that share nothing with each other"
    return [Hint(donor, name, STRONG, reason) for donor in donors if donor in strangers]
