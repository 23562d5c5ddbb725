"""Several registries as one that is asked: each model once, told with all the registries that have it. Nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from msgspec.structs import replace

from modelkin_indexer.errors import RegistryError, UnknownModel
from modelkin_indexer.results.beside import SourceFile
from modelkin_registry.answers.evidence import HeldBy
from modelkin_registry.joined.beside import JoinedBackgrounds, JoinedClaims, JoinedJournal, JoinedStructures, Senders
from modelkin_registry.joined.names import Names
from modelkin_registry.joined.numbers import Numbers
from modelkin_registry.joined.twins import Twins, twins_of
from modelkin_registry.store.filters import Where
from modelkin_registry.store.protocol import Store
from modelkin_registry.store.records import StoredModel


class JoinedStore:
    """Open registries of one key. Use from the thread that opened them. What is asked is that of `search.questioned.Questioned`."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = tuple(stores)
        self.numbers_among = Numbers(len(stores))
        self.name = " and ".join(store.name for store in stores)
        self.registry_id = " ".join(sorted(store.registry_id for store in stores))
        self.key_name = stores[0].key_name
        self._names = Names(stores, self._is_seen)
        self.claims = JoinedClaims(stores, self._names, self._elsewhere)
        self.structure = JoinedStructures(stores, self.numbers_among)
        self.backgrounds = JoinedBackgrounds(stores)
        self.hub = JoinedJournal(stores, self._standing)
        self._twins: Twins | None = None
        self._of_moment: Twins | None = None  # while everything that is read is of one moment
        self._generation = -1

    def close(self) -> None:
        """Close all of them."""
        for store in self.stores:
            store.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Everything read inside is of one moment of each registry."""
        with ExitStack() as stack:
            for store in self.stores:
                stack.enter_context(store.reading())
            if self._of_moment is None:
                self._of_moment = self.twins
                stack.callback(self._moment_is_over)
            yield

    def _moment_is_over(self) -> None:
        self._of_moment = None

    def generation(self) -> int:
        """A number that grows with every change of any of them."""
        return sum(store.generation() for store in self.stores)

    @property
    def twins(self) -> Twins:
        """What they have in common, looked at anew where one of them has changed."""
        if self._of_moment is not None:
            return self._of_moment
        if self._twins is None or self.generation() != self._generation:
            self._generation = self.generation()
            self._twins = twins_of(self.stores, self.numbers_among)
        return self._twins

    def hidden(self) -> Collection[int]:
        """Revisions that are not looked at, since another registry has the same weights."""
        return self.twins.kept

    # names

    def __contains__(self, name: str) -> bool:
        return bool(self._names.meant(name))

    def names(self) -> list[str]:
        """All models' names, sorted; each model once."""
        every = [store.names() for store in self.stores]
        gone = [set(there) for there in self._elsewhere()]
        counts: dict[str, int] = {}
        for name in (name for names in every for name in names):
            counts[name] = counts.get(name, 0) + 1
        told = (
            self._names.told(place, name, name) if counts[name] > 1 else name
            for place, names in enumerate(every)
            for name in names
            if name not in gone[place]
        )
        return sorted(told)

    def held_by(self, name: str) -> tuple[HeldBy, ...]:
        """The registries that have the weights of a model, and what it is called there. Raises UnknownModel, RegistryError."""
        kept = self.get(name).revision
        places = self.numbers_among.by_place([kept, *self.twins.others.get(kept, ())])
        return tuple(
            HeldBy(self.stores[place].name, own)
            for place, revisions in places.items()
            for own in sorted(self.stores[place].names_of(revisions).values())
        )

    def _is_seen(self, place: int, model: int) -> bool:
        """Whether a model has a revision that is looked at."""
        kept, of = self.twins.kept, self.numbers_among.of
        return any(of(place, revision) not in kept for revision in self.stores[place].revisions_of(model))

    def _standing(self, place: int, revision: int) -> int:
        return self.twins.standing_for(self.numbers_among.of(place, revision))

    def _elsewhere(self) -> list[dict[str, str]]:
        """Of each registry the models that are counted in another one: name there -> name among all."""
        found: list[dict[str, str]] = [{} for _ in self.stores]
        for place, models in self.numbers_among.by_place(self.twins.models).items():
            newest = self.stores[place].newest_of(models)
            named = self.stores[place].names_of(newest.values())
            kept = {name: self._standing(place, revision) for revision, name in named.items()}
            told = self.names_of(kept.values())
            found[place] = {name: told[revision] for name, revision in kept.items() if revision in told}
        return found

    # numbers

    def count(self) -> int:
        """Number of models; what several have is one."""
        return sum(store.count() for store in self.stores) - len(self.twins.models)

    def count_revisions(self) -> int:
        """Number of revisions that are searched; what several have is one."""
        return sum(store.count_revisions() for store in self.stores) - len(self.twins.kept)

    def numbers(self, *, current: bool = False) -> list[int]:
        """The numbers of all revisions that are searched, or of the `current` ones of them alone, ascending."""
        return self._all(lambda store: store.numbers(current=current))

    def outdated(self) -> list[int]:
        """The numbers of revisions whose fingerprints are of another spec, ascending."""
        return self._all(lambda store: store.outdated())

    def matching(self, conditions: Where, *, current: bool = False) -> list[int]:
        """The revisions that meet the conditions in any of the registries that have them, ascending."""
        return self._all(lambda store: store.matching(conditions, current=current), stand_in=True)

    def models_of_files(self, files: Sequence[SourceFile]) -> list[int]:
        """Revisions that were read here from files of these names, sizes and digests."""
        return self._all(lambda store: store.models_of_files(files), stand_in=True)

    def current_of(self, names: Iterable[str]) -> list[int]:
        """Numbers of the current revisions of the models that have these present names, ascending."""
        meant = [one for name in names for one in self._names.meant(name)]
        return sorted({self._standing(place, number) for place, own in meant for number in self.stores[place].current_of([own])})

    def revisions_of(self, model: int) -> list[int]:
        """Numbers of a model's revisions, oldest first; where another registry has the same weights, those there."""
        place, own = self.numbers_among.apart(model)
        return [self._standing(place, revision) for revision in self.stores[place].revisions_of(own)]

    def models_of(self, revisions: Iterable[int]) -> dict[int, int]:
        """The models that revisions are of, by number."""
        return self._each(revisions, lambda place, own: self.stores[place].models_of(own), self.numbers_among.of)

    def names_of(self, revisions: Iterable[int]) -> dict[int, str]:
        """Names by number; numbers of removed ones are left out."""
        return {number: stored.name for number, stored in self.stored(revisions).items()}

    def _all(self, ask: Callable[[Store], Iterable[int]], *, stand_in: bool = False) -> list[int]:
        """What all of them give; of what another registry has too the revision that is looked at, or without `stand_in` nothing."""
        twins, of = self.twins, self.numbers_among.of
        every = (of(place, number) for place, store in enumerate(self.stores) for number in ask(store))
        return sorted({twins.standing_for(number) for number in every} if stand_in else {one for one in every if one not in twins.kept})

    def _each(
        self, revisions: Iterable[int], ask: Callable[[int, list[int]], Mapping[int, Any]], told: Callable[[int, Any], Any]
    ) -> dict[int, Any]:
        by_place = self.numbers_among.by_place(revisions)
        found = {place: ask(place, own) for place, own in by_place.items()}
        return {self.numbers_among.of(place, one): told(place, value) for place, values in found.items() for one, value in values.items()}

    # fingerprints, and everything known

    def get(self, name: str) -> StoredModel:
        """The fingerprint that stands for a model or a revision, by its name.

        Raises:
            UnknownModel: no registry has it.
            RegistryError: several have, with different weights; or it is damaged.
        """
        meant = self._names.meant(name)
        found = {self._standing(place, self.stores[place].get(own).revision) for place, own in meant}
        if not found:
            raise UnknownModel(f"no model {name!r} in {self.name}. `modelkin list --registry PLACE` shows the names of one of them.")
        stored = self.stored(found)
        if len(stored) > 1:
            places = " and ".join(self.stores[place].name for place, _ in meant)
            told = " or ".join(repr(one.name) for one in stored.values())
            raise RegistryError(f"{name!r} is in {places}, with different weights. Say which: {told}.")
        return next(iter(stored.values()))

    def stored(self, revisions: Iterable[int]) -> dict[int, StoredModel]:
        """The fingerprints that stand for these revisions; removed ones are left out. Raises RegistryError if one is damaged."""
        return self._each(revisions, lambda place, own: self.stores[place].stored(own), self._told)

    def _told(self, place: int, stored: StoredModel) -> StoredModel:
        of, told = self.numbers_among.of, self._names.told
        return replace(
            stored,
            model_id=of(place, stored.model_id),
            model=told(place, stored.model, stored.model),
            name=told(place, stored.model, stored.name),
            revision=of(place, stored.revision),
            fingerprint=of(place, stored.fingerprint),
        )

    def senders(self) -> Mapping[str, str]:
        """The imported models, by present name, each with the file that brought it."""
        return Senders(self.stores, self._names)

    def show(self, name: str) -> dict[str, Any]:
        """Everything known of a model except vectors, where it is looked at; what is claimed of it in any registry. Raises UnknownModel."""
        told = self.get(name)
        first, *others = [
            self.stores[place].show(own)
            for place, revisions in self.numbers_among.by_place([told.revision, *self.twins.others.get(told.revision, ())]).items()
            for own in sorted(self.stores[place].names_of(revisions).values())
        ]
        claims = {(one["kind"], one["value"], one["source"]): one for shown in (*reversed(others), first) for one in shown["claims"]}
        return {**first, "model": told.name, "claims": list(claims.values())}
