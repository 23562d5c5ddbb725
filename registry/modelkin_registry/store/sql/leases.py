"""The queue of `modelkin work`: repositories of the Hub's journal that wait, each lent to one worker at a time.

A lease ends by itself when its holder falls silent, and the job is another's then. Whoever stores what came of a job sees first that it is
still the holder's, in the same transaction: so each is stored once, whatever was killed. Times are the engine's, so that clocks of workers
need not agree. Taking a job does not wait for whoever writes models, and never waits for another one who takes.
"""

from __future__ import annotations

import json

from modelkin_registry.store.records import Leased, Lent
from modelkin_registry.store.sql.session import Session
from modelkin_registry.store.times import later_by

MAX_LEASES = 3  # workers that may die with a job before it is taken for what killed them
READY = "state = 'waiting' AND until <= ? AND not_before <= ?"
NEXT = f"""SELECT repo, hub_id, revision, modified, level, selection, tries FROM hub_repo WHERE {READY}
    ORDER BY modified, repo LIMIT ?"""  # noqa: S608
LENT = "UPDATE hub_repo SET holder = ?, until = ?, leases = leases + 1 WHERE repo = ?"
POISON = """SELECT repo, holder FROM hub_repo WHERE state = 'waiting' AND leases >= ? AND until <= ? ORDER BY repo"""
SET_ASIDE = "UPDATE hub_repo SET state = 'failed', reason = ?, passing = 0, holder = '', until = '' WHERE repo = ?"
KEPT = "UPDATE hub_repo SET until = ? WHERE holder = ?"
GIVEN_BACK = "UPDATE hub_repo SET holder = '', until = '', leases = leases - 1 WHERE holder = ?"
LAPSED = "UPDATE hub_repo SET until = '' WHERE holder = ?"
LATER = """UPDATE hub_repo SET not_before = ?, reason = ?, tries = tries + 1, passing = 1, holder = '', until = '', leases = 0
    WHERE repo = ? AND state = 'waiting'"""
LEFT = """SELECT count(*) AS jobs, sum(CASE WHEN until > ? THEN 1 ELSE 0 END) AS held,
    sum(CASE WHEN until <= ? AND not_before > ? THEN 1 ELSE 0 END) AS later FROM hub_repo WHERE state = 'waiting'"""


class LeaseTable:
    """Who works on which waiting repository of an open registry's journal."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def take(self, holder: str, seconds: float, count: int = 1) -> list[Leased]:
        """Lend the oldest waiting jobs to a worker, for so long. A job with which too many workers died is set aside first."""
        with self._session.brief():
            at = self._session.clock()
            for repo, last in self._session.rows(POISON + self._session.SKIP_LOCKED, [MAX_LEASES, at]):
                reason = f"{MAX_LEASES} workers that had it died or fell silent, the last of them {last}"
                self._session.run(SET_ASIDE, [reason, repo])
            found = self._session.dicts(NEXT + self._session.SKIP_LOCKED, [at, at, count])
            self._session.run_many(LENT, [(holder, later_by(at, seconds), one["repo"]) for one in found])
        return [Leased(**one, max_bytes=_bound(one["selection"])) for one in found]

    def keep(self, holder: str, seconds: float) -> int:
        """Let a worker have what it holds for so long from now. Returns how many jobs it holds."""
        return self._session.run(KEPT, [later_by(self._session.clock(), seconds), holder])

    def holds(self, holder: str, repo: str) -> bool:
        """Whether the job is still this worker's."""
        return self._session.value("SELECT 1 FROM hub_repo WHERE repo = ? AND holder = ?", [repo, holder]) is not None

    def give_back(self, holder: str) -> int:
        """A worker stops: what it holds may be taken at once, and is not counted as tried. Returns how many jobs."""
        return self._session.run(GIVEN_BACK, [holder])

    def lapse(self, holder: str) -> int:
        """A worker is known to be dead: what it held may be taken at once. Returns how many jobs."""
        return self._session.run(LAPSED, [holder])

    def later(self, repo: str, seconds: float, reason: str) -> None:
        """A failure that may pass: the job waits for so long before it is lent again."""
        self._session.run(LATER, [later_by(self._session.clock(), seconds), reason, repo])

    def lent(self) -> Lent:
        """How many jobs there are, how many of them are held, and how many wait for their time."""
        at = self._session.clock()
        (row,) = self._session.rows(LEFT, [at, at, at])
        return Lent(int(row["jobs"]), int(row["held"] or 0), int(row["later"] or 0))


def _bound(selection: str) -> int | None:
    """The bytes that may be read of a repository, by the selection that brought it into the queue."""
    try:
        said = json.loads(selection)
    except ValueError:
        return None
    bound = said.get("max_bytes") if isinstance(said, dict) else None
    return bound if isinstance(bound, int) else None
