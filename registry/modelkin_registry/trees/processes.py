"""Families of a large tree worked out by several processes: each opens the registry itself, and is told what is known of a family's pairs.

The processes are Pythons of their own that are told what to do through pipes, so that they need nothing of the caller's program. What one
of them cannot do (the registry has changed, memory is short) is done by the process that asked.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from msgspec import Struct

from modelkin_registry.evidence.judge import Judge
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.search.known import Known
from modelkin_registry.store.address import Place
from modelkin_registry.store.opening import open_store
from modelkin_registry.store.protocol import Store
from modelkin_registry.trees.directions import Beside
from modelkin_registry.trees.family import Drawn, Family
from modelkin_registry.trees.pairs.kept import PAIR
from modelkin_registry.trees.pairs.measurer import Measurer, Pair

MOST = 8  # processes: each holds some hundred fingerprints in memory
FEWEST_EACH = 128  # models for which a process of its own pays: starting one takes as long as working out some fifty
SELDOM = 100_000  # objects that a process makes between two looks for garbage: what a family's pairs hold stays until it is drawn
AHEAD = 2  # families that are ready for each process
WORKER = ("-P", "-c", "from modelkin_registry.trees.processes import serve; serve()")  # -P: nothing is imported from the caller's folder
Process = subprocess.Popen[bytes]


class Start(Struct, frozen=True):
    """What a process is told first."""

    place: Place
    judge: Judge
    beside: Beside


class Task(Struct, frozen=True):
    """A family: by name the numbers of its models' revisions and fingerprints, and what is known of its pairs."""

    ids: dict[str, int]
    prints: dict[str, int]
    told: dict[Pair, str]


class Reply(Struct, frozen=True):
    """Its edges, what was found of its pairs, and which pairs were looked at."""

    drawn: Drawn
    told: dict[PAIR, str]
    looked_at: frozenset[Pair]


def drawn_by_many(measurer: Measurer, families: Sequence[Sequence[str]], beside: Beside, processes: int) -> Iterator[Drawn]:
    """The edges of each family, in the order given, worked out by so many processes."""
    start = Start(measurer.known.store.place, measurer.judge, beside)
    running = [process for _ in range(processes) if (process := _started()) is not None]
    for process in running:
        _tell(process, start)
    idle: queue.SimpleQueue[Process | None] = queue.SimpleQueue()
    for each in running or (None,):
        idle.put(each)
    waiting: deque[tuple[Sequence[str], Future[Reply | None]]] = deque()
    with ThreadPoolExecutor(max(1, len(running))) as threads:
        try:
            for names in families:
                waiting.append((names, threads.submit(_asked, idle, task_of(measurer, names))))
                if len(waiting) > AHEAD * len(running):
                    yield _taken_in(measurer, *waiting.popleft(), beside)
            while waiting:
                yield _taken_in(measurer, *waiting.popleft(), beside)
        finally:
            for process in running:  # those that still work are not waited for
                process.kill()
            for process in running:
                _close(process)


def processes_for(models: int) -> int:
    """How many processes a tree of so many models that have relatives is worked out by."""
    able = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(able, models // FEWEST_EACH, MOST)) if sys.executable else 1


def task_of(measurer: Measurer, names: Sequence[str]) -> Task:
    """What a process has to know of a family."""
    links = measurer.links_among(frozenset(names))
    ids, prints = ({name: numbers[name] for name in names} for numbers in (measurer.ids, measurer.prints))
    told = {(link.a, link.b): measurer.kept.text((prints[link.a], prints[link.b])) for link in links}
    return Task(ids, prints, {pair: text for pair, text in told.items() if text is not None})


def _taken_in(measurer: Measurer, names: Sequence[str], future: Future[Reply | None], beside: Beside) -> Drawn:
    reply = future.result()
    if reply is None:
        return Family(measurer, names, beside).drawn()
    measurer.take_in(names, reply.told, reply.looked_at)
    return reply.drawn


def _started() -> Process | None:
    """A new process, None where none can be started. Ctrl-C does not reach it."""
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}
    try:
        return subprocess.Popen(  # noqa: S603  # this Python, and nothing of a caller's
            (sys.executable, *WORKER), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **paths}, start_new_session=True
        )
    except OSError:
        return None


def _tell(process: Process, words: Start | Task) -> None:
    """Send something to a process. One that is gone sends nothing back, which shows it."""
    assert process.stdin is not None
    with contextlib.suppress(OSError, ValueError):
        pickle.dump(words, process.stdin)
        process.stdin.flush()


def _asked(idle: queue.SimpleQueue[Process | None], task: Task) -> Reply | None:
    """What the next free process makes of a family; None where there is none, or it ended over it."""
    process = idle.get()
    reply: Any = None
    if process is not None:
        assert process.stdout is not None
        _tell(process, task)
        try:
            reply = pickle.load(process.stdout)  # noqa: S301  # of a process of ours
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            process = None
    idle.put(process)
    return reply if isinstance(reply, Reply) else None


def _close(process: Process) -> None:
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # what was not sent yet
            assert pipe is not None
            pipe.close()
    process.wait()


# in the process


def serve() -> None:
    """Work out families until nothing more is asked."""
    gc.set_threshold(SELDOM)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anybody prints is no answer
    with contextlib.suppress(EOFError):
        start: Start = pickle.load(sys.stdin.buffer)  # noqa: S301  # of the process that started this one
        with open_store(start.place, create=False) as store:
            while True:
                task: Task = pickle.load(sys.stdin.buffer)  # noqa: S301  # as above
                with store.reading():
                    reply = worked_out(Known(store, VectorIndex(store)), start, task)
                pickle.dump(reply, answers)
                answers.flush()


def worked_out(known: Known[Store], start: Start, task: Task) -> Reply | None:
    """What a process makes of a family; None where its registry does not hold these fingerprints any more."""
    if {*known.store.standing(task.ids.values()).items()} != {(task.ids[name], number) for name, number in task.prints.items()}:
        return None
    measurer = Measurer(known, start.judge)
    measurer.ids, measurer.prints = task.ids, task.prints
    known_pairs = {(task.prints[a], task.prints[b]): text for (a, b), text in task.told.items()}
    measurer.kept.new.update(known_pairs)
    for pair in task.told:
        measurer.link(*pair)
    drawn = Family(measurer, [*task.ids], start.beside).drawn()
    new = {pair: text for pair, text in measurer.kept.new.items() if known_pairs.get(pair) != text}
    return Reply(drawn, new, frozenset(measurer.looked_at))
