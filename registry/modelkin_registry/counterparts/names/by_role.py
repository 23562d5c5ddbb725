"""A model whose roles are another's under other words: renamed role by role, its layers keep their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from modelkin_indexer.places import Place
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.counterparts.moving import Places, displaced, moved
from modelkin_registry.counterparts.pairing import Pair, Pairs

Role = tuple[str, str]


def by_role(side: Fingerprint, reference: Fingerprint, pairs: Pairs) -> Fingerprint:
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
            wanted[row] = displaced(place)
    return moved(places, wanted)
