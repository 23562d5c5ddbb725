"""A registry's models as shared ones."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from modelkin_indexer import spec
from modelkin_indexer.errors import SharedFileError
from modelkin_indexer.results.beside import SourceFile
from modelkin_registry.sharing.records import SharedClaim, SharedFingerprint, SharedModel, SharedRevision, SharedSource, SharedStructure
from modelkin_registry.sharing.shared_files import SharedWriter
from modelkin_registry.store.protocol import Store


def export_registry(store: Store, path: Path, *, paths: bool = True) -> tuple[int, str]:
    """Write everything but what is derived into one file, as of one moment. Without `paths` no folder of this machine is told.

    Returns the number of models and the digest of the whole.

    Raises:
        SharedFileError: a registry with a private key, or a file that cannot be written.
    """
    if store.key_name != spec.PUBLIC:
        raise SharedFileError(f"{store.name}: made with a private key. Only registries of the public key are shared.")
    if outdated := store.names_of(store.outdated()):
        first = min(outdated.values())
        raise SharedFileError(
            f"{store.name}: {len(outdated)} fingerprints ({first!r} is the first) are of an older spec. Make them anew with "
            "`modelkin upgrade`, or remove those models; then share the registry."
        )
    try:
        with store.reading():
            writer = SharedWriter(path)
            digest = writer.write((shared_model(store, name, paths) for name in store.names()), store.blob)
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
        if paths or last_part(claim["value"]) == claim["value"]
    )
    structure = tuple(_structure(store, name))
    return SharedModel(shown["model"], shown["added"], tuple(shown["former_names"]), revisions, claims, structure)


def _structure(store: Store, name: str) -> Iterator[SharedStructure]:
    for kept in store.structure.kept(store.find(name) or 0):
        yield SharedStructure(kept.kind, kept.name, b64encode(kept.data).decode(), kept.first_seen, kept.last_seen)


def _revision(shown: dict[str, Any], paths: bool) -> SharedRevision:
    fingerprints = tuple(SharedFingerprint(one["digest"], one["bytes"], one["added"]) for one in reversed(shown["fingerprints"]))
    sources = tuple(
        SharedSource(
            one["who"], one["origin"] if paths else last_part(one["origin"]), one["first_seen"], one["last_seen"], _files(one["files"])
        )
        for one in sorted(shown["sources"], key=lambda one: (one["first_seen"], one["id"]))
    )
    return SharedRevision(shown["added"], _files(shown["files"]), fingerprints, sources)


def _files(shown: list[dict[str, Any]]) -> tuple[SourceFile, ...]:
    return tuple(SourceFile(**one) for one in shown)


def last_part(origin: str) -> str:
    """A path of this machine as its last part; anything else as it is."""
    for kind in (PurePosixPath, PureWindowsPath):
        if kind(origin).is_absolute() or origin.startswith("~"):
            return kind(origin).name
    return origin
