"""The table of what lies beside the weights: vocabularies, code, licences. Reads and writes inside its caller's transactions."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from modelkin_indexer.results.beside import SHINGLE, StructurePart
from modelkin_registry.store.claims import storable

HELD_AGAINST = 1000  # other models with code that are looked at to tell a common template
ALMOST_ALL = 0.9999  # of the words of a text that is not quite the same
NOTED = """INSERT INTO structure (model, kind, name, digest, data, first_seen, last_seen) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (model, kind, name, digest) DO UPDATE SET last_seen = excluded.last_seen"""
# Of each file what it was when it was read last.
CURRENT = """last_seen = (SELECT max(last_seen) FROM structure AS other WHERE other.model = structure.model)"""
OF_MODEL = f"SELECT kind, name, digest, data FROM structure WHERE model = ? AND {CURRENT} ORDER BY kind, name"  # noqa: S608
OTHERS = f"""SELECT model, data FROM structure WHERE kind = 'code' AND {CURRENT} AND model IN
    (SELECT DISTINCT model FROM structure WHERE kind = 'code' AND model != ? ORDER BY model DESC LIMIT ?)"""  # noqa: S608
HISTORY = "SELECT kind, name, digest, first_seen, last_seen, data FROM structure WHERE model = ? ORDER BY kind, name, first_seen, digest"


class StructureTable:
    """The structure of an open registry's models."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def note(self, model: int, parts: Iterable[StructurePart], at: str) -> None:
        """What lies beside a model's weights at this time."""
        self.connection.executemany(NOTED, [(model, one.kind, storable(one.name), one.digest, one.data, at, at) for one in parts])

    def of_model(self, model: int) -> list[StructurePart]:
        """What lay beside its weights when they were looked at last."""
        return [StructurePart(*row) for row in self.connection.execute(OF_MODEL, [model])]

    def elsewhere(self, hashes: npt.NDArray[np.uint64], model: int) -> npt.NDArray[np.int64]:
        """In the code of how many other registered models each shingle is, (n,)."""
        seen: dict[int, list[npt.NDArray[np.bool_]]] = {}
        for other, data in self.connection.execute(OTHERS, [model, HELD_AGAINST]):
            seen.setdefault(other, []).append(np.isin(hashes, np.frombuffer(data, SHINGLE)["hash"]))
        counts = np.zeros(len(hashes), np.int64)
        for found in seen.values():
            counts += np.logical_or.reduce(found)
        return counts

    def listed(self, model: int) -> list[dict[str, Any]]:
        """Everything that ever lay beside its weights, with dates; of a licence that changed, how much of its words stayed."""
        found: list[dict[str, Any]] = []
        former: dict[str, str] = {}
        for kind, name, digest, first, last, data in self.connection.execute(HISTORY, [model]):
            shown = {"kind": kind, "name": name, "digest": digest, "bytes": len(data), "first_seen": first, "last_seen": last}
            if kind == "licence":
                text = data.decode("utf-8", "replace")
                shown["kept_words"] = kept_words(former[name], text) if name in former else None
                former[name] = text
            found.append(shown)
        return found


def kept_words(old: str, new: str) -> float:
    """The share of runs of three words that two texts have in common (Dice 1945): 1 for the same words only, whatever their layout."""
    a, b = (text.casefold().split() for text in (old, new))
    if a == b:
        return 1.0
    runs = [Counter(zip(words, words[1:], words[2:], strict=False)) for words in (a, b)]
    every = sum(one.total() for one in runs)
    return min(round(2 * (runs[0] & runs[1]).total() / every, 4), ALMOST_ALL) if every else 0.0
