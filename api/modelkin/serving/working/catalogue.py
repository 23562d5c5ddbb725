"""The registered models to browse by: asked of the registry each time, but for what all of them come to, which takes longer."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer import spec
from modelkin_registry.answers.asked import Calibrated
from modelkin_registry.answers.plain import CONTRACT, Plain
from modelkin_registry.answers.upkeep import ListedModel
from modelkin_registry.registry import Registry
from modelkin_registry.sharing.giving_out import last_part
from modelkin_registry.store.filters import CONTAINS, IS, Condition, Where
from modelkin_registry.store.protocol import Store

Made = TypeVar("Made")
MOST_SHOWN = 100  # models of one page
SORTS = ("name", "parameters", "added")  # the second and third from above
REST = 10.0  # times as long as working something out took, it is not worked out again: a tenth of a processor at the most
AUTHORS = 20  # the authors with the most models are told
COUNTS_KEPT = 256  # of how many questions it is kept how many models meet them


class Wanted(Struct, frozen=True):
    """Which models: those that meet all of it. `least`, `most`: parameters; `since`: a date, ISO 8601; `start`: how many to pass over."""

    text: str = ""
    author: str = ""
    component: str = ""
    level: str = ""
    sender: str = ""
    least: int | None = None
    most: int | None = None
    since: str = ""
    sort: str = "name"
    start: int = 0
    count: int = 50


class Browsed(Plain, frozen=True):
    """The models of one page, and how many there are of them in all."""

    models: tuple[ListedModel, ...]
    found: int
    start: int
    contract: int = CONTRACT


class Allowed(Plain, frozen=True):
    """What may be asked of a page. `rate`: units a second from one address, 0 without bound; a page is one unit, a question `question`.

    fingerprint_bytes, weights_bytes  the largest file that may be sent; 0 where none may
    hub      whether Hub ids are read that are not registered
    writing  whether a token lets anybody add and remove models
    answers  whether answers are kept beyond this process
    """

    rate: float
    question: int
    fingerprint_bytes: int
    weights_bytes: int
    hub: bool
    writing: bool
    answers: bool


class RegistryTold(Plain, frozen=True):
    """A registry in numbers. `outdated`: fingerprints of an older spec, which are not searched; `newest`: when the last model came."""

    models: int
    revisions: int
    outdated: int
    parameters: int
    levels: dict[str, int]
    components: dict[str, int]
    authors: dict[str, int]
    imported: int
    newest: str | None
    created: str
    spec: str
    key: str
    calibrated: Calibrated | None
    allowed: Allowed
    contract: int = CONTRACT


class Lasting(Generic[Made]):
    """Something worked out of a registry: the same until that changes, and for REST times as long as it took."""

    def __init__(self, make: Callable[[Store], Made]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._made: tuple[Made, int] | None = None
        self._again_at = 0.0

    def of(self, store: Store) -> Made:
        """What it comes to for this registry, or for that of a moment ago."""
        generation = store.generation()
        with self._lock:
            if self._made is None or (self._made[1] != generation and time.monotonic() >= self._again_at):
                began = time.monotonic()
                self._made = self._make(store), generation
                self._again_at = time.monotonic() + REST * (time.monotonic() - began)
            return self._made[0]


class Catalogue:
    """Pages of a list of models, for all threads of a process. `paths`: whether it is told where on this machine a model came from."""

    def __init__(self, *, paths: bool) -> None:
        self._paths, self._lock = paths, threading.Lock()
        self._counts: OrderedDict[Where, Lasting[int]] = OrderedDict()
        self._numbers = Lasting(_numbers)

    def found(self, registry: Registry, wanted: Wanted) -> Browsed:
        """The models that meet what is wanted. Of a text those first that are it, then those that begin with it. Raises RegistryError."""
        store, where = registry.store, _where(wanted)
        first = wanted.text if wanted.sort == "name" else ""
        with store.reading():
            rows = store.listed(where, sort=wanted.sort, first=first, start=wanted.start, limit=min(wanted.count, MOST_SHOWN))
            count = self._count(where).of(store)
        return Browsed(tuple(map(self._told, rows)), count, wanted.start)

    def size(self, registry: Registry) -> int:
        """How many models there are."""
        return self._count(()).of(registry.store)

    def numbers(self, registry: Registry, allowed: Allowed) -> RegistryTold:
        """The registry in numbers."""
        store = registry.store
        return RegistryTold(
            **self._numbers.of(store),
            models=self.size(registry),
            created=store.created,
            spec=spec.VERSION,
            key=store.key_name,
            calibrated=store.backgrounds.told(),
            allowed=allowed,
        )

    def _count(self, where: Where) -> Lasting[int]:
        """How many models meet these conditions; the counts that were asked for last are kept."""
        with self._lock:
            found = self._counts.setdefault(where, Lasting(partial(_counted, where)))
            self._counts.move_to_end(where)
            while len(self._counts) > COUNTS_KEPT:
                self._counts.popitem(last=False)
            return found

    def _told(self, row: ListedModel) -> ListedModel:
        return row if self._paths else replace(row, source=last_part(row.source))


def _counted(where: Where, store: Store) -> int:
    return store.count_matching(where) if where else store.count()


def _numbers(store: Store) -> dict[str, Any]:
    """What is told of all models together."""
    with store.reading():
        groups = store.summed()
        levels: Counter[str] = Counter()
        for group in groups:
            levels[group["level"]] += int(group["models"])
        return {
            "revisions": store.count_revisions(),
            "outdated": len(store.outdated()),
            "parameters": sum(int(group["parameters"] or 0) for group in groups),
            "levels": dict(sorted(levels.items(), key=lambda one: (-one[1], one[0]))),
            "components": store.components(),
            "authors": store.authors(AUTHORS),
            "imported": sum(int(group["models"]) for group in groups if group["is_imported"]),
            "newest": store.newest(),
        }


def _where(wanted: Wanted) -> Where:
    """What is wanted as conditions of the store."""
    texts = {"author": wanted.author, "component": wanted.component, "level": wanted.level, "sender": wanted.sender}
    found = [Condition(field, IS, value) for field, value in texts.items() if value]
    found += [Condition("parameters", ">=", wanted.least)] if wanted.least is not None else []
    found += [Condition("parameters", "<=", wanted.most)] if wanted.most is not None else []
    found += [Condition("added", ">=", wanted.since)] if wanted.since else []
    return (*([Condition("name", CONTAINS, wanted.text)] if wanted.text else []), *found)
