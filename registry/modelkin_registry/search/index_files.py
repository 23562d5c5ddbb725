"""The index on disk: one folder a generation, a manifest that names the current one, and a lock so that one process builds at a time.

    <registry>.index/manifest.json            written last, by rename: what it names is complete and on the disk
    <registry>.index/<seq>-<random>/0.faiss   rows of the first kind; 0.npy tells each row's revision, component and layer
    <registry>.index/lock                     held by the process that builds

Readers keep what they have mapped when a newer generation takes its place.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from blake3 import blake3

from modelkin_registry.store import locks

FORMAT = 2  # of the folder and the manifest; any other is built anew
MANIFEST = "manifest.json"
LOCK = "lock"


@dataclass(frozen=True)
class KindFiles:
    """The two files of one kind: their names without ending, rows, numbers a row, and digests."""

    stem: str
    dims: int
    rows: int
    faiss_digest: str
    rows_digest: str


@dataclass(frozen=True)
class Manifest:
    """What one generation is: of which registry, up to which change (its number and time), component names by code, files by kind."""

    registry: str
    generation: int
    at: str
    revisions: int
    folder: str
    components: tuple[str, ...]
    kinds: dict[str, KindFiles]
    format: int = FORMAT


class DamagedIndexError(Exception):
    """Index files that are missing or are not what the manifest says. Never leaves the index: it is built anew."""


def read_manifest(root: Path) -> Manifest | None:
    """The current generation, None where there is none yet. Raises DamagedIndexError."""
    try:
        content = json.loads((root / MANIFEST).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DamagedIndexError(f"{root / MANIFEST} cannot be read ({error})") from error
    try:
        if content.pop("format") != FORMAT:
            raise DamagedIndexError(f"{root / MANIFEST} is of another version")
        kinds = {kind: KindFiles(**files) for kind, files in content.pop("kinds").items()}
        manifest = Manifest(components=tuple(content.pop("components")), kinds=kinds, **content)
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedIndexError(f"{root / MANIFEST} is not a manifest ({error})") from error
    if any(Path(name).name != name for name in (manifest.folder, *(files.stem for files in kinds.values()))):
        raise DamagedIndexError(f"{root / MANIFEST} points outside its folder")
    return manifest


def publish(root: Path, manifest: Manifest) -> None:
    """Make this the current generation. Its files must be on the disk already."""
    temporary = root / f"{manifest.folder}.json"
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump(asdict(manifest), stream, indent=1, sort_keys=True)
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
    """BLAKE3 of a file: 2.9 GB/s on one core, less than the exhaustive search of the same bytes costs, so done at each opening."""
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()


def check_digest(path: Path, digest: str) -> None:
    """Raises DamagedIndexError unless the file is there and is what was written. FAISS itself does not notice a flipped bit."""
    try:
        found = digest_of(path)
    except OSError as error:
        raise DamagedIndexError(f"{path} cannot be read ({error})") from error
    if found != digest:
        raise DamagedIndexError(f"{path} is not what was written")


def sweep(root: Path, keep: str) -> None:
    """Remove other generations and what killed builders left. Call under the lock."""
    for entry in root.iterdir():
        if entry.name in (keep, MANIFEST) or entry.name.startswith(LOCK):
            continue
        with suppress(OSError):  # still mapped on systems that then refuse: the next builder's turn
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


@contextmanager
def locked(root: Path, wait_seconds: float) -> Iterator[bool]:
    """Whether this process may build now; False where another one has been at it for all of the time given. Raises OSError."""
    root.mkdir(exist_ok=True)
    with locks.locked(root / LOCK, wait_seconds) as held:
        yield held
