"""Many small models of one call, read by processes of their own ahead of the one that stores them.

The processes are Pythons that are told through pipes what to read, so that they need nothing of the caller's program. What one cannot read,
whatever the reason, is read again where the call was made, which tells why.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

from msgspec.structs import replace

from modelkin.keys import read_key
from modelkin.sources.reading import reading_of
from modelkin.wishes import Asked, HowToRead, Listener, Reading
from modelkin_indexer.spec import PUBLIC_KEY

FEWEST_EACH = 50  # models for which a process of its own pays: starting one takes as long as reading 25 small ones
MOST = 4  # processes: each holds some 120 MB, and what they read is stored by one
COUNTED = MOST * FEWEST_EACH  # sources of a call that are counted before it is decided: more make no difference
SMALL = 16 << 20  # bytes of a model's folder, up to which it is read so: one thread of the call's own would do it, a large one has several
WORKER = (sys.executable, "-P", "-c", "from modelkin.taking.readers import serve; serve()")  # -P: nothing from the folder of the call
Item = tuple[Asked, str, str]  # a source, which file of it, and the name that it has for that


def processes_for(models: int, how: HowToRead, key_file: Path | None) -> int:
    """How many processes so many models are read by; 0: the call's own reads them, as under a private key that no file has."""
    if how.key is not PUBLIC_KEY and key_file is None:
        return 0
    jobs = min(os.cpu_count() or 1, how.threads or MOST, MOST, models // FEWEST_EACH)
    return jobs if jobs > 1 else 0


class Readers:
    """One process for each thread that asks."""

    def __init__(self, how: HowToRead, key_file: Path | None) -> None:
        """`key_file` is told, and not the private key in it. What the Hub has is read where the call was made."""
        self._key = how.key.name
        self._begun_with = pickle.dumps((replace(how, key=PUBLIC_KEY, offline=True), key_file))
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen[bytes]] = []

    def read(self, item: Item) -> tuple[Reading, float] | None:
        """A model as it was read, and the seconds that it took; None where it is to be read where the call was made."""
        source, file, _ = item
        if not isinstance(source, (str, os.PathLike)) or not _is_small(os.fspath(source)):
            return None
        if not hasattr(self._mine, "process"):
            self._mine.process = self._started()
        process = self._mine.process
        try:
            pickle.dump((os.fspath(source), file), process.stdin)
            process.stdin.flush()
            found: tuple[Reading, float] | None = pickle.load(process.stdout)  # noqa: S301  # of a process of ours
            return found if found is not None and found[0].fingerprint.about.key == self._key else None
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):  # it died, over this model or another
            return None

    def close(self) -> None:
        """Let all processes end, which they do where they are told nothing more."""
        for process in self._running:
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    assert pipe is not None
                    pipe.close()
            process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        """A process, out of reach of Ctrl-C."""
        paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        process = subprocess.Popen(  # noqa: S603  # this Python, and nothing of a caller's
            WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **paths}, start_new_session=True
        )
        with self._lock:
            self._running.append(process)
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.write(self._begun_with)
        return process


def _is_small(source: str) -> bool:
    """Whether it is a file here, or a folder without others in it, of few bytes."""
    path = Path(source)
    try:
        files = list(path.iterdir()) if path.is_dir() else [path]
        return not any(file.is_dir() for file in files) and sum(file.stat().st_size for file in files) <= SMALL
    except (OSError, ValueError):  # a Hub id, or what cannot be looked at
        return False


def serve() -> None:
    """Be such a process: how to read, then what to read, come pickled on stdin; each reading goes to stdout. Ends where stdin does."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no reply
    how, key_file = pickle.load(sys.stdin.buffer)  # noqa: S301  # of the call that made this process
    how = replace(how, key=read_key(key_file))
    while True:
        try:
            source, file = pickle.load(sys.stdin.buffer)  # noqa: S301  # as above
        except EOFError:
            return
        with contextlib.suppress(BrokenPipeError):
            pickle.dump(_read(source, replace(how, file=file) if file else how), replies)
            replies.flush()


def _read(source: str, how: HowToRead) -> tuple[Reading, float] | None:
    started = time.monotonic()
    try:
        return reading_of(source, how, Listener()), time.monotonic() - started
    except Exception:  # told where the call was made
        return None
