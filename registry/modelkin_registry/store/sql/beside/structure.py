"""The table of what lies beside the weights: vocabularies, code, licences. Reads and writes inside its caller's transactions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from modelkin_indexer.results.beside import SHINGLE, StructurePart
from modelkin_registry.store.records import KeptStructure
from modelkin_registry.store.sql.sealed import seal_of
from modelkin_registry.store.sql.session import Session
from modelkin_registry.store.times import later_than
from modelkin_registry.store.words import storable

HELD_AGAINST = 1000  # other models with code that are looked at to tell a common template
LATEST = "SELECT max(last_seen) FROM structure WHERE model = ?"
WHICH = "model = ? AND kind = ? AND name = ? AND digest = ?"
FIRST = f"SELECT first_seen FROM structure WHERE {WHICH}"  # noqa: S608
SEEN = f"UPDATE structure SET last_seen = ?, checksum = ? WHERE {WHICH}"  # noqa: S608
# Of each file what it was when it was read last.
CURRENT = """last_seen = (SELECT max(last_seen) FROM structure AS other WHERE other.model = structure.model)"""
OF_MODEL = f"SELECT *, {CURRENT} AS current FROM structure WHERE model = ? ORDER BY kind, name, digest"  # noqa: S608
OTHERS = f"""SELECT * FROM structure WHERE kind = 'code' AND {CURRENT} AND model IN
    (SELECT DISTINCT model FROM structure WHERE kind = 'code' AND model != ? ORDER BY model DESC LIMIT ?)"""  # noqa: S608
HISTORY = "SELECT * FROM structure WHERE model = ? ORDER BY kind, name, first_seen, digest"


class StructureTable:
    """The structure of an open registry's models."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def note_now(self, model: int, parts: Iterable[StructurePart]) -> None:
        """What lies beside a model's weights at present."""
        at = later_than(self._session.value(LATEST, [model]))
        for part in parts:
            which = {"model": model, "kind": part.kind, "name": storable(part.name), "digest": part.digest}
            first = self._session.value(FIRST, [*which.values()])
            row = {**which, "data": part.data, "first_seen": first or at, "last_seen": at}
            if first is None:
                self._session.insert("structure", **row)
            else:
                self._session.run(SEEN, [at, seal_of("structure", row), *which.values()])

    def of_model(self, model: int) -> list[StructurePart]:
        """What lay beside its weights when they were looked at last."""
        found = [row for row in self._session.sound("structure", OF_MODEL, [model]) if row["current"]]
        return [StructurePart(row["kind"], row["name"], row["digest"], row["data"]) for row in found]

    def kept(self, model: int) -> list[KeptStructure]:
        """Everything that ever lay there, by kind, name and time."""
        found = self._session.sound("structure", HISTORY, [model])
        return [KeptStructure(**{name: value for name, value in row.items() if name != "model"}) for row in found]

    def elsewhere(self, hashes: npt.NDArray[np.uint64], model: int) -> npt.NDArray[np.int64]:
        """In the code of how many other registered models each shingle is, (n,)."""
        seen: dict[int, list[npt.NDArray[np.bool_]]] = {}
        for row in self._session.sound("structure", OTHERS, [model, HELD_AGAINST]):
            seen.setdefault(row["model"], []).append(np.isin(hashes, np.frombuffer(row["data"], SHINGLE)["hash"]))
        counts = np.zeros(len(hashes), np.int64)
        for found in seen.values():
            counts += np.logical_or.reduce(found)
        return counts
