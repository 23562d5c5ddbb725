"""The registry's truth: one SQLite file. Everything else (search rows, index) can be made again from it.

Several processes may read and write at once: a writer takes its lock when it begins, readers see the last finished state and never wait.
"""

from __future__ import annotations

import difflib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from blake3 import blake3

from modelkin_indexer import spec
from modelkin_indexer.errors import RegistryError, UnknownModel
from modelkin_indexer.results.beside import SourceFile
from modelkin_registry.answers.upkeep import ListedModel
from modelkin_registry.store.backgrounds import BackgroundTable
from modelkin_registry.store.claims import ClaimTable, storable
from modelkin_registry.store.hub_journal import HubJournal
from modelkin_registry.store.opening import REMEDIES, connect, explained, is_read_only, now
from modelkin_registry.store.records import Change, NewModel, PutResult, StoredModel
from modelkin_registry.store.rows import EncodedRows, IndexRows, encode
from modelkin_registry.store.structure import StructureTable
from modelkin_registry.store.vectors import CHANGED_MODELS, VectorTable

MAX_NAME = 512  # characters of a model's name
SUGGESTIONS = 3  # close names shown when one is not found
SUGGESTED_AMONG = 5_000  # models up to which close names are looked for: 0.1 s; 2 s and more for 100,000

LAST_ORIGIN = "SELECT origin FROM source WHERE source.revision = revision.id ORDER BY last_seen DESC, id DESC LIMIT 1"
STORED = f"""SELECT searched.model, searched.name, searched.added, revision.id, fingerprint.id, content, level, spec, key, parameters,
    bytes_total, coverage, about, config, ({LAST_ORIGIN}), digest, data
    FROM searched JOIN revision ON revision.id = searched.revision JOIN fingerprint ON fingerprint.id = searched.fingerprint
    JOIN blob ON blob.fingerprint = fingerprint.id WHERE searched.model IN (SELECT value FROM json_each(?))"""  # noqa: S608
LISTED = f"""SELECT searched.name, level, parameters, json_extract(about, '$.components'), searched.added, ({LAST_ORIGIN}),
    (SELECT count(*) FROM revision AS other WHERE other.model = searched.model)
    FROM searched JOIN revision ON revision.id = searched.revision JOIN fingerprint ON fingerprint.id = searched.fingerprint
    ORDER BY searched.name"""  # noqa: S608


def digest_of(blob: bytes) -> str:
    """The digest kept beside each fingerprint's bytes."""
    return blake3(blob).hexdigest()


class Store:
    """An open registry file. Use from the thread that opened it; other threads and processes open their own."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.connection = connection
        self.read_only = is_read_only(connection)
        self.vectors = VectorTable(connection)
        self.claims = ClaimTable(connection)
        self.hub = HubJournal(connection)
        self.backgrounds = BackgroundTable(connection)
        self.structure = StructureTable(connection)
        self.registry_id, self.key_name, self.created = self.rows("SELECT registry, key, created FROM meta")[0]

    @classmethod
    def open(cls, path: Path, *, create: bool = True, key_name: str = spec.PUBLIC) -> Self:
        """Open the registry in this file, made if missing and `create`. Without `create` one that may not be written can be read.

        Raises:
            RegistryError: not a registry, damaged, of another key or spec, written by a newer version, or out of reach.
        """
        return cls(path, connect(path, create=create, key_name=key_name))

    def close(self) -> None:
        """Close the file. A second close does nothing."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # transactions

    @contextmanager
    def batch(self) -> Iterator[None]:
        """One write transaction, whole or not at all; inside another one a part that can fail alone.

        Raises:
            RegistryError: the file may not be written, or trouble with it.
        """
        if self.read_only:
            raise RegistryError(f"{self.path}: {REMEDIES[sqlite3.SQLITE_READONLY]}.")
        with explained(self.path):
            if self.in_transaction:
                with self._part():
                    yield
                return
            self.connection.execute("BEGIN IMMEDIATE")  # a plain BEGIN fails when two writers have both read
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _part(self) -> Iterator[None]:
        self.connection.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            if self.in_transaction:
                self.connection.execute("ROLLBACK TO part")
                self.connection.execute("RELEASE part")
            raise
        self.connection.execute("RELEASE part")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Everything read inside is of one moment."""
        with explained(self.path):
            if self.in_transaction:
                yield
                return
            self.connection.execute("BEGIN")
            try:
                yield
            finally:
                self.connection.execute("ROLLBACK")

    @property
    def in_transaction(self) -> bool:
        """Whether this connection is inside `batch` or `reading`."""
        return self.connection.in_transaction

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows that a statement of ours gives."""
        with explained(self.path):
            return self.connection.execute(statement, values).fetchall()

    # writing

    def put(self, record: NewModel, vectors: Sequence[IndexRows] = ()) -> PutResult:
        """Store one observation, whole or not at all.

        Same content and level as the newest revision: unchanged. Other content: a new revision, the one that is searched from now on.
        Another level of the same content: one more fingerprint of that revision; `full` is searched rather than `probe`.

        Raises:
            RegistryError: another spec or key, a name that cannot be printed, or trouble with the file.
            ValueError: rows that are not unit vectors, or of another size than the registry's rows of that kind.
        """
        self._check(record)
        encoded = [encode(rows) for rows in vectors]
        with self.batch():
            model = self.find(record.name) or self.insert("model", name=record.name, added=now())
            revision = self._revision(model, record)
            self._note_source(revision, record)
            self.claims.note(model, record.claims, now())
            self.structure.note(model, record.structure, now())
            known = self.rows("SELECT 1 FROM fingerprint WHERE revision = ? AND level = ?", [revision, record.level])
            if not known:
                self._add_fingerprint(model, revision, record, encoded)
            return PutResult("unchanged" if known else "added", self.name_of(model), model, revision)

    def _check(self, record: NewModel) -> None:
        if not record.name or not record.name.isprintable() or len(record.name) > MAX_NAME:
            raise RegistryError(
                f"{self.path}: {record.name!r} cannot be a model's name. Give 1 to {MAX_NAME} printable characters with `--as NAME`."
            )
        if record.level not in spec.LEVELS or record.spec != spec.VERSION or record.key != self.key_name:
            given = f"{record.name!r} has level {record.level!r}, spec {record.spec!r}, key {record.key!r}"
            taken = f"levels {'/'.join(spec.LEVELS)}, spec {spec.VERSION!r}, key {self.key_name!r}"
            remedy = "Index the weights again with the registry's key."
            raise RegistryError(f"{self.path}: the fingerprint of {given}; this registry takes {taken}. {remedy}")

    def insert(self, table: str, **values: Any) -> int:
        """Insert one row, inside the caller's transaction. Returns its number."""
        columns, places = ", ".join(f'"{name}"' for name in values), ", ".join("?" * len(values))
        with explained(self.path):
            cursor = self.connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", [*values.values()])  # noqa: S608
            return int(cursor.lastrowid or 0)

    def _revision(self, model: int, record: NewModel) -> int:
        newest = self.rows("SELECT id, content FROM revision WHERE model = ? ORDER BY id DESC LIMIT 1", [model])
        if newest and newest[0][1] == record.content:
            return int(newest[0][0])
        files, config = _json([asdict(file) for file in record.files]), _json(dict(record.config))
        described = {"parameters": record.parameters, "bytes_total": record.bytes_total, "config": config, "files": files}
        return self.insert("revision", model=model, content=record.content, added=now(), **described)

    def _note_source(self, revision: int, record: NewModel) -> None:
        at, files = now(), _json([asdict(file) for file in record.files])
        self.rows(
            """INSERT INTO source (revision, who, origin, first_seen, last_seen, files) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT (revision, who, origin) DO UPDATE SET last_seen = excluded.last_seen, files = excluded.files""",
            [revision, storable(record.who), storable(record.origin), at, at, files],
        )

    def _add_fingerprint(self, model: int, revision: int, record: NewModel, encoded: Sequence[EncodedRows]) -> None:
        described: dict[str, Any] = {
            "level": record.level,
            "spec": record.spec,
            "key": record.key,
            "coverage": record.coverage,
            "about": dict(record.about),
        }
        self._search_by(model, self.insert_fingerprint(revision, record.blob, now(), **described), encoded)

    def insert_fingerprint(self, revision: int, blob: bytes, added: str, *, about: Mapping[str, Any], **described: Any) -> int:
        """One fingerprint of a revision, with its bytes, inside the caller's transaction. Returns its number."""
        told = {"about": _json(about), "digest": digest_of(blob), "bytes": len(blob), "added": added}
        fingerprint = self.insert("fingerprint", revision=revision, **described, **told)
        self.insert("blob", fingerprint=fingerprint, data=blob)
        return fingerprint

    def _search_by(self, model: int, fingerprint: int, encoded: Sequence[EncodedRows]) -> None:
        """Make these the model's search rows if this is the fingerprint that stands for it."""
        if self.rows("SELECT fingerprint FROM searched WHERE model = ?", [model]) == [(fingerprint,)]:
            self.vectors.replace(model, fingerprint, encoded)
            self._log(model, "put")

    def repair_vectors(self, model: int, fingerprint: int, vectors: Sequence[IndexRows]) -> None:
        """Make a model's search rows anew, unless another fingerprint stands for it by now. The truth is not touched."""
        encoded = [encode(rows) for rows in vectors]
        with self.batch():
            self._search_by(model, fingerprint, encoded)

    def remove(self, name: str) -> None:
        """Forget a model and everything known of it. Raises UnknownModel."""
        with self.batch():
            model = self._require(name)
            self.rows("DELETE FROM model WHERE id = ?", [model])
            self._log(model, "remove")

    def rename(self, old: str, new: str) -> None:
        """Give a model another name; the old one keeps resolving. Raises UnknownModel, RegistryError if `new` is taken."""
        with self.batch():
            model = self._require(old)
            former = self.name_of(model)
            if new == former:
                return
            if self.find(new) not in (None, model):
                raise RegistryError(
                    f"{self.path}: the name {new!r} is taken by {self.name_of(self._require(new))!r}. Choose another, or remove that model."
                )
            self.rows("DELETE FROM model WHERE name = ? AND redirect_to = ?", [new, model])
            self.rows("UPDATE model SET name = ? WHERE id = ?", [new, model])
            self.insert("model", name=former, added=now(), redirect_to=model)
            self._log(model, "rename")

    def _log(self, model: int, what: str) -> None:
        self.insert("change", model=model, what=what, at=now())

    # reading

    def __contains__(self, name: str) -> bool:
        """Whether a model has or had this name."""
        return self.find(name) is not None

    def find(self, name: str) -> int | None:
        """The number of the model that has or had this name."""
        found = self.rows("SELECT coalesce(redirect_to, id) FROM model WHERE name = ?", [name])
        return int(found[0][0]) if found else None

    def _require(self, name: str) -> int:
        model = self.find(name)
        if model is None:
            names = self.names() if self.count() <= SUGGESTED_AMONG else []
            close = difflib.get_close_matches(name, names, SUGGESTIONS)
            hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else "`modelkin list` shows all names."
            raise UnknownModel(f"{self.path}: no model {name!r} in this registry. {hint}")
        return model

    def name_of(self, model: int) -> str:
        """A model's present name."""
        return str(self.rows("SELECT name FROM model WHERE id = ?", [model])[0][0])

    def count(self) -> int:
        """Number of models."""
        return int(self.rows("SELECT count(*) FROM model WHERE redirect_to IS NULL")[0][0])

    def names(self) -> list[str]:
        """All models' names, sorted; former names left out."""
        return [row[0] for row in self.rows("SELECT name FROM model WHERE redirect_to IS NULL ORDER BY name")]

    def ids(self) -> list[int]:
        """All models' numbers, ascending."""
        return [row[0] for row in self.rows("SELECT id FROM model WHERE redirect_to IS NULL ORDER BY id")]

    def names_of(self, model_ids: Iterable[int]) -> dict[int, str]:
        """Names by number; numbers of removed models are left out."""
        return dict(self.rows("SELECT id, name FROM model WHERE id IN (SELECT value FROM json_each(?))", [_ids(model_ids)]))

    def get(self, name: str) -> StoredModel:
        """The fingerprint that stands for a model, by its name or a former one. Raises UnknownModel, RegistryError if damaged."""
        with self.reading():
            model = self._require(name)
            return self.stored([model])[model]

    def stored(self, model_ids: Iterable[int]) -> dict[int, StoredModel]:
        """The fingerprints that stand for these models, in one query; removed models are left out."""
        found = (_stored_model(row) for row in self.rows(STORED, [_ids(model_ids)]))
        return {model.model_id: self._sound(model) for model in found}

    def blobs(self, model_ids: Iterable[int]) -> dict[int, bytes]:
        """Bytes of the fingerprints that stand for these models."""
        return {number: model.blob for number, model in self.stored(model_ids).items()}

    def _sound(self, model: StoredModel) -> StoredModel:
        if digest_of(model.blob) != model.digest:
            raise RegistryError(f"{self.path}: the stored fingerprint of {model.name!r} is damaged. Remove the model and add it again.")
        return model

    def listed(self) -> list[ListedModel]:
        """One line a model, by name."""
        return [
            ListedModel(name, level, parameters, tuple(json.loads(components or "[]")), added, origin or "", revisions)
            for name, level, parameters, components, added, origin, revisions in self.rows(LISTED)
        ]

    def show(self, name: str) -> dict[str, Any]:
        """Everything known of a model except vectors: revisions with their fingerprints and sources, claims, former names. Newest first."""
        with self.reading():
            model = self._require(name)
            revisions = self._dicts("SELECT * FROM revision WHERE model = ? ORDER BY id DESC", model)
            for revision in revisions:
                revision["fingerprints"] = self._dicts("SELECT * FROM fingerprint WHERE revision = ? ORDER BY id DESC", revision["id"])
                revision["sources"] = self._dicts(
                    "SELECT * FROM source WHERE revision = ? ORDER BY last_seen DESC, id DESC", revision["id"]
                )
            return {
                "model": self.name_of(model),
                "added": self.rows("SELECT added FROM model WHERE id = ?", [model])[0][0],
                "former_names": [row[0] for row in self.rows("SELECT name FROM model WHERE redirect_to = ? ORDER BY name", [model])],
                "claims": self.claims.of_model(model),
                "structure": self.structure.listed(model),
                "revisions": revisions,
            }

    def _dicts(self, statement: str, number: int) -> list[dict[str, Any]]:
        with explained(self.path):
            cursor = self.connection.execute(statement, [number])
            names = [column[0] for column in cursor.description]
            found = [dict(zip(names, row, strict=True)) for row in cursor]
        return [
            {column: json.loads(value) if column in ("files", "config", "about") else value for column, value in row.items()}
            for row in found
        ]

    # the change log

    def models_of_files(self, files: Sequence[SourceFile]) -> list[int]:
        """Models whose newest revision came from files of these names, sizes and digests. Those without digests are never the same."""
        if not files or any(file.digest in ("", "git:") for file in files):
            return []
        statement = """SELECT DISTINCT searched.model FROM searched JOIN source ON source.revision = searched.revision
            WHERE source.files = ? ORDER BY searched.model"""
        return [row[0] for row in self.rows(statement, [_json([asdict(file) for file in files])])]

    def generation(self) -> int:
        """Number of the last change, 0 in a new registry."""
        return int(self.rows("SELECT coalesce(max(seq), 0) FROM change")[0][0])

    def changes(self, after: int = 0) -> list[Change]:
        """What happened since change number `after`, in order."""
        return [Change(*row) for row in self.rows("SELECT seq, model, what, at FROM change WHERE seq > ? ORDER BY seq", [after])]

    def changed_models(self, after: int) -> list[int]:
        """Models whose search rows may differ since change number `after`, removed ones too; ascending."""
        return [row[0] for row in self.rows(f"{CHANGED_MODELS} ORDER BY model", [after])]


def _stored_model(row: tuple[Any, ...]) -> StoredModel:
    *head, about, config, origin, digest, blob = row
    return StoredModel(*[*head, json.loads(about), json.loads(config), origin or "", digest, blob])


def _ids(model_ids: Iterable[int]) -> str:
    return json.dumps([int(number) for number in model_ids])


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)
