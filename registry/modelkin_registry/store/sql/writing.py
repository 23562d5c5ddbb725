"""How models are put into a registry's truth, renamed and removed. Each change is one transaction, and there is one writer at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import to_builtins

from modelkin_indexer import spec
from modelkin_indexer.errors import NameTaken, RegistryError
from modelkin_registry.store.digests import digest_of
from modelkin_registry.store.records import DISPLACED, IMPORTED, MAX_NAME, NewModel, PutResult, digits_of, names_apart
from modelkin_registry.store.rows import EncodedRows, IndexRows, encode
from modelkin_registry.store.sql.beside.backgrounds import BackgroundTable
from modelkin_registry.store.sql.beside.claims import ClaimTable
from modelkin_registry.store.sql.beside.labels import LabelTable
from modelkin_registry.store.sql.beside.structure import StructureTable
from modelkin_registry.store.sql.facets import DERIVED_FROM, derived
from modelkin_registry.store.sql.facets import NEW as NEW_FACETS
from modelkin_registry.store.sql.hub_journal import HubJournal
from modelkin_registry.store.sql.kinship import KinshipTable
from modelkin_registry.store.sql.leases import LeaseTable
from modelkin_registry.store.sql.listing import Listing
from modelkin_registry.store.sql.reading import as_json
from modelkin_registry.store.sql.session import Row
from modelkin_registry.store.sql.vectors import VectorTable
from modelkin_registry.store.times import later_than, now
from modelkin_registry.store.words import storable

NEWEST = "SELECT id, content FROM revision WHERE model = ? ORDER BY id DESC LIMIT 1"
SOURCE = "SELECT id FROM source WHERE revision = ? AND who = ? AND origin = ?"
WITH_ROWS = """SELECT DISTINCT revision.model AS model, revision.id AS revision FROM vector
    JOIN revision ON revision.id = vector.revision ORDER BY revision.id"""
HELD = """SELECT revision.id AS revision, content, parameters, revision.added AS added,
    (SELECT origin FROM source WHERE source.revision = revision.id ORDER BY last_seen DESC, id DESC LIMIT 1) AS origin
    FROM revision WHERE model = ? ORDER BY revision.id DESC LIMIT 1"""


class Writing(Listing):
    """A registry as it is changed."""

    def begin(self) -> None:
        """Have the tables at hand, and what the registry is. Called once the engine's session is open."""
        self.vectors = VectorTable(self)
        self.claims = ClaimTable(self)
        self.labels = LabelTable(self)
        self.kinship = KinshipTable(self)
        self.hub = HubJournal(self)
        self.leases = LeaseTable(self)
        self.backgrounds = BackgroundTable(self)
        self.structure = StructureTable(self)
        made = self.rows("SELECT registry, spec, key, created FROM meta")[0]
        self.registry_id, self.key_name, self.created = made["registry"], made["key"], made["created"]
        if made["spec"] != spec.VERSION:
            self._take_out_older()

    def _take_out_older(self) -> None:
        """Search rows of an older spec say nothing to a newer one: they go, and their fingerprints stay until they are made anew."""
        with self.batch():
            for row in self.rows(WITH_ROWS):
                self._log(row["model"], "put", row["revision"])
            self.run("DELETE FROM vector WHERE fingerprint IN (SELECT id FROM fingerprint WHERE spec != ?)", [spec.VERSION])
            self.run("UPDATE meta SET spec = ?", [spec.VERSION])

    # putting

    def put(self, record: NewModel, vectors: Sequence[IndexRows] = (), *, unrelated: bool = False, replace: bool = False) -> PutResult:
        """Store one observation, whole or not at all: see `protocol.Store.put`."""
        self._check(record)
        encoded = [encode(rows) for rows in vectors]
        with self.batch():
            model, kept = self._model_for(record, unrelated, replace)
            revision = self._revision_for(model, record)
            self._note_source(revision, record)
            self.claims.note_now(model, record.claims)
            self.structure.note_now(model, record.structure)
            known = self.rows("SELECT 1 FROM fingerprint WHERE revision = ? AND level = ?", [revision, record.level])
            if not known:
                self._add_fingerprint(model, revision, record, encoded)
            return PutResult("unchanged" if known else "added", self.name_of(model), model, revision, len(record.blob), kept)

    def _check(self, record: NewModel) -> None:
        if not record.name or not record.name.isprintable() or len(record.name) > MAX_NAME:
            raise RegistryError(
                f"{self.name}: {record.name!r} cannot be a model's name. Give 1 to {MAX_NAME} printable characters with `--as NAME`."
            )
        if record.level not in spec.LEVELS or record.spec != spec.VERSION or record.key != self.key_name:
            given = f"{record.name!r} has level {record.level!r}, spec {record.spec!r}, key {record.key!r}"
            taken = f"levels {'/'.join(spec.LEVELS)}, spec {spec.VERSION!r}, key {self.key_name!r}"
            remedy = "Index the weights again with the registry's key."
            raise RegistryError(f"{self.name}: the fingerprint of {given}; this registry takes {taken}. {remedy}")

    def _model_for(self, record: NewModel, unrelated: bool, replace: bool) -> tuple[int, str]:
        """The model that a record is put into, and the new name of the one that had to give it its own ("" if none had to)."""
        held = self._called(record.name)
        if held is None and record.name in self:
            raise RegistryError(f"{self.name}: {record.name!r} is the name of a revision here. Give another one with `--as NAME`.")
        if held is None:
            return self._new_model(record), ""
        if held["sender"] == record.sender and not unrelated:
            return int(held["model"]), ""
        if record.sender or not (held["sender"] or replace):
            raise self._taken(record.name, held)
        kept = self._made_room(record.name, held, IMPORTED if held["sender"] else DISPLACED)
        return self._back_again(record) or self._new_model(record), kept

    def _new_model(self, record: NewModel) -> int:
        return self.insert("model", name=record.name, added=now(), redirect_to=None, sender=storable(record.sender))

    def _taken(self, name: str, held: Row) -> NameTaken:
        there = self.rows(HELD, [held["model"]])[0]
        called = "" if held["name"] == name else f" (now named {held['name']!r})"
        where = f", from {there['origin']}" if there["origin"] else ""
        about = f"{there['parameters']:,} parameters, added {there['added'][:10]}{where}"
        return NameTaken(
            f"{self.name}: the name {name!r} is that of another model here{called}: {about}; its weights have nothing to do with these. "
            f"Store these under another name with `--as NAME`; or give them this name with `--replace`, and the other model is kept as "
            f"'{name}{DISPLACED}{digits_of(there['content'])}'."
        )

    def _made_room(self, name: str, held: Row, mark: str) -> str:
        """Give the model that has or had this name another one, to which this one does not lead. Returns its name."""
        if held["name"] != name:
            self.run("DELETE FROM model WHERE name = ? AND redirect_to = ?", [name, held["model"]])
            return str(held["name"])
        for apart in names_apart(name, mark, self.rows(NEWEST, [held["model"]])[0]["content"]):
            if self._called(apart) is None:
                self._give_name(held["model"], apart)
                return apart
        raise RegistryError(f"{self.name}: the model {name!r} cannot make room: a copy of it has its other names. Rename that one.")

    def _back_again(self, record: NewModel) -> int | None:
        """The model that once gave this name to another one, if it is these weights that come back: it has its name again."""
        for former in names_apart(record.name, DISPLACED, record.content):
            held = self._called(former)
            if held is None or held["name"] != former or held["sender"]:
                return None
            if self.rows(NEWEST, [held["model"]])[0]["content"] == record.content:
                self._give_name(held["model"], record.name)
                return int(held["model"])
        return None

    def _give_name(self, model: int, name: str) -> None:
        self.update("model", model, name=name)
        self._log(model, "rename")

    def _revision_for(self, model: int, record: NewModel) -> int:
        for newest in self.rows(NEWEST, [model]):
            if newest["content"] in (record.content, record.known_as):
                if newest["content"] != record.content:
                    self.update("revision", newest["id"], content=record.content)
                return int(newest["id"])
        files, config = as_json([to_builtins(file) for file in record.files]), as_json(dict(record.config))
        described = {"parameters": record.parameters, "bytes_total": record.bytes_total, "config": config, "files": files}
        return self.insert("revision", model=model, content=record.content, added=now(), **described)

    def _note_source(self, revision: int, record: NewModel) -> None:
        at = later_than(self.value("SELECT max(last_seen) FROM source WHERE revision = ?", [revision]))
        files = as_json([to_builtins(file) for file in record.files])
        who, origin = storable(record.who), storable(record.origin)
        if (known := self.value(SOURCE, [revision, who, origin])) is not None:
            self.update("source", known, last_seen=at, files=files)
        else:
            self.insert("source", revision=revision, who=who, origin=origin, first_seen=at, last_seen=at, files=files)

    def _add_fingerprint(self, model: int, revision: int, record: NewModel, encoded: Sequence[EncodedRows]) -> None:
        described: Mapping[str, Any] = {
            "level": record.level,
            "spec": record.spec,
            "key": record.key,
            "coverage": float(record.coverage),
            "about": as_json(dict(record.about)),
            "digest": digest_of(record.blob),
            "bytes": len(record.blob),
        }
        fingerprint = self.insert("fingerprint", revision=revision, added=now(), **described)
        self.insert("blob", fingerprint=fingerprint, data=record.blob)
        self._search_by(model, revision, fingerprint, encoded)

    def _search_by(self, model: int, revision: int, fingerprint: int, encoded: Sequence[EncodedRows]) -> None:
        """Make these the revision's search rows if this is the fingerprint that stands for it."""
        if self.value("SELECT fingerprint FROM searched WHERE revision = ?", [revision]) == fingerprint:
            self.vectors.replace(revision, fingerprint, encoded)
            self._choose_by(revision)
            self._log(model, "put", revision)

    def _choose_by(self, revision: int) -> None:
        """Make the facets of a revision anew."""
        self.run("DELETE FROM facet WHERE revision = ?", [revision])
        self.run_many(NEW_FACETS, [derived(*row) for row in self.rows(f"{DERIVED_FROM} WHERE revision.id = ?", [revision])])

    def renew(self, revision: int, record: NewModel, vectors: Sequence[IndexRows]) -> None:
        """Put this fingerprint of the same weights in the place of a revision's outdated ones."""
        self._check(record)
        encoded = [encode(rows) for rows in vectors]
        sizes = {"parameters": record.parameters, "bytes_total": record.bytes_total}
        with self.batch():
            for model in self.models_of([revision]).values():
                self.run("DELETE FROM fingerprint WHERE revision = ? AND spec != ?", [revision, spec.VERSION])
                self.update("revision", revision, content=record.content, config=as_json(dict(record.config)), **sizes)
                self._add_fingerprint(model, revision, record, encoded)

    def repair_vectors(self, revision: int, fingerprint: int, vectors: Sequence[IndexRows]) -> None:
        """Make a revision's search rows anew, unless another fingerprint stands for it by now. The truth is not touched."""
        encoded = [encode(rows) for rows in vectors]
        with self.batch():
            for model in self.models_of([revision]).values():
                self._search_by(model, revision, fingerprint, encoded)

    # removing and renaming

    def remove(self, name: str) -> None:
        """Forget a model, or one revision where `name` is `model@digits`, and everything known of it. Raises UnknownModel."""
        with self.batch():
            model, revision = self._require(name)
            every = self.revisions_of(model)
            gone = every if revision is None else [revision]
            for number in gone:
                self._log(model, "remove", number)
            if gone == every:
                self.run("DELETE FROM model WHERE id = ?", [model])
            else:
                self.run("DELETE FROM revision WHERE id = ?", [revision])

    def rename(self, old: str, new: str) -> None:
        """Give a model another name; the old one keeps resolving. Raises UnknownModel, RegistryError if `new` is taken."""
        with self.batch():
            model, revision = self._require(old)
            former = self.name_of(model)
            if revision is not None:
                raise RegistryError(f"{self.name}: {old!r} is a revision of {former!r}, and has its name. Rename {former!r}.")
            if new == former:
                return
            if (held := self._called(new)) is not None and held["model"] != model:
                raise RegistryError(f"{self.name}: the name {new!r} is taken by {held['name']!r}. Choose another, or remove that model.")
            self.run("DELETE FROM model WHERE name = ? AND redirect_to = ?", [new, model])
            self._give_name(model, new)
            self.insert("model", name=former, added=now(), redirect_to=model, sender="")

    def _log(self, model: int, what: str, revision: int | None = None) -> None:
        self.insert("change", model=model, revision=revision, what=what, at=now())
