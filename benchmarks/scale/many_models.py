"""A registry of as many models as asked for: the zoo of the search benchmark, and strangers around it that are written straight.

A stranger is made in sketch space: its search rows are drawn as those of independent sketches come out, in the slots that such
a model fills (a sum of independent sketches is as good as normal, and the signs of its projections are fair coins). `Registry.add` would
take 7 ms a model; here rows go into the store's tables a thousand models at once, with their checksums, by the layout that `add` writes. Of
a stranger no fingerprint is kept, which would be 31 KB each: where one is looked at, a lone model of the zoo stands in, which is as much a
stranger to every question.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from benchmarks.common.sketch_space import LAYERS
from benchmarks.speed.search_zoo import SEED, Zoo
from modelkin_indexer import spec
from modelkin_registry.registry import Registry
from modelkin_registry.search.candidates import SLOTS
from modelkin_registry.search.nameless import CONTENT_NUMBERS, CONTENTS, EVERYTHING, SHAPED
from modelkin_registry.store.records import StoredModel
from modelkin_registry.store.rows import CODE_BITS, checksum, stored
from modelkin_registry.store.sql.sealed import SEALED, seal_of
from modelkin_registry.store.sql.vectors import NEW
from modelkin_registry.store.sqlite.store import SqliteStore

try:
    from modelkin_registry.store.sql.facets import NEW as NEW_FACETS
    from modelkin_registry.store.sql.facets import derived
except ImportError:  # an earlier build, beside this one
    derived = None  # type: ignore[assignment]

OWN = 4000  # models of the zoo, with fingerprints of their own
AT_ONCE = 1000  # strangers made and written at once
AT = "2026-01-01T00:00:00.000000+00:00"
ABOUT = '{"components": ["text"]}'
NUMBERS = spec.PROBE_NUMBERS
# Of each kind with float16 rows the component, numbers a row, and how many of them a dense model's roles fill.
FILLED = {
    "sum/attention": ("text", len(SLOTS["attention"]) * NUMBERS, 4 * NUMBERS),
    "sum/mlp": ("text", len(SLOTS["mlp"]) * NUMBERS, 3 * NUMBERS),
    "sum/embedding": ("text", len(SLOTS["embedding"]) * NUMBERS, NUMBERS),
    SHAPED: (EVERYTHING, NUMBERS, NUMBERS),
    CONTENTS: (EVERYTHING, CONTENT_NUMBERS, CONTENT_NUMBERS),
}


class StandIns(SqliteStore):
    """A registry file in which the fingerprints of strangers are those of the zoo's lone models."""

    def stored(self, revisions: Iterable[int]) -> dict[int, StoredModel]:
        """The fingerprints of these revisions, a stranger's under its own name."""
        zoo = Zoo(OWN)
        wanted = {number: number if number <= OWN else zoo.lone_from + number % (OWN - zoo.lone_from) + 1 for number in revisions}
        found = super().stored(set(wanted.values()))
        return {number: found[own] if own == number else _named(found[own], number) for number, own in wanted.items() if own in found}


def _named(model: StoredModel, number: int) -> StoredModel:
    return replace(model, model_id=number, model=name(number), name=name(number), revision=number, fingerprint=number)


def name(number: int) -> str:
    """What the stranger with this number is called."""
    return f"stranger-{number:07d}"


def build(path: Path, models: int) -> dict[str, float]:
    """The registry in this file with its index; seconds to write and to index it."""
    zoo, began = Zoo(OWN), time.perf_counter()
    with Registry(StandIns.open(path)) as registry:
        with registry.store.batch():
            for number in range(registry.store.count(), OWN):
                registry.add(zoo.name(number), zoo.fingerprint(number))
        store = registry.store
        assert isinstance(store, StandIns)
        store.connection.execute("PRAGMA synchronous = OFF")
        for first in range(store.count() + 1, models + 1, AT_ONCE):
            with store.batch():
                write(store, first, min(AT_ONCE, models + 1 - first))
            print(f"\r{first} models, {time.perf_counter() - began:.0f} s", end="", file=sys.stderr)
        print(file=sys.stderr)
        written = time.perf_counter()
        registry.refresh()
        indexed = time.perf_counter()
    return {"write_seconds": written - began, "index_seconds": indexed - written}


def write(store: StandIns, first: int, count: int) -> None:
    """Strangers with these numbers, and what `Store.put` writes of each, apart from its fingerprint and its source."""
    numbers = range(first, first + count)
    _insert(store, "model", [(number, {"name": name(number), "added": AT, "redirect_to": None, "sender": ""}) for number in numbers])
    revision = {"files": "[]", "parameters": 10**9, "bytes_total": 2 * 10**9, "config": "{}", "added": AT}
    _insert(store, "revision", [(number, {"model": number, "content": name(number), **revision}) for number in numbers])
    told = {"level": "probe", "spec": spec.VERSION, "key": spec.PUBLIC, "coverage": 1.0, "about": ABOUT, "bytes": 0, "added": AT}
    _insert(store, "fingerprint", [(number, {"revision": number, "digest": "", **told}) for number in numbers])
    for kind, component, layers, data in rows(np.random.default_rng([SEED, 5, first]), count):
        records = [
            (kind, n, component, n, layers, part, checksum(kind, n, component, layers, part)) for n, part in zip(numbers, data, strict=True)
        ]
        store.run_many(NEW, records)
    if derived is not None:
        facets = [derived(n, n, AT, "probe", 1.0, revision["parameters"], revision["bytes_total"], ABOUT, "{}") for n in numbers]
        store.run_many(NEW_FACETS, facets)
    changes = [(number, "put", number, AT) for number in numbers]
    store.run_many("INSERT INTO change (model, what, revision, at) VALUES (?, ?, ?, ?)", changes)


def _insert(store: StandIns, table: str, found: list[tuple[int, dict[str, Any]]]) -> None:
    columns = SEALED[table]
    statement = f"INSERT INTO {table} (id, {', '.join(columns)}, checksum) VALUES ({', '.join('?' * (len(columns) + 2))})"
    store.run_many(statement, [(number, *(row[c] for c in columns), seal_of(table, row)) for number, row in found])


def rows(random: np.random.Generator, count: int) -> Iterator[tuple[str, str, bytes, list[bytes]]]:
    """Search rows of so many strangers: kind, component, layers, and each stranger's rows as stored."""
    depth = LAYERS["text"]
    whole, layers = np.array([-1], "<i2").tobytes(), np.arange(depth, dtype="<i2").tobytes()
    for kind, (component, width, filled) in FILLED.items():
        values = np.zeros((count, width), np.float32)
        values[:, :filled] = random.standard_normal((count, filled), np.float32)
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        yield kind, component, whole, [row.tobytes() for row in stored(kind, values)]
    for family in ("attention", "mlp"):
        codes = random.integers(0, 256, (count, depth * CODE_BITS // 8), np.uint8)
        yield f"layer/{family}", "text", layers, [row.tobytes() for row in codes]
