"""Several registries asked as one, as if one registry had the models of all: relatives ranked together, chance reckoned for all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from msgspec.structs import replace

from modelkin_indexer import spec
from modelkin_indexer.errors import RegistryError
from modelkin_registry.answers.asked import SHOWN, DecomposeAnswer, OneOfSeveral, QueryAnswer, Searched
from modelkin_registry.answers.evidence import HeldBy
from modelkin_registry.joined.index import JoinedIndex
from modelkin_registry.joined.store import JoinedStore
from modelkin_registry.questions import Questions
from modelkin_registry.registry import Registry
from modelkin_registry.store.address import is_same

CALIBRATED = (
    "Not all of these registries measured the same on their own strangers: evidence is judged by the widest of what each of them would "
    "judge by."
)


class Joined(Questions):
    """Open registries asked as one; the order in which they are given does not matter. Use from the thread that opened them."""

    store: JoinedStore

    def __init__(self, registries: Sequence[Registry]) -> None:
        """Raises RegistryError where one was given twice, they are of different keys, or one has nothing that can be searched."""
        registries = sorted(registries, key=lambda one: (one.store.name, one.store.registry_id))
        _require_askable(registries)
        store = JoinedStore([one.store for one in registries])
        index = JoinedIndex([one.index for one in registries], store.numbers_among, store.hidden, store.models_of)
        super().__init__(store, index, store.backgrounds.used(), [one.place for one in store.stores])

    def told(self, answer: QueryAnswer) -> QueryAnswer:
        """The answer with the registries that were asked, and those that have each relative."""
        with self.store.reading():
            places = {one.model: one.held_by or self.store.held_by(one.model) for one in answer.relatives}
        relatives = tuple(replace(one, held_by=places[one.model]) for one in answer.relatives)
        words = [_sentence(self._asked(), {name: places[name] for name in [*places][:SHOWN]})]
        warnings = [CALIBRATED] if self.backgrounds and CALIBRATED not in answer.warnings else []
        return replace(
            answer,
            registry=self._searched(answer.registry),
            relatives=relatives,
            explanation=(*answer.explanation[:1], *words, *answer.explanation[1:]),
            warnings=(*answer.warnings, *warnings),
        )

    def told_merge(self, answer: DecomposeAnswer) -> DecomposeAnswer:
        """The same of a merge taken apart."""
        if answer.registry is None:
            return answer
        parents = [parent.model for merge in (answer.merge or answer.fit,) if merge is not None for parent in merge.parents]
        with self.store.reading():
            words = _sentence(self._asked(), {name: self.store.held_by(name) for name in parents})
        explanation = (*answer.explanation[:1], words, *answer.explanation[1:])
        return replace(answer, registry=self._searched(answer.registry), explanation=explanation)

    def _searched(self, all_of_them: Searched) -> Searched:
        return replace(all_of_them, registries=self._asked())

    def _asked(self) -> tuple[OneOfSeveral, ...]:
        return tuple(OneOfSeveral(store.name, store.count(), store.backgrounds.told()) for store in self.store.stores)


def _require_askable(registries: Sequence[Registry]) -> None:
    for one, other in combinations([registry.store for registry in registries], 2):
        if is_same(one.place, other.place):
            raise RegistryError(f"{other.name}: was given twice. Give each registry once.")
        if one.key_name != other.key_name:
            raise RegistryError(
                f"{one.name} is of key {one.key_name!r} and {other.name} of {other.key_name!r}: under different keys nothing can be "
                f"compared. Ask them one by one, or make one anew under the other's key with `modelkin refresh`."
            )
    for store in (registry.store for registry in registries):
        if store.count() and not store.count_revisions():
            raise RegistryError(
                f"{store.name}: all its fingerprints are of an older spec and cannot be compared with those of spec {spec.VERSION!r}. "
                f"Make them anew with `modelkin upgrade --registry {store.name}`, or leave it out."
            )


def _sentence(asked: Sequence[OneOfSeveral], places: dict[str, tuple[HeldBy, ...]]) -> str:
    """How many registries were asked, and where each model is."""
    listed = [f"{name} is in {_places(name, held)}" for name, held in places.items()]
    said = f"{len(asked)} registries were asked as one ({', '.join(one.name for one in asked)})"
    return f"{said}: {'; '.join(listed)}." if listed else f"{said}."


def _places(name: str, held: Sequence[HeldBy]) -> str:
    marked = [one.registry + ("" if one.model == name or name.startswith(f"{one.model} [") else f" as {one.model}") for one in held]
    return " and ".join(marked)
