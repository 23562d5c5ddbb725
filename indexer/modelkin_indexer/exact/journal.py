"""The journal of an exact comparison: tensors that are done, so that an interrupted one goes on where it was.

A text file. The first line says what is compared, each further line holds one tensor's result with a digest of its own. A journal of
other models, other files or another version is refused, and so is a damaged one; only a last line that was cut off while it was written
is dropped.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from blake3 import blake3
from msgspec import to_builtins

from modelkin_indexer.errors import JournalError
from modelkin_indexer.places import Place
from modelkin_indexer.results.exact import DeltaSpectrum, TensorComparison
from modelkin_indexer.source import Source

FORMAT = "modelkin exact comparison 1"
DIGEST_CHARACTERS = 32
GLANCE = 256  # bytes looked at from both ends of each tensor: other weights with the same names and shapes are told apart
LONGEST_LINE = 1 << 16
Key = tuple[str, Place, Place, int]
DELETE = "Delete it to begin again, or name another file."


def identity(sources: Sequence[Source]) -> str:
    """A digest of what the sources are: files with sizes, names, types and shapes of all tensors, and a glance at each one's bytes."""
    hasher = blake3()
    for source in sources:
        files = [[file.name, file.size, file.digest] for file in source.files]
        tensors = [[info.name, info.dtype, info.shape, info.nbytes] for info in source.tensors.values()]
        hasher.update(json.dumps([files, tensors]).encode())
        for name, info in source.tensors.items():
            hasher.update(source.read(name, 0, min(GLANCE, info.nbytes)).data)
            hasher.update(source.read(name, max(0, info.nbytes - GLANCE), info.nbytes).data)
    return hasher.hexdigest()[:DIGEST_CHARACTERS]


class Journal:
    """Results by what was compared. Several threads may use it; close it, or use it in `contextlib.closing`."""

    def __init__(self, path: Path, about: str) -> None:
        """Open or begin the journal at `path` of the comparison whose `identity` is `about`.

        Raises:
            JournalError: the file is no journal, is damaged, belongs to another comparison, or cannot be read or written.
        """
        self.path = path
        self._lock = threading.Lock()
        self._done: dict[str, TensorComparison] = {}
        try:
            self._file: BinaryIO = path.open("a+b")
        except OSError as error:
            raise JournalError(f"{path}: cannot be opened ({error.strerror}). Name a file in a folder that you may write to.") from error
        try:
            self._load(about)
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._done)

    def find(self, key: Key) -> TensorComparison | None:
        """The result of a comparison that is done, else None."""
        return self._done.get(_key(key))

    def add(self, key: Key, result: TensorComparison) -> None:
        """Keep a result, on the disk before this returns. Raises JournalError."""
        line = _line({"key": _key(key), "result": to_builtins(result)})
        with self._lock:
            self._write(line)
            self._done[_key(key)] = result

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: bytes) -> None:
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be written ({error.strerror}). Make room, then run the same command again.") from error

    def _load(self, about: str) -> None:
        self._file.seek(0)
        good = 0
        for number, line in enumerate(iter(lambda: self._file.readline(LONGEST_LINE), b""), 1):
            if not line.endswith(b"\n") and len(line) < LONGEST_LINE:
                self._file.truncate(good)  # cut off while it was written
                break
            self._take(number, line, about)
            good += len(line)
        if not good:
            self._write(_line({"format": FORMAT, "about": about}))

    def _take(self, number: int, line: bytes, about: str) -> None:
        content = _content(line)
        if content is None:
            raise JournalError(f"{self.path}: is no journal of an exact comparison, or is damaged in line {number}. {DELETE}")
        if number == 1:
            if content.get("format") != FORMAT or content.get("about") != about:
                raise JournalError(f"{self.path}: is the journal of another comparison (other models, files or version). {DELETE}")
            return
        try:
            plain = content["result"]
            delta = plain.pop("delta")
            spectrum = DeltaSpectrum(**{**delta, "values": tuple(delta["values"])}) if delta is not None else None
            self._done[str(content["key"])] = TensorComparison(**plain, delta=spectrum)
        except (KeyError, TypeError, AttributeError) as error:
            raise JournalError(f"{self.path}: line {number} is not a result of this version. {DELETE}") from error


def _key(key: Key) -> str:
    return json.dumps(key)


def _line(content: dict[str, Any]) -> bytes:
    text = json.dumps(content)
    return json.dumps([blake3(text.encode()).hexdigest()[:DIGEST_CHARACTERS], text]).encode() + b"\n"


def _content(line: bytes) -> dict[str, Any] | None:
    """What a line holds; None if its digest is not right."""
    try:
        digest, text = json.loads(line)
        if blake3(text.encode()).hexdigest()[:DIGEST_CHARACTERS] != digest:
            return None
        content = json.loads(text)
        return content if isinstance(content, dict) else None
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
