"""Another registry's models into this one: what both know becomes one, what only one knows is kept.

Two models are the same if they share a content, under one name or a former one, or were read from one repository of the Hub. Models that
only share a name stay two: the one that comes in is stored as `name#` and the start of its first content.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from modelkin_indexer import spec
from modelkin_indexer.errors import FingerprintError, SharedFileError
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.shared import TakenIn
from modelkin_registry.search.candidates import index_rows
from modelkin_registry.sharing.records import MAX_NAME, SharedModel, SharedRevision, SharedSource
from modelkin_registry.sharing.shared_files import SharedReader
from modelkin_registry.store.digests import content_digest, sampled_digest
from modelkin_registry.store.rows import encode
from modelkin_registry.store.store import Store

HUB = "hub"  # who says so of a model that was read from the Hub; its origin is org/name@commit
NAMESAKE_DIGITS = 8  # of a content's digest, after the name of a model whose name is taken by another

SEEN = """DO UPDATE SET first_seen = min(first_seen, excluded.first_seen), last_seen = max(last_seen, excluded.last_seen)
    WHERE excluded.first_seen < first_seen OR excluded.last_seen > last_seen"""
SOURCE = f"""INSERT INTO source (revision, who, origin, first_seen, last_seen, files) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (revision, who, origin) {SEEN}"""  # noqa: S608
CLAIM = f"""INSERT INTO claim (model, kind, value, source, first_seen, last_seen) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (model, kind, value, source) {SEEN}"""  # noqa: S608

STRUCTURE = f"""INSERT INTO structure (model, kind, name, digest, data, first_seen, last_seen) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (model, kind, name, digest) {SEEN}"""  # noqa: S608


@dataclass(frozen=True)
class _Content:
    """What tells one revision from another: the digest of its content, and that of its sampled rows, whatever the level."""

    digest: str
    sampled: bytes

    def same_as(self, other: _Content) -> bool:
        """Equal, or one read in full and the other at level probe with the same rows."""
        levels = {self.digest.split("-")[0], other.digest.split("-")[0]}
        return self.digest == other.digest or (len(levels) == 2 and self.sampled == other.sampled)


@dataclass(frozen=True)
class _Held:
    """One revision of a registered model."""

    number: int
    added: str
    content: _Content


def import_registry(store: Store, path: Path) -> tuple[list[TakenIn], str]:
    """Take in all models of a shared file, after everything in it was checked: a file that is not sound changes nothing.

    Returns what became of each, and the digest of the file. Stopped halfway, the models until then are there, each whole, and the same call
    again takes in the rest.

    Raises:
        SharedFileError: no shared file, a damaged one, one of another version.
        RegistryError: trouble with the registry.
    """
    if store.key_name != spec.PUBLIC:
        raise SharedFileError(f"{store.path}: uses a private key; shared files hold fingerprints of the public one. Use another registry.")
    with SharedReader(path) as reader:
        for model in reader.read():
            for revision in model.revisions:
                _read_fingerprints(reader, model, revision)
        return [_Arrival(store, reader, model).take_in() for model in reader.read()], reader.digest


def _read_fingerprints(reader: SharedReader, model: SharedModel, revision: SharedRevision) -> list[tuple[Fingerprint, bytes, str]]:
    """A revision's fingerprints with bytes and time, `full` last. Raises SharedFileError for what cannot be stored."""
    found = []
    for shared in revision.fingerprints:
        blob = reader.blob(shared)
        try:
            fingerprint = fingerprints.from_bytes(blob, model.name)
            if fingerprint.about.key != spec.PUBLIC or fingerprint.about.level not in spec.LEVELS:
                raise FingerprintError(f"level {fingerprint.about.level!r}, key {fingerprint.about.key!r}")
            for rows in index_rows(fingerprint):
                encode(rows)
        except (FingerprintError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise SharedFileError(
                f"{reader.path}: the fingerprint of {model.name!r} cannot be used ({error}). Leave this file out."
            ) from error
        found.append((fingerprint, blob, shared.added))
    return sorted(found, key=lambda item: spec.LEVELS.index(item[0].about.level))


def _content(fingerprint: Fingerprint) -> _Content:
    return _Content(content_digest(fingerprint), sampled_digest(fingerprint))


class _Arrival:
    """One model on its way in."""

    def __init__(self, store: Store, reader: SharedReader, model: SharedModel) -> None:
        self.store, self.model, self.connection = store, model, store.connection
        self.parts = [(revision, _read_fingerprints(reader, model, revision)) for revision in model.revisions]
        self.contents = [_content(found[-1][0]) for _, found in self.parts]

    def take_in(self) -> TakenIn:
        with self.store.batch():
            before = self.connection.total_changes
            number, name = self._target()
            is_new = number is None
            model = self.store.insert("model", name=name, added=self.model.added) if number is None else number
            self._earlier("model", model, self.model.added)
            self._revisions(model)
            self.connection.executemany(CLAIM, [(model, *asdict(claim).values()) for claim in self.model.claims])
            self._structure(model)
            self._former_names(model)
            self._order_revisions(model)
            self._search_again(model)
            changed = self.connection.total_changes > before
            name = self.store.name_of(model)
        return TakenIn(self.model.name, name, "added" if is_new else "merged" if changed else "unchanged")

    def _target(self) -> tuple[int | None, str]:
        """The registered model that this one is (None if there is none yet), and a name for it."""
        namesake = f"#{self.contents[0].digest.split('-')[1][:NAMESAKE_DIGITS]}"
        other_name = self.model.name[: MAX_NAME - len(namesake)] + namesake
        for name in (self.model.name, other_name, *self.model.former_names):
            number = self.store.find(name)
            if number is not None and self._is_same(number):
                return number, name
        return None, self.model.name if self.store.find(self.model.name) is None else other_name

    def _is_same(self, model: int) -> bool:
        if any(held.content.same_as(content) for held in self._held(model) for content in self.contents):
            return True
        rows = self.store.rows("SELECT who, origin FROM source JOIN revision ON revision.id = source.revision WHERE model = ?", [model])
        theirs = [(source.who, source.origin) for revision in self.model.revisions for source in revision.sources]
        return bool(_repositories(rows) & _repositories(theirs))

    def _held(self, model: int) -> list[_Held]:
        rows = self.store.rows("SELECT id, added FROM revision WHERE model = ? ORDER BY id", [model])
        return [_Held(number, added, _content(self._standing(number))) for number, added in rows]

    def _standing(self, revision: int) -> Fingerprint:
        """The highest fingerprint of a registered revision."""
        statement = """SELECT data FROM fingerprint JOIN blob ON blob.fingerprint = fingerprint.id WHERE revision = ?
            ORDER BY level = 'full' DESC, id DESC LIMIT 1"""
        return fingerprints.from_bytes(self.store.rows(statement, [revision])[0][0], self.model.name)

    def _revisions(self, model: int) -> None:
        """Each revision into its equal, or as a new one. A content that came back later is a revision of its own."""
        free = self._held(model)
        for (revision, found), content in zip(self.parts, self.contents, strict=True):
            equal = [held for held in free if held.content.same_as(content)]
            if equal:
                held = min(equal, key=lambda one: one.added != revision.added)
                free.remove(held)
                number = self._into(held, revision, content)
            else:
                number = self._new(model, revision, content, found[-1][0])
            self._add_fingerprints(number, found)
            self.connection.executemany(SOURCE, [_source_row(number, source) for source in revision.sources])

    def _into(self, held: _Held, revision: SharedRevision, content: _Content) -> int:
        full = content.digest if content.digest.startswith("full") else held.content.digest
        self._earlier("revision", held.number, revision.added)
        if full != held.content.digest:
            self.store.rows("UPDATE revision SET content = ? WHERE id = ?", [full, held.number])
        return held.number

    def _earlier(self, table: str, number: int, added: str) -> None:
        """Of two times at which a thing was first registered the earlier one holds."""
        self.connection.execute(f"UPDATE {table} SET added = ? WHERE id = ? AND added > ?", [added, number, added])  # noqa: S608

    def _new(self, model: int, revision: SharedRevision, content: _Content, fingerprint: Fingerprint) -> int:
        about = fingerprint.about
        sizes = {"parameters": about.parameters, "bytes_total": about.bytes_total}
        described = {"config": _json(about.config or {}), "files": _files(revision.files)}
        return self.store.insert("revision", model=model, content=content.digest, added=revision.added, **sizes, **described)

    def _add_fingerprints(self, revision: int, found: Iterable[tuple[Fingerprint, bytes, str]]) -> None:
        for fingerprint, blob, added in found:
            about = fingerprint.about
            if known := self.store.rows("SELECT id FROM fingerprint WHERE revision = ? AND level = ?", [revision, about.level]):
                self._earlier("fingerprint", known[0][0], added)
            else:
                described = {"level": about.level, "spec": about.spec, "key": about.key, "coverage": about.coverage}
                self.store.insert_fingerprint(revision, blob, added, about=asdict(about), **described)

    def _structure(self, model: int) -> None:
        for one in self.model.structure:
            data = b64decode(one.data)
            row = [model, one.kind, one.name, blake2b(data, digest_size=16).hexdigest(), data, one.first_seen, one.last_seen]
            self.connection.execute(STRUCTURE, row)

    def _former_names(self, model: int) -> None:
        """Names that lead to the model there lead to it here too, where they are free."""
        for name in (self.model.name, *self.model.former_names):
            if self.store.find(name) is None:
                self.store.insert("model", name=name, added=self.model.added, redirect_to=model)

    def _order_revisions(self, model: int) -> None:
        """Number revisions by the time they were first registered: the highest is the newest."""
        rows = self.store.rows("SELECT id, added FROM revision WHERE model = ? ORDER BY id", [model])
        wanted = sorted(rows, key=lambda row: (row[1], row[0]))
        if rows == wanted:
            return
        self.connection.execute("PRAGMA defer_foreign_keys = ON")  # until the end of this transaction
        free = self.store.rows("SELECT max(seq) FROM sqlite_sequence WHERE name = 'revision'")[0][0]
        for number, (old, _) in enumerate(wanted, free + 1):
            for statement in ("revision SET id", "fingerprint SET revision", "source SET revision"):
                column = statement.split()[-1]
                self.connection.execute(f"UPDATE {statement} = ? WHERE {column} = ?", [number, old])  # the three above

    def _search_again(self, model: int) -> None:
        """Search rows of the fingerprint that stands for the model now."""
        (number,) = self.store.rows("SELECT fingerprint FROM searched WHERE model = ?", [model])[0]
        (blob,) = self.store.rows("SELECT data FROM blob WHERE fingerprint = ?", [number])[0]
        rows = index_rows(fingerprints.from_bytes(blob, self.model.name))
        held = self.store.rows("SELECT DISTINCT fingerprint FROM vector WHERE model = ?", [model])
        if held != ([(number,)] if any(len(encode(row).layers) for row in rows) else []):
            self.store.repair_vectors(model, number, rows)


def _repositories(sources: Iterable[tuple[str, str]]) -> set[str]:
    """The Hub's repositories among (who, origin): another revision of one is the same model with other content."""
    return {origin.split("@")[0] for who, origin in sources if who == HUB}


def _source_row(revision: int, source: SharedSource) -> Sequence[Any]:
    return (revision, source.who, source.origin, source.first_seen, source.last_seen, _files(source.files))


def _files(files: Sequence[SourceFile]) -> str:
    return _json([asdict(file) for file in files])


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)
