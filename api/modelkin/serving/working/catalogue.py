"""The registered models in memory, to browse by: read once, and brought up to date by the registry's change log."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from modelkin_indexer import spec
from modelkin_registry.answers.asked import Calibrated
from modelkin_registry.answers.plain import CONTRACT, Plain
from modelkin_registry.answers.upkeep import ListedModel
from modelkin_registry.registry import Registry
from modelkin_registry.sharing.giving_out import last_part
from modelkin_registry.store.protocol import Store

Made = TypeVar("Made")
MOST_SHOWN = 100  # models of one page
SORTS = ("name", "parameters", "added")  # the second and third from above
REST = 10.0  # times as long as working something out took, it is not worked out again: a tenth of a processor at the most
AUTHORS = 20  # the authors with the most models are told


@dataclass(frozen=True)
class Wanted:
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


@dataclass(frozen=True)
class Browsed(Plain):
    """The models of one page, and how many there are of them in all."""

    models: tuple[ListedModel, ...]
    found: int
    start: int
    contract: int = CONTRACT


@dataclass(frozen=True)
class Allowed(Plain):
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


@dataclass(frozen=True)
class RegistryTold(Plain):
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
    """Something worked out of all rows: the same until they change, and for REST times as long as it took."""

    def __init__(self, make: Callable[[Mapping[str, ListedModel]], Made]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._made: tuple[Made, int] | None = None
        self._again_at = 0.0

    def of(self, rows: Mapping[str, ListedModel], generation: int) -> Made:
        """What it comes to for these rows, or for those of a moment ago."""
        with self._lock:
            if self._made is None or (self._made[1] != generation and time.monotonic() >= self._again_at):
                began = time.monotonic()
                self._made = self._make(rows), generation
                self._again_at = time.monotonic() + REST * (time.monotonic() - began)
            return self._made[0]


class Catalogue:
    """One row a model, for all threads of a process."""

    def __init__(self, *, paths: bool) -> None:
        self._paths, self._lock = paths, threading.Lock()
        self._generation, self._again_at = -1, 0.0
        self._rows: dict[str, ListedModel] = {}
        self._names = {sort: Lasting(partial(_ordered, sort=sort)) for sort in SORTS}
        self._counts = Lasting(_counts)

    def __len__(self) -> int:
        return len(self._rows)

    def follow(self, store: Store) -> None:
        """Bring it up to date. Another thread that does so already is not waited for, unless nothing was read yet. Raises RegistryError."""
        if not self._lock.acquire(blocking=self._generation < 0):
            return
        try:
            with store.reading():
                now = store.generation()
                if now == self._generation:
                    return
                changes = store.changes(self._generation) if self._generation >= 0 else []
                if self._generation >= 0 and all(one.what == "put" for one in changes):
                    self._rows = self._rows | {row.model: row for row in self._put(store, {one.model_id for one in changes})}
                elif time.monotonic() >= self._again_at:  # a name or a model went, which the log tells by its number alone
                    began = time.monotonic()
                    self._rows = {row.model: self._told(row) for row in store.listed()}
                    self._again_at = time.monotonic() + REST * (time.monotonic() - began)
                else:
                    return
                self._generation = now
        finally:
            self._lock.release()

    def _put(self, store: Store, models: Iterable[int]) -> Iterable[ListedModel]:
        current = [numbers[-1] for model in models if (numbers := store.revisions_of(model))]
        return map(self._told, store.lines(current))

    def _told(self, row: ListedModel) -> ListedModel:
        return row if self._paths else replace(row, source=last_part(row.source))

    def found(self, wanted: Wanted) -> Browsed:
        """The models that meet what is wanted. Of a text those first that are it, then those that begin with it."""
        rows, text, author = self._rows, wanted.text.lower(), wanted.author.lower() + "/"
        names = self._names[wanted.sort].of(rows, self._generation)
        if text or wanted.author:
            names = [one for one in names if text in one[0] and (author == "/" or one[0].startswith(author))]
        met = [name for _, name in names if name in rows and _meets(rows[name], wanted)] if _picks(wanted) else [name for _, name in names]
        if text and wanted.sort == "name":
            met.sort(key=lambda name: (name.lower() != text, not name.lower().startswith(text)))
        shown = met[wanted.start : wanted.start + min(wanted.count, MOST_SHOWN)]
        return Browsed(tuple(rows[name] for name in shown if name in rows), len(met), wanted.start)

    def numbers(self, registry: Registry, allowed: Allowed) -> RegistryTold:
        """The registry in numbers."""
        store = registry.store
        return RegistryTold(
            **self._counts.of(self._rows, self._generation),
            models=store.count(),
            revisions=store.count_revisions(),
            outdated=len(store.outdated()),
            created=store.created,
            spec=spec.VERSION,
            key=store.key_name,
            calibrated=store.backgrounds.told(),
            allowed=allowed,
        )


def _ordered(rows: Mapping[str, ListedModel], sort: str) -> Sequence[tuple[str, str]]:
    """All names in this order, each with itself in small letters before it."""
    order = sorted(rows, key=str.lower)
    if sort == "parameters":
        order.sort(key=lambda name: -(rows[name].parameters or 0))
    elif sort == "added":
        order.sort(key=lambda name: rows[name].added, reverse=True)
    return [(name.lower(), name) for name in order]


def _counts(rows: Mapping[str, ListedModel]) -> dict[str, Any]:
    """What is told of all of them together."""
    authors = Counter(author for name in rows if (author := _author(name)))
    return {
        "parameters": sum(row.parameters or 0 for row in rows.values()),
        "levels": _counted(row.level for row in rows.values()),
        "components": _counted(component for row in rows.values() for component in row.components),
        "authors": dict(authors.most_common(AUTHORS)),
        "imported": sum(bool(row.sender) for row in rows.values()),
        "newest": max((row.added for row in rows.values()), default=None),
    }


def _picks(wanted: Wanted) -> bool:
    texts = (wanted.component, wanted.level, wanted.sender, wanted.since)
    return any(texts) or wanted.least is not None or wanted.most is not None


def _meets(row: ListedModel, wanted: Wanted) -> bool:
    return (
        (not wanted.component or wanted.component in row.components)
        and (not wanted.level or row.level == wanted.level)
        and (not wanted.sender or row.sender == wanted.sender)
        and (wanted.least is None or (row.parameters or 0) >= wanted.least)
        and (wanted.most is None or (row.parameters or 0) <= wanted.most)
        and row.added >= wanted.since
    )


def _author(name: str) -> str:
    return name.partition("/")[0] if "/" in name else ""


def _counted(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items(), key=lambda one: (-one[1], one[0])))
