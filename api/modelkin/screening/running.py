"""Tasks done by several processes: in any order, one bad task stopping no other, and nothing of a stopped call left running.

The processes are Pythons of their own that are told what to do through pipes, so that they need nothing of the caller's program: a script
without a main guard, or a notebook, can screen as well.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from modelkin.screening.kept import Kept
from modelkin.screening.workers import Measuring, Pairing, Reply, Task, Worker
from modelkin.settings import Settings
from modelkin.wishes import SILENT, Listener
from modelkin_indexer.errors import RegistryError
from modelkin_registry.questions import Questions

FEWEST_EACH = 4  # tasks for which a process of its own pays: starting one takes as long as reading some models of a few MB
ENDED = "the process that read it was ended: by the system for want of memory, or by a fault"
LATE = "reading it was ended after {seconds:,.0f} s: a call with a longer time limit reads it again"
WORKER = (
    sys.executable,
    "-P",
    "-c",
    "from modelkin.screening.workers import serve; serve()",
)  # -P: nothing is imported from the folder that a call is made in
Done = Callable[[Task, str | None], None]  # a task, and why it failed where nothing is kept of it


class Pool(Struct, frozen=True):
    """Where tasks are done: in `jobs` processes, by default as many as there are processors, fewer of few tasks.

    `limit` are the seconds that one submission may take. Processes wait for the tasks of the next run until `close`.
    """

    registry: Questions
    settings: Settings
    kept: Kept
    listener: Listener
    jobs: int | None
    limit: float
    idle: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def close(self) -> None:
        """Let all processes end, which they do where they are told nothing more."""
        while self.idle:
            closed(self.idle.pop())

    def run(self, tasks: Sequence[Task], done: Done) -> None:
        """Do all tasks and tell of each as soon as it is done. Raises RegistryError, RuntimeError, KeyboardInterrupt.

        What reads files of others is never done in this process, which none of them can end then.
        """
        jobs = self.jobs or min(os.cpu_count() or 1, -(-len(tasks) // FEWEST_EACH))
        if jobs == 1 and all(isinstance(task, Pairing) for task in tasks):
            self._here(tasks, done)
            return
        crew = Crew(self.settings, self.kept.folder, tasks, self.limit, self.idle)
        again: list[Task] = []
        try:
            crew.begin(min(jobs, len(tasks)))
            for _ in tasks:
                task, reply = crew.replies.get()
                if reply.ends:
                    raise RegistryError(reply.failure) if reply.ends == "registry" else RuntimeError(reply.failure)
                if reply.failure is not None and isinstance(task, Pairing):
                    again.append(task)  # it reads no file of others, and left out it would be a ring that nobody sees
                else:
                    done(task, reply.failure)
        except BaseException:
            crew.end()
            raise
        crew.rest()
        self._here(again, done)

    def _here(self, tasks: Sequence[Task], done: Done) -> None:
        """Do tasks in this process."""
        quiet = replace(self.listener, begin=SILENT.begin)  # one bar for the batch, not one a submission
        worker = Worker(self.registry, self.kept, quiet)
        for task in tasks:
            done(task, worker.do(task))


class Crew:
    """Processes that do tasks, each watched by a thread. `replies` has each task once."""

    def __init__(self, settings: Settings, folder: Path, tasks: Sequence[Task], limit: float, idle: list[subprocess.Popen[bytes]]) -> None:
        self.replies: queue.SimpleQueue[tuple[Task, Reply]] = queue.SimpleQueue()
        self._begun_with = pickle.dumps((settings, folder))
        self._limit = limit
        self._idle = idle
        self._waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
        for task in tasks:
            self._waiting.put(task)
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._threads: list[threading.Thread] = []
        self._ended = False

    def begin(self, jobs: int) -> None:
        self._threads = [threading.Thread(target=self._watch, daemon=True) for _ in range(jobs)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let no process go on, and wait until none does."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.kill()
        for thread in self._threads:
            thread.join()

    def rest(self) -> None:
        """Wait until all tasks are done. The processes are kept."""
        for thread in self._threads:
            thread.join()

    def _watch(self) -> None:
        """Give tasks to a process, to a new one where it ended over a task."""
        process: subprocess.Popen[bytes] | None = None
        try:
            while True:
                task = self._waiting.get_nowait()
                process = process or self._started()
                if process is None:
                    return
                reply, late = self._asked(process, task)
                if reply is None:
                    self._close(process)
                    process = None
                self.replies.put((task, reply or Reply(LATE.format(seconds=self._limit) if late else ENDED)))
        except queue.Empty:
            pass
        except Exception as error:  # else the call would wait for ever
            self.replies.put((task, Reply(f"{type(error).__name__}: {error}", "fault")))
        finally:
            if process is not None and not self._kept(process):
                self._close(process)

    def _kept(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether a process was put back for the next run."""
        with self._lock:
            if self._ended or process.poll() is not None:
                return False
            self._running.discard(process)
            self._idle.append(process)
            return True

    def _asked(self, process: subprocess.Popen[bytes], task: Task) -> tuple[Reply | None, bool]:
        """What a process says of a task, None where it ended over it; and whether it was ended because a submission took too long."""
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._limit, end)
        timer.daemon = True
        if isinstance(task, Measuring):
            timer.start()
        try:
            return _said(process, task), late.is_set()
        finally:
            timer.cancel()

    def _started(self) -> subprocess.Popen[bytes] | None:
        """A new process, None once the call has ended. Ctrl-C does not reach it."""
        paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with self._lock:
            if self._ended:
                return None
            if self._idle:
                self._running.add(process := self._idle.pop())
                return process
            process = subprocess.Popen(  # noqa: S603  # this Python, and nothing of a caller's
                WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **paths}, start_new_session=True
            )
            self._running.add(process)
        assert process.stdin is not None
        process.stdin.write(self._begun_with)
        return process

    def _close(self, process: subprocess.Popen[bytes]) -> None:
        closed(process)
        with self._lock:
            self._running.discard(process)


def closed(process: subprocess.Popen[bytes]) -> None:
    """Let a process end, which it does where it is told nothing more."""
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # of a process that is gone what was not sent yet cannot be
            assert pipe is not None
            pipe.close()
    process.wait()


def _said(process: subprocess.Popen[bytes], task: Task) -> Reply | None:
    """What a process says of a task; None where it ended over it."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        pickle.dump(task, process.stdin)
        process.stdin.flush()
        reply = pickle.load(process.stdout)  # noqa: S301  # of a process of ours
    except (OSError, EOFError, pickle.UnpicklingError):
        return None
    return reply if isinstance(reply, Reply) else None
