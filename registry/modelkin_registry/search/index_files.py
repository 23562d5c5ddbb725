"""The index on disk: a folder a segment, a manifest that names those in use, and a lock so that one process builds at a time.

    <registry>.index/manifest.json            written last, by rename: what it names is complete and on the disk
    <registry>.index/<seq>-<random>/0.faiss   rows of the first kind; 0.npy tells each row's revision, component and layer
    <registry>.index/<seq>-<random>/0.rows    of a kind with many float16 rows the rows themselves: 0.faiss is then what is looked at first
    <registry>.index/lock                     held by the process that builds

A segment holds the rows of the revisions that changed between two changes, as they were at the later one; what changed since is passed over
in it, and is in a later segment or in the store's table. Readers keep what they have mapped when it is replaced.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from blake3 import blake3
from msgspec import Struct, to_builtins

from modelkin_registry.store import locks

FORMAT = 3  # of the folders and the manifest; any other is built anew
MANIFEST = "manifest.json"
LOCK = "lock"
FAISS, LABELS, ROWS = "faiss", "npy", "rows"  # endings
ENDINGS = frozenset((FAISS, LABELS, ROWS))
FOLDER, STEM = re.compile(r"[0-9]+-[0-9a-f]+"), re.compile(r"[0-9]+")
LARGEST = 2**63 - 1  # number that a database takes
READ_AT_ONCE = 8 << 20  # bytes


class KindFiles(Struct, frozen=True):
    """The files of one kind in a segment: their names without ending, numbers a row, rows, and their digests by ending."""

    stem: str
    dims: int
    rows: int
    digests: dict[str, str]

    def paths(self, folder: Path) -> dict[str, Path]:
        """Where they lie, by ending."""
        return {ending: folder / f"{self.stem}.{ending}" for ending in self.digests}


class Segment(Struct, frozen=True):
    """Rows of the revisions changed after one change and up to another (its number and time); component names by code, files by kind."""

    folder: str
    after: int
    generation: int
    at: str
    revisions: int
    components: tuple[str, ...]
    kinds: dict[str, KindFiles]


class Manifest(Struct, frozen=True):
    """The index of a registry: its segments, oldest first, each from where the one before it ends. The first begins at change 0."""

    registry: str
    segments: tuple[Segment, ...]
    format: int = FORMAT

    @property
    def generation(self) -> int:
        """The change up to which rows are indexed."""
        return self.segments[-1].generation if self.segments else 0

    @property
    def folders(self) -> frozenset[str]:
        """The folders that are in use."""
        return frozenset(segment.folder for segment in self.segments)


class DamagedIndexError(Exception):
    """Index files that are missing or are not what the manifest says. Never leaves the index: it is built anew."""


def read_manifest(root: Path) -> Manifest | None:
    """The current generation, None where there is none yet. Raises DamagedIndexError."""
    try:
        content = json.loads((root / MANIFEST).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedIndexError(f"{root / MANIFEST} cannot be read ({error})") from error
    try:
        if content["format"] != FORMAT:
            raise DamagedIndexError(f"{root / MANIFEST} is of another version")
        is_whole = content.pop("digest") == _digest(content)
        manifest = Manifest(content.pop("registry"), tuple(_segment(**told) for told in content.pop("segments")), **content)
        outside, odd = (any(map(is_so, manifest.segments)) for is_so in (_is_outside, _is_odd))
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedIndexError(f"{root / MANIFEST} is not a manifest ({error})") from error
    if outside:
        raise DamagedIndexError(f"{root / MANIFEST} points outside its folder")
    if odd or not is_whole:
        raise DamagedIndexError(f"{root / MANIFEST} is not what was written")
    if [one.after for one in manifest.segments] != [0, *(one.generation for one in manifest.segments)][:-1]:
        raise DamagedIndexError(f"{root / MANIFEST} leaves changes out")
    return manifest


def _segment(kinds: dict[str, dict[str, Any]], components: list[str], **told: Any) -> Segment:
    return Segment(components=tuple(components), kinds={kind: KindFiles(**files) for kind, files in kinds.items()}, **told)


def _is_outside(segment: Segment) -> bool:
    kinds = segment.kinds.values()
    named = FOLDER.fullmatch(segment.folder) and all(STEM.fullmatch(one.stem) and ENDINGS.issuperset(one.digests) for one in kinds)
    return not named


def _is_odd(segment: Segment) -> bool:
    numbers = [segment.after, segment.generation, segment.revisions]
    numbers += [number for files in segment.kinds.values() for number in (files.dims, files.rows)]
    return not (
        all(type(one) is int and 0 <= one <= LARGEST for one in numbers) and all(isinstance(name, str) for name in segment.components)
    )


def _digest(content: Any) -> str:
    """Of all that a manifest says: a segment left out, or two that changed places, would be models that nobody finds."""
    return blake3(json.dumps(content, sort_keys=True).encode()).hexdigest()


def publish(root: Path, manifest: Manifest) -> None:
    """Make this the current manifest. Its files must be on the disk already."""
    temporary = root / f"{manifest.segments[-1].folder}.json"
    with temporary.open("w", encoding="utf-8") as stream:
        content = json.loads(json.dumps(to_builtins(manifest)))
        json.dump(content | {"digest": _digest(content)}, stream, indent=1, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(root / MANIFEST)
    sync_folder(root)


def sync_file(path: Path) -> None:
    """Have a finished file on the disk, not only in memory."""
    with path.open("r+b") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Have a folder's names on the disk. Systems that cannot open a folder do so by themselves."""
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def digest_of(path: Path) -> str:
    """BLAKE3 of a file: 2.9 GB/s on one core, so done when the file is first used. Read, not mapped: it need not stay in memory."""
    digest, buffer = blake3(max_threads=blake3.AUTO), bytearray(READ_AT_ONCE)
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


def check_digest(path: Path, digest: str) -> None:
    """Raises DamagedIndexError unless the file is there and is what was written. FAISS itself does not notice a flipped bit."""
    try:
        found = digest_of(path)
    except OSError as error:
        raise DamagedIndexError(f"{path} cannot be read ({error})") from error
    if found != digest:
        raise DamagedIndexError(f"{path} is not what was written")


def sweep(root: Path, keep: frozenset[str]) -> None:
    """Remove other folders than these and what killed builders left. Call under the lock."""
    from shutil import rmtree  # for those who build alone

    for entry in root.iterdir():
        if entry.name in keep or entry.name == MANIFEST or entry.name.startswith(LOCK):
            continue
        with suppress(OSError):  # still mapped on systems that then refuse: the next builder's turn
            rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


@contextmanager
def locked(root: Path, wait_seconds: float) -> Iterator[bool]:
    """Whether this process may build now; False where another one has been at it for all of the time given. Raises OSError."""
    root.mkdir(exist_ok=True)
    with locks.locked(root / LOCK, wait_seconds) as held:
        yield held
