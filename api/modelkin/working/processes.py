"""Workers as processes of this machine: Pythons of their own, told through pipes what to do, that need nothing of the caller's program."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator

from modelkin.working.crew import Reply
from modelkin.working.worker import Begun, Ended

WORKER = (sys.executable, "-P", "-c", "from modelkin.working.worker import serve; serve()")  # -P: nothing from the folder of the call


class Processes:
    """Workers on this machine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()

    def begin(self, begun: Begun) -> Iterator[Reply]:
        """Begin one now. Ctrl-C does not reach it."""
        paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        process = subprocess.Popen(  # noqa: S603  # this Python, and nothing of a caller's
            WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **paths}, start_new_session=True
        )
        with self._lock:
            self._running.add(process)
        return self._heard(process, begun)

    def end(self) -> None:
        """Let none of them go on."""
        with self._lock:
            for process in self._running:
                process.kill()

    def _heard(self, process: subprocess.Popen[bytes], begun: Begun) -> Iterator[Reply]:
        assert process.stdin is not None
        assert process.stdout is not None
        reply: Reply | None = None
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                pickle.dump(begun, pipe)
            with process.stdout as told, contextlib.suppress(OSError, EOFError, pickle.UnpicklingError):
                while not isinstance(reply, Ended):
                    reply = pickle.load(told)  # noqa: S301  # of a process of ours
                    yield reply
            process.wait()
        finally:
            process.kill()  # where nobody listens any more
            process.wait()
            with self._lock:
                self._running.discard(process)
