"""A registry's models as shared ones."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from modelkin_indexer import spec
from modelkin_indexer.errors import RegistryError, SharedFileError
from modelkin_indexer.results.beside import SourceFile
from modelkin_registry.sharing.records import SharedClaim, SharedFingerprint, SharedModel, SharedRevision, SharedSource, SharedStructure
from modelkin_registry.sharing.shared_files import SharedWriter
from modelkin_registry.store.store import Store, digest_of

STRUCTURE = "SELECT kind, name, data, first_seen, last_seen FROM structure WHERE model = ? ORDER BY kind, name, first_seen, digest"
BLOB = "SELECT data FROM blob JOIN fingerprint ON fingerprint.id = blob.fingerprint WHERE fingerprint.digest = ? LIMIT 1"


def export_registry(store: Store, path: Path, *, paths: bool = True) -> tuple[int, str]:
    """Write everything but what is derived into one file, as of one moment. Without `paths` no folder of this machine is told.

    Returns the number of models and the digest of the whole.

    Raises:
        SharedFileError: a registry with a private key, or a file that cannot be written.
    """
    if store.key_name != spec.PUBLIC:
        raise SharedFileError(f"{store.path}: made with a private key. Only registries of the public key are shared.")
    try:
        with store.reading():
            writer = SharedWriter(path)
            digest = writer.write((shared_model(store, name, paths) for name in store.names()), lambda digest: _blob(store, digest))
    except OSError as error:
        raise SharedFileError(f"{path}: cannot be written ({error.strerror or error}). Give a file where there is room.") from error
    return writer.models, digest


def shared_model(store: Store, name: str, paths: bool = True) -> SharedModel:
    """One model with all that is known of it."""
    shown = store.show(name)
    revisions = tuple(_revision(revision, paths) for revision in reversed(shown["revisions"]))
    claims = tuple(
        SharedClaim(claim["kind"], claim["value"], claim["source"], claim["first_seen"], claim["last_seen"])
        for claim in shown["claims"]
        if paths or _told(claim["value"]) == claim["value"]
    )
    structure = tuple(SharedStructure(*row) for row in _structure(store, name))
    return SharedModel(shown["model"], shown["added"], tuple(shown["former_names"]), revisions, claims, structure)


def _structure(store: Store, name: str) -> Iterator[tuple[str, str, str, str, str]]:
    for kind, file, data, first, last in store.rows(STRUCTURE, [store.find(name)]):
        yield kind, file, b64encode(data).decode(), first, last


def _revision(shown: dict[str, Any], paths: bool) -> SharedRevision:
    fingerprints = tuple(SharedFingerprint(one["digest"], one["bytes"], one["added"]) for one in reversed(shown["fingerprints"]))
    sources = tuple(
        SharedSource(
            one["who"], one["origin"] if paths else _told(one["origin"]), one["first_seen"], one["last_seen"], _files(one["files"])
        )
        for one in sorted(shown["sources"], key=lambda one: (one["first_seen"], one["id"]))
    )
    return SharedRevision(shown["added"], _files(shown["files"]), fingerprints, sources)


def _files(shown: list[dict[str, Any]]) -> tuple[SourceFile, ...]:
    return tuple(SourceFile(**one) for one in shown)


def _told(origin: str) -> str:
    """A path of this machine as its last part; anything else as it is."""
    for kind in (PurePosixPath, PureWindowsPath):
        if kind(origin).is_absolute() or origin.startswith("~"):
            return kind(origin).name
    return origin


def _blob(store: Store, digest: str) -> bytes:
    found = store.connection.execute(BLOB, [digest]).fetchone()
    if found is None or digest_of(found[0]) != digest:
        raise RegistryError(f"{store.path}: a stored fingerprint is damaged. `modelkin doctor --check` names its model.")
    return bytes(found[0])
