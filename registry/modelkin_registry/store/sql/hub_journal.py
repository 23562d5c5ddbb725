"""The journal of `modelkin sync` inside the registry: which Hub repositories are known, what was done with each, what failed and why.

It is the queue too: what came of a repository is noted in the transaction that stores its model, so that wherever a run is stopped, it was
either done or is still waiting. Reads and writes inside its caller's transactions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from modelkin_registry.store.records import MAX_TRIES, Queued
from modelkin_registry.store.times import now

if TYPE_CHECKING:
    from modelkin_registry.answers.shared import JournalEntry
    from modelkin_registry.store.sql.session import Session

STATES = ("waiting", "done", "failed", "gone", "renamed")

LISTED = """INSERT INTO hub_repo (repo, hub_id, revision, modified, level, selection, state, tries, noted)
    VALUES (?, ?, ?, ?, ?, ?, 'waiting', 0, ?) ON CONFLICT (repo) DO UPDATE SET hub_id = excluded.hub_id, revision = excluded.revision,
    modified = excluded.modified, level = excluded.level, selection = excluded.selection, state = 'waiting', tries = 0, reason = '',
    noted = excluded.noted, holder = '', until = '', not_before = '', leases = 0
    WHERE hub_repo.revision != excluded.revision OR hub_repo.state IN ('gone', 'renamed')
    OR (hub_repo.state = 'done' AND hub_repo.level = 'probe' AND excluded.level = 'full')
    OR (hub_repo.state IN ('waiting', 'failed') AND hub_repo.selection != excluded.selection)"""
LISTED_UNTIL = """INSERT INTO hub_listing (selection, newest, noted) VALUES (?, ?, ?)
    ON CONFLICT (selection) DO UPDATE SET newest = excluded.newest, noted = excluded.noted"""
WAITING = """SELECT repo, hub_id, revision, modified, level FROM hub_repo WHERE selection = ? AND state = 'waiting'
    AND until <= ? AND (modified, repo) > (?, ?) ORDER BY modified, repo LIMIT ?"""
NOTED = """UPDATE hub_repo SET state = ?, reason = ?, model = coalesce(?, model), content = ?, bytes = ?, noted = ?,
    tries = CASE WHEN ? = 'failed' THEN tries + 1 ELSE 0 END, passing = ?,
    holder = '', until = '', not_before = '', leases = 0 WHERE repo = ?"""

TAKEN_OVER = """UPDATE hub_repo SET (model, content, bytes, level) = (SELECT model, content, bytes, level FROM hub_repo WHERE repo = ?)
    WHERE repo = ?"""
OF_CONTENT = """SELECT searched.revision AS revision, repo FROM hub_repo
    JOIN searched ON searched.model = hub_repo.model AND searched.current
    WHERE hub_repo.content = ? AND hub_repo.content != '' ORDER BY searched.model"""


class HubJournal:
    """The journal of an open registry."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def newest(self, selection: str) -> str:
        """When the newest repository of a selection's last whole listing was modified, "" if none was listed to its end."""
        return str(self._session.value("SELECT newest FROM hub_listing WHERE selection = ?", [selection]) or "")

    def note_newest(self, selection: str, newest: str) -> None:
        """A listing has ended; the next one need go back only to here."""
        self._session.run(LISTED_UNTIL, [selection, newest, now()])

    def enqueue(self, found: Iterable[Queued], selection: str) -> int:
        """Put listed repositories into the queue, those that changed or are new. Returns how many."""
        at = now()
        return self._session.run_many(
            LISTED, [(one.repo, one.hub_id, one.revision, one.modified, one.level, selection, at) for one in found]
        )

    def is_news(self, one: Queued) -> bool:
        """Whether a listed repository would be put into the queue: it is new, changed, or waiting there."""
        for row in self._session.rows("SELECT revision, state, level FROM hub_repo WHERE repo = ?", [one.repo]):
            if row["revision"] == one.revision and row["state"] not in ("waiting", "gone", "renamed"):
                return bool(row["state"] == "done" and (row["level"], one.level) == ("probe", "full"))
        return True

    def try_again(self, selection: str, every: bool) -> int:
        """Put back what failed: where it may pass and was not tried too often, or `every` one, whatever killed its workers before.

        Returns how many.
        """
        may = "" if every else f"AND passing != 0 AND tries < {MAX_TRIES}"
        tries = ", tries = 0, leases = 0, not_before = ''" if every else ""
        statement = f"UPDATE hub_repo SET state = 'waiting'{tries} WHERE selection = ? AND state = 'failed' {may}"  # noqa: S608
        return self._session.run(statement, [selection])

    def waiting(self, selection: str, batch: int = 256) -> Iterator[Queued]:
        """The queue, oldest change first, without what workers hold. What is noted meanwhile does not disturb it."""
        after = ("", "")
        while rows := self._session.dicts(WAITING, [selection, self._session.clock(), *after, batch]):
            yield from (Queued(**row) for row in rows)
            after = (rows[-1]["modified"], rows[-1]["repo"])

    def count(self, selection: str) -> dict[str, int]:
        """How many repositories of a selection are in each state."""
        statement = "SELECT state, count(*) AS repos FROM hub_repo WHERE selection = ? GROUP BY state ORDER BY state"
        return {row["state"]: row["repos"] for row in self._session.rows(statement, [selection])}

    def note(
        self, repo: str, state: str, *, reason: str = "", model: int | None = None, content: str = "", size: int = 0, passing: bool = False
    ) -> None:
        """What came of a repository. `passing`: a failure that may not come again."""
        self._session.run(NOTED, [state, reason, model, content, size, now(), state, int(passing), repo])

    def former_name(self, hub_id: str, repo: str) -> str | None:
        """The name that a repository had when its model was stored, if it has another one now."""
        statement = "SELECT repo FROM hub_repo WHERE hub_id = ? AND hub_id != '' AND repo != ? AND state = 'done' ORDER BY repo LIMIT 1"
        found = self._session.value(statement, [hub_id, repo])
        return None if found is None else str(found)

    def rename(self, old: str, new: Queued, selection: str) -> None:
        """A repository has another name now: its former row stays and says so, the new one has what was done."""
        self.enqueue([new], selection)
        self._session.run(TAKEN_OVER, [old, new.repo])
        for row in self._session.rows("SELECT revision, state FROM hub_repo WHERE repo = ?", [old]):
            if (row["revision"], row["state"]) == (new.revision, "done"):
                self._session.run("UPDATE hub_repo SET state = 'done', noted = ? WHERE repo = ?", [now(), new.repo])
        self.note(old, "renamed", reason=new.repo)

    def revisions_of(self, content: str) -> list[tuple[int, str]]:
        """Current revisions of models whose repository's files were the same byte for byte when last read, each with that repository."""
        return [(row["revision"], row["repo"]) for row in self._session.rows(OF_CONTENT, [content])]

    def unseen_since(self, selection: str, began: str) -> list[str]:
        """Repositories with a model that no listing has shown since then."""
        statement = "SELECT repo FROM hub_repo WHERE selection = ? AND state = 'done' AND seen < ? ORDER BY repo"
        return self._session.column(statement, [selection, began])

    def see(self, repos: Iterable[str]) -> None:
        """A listing has these now."""
        at = now()
        self._session.run_many("UPDATE hub_repo SET seen = ? WHERE repo = ?", [(at, repo) for repo in repos])

    def entries(self) -> Iterator[JournalEntry]:
        """The whole journal, by repository."""
        from modelkin_registry.answers.shared import JournalEntry

        for row in self._session.each("SELECT * FROM hub_repo ORDER BY repo"):
            yield JournalEntry(**dict(row))
