"""What a registry tells: names, revisions, fingerprints, the change log."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from msgspec import to_builtins

from modelkin_indexer import spec
from modelkin_indexer.errors import RegistryError, UnknownModel
from modelkin_indexer.results.beside import SourceFile
from modelkin_registry.store.digests import digest_of
from modelkin_registry.store.records import Change, StoredModel, digits_of
from modelkin_registry.store.sql.beside.claims import ClaimTable
from modelkin_registry.store.sql.beside.labels import LabelTable
from modelkin_registry.store.sql.beside.structure import StructureTable
from modelkin_registry.store.sql.sealed import sealed
from modelkin_registry.store.sql.session import DOCTOR, Row, Session
from modelkin_registry.store.sql.vectors import CHANGED
from modelkin_registry.store.words import kept_words, storable

SUGGESTIONS = 3  # close names shown when one is not found
SUGGESTED_AMONG = 5_000  # models up to which close names are looked for: 0.1 s; 2 s and more for 100,000

CALLED = """SELECT coalesce(target.id, model.id) AS model, coalesce(target.name, model.name) AS name,
    coalesce(target.sender, model.sender) AS sender
    FROM model LEFT JOIN model AS target ON target.id = model.redirect_to WHERE model.name = ?"""
NUMBERS = "(SELECT CAST(value AS BIGINT) FROM json_each(?))"
LAST_SOURCE = "SELECT id FROM source AS other WHERE other.revision = revision.id ORDER BY last_seen DESC, id DESC LIMIT 1"
# Left joins: what is missing is damage, and must not pass for a model that was removed.
TOLD = f"""SELECT revision.id AS number, model.id AS model_id, fingerprint.id AS fingerprint_id, searched.current AS current,
    {sealed("model")}, {sealed("revision")}, {sealed("fingerprint")}, {sealed("source")}"""
TABLES = f"""FROM searched JOIN revision ON revision.id = searched.revision JOIN model ON model.id = revision.model
    LEFT JOIN fingerprint ON fingerprint.id = searched.fingerprint LEFT JOIN source ON source.id = ({LAST_SOURCE})"""
STORED = f"""{TOLD}, data {TABLES} LEFT JOIN blob ON blob.fingerprint = fingerprint.id
    WHERE searched.revision IN {NUMBERS}"""
TWINS = """SELECT other.id AS number, other.model = revision.model AS is_own, other.id = revision.id AS is_it, fingerprint.about AS about
    FROM revision JOIN revision AS other ON other.content = revision.content JOIN fingerprint ON fingerprint.revision = other.id
    WHERE revision.id = ?"""
NAMED = f"""SELECT revision.id AS number, searched.current AS current, {sealed("model")}, {sealed("revision")}
    FROM searched JOIN revision ON revision.id = searched.revision JOIN model ON model.id = revision.model
    WHERE searched.revision IN {NUMBERS}"""  # noqa: S608
CURRENT_OF = "SELECT revision FROM searched WHERE current AND name IN (SELECT value FROM json_each(?)) ORDER BY revision"
COUNTS = """SELECT count(*), count(DISTINCT model), (SELECT count(*) FROM model WHERE redirect_to IS NULL) FROM revision"""
OUTDATED = "SELECT revision FROM fingerprint WHERE spec < ? OR spec > ?"  # by the index: with != or in order all would be looked at
OF_FILES = """SELECT DISTINCT source.revision FROM source JOIN searched ON searched.revision = source.revision
    WHERE source.files = ? AND searched.sender = '' ORDER BY source.revision"""
IN_PART = ("unread", "shards")  # of `about`: bytes that nobody could decode, and files that are missing
PARSED = ("files", "config", "about")  # columns that hold JSON


class Reading(Session):
    """A registry as it is read."""

    claims: ClaimTable
    labels: LabelTable
    structure: StructureTable

    # names

    def __contains__(self, name: str) -> bool:
        """Whether a model has or had this name, or one of its revisions has it."""
        return self.find(name) is not None

    def find(self, name: str) -> int | None:
        """The number of the model that has or had this name, or whose revision has it."""
        found = self._located(name)
        return found[0] if found else None

    def _called(self, name: str) -> Row | None:
        """The model that has or had just this name: its number, present name and sender."""
        return next(iter(self.rows(CALLED, [name])), None)

    def _located(self, name: str) -> tuple[int, int | None] | None:
        """The model that a name means, and the revision if the name is that of one."""
        if (called := self._called(name)) is not None:
            return called["model"], None
        base, _, digits = name.rpartition("@")
        called = self._called(base) if digits else None
        for row in self._revisions(called["model"]) if called is not None else ():
            if digits_of(self.text(row["content"])) == digits:
                return row["model"], row["revision"]
        return None

    def _revisions(self, model: int) -> list[Row]:
        """A model's revisions, newest first."""
        return self.rows("SELECT id AS revision, model, content FROM revision WHERE model = ? ORDER BY id DESC", [model])

    def _require(self, name: str) -> tuple[int, int | None]:
        found = self._located(name)
        if found is None:
            names = self.names() if self.count() <= SUGGESTED_AMONG else []
            from difflib import get_close_matches  # for names that are not there

            close = get_close_matches(name, names, SUGGESTIONS)
            hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else "`modelkin list` shows all names."
            raise UnknownModel(f"{self.name}: no model {name!r} in this registry. {hint}")
        return found

    def name_of(self, model: int) -> str:
        """A model's present name."""
        return self.text(self.value("SELECT name FROM model WHERE id = ?", [model]))

    def count(self) -> int:
        """Number of models."""
        return int(self.value("SELECT count(*) FROM model WHERE redirect_to IS NULL"))

    def count_revisions(self) -> int:
        """Number of revisions that are searched: all but outdated ones. Raises RegistryError where a model has no revision."""
        ((revisions, models, all_models),) = self.rows(COUNTS)
        if models != all_models:
            raise RegistryError(f"{self.name}: {abs(all_models - models)} of {all_models} models are damaged. {DOCTOR}.")
        return int(revisions) - len(self.outdated())

    def names(self) -> list[str]:
        """All models' names, sorted; former names and revisions left out."""
        return self.texts("SELECT name FROM model WHERE redirect_to IS NULL ORDER BY name")

    def numbers(self, *, current: bool = False) -> list[int]:
        """The numbers of all revisions that are searched, or of the `current` ones of them alone, ascending."""
        outdated = set(self.outdated())
        every = "SELECT max(id) FROM revision GROUP BY model ORDER BY max(id)" if current else "SELECT id FROM revision ORDER BY id"
        return [number for number in self.column(every) if number not in outdated]

    def outdated(self) -> list[int]:
        """The numbers of revisions whose fingerprints are of another spec, which are not searched, ascending."""
        return sorted(set(self.column(OUTDATED, [spec.VERSION] * 2)))

    def current_of(self, names: Iterable[str]) -> list[int]:
        """Numbers of the current revisions of the models that have these present names, ascending; outdated ones are left out."""
        names = sorted(map(storable, names))
        outdated = set(self.outdated()) if names else set()
        return [number for number in self.column(CURRENT_OF, [json.dumps(names)]) if number not in outdated]

    def revisions_of(self, model: int) -> list[int]:
        """Numbers of a model's revisions, oldest first."""
        return [row["revision"] for row in reversed(self._revisions(model))]

    def newest_of(self, models: Iterable[int]) -> dict[int, int]:
        """The number of each model's current revision, by model; removed ones are left out, and those whose current one is outdated."""
        statement = f"SELECT model, max(id) AS newest FROM revision WHERE model IN {NUMBERS} GROUP BY model ORDER BY model"  # noqa: S608
        found = {row["model"]: row["newest"] for row in self.rows(statement, [numbered(models)])}
        outdated = set(self.outdated())
        return {model: newest for model, newest in found.items() if newest not in outdated}

    def standing(self, revisions: Iterable[int]) -> dict[int, int]:
        """The number of the fingerprint that stands for each of these revisions; removed ones are left out."""
        statement = f"SELECT revision, fingerprint FROM searched WHERE revision IN {NUMBERS}"  # noqa: S608
        return {row["revision"]: row["fingerprint"] for row in self.rows(statement, [numbered(revisions)])}

    def names_of(self, revisions: Iterable[int]) -> dict[int, str]:
        """Names by number; numbers of removed ones are left out."""
        return {row["number"]: self._address(row) for row in self.rows(NAMED, [numbered(revisions)])}

    def models_of(self, revisions: Iterable[int]) -> dict[int, int]:
        """The models that revisions are of, by number; numbers of removed ones are left out."""
        statement = f"SELECT id, model FROM revision WHERE id IN {NUMBERS}"  # noqa: S608
        return {row["id"]: row["model"] for row in self.rows(statement, [numbered(revisions)])}

    def senders(self) -> dict[str, str]:
        """The imported models, by present name, each with the file that brought it."""
        return {row["name"]: row["sender"] for row in self.rows("SELECT name, sender FROM model WHERE sender != '' ORDER BY name")}

    # fingerprints

    def get(self, name: str) -> StoredModel:
        """The fingerprint that stands for a model or a revision, by its name. Raises UnknownModel, RegistryError if damaged."""
        with self.reading():
            model, revision = self._require(name)
            if revision is None:
                revision = self.value("SELECT max(id) FROM revision WHERE model = ?", [model])
            found = self.stored([revision or 0])
            if revision not in found:
                raise RegistryError(f"{self.name}: {name!r} is damaged: it has no weights. {DOCTOR}.")
            return found[revision]

    def stored(self, revisions: Iterable[int]) -> dict[int, StoredModel]:
        """The fingerprints that stand for these revisions; removed ones are left out. Raises RegistryError if one is damaged."""
        return {row["number"]: self._stored(row) for row in self.rows(STORED, [numbered(revisions)])}

    def _stored(self, row: Row) -> StoredModel:
        name, model, revision = self._address(row), self.whole(row, "model"), self.whole(row, "revision")
        if row["data"] is None or digest_of(row["data"]) != row["fingerprint_digest"]:
            raise RegistryError(f"{self.name}: the stored fingerprint of {name!r} is damaged. Remove the model and add it again; {DOCTOR}.")
        fingerprint = self.whole(row, "fingerprint")
        return StoredModel(
            model_id=row["model_id"],
            model=model["name"],
            name=name,
            sender=model["sender"],
            added=revision["added"],
            revision=row["number"],
            current=bool(row["current"]),
            fingerprint=row["fingerprint_id"],
            content=revision["content"],
            **{field: fingerprint[field] for field in ("level", "spec", "key", "coverage", "digest")},
            parameters=revision["parameters"],
            bytes_total=revision["bytes_total"],
            about=json.loads(fingerprint["about"]),
            config=json.loads(revision["config"]),
            origin=self._origin(row),
            blob=row["data"],
        )

    def _origin(self, row: Row) -> str:
        """Where a revision came from, as noted last. What an import says of that stays its sender's word."""
        origin, sender = self.whole(row, "source")["origin"], row["model_sender"]
        return origin if not sender else f"from {sender}" + (f": {origin}" if origin else "")

    def blob(self, digest: str) -> bytes:
        """A fingerprint's bytes by their digest. Raises RegistryError if there are none, or damaged ones."""
        statement = "SELECT data FROM blob JOIN fingerprint ON fingerprint.id = blob.fingerprint WHERE fingerprint.digest = ? LIMIT 1"
        found = self.value(statement, [digest])
        if found is None or digest_of(found) != digest:
            raise RegistryError(f"{self.name}: a stored fingerprint is damaged. `modelkin doctor --check` names its model.")
        return bytes(found)

    def _address(self, row: Row) -> str:
        """The name of a revision: its model's for the current one."""
        name, content = self.whole(row, "model")["name"], self.whole(row, "revision")["content"]
        return str(name) if row["current"] else f"{name}@{digits_of(content)}"

    # everything known

    def contents(self, among: Collection[str] | None = None) -> dict[int, str]:
        """The digest of the weights of each revision that is searched, by number: of all, or of those with one `among` these."""
        some = "" if among is None else " WHERE content IN (SELECT value FROM json_each(?))"
        found = self.rows(f"SELECT id, content FROM revision{some}", [] if among is None else [json.dumps(sorted(among))])  # noqa: S608
        outdated = set(self.outdated())
        return {row["id"]: self.text(row["content"]) for row in found if row["id"] not in outdated}

    def in_part(self, revisions: Iterable[int]) -> set[int]:
        """Those of these revisions that were read only in part: nothing is known of the rest, whatever their digests."""
        rows = self.rows(f"SELECT revision, about FROM fingerprint WHERE revision IN {NUMBERS}", [numbered(revisions)])  # noqa: S608
        return {row["revision"] for row in rows if any(json.loads(row["about"]).get(what) for what in IN_PART)}

    def twins(self, revision: int) -> list[str]:
        """The revisions of other models that have the same content, by name; of what was read only in part nothing is known."""
        with self.reading():
            rows = self.dicts(TWINS, [revision])
            in_part = {row["number"] for row in rows if any(json.loads(row["about"]).get(what) for what in IN_PART)}
            if any(row["is_it"] and row["number"] in in_part for row in rows):
                return []
            return sorted(self.names_of({row["number"] for row in rows if not row["is_own"]} - in_part).values())

    def show(self, name: str) -> dict[str, Any]:
        """Everything known of a model except vectors: revisions with their fingerprints and sources, claims, former names. Newest first.

        Of `model@digits` that revision alone. Raises UnknownModel.
        """
        with self.reading():
            model, revision = self._require(name)
            told = self.whole(self.rows("SELECT * FROM model WHERE id = ?", [model])[0], "model", "")
            return {
                "model": self.name_of(model) if revision is None else self.names_of([revision])[revision],
                "added": told["added"],
                "sender": told["sender"],
                "former_names": self.texts("SELECT name FROM model WHERE redirect_to = ? ORDER BY name", [model]),
                "tags": list(self.labels.tags([model]).get(model, ())),
                "note": self.labels.notes([model]).get(model, ""),
                "claims": self.claims.of_model(model),
                "structure": list(self._structure(model)),
                "revisions": [self._revision(row["revision"]) for row in self._revisions(model) if revision in (None, row["revision"])],
            }

    def _revision(self, number: int) -> dict[str, Any]:
        (found,) = self._parsed("revision", "id = ?", number)
        return {
            **found,
            "name": self.names_of([number])[number],
            "fingerprints": self._parsed("fingerprint", "revision = ? ORDER BY id DESC", number),
            "sources": self._parsed("source", "revision = ? ORDER BY last_seen DESC, id DESC", number),
        }

    def _structure(self, model: int) -> Iterator[dict[str, Any]]:
        """What ever lay beside its weights, with dates; of a licence that changed, how much of its words stayed."""
        former: dict[str, str] = {}
        for kind, name, digest, data, first, last in self.structure.kept(model):
            shown = {"kind": kind, "name": name, "digest": digest, "bytes": len(data), "first_seen": first, "last_seen": last}
            if kind == "licence":
                text = data.decode("utf-8", "replace")
                shown["kept_words"] = kept_words(former[name], text) if name in former else None
                former[name] = text
            yield shown

    def _parsed(self, table: str, which: str, number: int) -> list[dict[str, Any]]:
        """Rows of a sealed table, with what is JSON in them as values."""
        rows = self.rows(f"SELECT * FROM {table} WHERE {which}", [number])  # noqa: S608
        found = [{"id": row["id"], **self.whole(row, table, "")} for row in rows]
        return [{name: json.loads(value) if name in PARSED else value for name, value in row.items()} for row in found]

    def models_of_files(self, files: Sequence[SourceFile]) -> list[int]:
        """Revisions that were read here from files of these names, sizes and digests. Those without digests are never the same."""
        if not files or any(file.digest in ("", "git:") for file in files):
            return []
        return self.column(OF_FILES, [as_json([to_builtins(file) for file in files])])

    # the change log

    def generation(self) -> int:
        """Number of the last change, 0 in a new registry."""
        return int(self.value("SELECT coalesce(max(seq), 0) FROM change"))

    def changes(self, after: int = 0) -> list[Change]:
        """What happened since change number `after`, in order."""
        statement = "SELECT seq, model AS model_id, revision, what, at FROM change WHERE seq > ? ORDER BY seq"
        return [Change(**row) for row in self.dicts(statement, [after])]

    def changed(self, after: int) -> list[int]:
        """Revisions whose search rows may differ since change number `after`, removed ones too; ascending."""
        return self.column(f"{CHANGED} ORDER BY revision", [after])


def numbered(revisions: Iterable[int]) -> str:
    """Numbers as one value of a statement: see NUMBERS."""
    return json.dumps([int(number) for number in revisions])


def as_json(value: Any) -> str:
    """A value as it is stored."""
    return json.dumps(value, sort_keys=True, allow_nan=False)
