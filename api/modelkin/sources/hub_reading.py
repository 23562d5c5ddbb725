"""One Hub repository as a reading: its description, what of its weights the level needs unless they are known, and its claims."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs
from msgspec import Struct
from msgspec.structs import replace

from modelkin.sources.damage import refuse_damage
from modelkin.wishes import Begin, HowToRead, Reading
from modelkin.words import size as in_words
from modelkin_indexer import spec
from modelkin_indexer.beside.claims import claims_of
from modelkin_indexer.beside.structure import structure_of
from modelkin_indexer.errors import ModelkinError, SourceError
from modelkin_indexer.fingerprinting.indexing import fingerprint_source, read_as_probe
from modelkin_indexer.hub.cache import RangeCache
from modelkin_indexer.hub.claims import hub_claims
from modelkin_indexer.hub.client import HubClient
from modelkin_indexer.hub.described import Repo
from modelkin_indexer.hub.errors import HubError
from modelkin_indexer.hub.folders import Needed, needed
from modelkin_indexer.hub.remote_files import RemoteFiles, remote_folder
from modelkin_indexer.opening import open_source
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.search.questioned import Questioned
from modelkin_registry.store.address import Place
from modelkin_registry.store.opening import open_store
from modelkin_registry.store.records import Queued

UNFORESEEN = Exception  # of one repository among many, whose files are a stranger's
CACHE, CACHE_BYTES = "MODELKIN_CACHE", "MODELKIN_CACHE_BYTES"  # environment: where ranges are kept, and how many bytes of them
CACHED = 4 << 30  # bytes of ranges kept by default: some 150 models of 8B at level probe
SCRATCH = 512 << 20  # bytes on disk of what is read but not kept
KEPT_SHARE = 0.25  # of the cache that one model may take at level full; a larger one is streamed past it
WORTH_KEEPING = 64 << 20  # bytes of weights below which a sync, which reads each repository once, leaves the cache to others
NAMED = 5  # files named in a note
ROUNDS = 2  # plans of what to read: some layouts are told by values, and are planned for once these are at hand
PROBE, FULL = "probe", "full"
Known = Callable[[Needed], Fingerprint | None]


class Brought(Struct, frozen=True):
    """A repository that was read, or why not. `content` is that of Needed, `size` the bytes that were fetched."""

    reading: Reading | None
    reason: str | None = None
    content: str = ""
    size: int = 0
    seconds: float = 0.0
    passing: bool = False


def read_hub(client: HubClient, name: str, how: HowToRead, begin: Begin, known: Known | None = None) -> Reading:
    """A Hub id (`org/name`, with `@revision` after it), at level probe unless told otherwise.

    `known` may give the fingerprint of files with the same digests, which are not read then.

    Raises:
        SourceError: the Hub refuses or cannot be reached, or its files cannot be read.
    """
    repo_id, _, revision = name.partition("@")
    repo = client.repo(repo_id, revision or None)
    files = needed(repo, how.file)
    level = how.level or PROBE
    with TemporaryDirectory(prefix="modelkin-") as scratch:
        remote = RemoteFiles(client, repo, files, _cache(level, _bytes(files), Path(scratch)), level)
        reading = _read(remote, files, replace(how, level=level), known and known(files), begin)
    return replace(reading, notes=(*reading.notes, *_costs(reading, remote, files, name)))


def hub_size(client: HubClient, name: str, how: HowToRead, revision: str | None = None) -> int:
    """Bytes that reading a repository takes at the level asked for; at level probe the headers of its files are read to tell.

    Raises:
        SourceError: as `read_hub`.
    """
    repo = client.repo(name, revision)
    files = needed(repo)
    if how.level != PROBE:
        return files.size
    with TemporaryDirectory(prefix="modelkin-") as scratch:
        remote = RemoteFiles(client, repo, files, RangeCache(Path(scratch), SCRATCH), PROBE)
        with remote_folder(remote) as folder:
            remote.fetch_heads()
            planned, _ = _planned(remote, folder, how)
        return remote.reader.bytes + sum(stop - start for _, start, stop in remote.pieces(planned))


def known_in(registry: Questioned, how: HowToRead) -> Known:
    """Finds the fingerprint of a registered model with the same bytes in its files."""

    def known(files: Needed) -> Fingerprint | None:
        revisions = [revision for revision, _ in _same_content(registry, files.content)] + registry.models_of_files(files.identity)
        for stored in registry.stored(dict.fromkeys(revisions)).values():
            if stored.spec == spec.VERSION and stored.level in (FULL, how.level or PROBE):
                return fingerprints.from_bytes(stored.blob)
        return None

    return known


def bring_model(client: HubClient, queued: Queued, max_bytes: int | None, how: HowToRead, registry: Place, folder: Path) -> Brought:
    """Read one repository at its listed commit. Never raises for what is wrong with it."""
    began = time.monotonic()
    try:
        with TemporaryDirectory(dir=folder) as made:
            found = _brought(client, queued, max_bytes, how, registry, Path(made))
    except ModelkinError as error:
        found = Brought(None, str(error).replace(str(folder), ""), passing=isinstance(error, HubError) and error.passing)
    except UNFORESEEN as error:  # one repository must not end the run, whatever is in it
        found = Brought(None, f"{queued.repo}: cannot be read ({type(error).__name__}: {error})")
    return replace(found, seconds=round(time.monotonic() - began, 3))


def _brought(client: HubClient, queued: Queued, max_bytes: int | None, how: HowToRead, registry: Place, scratch: Path) -> Brought:
    repo = client.repo(queued.repo, queued.revision)
    files = needed(repo)
    level = how.level or FULL
    with open_store(registry, create=False, key_name=how.key.name) as store:  # in this thread, so with a connection of its own
        known = known_in(store, replace(how, level=level))(files)
    size = sum(file.size for file in files.others) if known else files.size
    if max_bytes is not None and level == PROBE and known is None and size > max_bytes:
        size = hub_size(client, queued.repo, how, repo.commit)
    if max_bytes is not None and size > max_bytes:
        raise HubError(f"{size:,} bytes would be read, more than {max_bytes:,}", path=queued.repo, remedy="Raise --max-bytes.")
    weights = _bytes(files)
    cache = _cache(level, weights, scratch) if weights > WORTH_KEEPING else RangeCache(scratch / "ranges", SCRATCH)
    remote = RemoteFiles(client, repo, files, cache, level)
    reading = _read(remote, files, replace(how, level=level, threads=how.threads or 1), known, lambda _, __: lambda _: None)
    return Brought(reading, content=files.content, size=remote.reader.bytes)


def _read(remote: RemoteFiles, files: Needed, how: HowToRead, known: Fingerprint | None, begin: Begin) -> Reading:
    repo = remote.reader.repo
    with remote_folder(remote) as folder:
        if known is None:
            remote.fetch_heads()
            fingerprint, more = _fingerprint(remote, folder, how, begin)
        else:
            remote.fetch((file.name, 0, file.size) for file in files.others)
            fingerprint, more = (
                known,
                (f"Files with the same digests are registered, from {repo.name} or a copy: their fingerprint is used.",),
            )
            if how.strict:
                refuse_damage(known, repo.name)
        claims, notes = claims_of(folder)
        structure = structure_of(folder)
        notes = tuple(note.replace(f"{folder}/", "") for note in (*more, *notes, *_left_out(repo)))
    claims = tuple(dict.fromkeys([*claims, *hub_claims(repo)]))
    return Reading(repo.name, fingerprint, f"{repo.name}@{repo.commit}", files.identity, notes, claims, structure)


def _fingerprint(remote: RemoteFiles, folder: Path, how: HowToRead, begin: Begin) -> tuple[Fingerprint, tuple[str, ...]]:
    """The fingerprint of the files in the folder, and what the source notes."""
    level = how.level or PROBE
    done: Callable[[int], None] = lambda _: None  # noqa: E731
    if level == PROBE:
        for _ in range(ROUNDS):
            planned, is_last = _planned(remote, folder, how)
            remote.fetch(planned, begin(remote.reader.repo.name, sum(stop - start for _, start, stop in planned)))
            if is_last:
                break
    with closing(open_source(folder, how.file)) as weights:
        if level == FULL:
            done = begin(remote.reader.repo.name, sum(info.nbytes for info in weights.tensors.values()))
        fingerprint = fingerprint_source(weights, level=level, key=how.key, threads=how.threads, progress=done, strict=how.strict)
        return fingerprint, weights.notes


def _planned(remote: RemoteFiles, folder: Path, how: HowToRead) -> tuple[list[tuple[str, int, int]], bool]:
    """What level probe will read and is not at hand; and whether that is all, since no values were needed to tell."""
    with closing(open_source(folder, how.file)) as weights, remote.noting() as noted:
        from modelkin_indexer.anatomy.parts import anatomy_of

        with suppress(SourceError, ValueError, ArithmeticError):  # values that are taken for zeros here need not make sense
            anatomy_of(weights)
            is_last = not noted
            read_as_probe(weights, how.key)
            return noted, is_last
        return noted, False


def _costs(reading: Reading, remote: RemoteFiles, files: Needed, name: str) -> tuple[str, ...]:
    """What was fetched, and what the other level would add."""
    about = reading.fingerprint.about
    said = f"{in_words(remote.reader.bytes)} fetched in {remote.reader.requests:,} requests (level {about.level})."
    if about.level == FULL:
        return (said,)
    return (
        f"{said} Level full would read all {in_words(_bytes(files))} of the weights, and see what rearranged neurons, heads or hidden "
        f"channels hide, single experts, and whether every byte is the same: add --level full.",
    )


def _left_out(repo: Repo) -> tuple[str, ...]:
    """What of the Hub's own description cannot be read."""
    if not repo.left_out:
        return ()
    named = ", ".join(repo.left_out[:NAMED]) + (", ..." if len(repo.left_out) > NAMED else "")
    return (f"{len(repo.left_out)} entries of the Hub's list of files cannot be read and are left out: {named}.",)


def _bytes(files: Needed) -> int:
    return sum(file.size for file in files.weights)


def _cache(level: str, weights: int, scratch: Path) -> RangeCache:
    """The user's cache, or one for this reading alone."""
    said = os.environ.get(CACHE_BYTES, "")
    limit = int(said) if said.isdecimal() else CACHED
    if limit == 0 or (level == FULL and weights > limit * KEPT_SHARE):
        return RangeCache(scratch / "ranges", SCRATCH)
    return RangeCache(Path(os.environ.get(CACHE) or platformdirs.user_cache_dir("modelkin")) / "ranges", limit)


def _same_content(registry: Questioned, content: str) -> list[tuple[int, str]]:
    """Revisions of models whose repository held the same bytes, and that were not added from elsewhere since."""
    found = registry.hub.revisions_of(content) if content else []
    stored = registry.stored([revision for revision, _ in found])
    return [(revision, repo) for revision, repo in found if revision in stored and stored[revision].origin.split("@")[0] == repo]
