"""Another registry's models into this one. What the file says is its sender's word, and stays apart from what was read here.

A model comes in as one of its own that names its sender, under its name where that is free, else under `name#` and the start of a digest.
Contents that a model of its name has here are passed over. Only into a model that the same sender brought before, and that has a content of
it, come new revisions of it. Nothing here is displaced, dated, renamed or given another name: a time is that of the arrival.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

from msgspec import Struct, to_builtins

from modelkin_indexer import spec
from modelkin_indexer.errors import FingerprintError, SharedFileError
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_indexer.results.beside import Claim, StructurePart
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.shared import TakenIn
from modelkin_registry.search.candidates import index_rows
from modelkin_registry.sharing.records import SharedModel, SharedRevision, SharedSource
from modelkin_registry.sharing.shared_files import SharedReader
from modelkin_registry.store.digests import content_digest, sampled_digest
from modelkin_registry.store.protocol import Store
from modelkin_registry.store.records import IMPORTED, NewModel, StoredModel, names_apart
from modelkin_registry.store.rows import IndexRows, encode

FORMER_NAME = "former_name"  # kind of the claim that a model had another name there


class _Content(Struct, frozen=True):
    """What tells one revision from another: the digest of its content, and that of its sampled rows, whatever the level."""

    digest: str
    sampled: bytes

    def is_in(self, other: _Content) -> bool:
        """Equal, or read at level probe and the other in full, with the same rows."""
        is_less = self.digest.startswith("probe") and other.digest.startswith("full")
        return self.digest == other.digest or (is_less and self.sampled == other.sampled)


class _Part(Struct, frozen=True):
    """One revision on its way in, with its fingerprints and their bytes, `full` last."""

    revision: SharedRevision
    found: Sequence[tuple[Fingerprint, bytes]]
    content: _Content


def import_registry(store: Store, path: Path, sender: str = "") -> tuple[list[TakenIn], str]:
    """Take in all models of a shared file, after everything in it was checked: a file that is not sound changes nothing.

    `sender` is what they are marked with, the file's name unless told otherwise. Returns what became of each, and the digest of the file.
    Stopped halfway, the models until then are there, each whole, and the same call again takes in the rest.

    Raises:
        SharedFileError: no shared file, a damaged one, one of another version.
        RegistryError: trouble with the registry.
    """
    if store.key_name != spec.PUBLIC:
        raise SharedFileError(f"{store.name}: uses a private key; shared files hold fingerprints of the public one. Use another registry.")
    with SharedReader(path) as reader:
        for model in reader.read():
            for revision in model.revisions:
                _read_fingerprints(reader, model, revision)
        return [_Arrival(store, reader, model, sender or path.name).take_in() for model in reader.read()], reader.digest


def _read_fingerprints(reader: SharedReader, model: SharedModel, revision: SharedRevision) -> list[tuple[Fingerprint, bytes]]:
    """A revision's fingerprints with their bytes, `full` last. Raises SharedFileError for what cannot be stored."""
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
        found.append((fingerprint, blob))
    return sorted(found, key=lambda item: spec.LEVELS.index(item[0].about.level))


def _content(fingerprint: Fingerprint) -> _Content:
    return _Content(content_digest(fingerprint), sampled_digest(fingerprint))


class _Arrival:
    """One model on its way in."""

    def __init__(self, store: Store, reader: SharedReader, model: SharedModel, sender: str) -> None:
        self.store, self.model, self.sender = store, model, sender
        read = [(revision, _read_fingerprints(reader, model, revision)) for revision in model.revisions]
        self.parts = [_Part(revision, found, _content(found[-1][0])) for revision, found in read]

    def take_in(self) -> TakenIn:
        with self.store.batch():
            here = [(stored, self._content_of(stored)) for stored in self._namesakes()]
            new = [part for part in self.parts if not any(part.content.is_in(content) for _, content in here)]
            known = [stored for stored, content in here if any(part.content.is_in(content) for part in self.parts)]
            if not new:
                return TakenIn(self.model.name, known[0].model, "unchanged")
            own = [stored.model for stored in known if stored.sender == self.sender]
            name = own[0] if own else self._free_name(new[0].content)
            self._put(name, new)
        return TakenIn(self.model.name, name, "merged" if own else "added")

    def _namesakes(self) -> Iterator[StoredModel]:
        """Every revision of the models here that have its name, a former one, or one that was made of it."""
        made = [name for part in self.parts for name in names_apart(self.model.name, IMPORTED, part.content.digest)]
        names = (self.model.name, *self.model.former_names, *made)
        for model in dict.fromkeys(self.store.find(name) for name in names):
            if model is not None:
                yield from self.store.stored(self.store.revisions_of(model)).values()

    def _content_of(self, stored: StoredModel) -> _Content:
        return _Content(stored.content, sampled_digest(fingerprints.from_bytes(stored.blob, stored.name)))

    def _free_name(self, content: _Content) -> str:
        names = (self.model.name, *names_apart(self.model.name, IMPORTED, content.digest))
        return next(name for name in names if name not in self.store)  # the last is the content's own, which nothing here has

    def _put(self, name: str, parts: Sequence[_Part]) -> None:
        """Its new revisions, the oldest first, and what is said of it now."""
        for part in parts:
            for fingerprint, blob in part.found:
                rows = index_rows(fingerprint)
                for source in part.revision.sources:
                    self._put_one(name, part, fingerprint, blob, source, rows)

    def _put_one(
        self, name: str, part: _Part, fingerprint: Fingerprint, blob: bytes, source: SharedSource, rows: Sequence[IndexRows]
    ) -> None:
        about = fingerprint.about
        record = NewModel(
            name=name,
            content=part.content.digest,
            level=about.level,
            spec=about.spec,
            key=about.key,
            parameters=about.parameters,
            bytes_total=about.bytes_total,
            coverage=about.coverage,
            about=to_builtins(about),
            blob=blob,
            config=about.config or {},
            files=source.files or part.revision.files,
            who=f"{source.who} (from {self.sender})".lstrip(),
            origin=source.origin,
            claims=tuple(self._claims()),
            structure=tuple(self._structure()),
            sender=self.sender,
        )
        self.store.put(record, rows)

    def _claims(self) -> Iterator[Claim]:
        """What is said of it there now, its former names with it."""
        latest = _latest((claim.source, claim.last_seen) for claim in self.model.claims)
        yield from (Claim(one.kind, one.value, one.source) for one in self.model.claims if one.last_seen == latest[one.source])
        yield from (Claim(FORMER_NAME, name, self.sender) for name in self.model.former_names)

    def _structure(self) -> Iterator[StructurePart]:
        """What lay beside its weights there when they were looked at last."""
        latest = _latest(("", one.last_seen) for one in self.model.structure)
        for one in self.model.structure:
            if one.last_seen == latest[""]:
                data = b64decode(one.data)
                yield StructurePart(one.kind, one.name, blake2b(data, digest_size=16).hexdigest(), data)


def _latest(seen: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The latest time of each."""
    found: dict[str, str] = {}
    for name, at in seen:
        found[name] = max(at, found.get(name, ""))
    return found
