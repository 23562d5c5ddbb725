"""What of a screening is done already, in the folder `work` of its output: each submission's fingerprint and measurements, whole or not
at all, under a digest of everything that they depend on. A call that was stopped goes on there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from modelkin_indexer import spec
from modelkin_indexer.errors import FingerprintError
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.screening.measured import Kinship, Measured
from modelkin_registry.screening.rings import Between

WORK = "work"
VERSION = 2  # of these files; another one is measured again
MOST_FILES = 10_000  # files of a submission's folder that are looked at for changes; of a larger one its own time has to do


class Failed(Struct, frozen=True):
    """Why a submission could not be read."""

    reason: str


class Kept(Struct, frozen=True):
    """The folder of what is done."""

    folder: Path

    def measured(self, identity: str) -> Measured | Failed | None:
        """What was measured, None if that is not there or damaged."""
        plain = self._read(f"{identity}.json")
        try:
            if plain is None:
                return None
            if "reason" in plain:
                return Failed(str(plain["reason"]))
            return Measured.of_dict(plain["measured"]) if self.path(identity).exists() else None
        except (KeyError, TypeError, ValueError):
            return None

    def path(self, identity: str) -> Path:
        """Where a submission's fingerprint lies."""
        return self.folder / f"{identity}.modelkin"

    def fingerprint(self, identity: str) -> Fingerprint | None:
        """A submission's fingerprint, None if it is not there or damaged."""
        try:
            return fingerprints.load(self.path(identity))
        except (OSError, FingerprintError):
            return None

    def as_stored(self, identity: str) -> Fingerprint | None:
        """The same with its matrices as the submission stores them, where they were read turned: so it is held against the others."""
        stored = self.path(f"{identity}.stored")
        try:
            return fingerprints.load(stored) if stored.exists() else self.fingerprint(identity)
        except (OSError, FingerprintError):
            return None

    def keep(self, identity: str, fingerprint: Fingerprint, measured: Measured, stored: Fingerprint | None = None) -> None:
        """The fingerprints first: what was measured says that they are there."""
        if stored is not None:
            self._write(self.path(f"{identity}.stored").name, stored.to_bytes())
        self._write(self.path(identity).name, fingerprint.to_bytes())
        self._write(f"{identity}.json", _bytes({"version": VERSION, "measured": measured.to_dict()}))

    def keep_failure(self, identity: str, reason: str) -> None:
        self._write(f"{identity}.json", _bytes({"version": VERSION, "reason": reason}))

    def pairs(self, identity: str) -> list[Between] | None:
        """What a submission has in common with later ones, None if that is not there."""
        plain = self._read(f"{identity}.pairs.json")
        try:
            if plain is None:
                return None
            return [Between(one["first"], one["second"], tuple(Kinship(**row) for row in one["rows"])) for one in plain["pairs"]]
        except (KeyError, TypeError):
            return None

    def keep_pairs(self, identity: str, pairs: list[Between]) -> None:
        rows = [{"first": one.first, "second": one.second, "rows": [row.to_dict() for row in one.rows]} for one in pairs]
        self._write(f"{identity}.pairs.json", _bytes({"version": VERSION, "pairs": rows}))

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            plain = json.loads((self.folder / name).read_bytes())
        except (OSError, ValueError):
            return None
        return plain if isinstance(plain, dict) and plain.get("version") == VERSION else None

    def _write(self, name: str, data: bytes) -> None:
        write_whole(self.folder / name, data)


def write_whole(path: Path, data: bytes) -> None:
    """Put bytes in a file's place, whole or not at all, whatever kills the process."""
    unfinished = path.with_name(f".{path.name}.unfinished-{os.getpid()}")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _bytes(plain: Mapping[str, Any]) -> bytes:
    return json.dumps(plain, indent=1).encode()


def identity_of(*parts: object) -> str:
    """A digest of all that something depends on."""
    return hashlib.sha256(json.dumps([VERSION, spec.VERSION, *parts], default=str, sort_keys=True).encode()).hexdigest()[:32]


def files_of(source: str) -> list[tuple[str, int, tuple[int, int]]]:
    """Name, size and times of each file of a source here; nothing of one that is not there.

    Both when its contents changed, which whoever sends a file may set, and when anything of it did, which only the system sets.
    """
    path = Path(source)
    found = []
    for name in _names(path):
        try:
            told = (path / name).lstat() if name else path.stat()
        except (OSError, ValueError):
            continue
        found.append((name, told.st_size, (told.st_mtime_ns, told.st_ctime_ns)))
    return found


def _names(path: Path) -> Iterator[str]:
    yield ""
    count = 0
    for folder, inner, files in os.walk(path):
        inner.sort()
        for name in sorted(files):
            count += 1
            if count > MOST_FILES:
                return
            yield os.path.relpath(os.path.join(folder, name), path)  # noqa: PTH118  # names of any bytes
