"""The table of pairs that were held against each other for a tree. Derived: what is missing or damaged is worked out again."""

from __future__ import annotations

import json
from collections.abc import Iterable

from modelkin_registry.store.rows import checksum
from modelkin_registry.store.sql.session import Session

OF = """SELECT a, b, told, checksum FROM kinship
    WHERE judge = ? AND a IN (SELECT CAST(value AS BIGINT) FROM json_each(?)) ORDER BY a, b"""
THERE = "EXISTS (SELECT 1 FROM fingerprint WHERE id = CAST(? AS BIGINT))"  # one may have been removed meanwhile
KEPT = f"""INSERT INTO kinship (a, b, judge, told, checksum)
    SELECT CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT) WHERE {THERE} AND {THERE}
    ON CONFLICT (a, b) DO UPDATE SET judge = excluded.judge, told = excluded.told, checksum = excluded.checksum"""
Told = tuple[int, int, str]


class KinshipTable:
    """What pairs of fingerprints showed."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def told(self, judge: str, fingerprints: Iterable[int]) -> dict[tuple[int, int], str]:
        """What is kept of pairs whose first is one of these, as this judge has them."""
        rows = self._session.rows(OF, [judge, json.dumps(sorted(fingerprints))])
        sound = (row for row in rows if checksum(row["a"], row["b"], judge, row["told"]) == row["checksum"])
        return {(row["a"], row["b"]): row["told"] for row in sound}

    def keep(self, judge: str, pairs: Iterable[Told]) -> bool:
        """Keep what pairs showed, in the place of what another judge made of them; False, and nothing is done, where others write."""
        rows = [(a, b, judge, told, checksum(a, b, judge, told), a, b) for a, b, told in pairs]
        with self._session.at_once() as free:
            if free:
                self._session.run_many(KEPT, rows)
        return free
