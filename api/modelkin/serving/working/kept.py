"""Answers by their digest: what was told stays told, and whoever has the address finds it again."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import tempfile
import threading
from pathlib import Path

from msgspec import Struct, to_builtins

from modelkin_registry.store.appearing import appearing

DIGEST = re.compile(r"[0-9a-f]{64}")
MOST_BYTES = 2 << 30  # of all kept answers: some 100,000. What is kept is not given up for what is new; the page says when it is full


class Record(Struct, frozen=True):
    """An answer as it is kept.

    answer   the JSON text; its SHA-256 is the digest
    page     its sections as HTML, and `coda` what stands below them; `section` is what of it another page shows
    """

    title: str
    language: str
    answer: str
    page: str
    section: str
    coda: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.answer.encode()).hexdigest()


class Kept:
    """A folder of answers, or without one a folder that goes with this object."""

    def __init__(self, folder: Path | None, most_bytes: int = MOST_BYTES) -> None:
        """Raises OSError where the folder cannot be made."""
        self._passing = None if folder is not None else tempfile.TemporaryDirectory(prefix="modelkin-answers-")
        self.folder = Path(self._passing.name) if self._passing is not None else folder or Path()
        self.lasts = self._passing is None
        self.folder.mkdir(parents=True, exist_ok=True)
        self._most_bytes, self._lock = most_bytes, threading.Lock()
        self._bytes = sum(file.stat().st_size for file in self.folder.glob("??/*.json.gz"))

    def close(self) -> None:
        """Give up what is kept for this object's time only."""
        if self._passing is not None:
            self._passing.cleanup()

    def keep(self, record: Record) -> bool:
        """Keep it; False where there is no room. Raises OSError where it cannot be written."""
        file = self._file(record.digest)
        if file.exists():
            return True
        data = gzip.compress(json.dumps(to_builtins(record)).encode(), mtime=0)
        with self._lock:
            if self._bytes + len(data) > self._most_bytes:
                return False
            self._bytes += len(data)
        file.parent.mkdir(exist_ok=True)
        with appearing(file) as unfinished:
            unfinished.write_bytes(data)
        return True

    def get(self, digest: str) -> Record | None:
        """The answer of this digest; None where none is kept, or where what lies there is another."""
        if not DIGEST.fullmatch(digest):
            return None
        try:
            record = Record(**json.loads(gzip.decompress(self._file(digest).read_bytes())))
        except (OSError, ValueError, TypeError, EOFError):
            return None
        return record if record.digest == digest else None

    def _file(self, digest: str) -> Path:
        return self.folder / digest[:2] / f"{digest}.json.gz"
