"""What lies beside the weights in several registries: claims, structure, what was measured on strangers, what came from the Hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from modelkin_data import backgrounds as shipped
from modelkin_indexer.results.beside import StructurePart
from modelkin_registry.answers.asked import Calibrated
from modelkin_registry.evidence.judge import Strangers
from modelkin_registry.joined.names import Names
from modelkin_registry.joined.numbers import Numbers
from modelkin_registry.store.protocol import Store


class JoinedClaims:
    """Whom names mean. `elsewhere` tells of each registry the models whose weights an earlier one has: name there -> name among all."""

    def __init__(self, stores: Sequence[Store], names: Names, elsewhere: Callable[[], Sequence[Mapping[str, str]]]) -> None:
        self._stores, self._names, self._elsewhere = stores, names, elsewhere

    def aliases(self, texts: Sequence[str] = ()) -> tuple[dict[str, str], dict[str, str]]:
        """As of one registry. A name that two registries give to different models means that of the first of them."""
        every = [store.claims.aliases(texts) for store in self._stores]
        found: tuple[dict[str, str], dict[str, str]] = {}, {}
        for place, (told, elsewhere) in enumerate(zip(every, self._elsewhere(), strict=True)):
            others = [names for other, both in enumerate(every) if other != place for names in both]
            for kind, aliases in enumerate(told):
                for name, present in aliases.items():
                    if present in elsewhere:
                        meant = elsewhere[present]
                    elif any(present in names for names in others):
                        meant = self._names.told(place, present, present)
                    else:
                        meant = present
                    found[kind].setdefault(name, meant)
        return found


class JoinedStructures:
    """What lies beside the models of several registries."""

    def __init__(self, stores: Sequence[Store], numbers: Numbers) -> None:
        self._stores, self._numbers = stores, numbers

    def of_model(self, model: int) -> list[StructurePart]:
        """As of one registry."""
        place, own = self._numbers.apart(model)
        return self._stores[place].structure.of_model(own)

    def elsewhere(self, hashes: npt.NDArray[np.uint64], model: int) -> npt.NDArray[np.int64]:
        """As of one registry; a model that two registries have is counted in both."""
        place, own = self._numbers.apart(model)
        counts = np.zeros(len(hashes), np.int64)
        for other, store in enumerate(self._stores):
            counts += store.structure.elsewhere(hashes, own if other == place else 0)
        return counts


class JoinedBackgrounds:
    """What is measured on strangers: of several registries the wider of what each would judge by, so that none is judged by less."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = stores

    def used(self) -> Strangers:
        """The widest of what was measured and, for a registry that has not measured it, the shipped spread."""
        every = [store.backgrounds.used() for store in self._stores]
        keys = {key for one in every for key in one}
        return {key: max(one.get(key, shipped.between_models(*key)) for one in every) for key in sorted(keys)}

    def told(self) -> Calibrated | None:
        """All of them together: the most families that one measured, and those in use, on the models of all that measured."""
        every = [one for store in self._stores if (one := store.backgrounds.told()) is not None]
        if not every:
            return None
        measured, models = max(one.measured_for for one in every), sum(one.models for one in every)
        return Calibrated(measured, len(self.used()), models, max(one.measured for one in every))


class JoinedJournal:
    """The journals of several registries as a query asks them."""

    def __init__(self, stores: Sequence[Store], standing: Callable[[int, int], int]) -> None:
        """`standing` gives the number among all that stands for a revision, by the place of its registry and its number there."""
        self._stores, self._standing = stores, standing

    def revisions_of(self, content: str) -> list[tuple[int, str]]:
        """As of one registry."""
        return [
            (self._standing(place, revision), repo)
            for place, store in enumerate(self._stores)
            for revision, repo in store.hub.revisions_of(content)
        ]


class Senders(Mapping[str, str]):
    """The imported models of several registries, looked up by the name that they have among all."""

    def __init__(self, stores: Sequence[Store], names: Names) -> None:
        self._names, self._senders = names, [store.senders() for store in stores]

    def __getitem__(self, name: str) -> str:
        for place, own in self._names.meant(name)[:1]:  # the registry that a model is looked at in comes first
            senders = self._senders[place]
            if (found := senders.get(own) or senders.get(own.rpartition("@")[0])) is not None:
                return found
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (self._names.told(place, name, name) for place, senders in enumerate(self._senders) for name in senders)

    def __len__(self) -> int:
        return sum(map(len, self._senders))
