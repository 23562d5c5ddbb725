"""One Hub repository as a reading: its description, its weights unless the same bytes are known, and its claims."""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from modelkin_cli.inputs import DEFAULT_LEVEL, HowToRead, Reading
from modelkin_indexer import fingerprint as fingerprints
from modelkin_indexer.claims import claims_of
from modelkin_indexer.errors import ModelkinError
from modelkin_indexer.fingerprint import Fingerprint
from modelkin_indexer.hub.claims import hub_claims
from modelkin_indexer.hub.client import HubClient, Repo
from modelkin_indexer.hub.errors import HubError
from modelkin_indexer.hub.folders import Needed, bring, needed
from modelkin_indexer.indexing import fingerprint_source
from modelkin_indexer.sources import open_source
from modelkin_indexer.structure.folders import structure_of
from modelkin_registry.hub_journal import Queued
from modelkin_registry.store import Store

UNFORESEEN = (OSError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, MemoryError, AssertionError)


@dataclass(frozen=True)
class Brought:
    """A repository that was read, or why not. `content` is that of Needed, `size` the bytes that were fetched."""

    reading: Reading | None
    reason: str | None = None
    content: str = ""
    size: int = 0
    seconds: float = 0.0
    passing: bool = False


def bring_model(client: HubClient, queued: Queued, max_bytes: int | None, how: HowToRead, registry: Path, folder: Path) -> Brought:
    """Read one repository at its listed commit. Never raises for what is wrong with it."""
    began = time.monotonic()
    try:
        with TemporaryDirectory(dir=folder) as made:
            found = _brought(client, queued, max_bytes, how, registry, Path(made) / queued.repo.split("/")[-1])
    except ModelkinError as error:
        found = Brought(None, str(error).replace(str(folder), ""), passing=isinstance(error, HubError) and error.passing)
    except UNFORESEEN as error:  # one repository must not end the run, whatever is in it
        found = Brought(None, f"{queued.repo}: cannot be read ({type(error).__name__}: {error})")
    return replace(found, seconds=round(time.monotonic() - began, 3))


def _brought(client: HubClient, queued: Queued, max_bytes: int | None, how: HowToRead, registry: Path, folder: Path) -> Brought:
    folder.mkdir()
    repo = client.repo(queued.repo, queued.revision)
    files = needed(repo)
    known = _known(registry, files.content, how)
    weights = () if known else files.weights
    size = sum(file.size for file in (*weights, *files.others))
    if max_bytes is not None and size > max_bytes:
        raise HubError(f"{size:,} bytes would be read, more than {max_bytes:,}", path=queued.repo, remedy="Raise --max-bytes.")
    if size > (free := shutil.disk_usage(folder).free):
        raise HubError(f"{size:,} bytes would be read, {free:,} are free", path=queued.repo, remedy="Free some space.", passing=True)
    bring(client, repo, files.others, folder)
    bring(client, repo, weights, folder)
    fingerprint = known or _fingerprint(folder, how)
    return Brought(_reading(repo, files, fingerprint, folder), content=files.content, size=size)


def _known(registry: Path, content: str, how: HowToRead) -> Fingerprint | None:
    """The fingerprint of a registered model with the same bytes in its files. In this thread, so with a connection of its own."""
    if not content:
        return None
    with Store.open(registry, create=False, key_name=how.key.name) as store:
        for model, repo in store.hub.models_of(content):
            stored = store.stored([model]).get(model)
            is_from_there = stored is not None and stored.origin.split("@")[0] == repo  # and not added from elsewhere since
            if stored is not None and is_from_there and stored.level in ("full", how.level or DEFAULT_LEVEL):
                return fingerprints.from_bytes(stored.blob)
    return None


def _fingerprint(folder: Path, how: HowToRead) -> Fingerprint:
    with closing(open_source(folder)) as weights:
        return fingerprint_source(weights, level=how.level or DEFAULT_LEVEL, key=how.key, threads=how.threads or 1)


def _reading(repo: Repo, files: Needed, fingerprint: Fingerprint, folder: Path) -> Reading:
    claims, notes = claims_of(folder)
    claims = tuple(dict.fromkeys([*claims, *hub_claims(repo)]))
    return Reading(repo.name, fingerprint, f"{repo.name}@{repo.commit}", files.weights, notes, claims, structure_of(folder))
