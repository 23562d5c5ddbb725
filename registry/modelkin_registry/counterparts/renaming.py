"""One model under the other's names, by the pairs that contents made of their tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from modelkin_indexer.places import NO_LAYER, Place
from modelkin_indexer.results.fingerprint import About, Experts, Fingerprint
from modelkin_registry.counterparts.pairing import Pair, Pairs

Places = tuple[Place, ...]
Role = tuple[str, str]
AGREE = 0.95  # share of the pairs that follow one rule (role by role, layer by layer) from which the rule is what was renamed


def turned(pairs: Pairs) -> Pairs:
    """The same seen from the other side."""
    return Pairs(*(tuple(Pair(p.theirs, p.ours, p.found, p.repeats) for p in side) for side in (pairs.matrices, pairs.vectors)))


def adopt(side: Fingerprint, reference: Fingerprint, pairs: Pairs) -> Fingerprint:
    """`side` (ours in the pairs) under the names of `reference`: role by role where roles were renamed, else tensor by tensor."""
    ways = _by_role if _renames_roles(side, reference, pairs) else _by_tensor
    return ways(side, reference, pairs)


def _renames_roles(side: Fingerprint, reference: Fingerprint, pairs: Pairs) -> bool:
    """Whether layers and roles of the one are layers and roles of the other, under other numbers and words."""
    both = [(side.matrices.places[p.ours], reference.matrices.places[p.theirs]) for p in pairs.matrices]
    layered = [(a, b) for a, b in both if a.layer != NO_LAYER and b.layer != NO_LAYER]
    if sum((a.layer == NO_LAYER) != (b.layer == NO_LAYER) for a, b in both) > (1 - AGREE) * len(both):
        return False
    rules: list[Callable[[Place], tuple[object, ...]]] = [lambda p: (p.component, p.layer), lambda p: (p.component, *p[2:])]
    return all(_follows(pairs_of, rule) for pairs_of, rule in ((layered, rules[0]), (both, rules[1])))


def _follows(both: Sequence[tuple[Place, Place]], rule: Callable[[Place], tuple[object, ...]]) -> bool:
    """Whether what `rule` takes of ours tells what it takes of theirs, and the other way round."""
    counts = Counter((rule(a), rule(b)) for a, b in both)
    for at in (0, 1):
        most: dict[object, int] = {}
        for key, count in counts.items():
            most[key[at]] = max(most.get(key[at], 0), count)
        if sum(most.values()) < AGREE * len(both):
            return False
    return True


# role by role


def _by_role(side: Fingerprint, reference: Fingerprint, pairs: Pairs) -> Fingerprint:
    matrices = _role_map(side.matrices.places, reference.matrices.places, pairs.matrices)
    vectors = _with_owners(_role_map(side.vectors.places, reference.vectors.places, pairs.vectors), matrices)
    return replace(
        side,
        matrices=replace(side.matrices, places=_renamed_roles(side.matrices.places, matrices)),
        vectors=replace(side.vectors, places=_renamed_roles(side.vectors.places, vectors)),
    )


RoleMap = dict[tuple[str, Role], Role]  # (component, (family, role)) -> (family, role)


def _role_map(ours: Places, theirs: Places, pairs: Sequence[Pair]) -> RoleMap:
    """The most voted roles, each of theirs taken once."""
    votes = Counter((ours[p.ours].component, ours[p.ours][2:], theirs[p.theirs].component, theirs[p.theirs][2:]) for p in pairs)
    found: RoleMap = {}
    taken: set[tuple[str, str, Role]] = set()
    for component, role, their_component, their_role in sorted(votes, key=lambda key: (-votes[key], key)):
        if (component, role) not in found and (component, their_component, their_role) not in taken:
            found[component, role] = their_role
            taken.add((component, their_component, their_role))
    return found


def _with_owners(vectors: RoleMap, matrices: RoleMap) -> RoleMap:
    """Biases that nothing paired go with the matrix that they belong to."""
    owners = {(component, ("bias", role[1])): ("bias", their[1]) for (component, role), their in matrices.items()}
    taken = {(component, role) for (component, _), role in vectors.items()}
    return {key: role for key, role in owners.items() if (key[0], role) not in taken} | vectors


def _renamed_roles(places: Places, roles: Mapping[tuple[str, Role], Role]) -> Places:
    targets = {(component, role) for (component, _), role in roles.items()}
    wanted = {}
    for row, place in enumerate(places):
        key = place.component, place[2:]
        if key in roles:
            wanted[row] = Place(place.component, place.layer, *roles[key])
        elif key in targets:
            wanted[row] = _displaced(place)
    return _moved(places, wanted)


# tensor by tensor

Key = tuple[str, int, int]  # component, layer and number of the copy


def _by_tensor(side: Fingerprint, reference: Fingerprint, pairs: Pairs) -> Fingerprint:
    tables = [(side.matrices, reference.matrices, pairs.matrices), (side.vectors, reference.vectors, pairs.vectors)]
    copies = [_copies(theirs.places, chosen) for _, theirs, chosen in tables]
    layers = _numbered({key for found in copies for key, _ in found.values()})
    moved = [_moved(ours.places, _wanted(found, layers)) for (ours, _, _), found in zip(tables, copies, strict=True)]
    return replace(
        side,
        matrices=replace(side.matrices, places=moved[0]),
        vectors=replace(side.vectors, places=moved[1]),
        experts=_moved_experts(side.experts, side.matrices.places, moved[0]),
        about=_about(side, moved[0], moved[1], pairs),
    )


def _copies(theirs: Places, pairs: Sequence[Pair]) -> dict[int, tuple[Key, Place]]:
    """Of each of our rows the place of its counterpart, and which copy of it this is."""
    count: Counter[int] = Counter()
    found = {}
    for pair in sorted(pairs, key=lambda p: (p.theirs, p.repeats, p.ours)):
        place = theirs[pair.theirs]
        found[pair.ours] = (place.component, place.layer, count[pair.theirs]), place
        count[pair.theirs] += 1
    return found


def _numbered(keys: set[Key]) -> dict[Key, int]:
    """Layers counted anew, copies behind their first."""
    layers: dict[Key, int] = {}
    count: Counter[str] = Counter()
    for key in sorted(key for key in keys if key[1] != NO_LAYER):
        layers[key] = count[key[0]]
        count[key[0]] += 1
    return layers


def _wanted(found: Mapping[int, tuple[Key, Place]], layers: Mapping[Key, int]) -> dict[int, Place]:
    return {row: place._replace(layer=layers.get(key, NO_LAYER)) for row, (key, place) in found.items() if key in layers or key[2] == 0}


def _moved(places: Places, wanted: Mapping[int, Place]) -> Places:
    """Places with some rows at others; who held such a place and is not moved itself, steps aside."""
    taken = set(wanted.values())
    return tuple(
        wanted[row] if row in wanted else _displaced(place) if place in taken else place for row, place in enumerate(places)
    )


def _displaced(place: Place) -> Place:
    return place._replace(role=f"{place.role} (as named)")


def _moved_experts(experts: Experts, before: Places, after: Places) -> Experts:
    """Single experts follow the stacks that they are of."""
    layers = {(a.component, a.layer): (b.component, b.layer) for a, b in zip(before, after, strict=True) if a.family == "expert"}
    return replace(experts, places=tuple(Place(*layers.get(p[:2], p[:2]), *p[2:]) for p in experts.places))


def _about(side: Fingerprint, matrices: Places, vectors: Places, pairs: Pairs) -> About:
    """What is known of the model under its new names: its parts, their layers, and how much of it has a known place now."""
    about, table = side.about, side.matrices
    known = int(table.parameters[sorted({pair.ours for pair in pairs.matrices})].sum()) / max(int(table.parameters.sum()), 1)
    layers: dict[str, int] = {}
    for place in (*matrices, *vectors):
        if place.layer != NO_LAYER:
            layers[place.component] = max(layers.get(place.component, 0), place.layer + 1)
    return replace(
        about,
        components=tuple(sorted({place.component for place in (*matrices, *vectors)})),
        layers=dict(sorted(layers.items())),
        coverage=max(about.coverage, round(known, 6)),
        guessed=round(about.guessed * (1 - known), 6),
    )
