"""Threads that have the registry open, each for itself, and do what is asked of them, one thing after the other."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from modelkin_registry.registry import Registry

Done = TypeVar("Done")
Work = Callable[[Registry], Any]  # what is done with the thread's own open registry


class Busy(Exception):
    """More is waiting than these threads take on."""


class Workers:
    """So many threads with a queue of so many places before them."""

    def __init__(self, opened: Callable[[], Registry], threads: int, waiting: int) -> None:
        self._opened = opened
        self._queue: queue.Queue[tuple[Work, Future[Any]] | None] = queue.Queue()
        self._waiting = waiting
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    async def do(self, work: Callable[[Registry], Done]) -> Done:
        """What the work comes to. Raises Busy, and whatever the work raises."""
        if self._queue.qsize() >= self._waiting:
            raise Busy
        done: Future[Done] = Future()
        self._queue.put((work, done))
        return await asyncio.wrap_future(done)

    def close(self) -> None:
        """Finish what is begun and let go of the registry; what still waits is given up."""
        try:
            while True:
                waiting = self._queue.get_nowait()
                if waiting is not None:
                    waiting[1].cancel()
        except queue.Empty:
            pass
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        registry: Registry | None = None
        try:
            while (asked := self._queue.get()) is not None:
                work, done = asked
                if not done.set_running_or_notify_cancel():
                    continue
                try:
                    registry = registry or self._opened()
                    _bring_up_to_date(registry)
                    done.set_result(work(registry))
                except BaseException as error:
                    done.set_exception(error)
        finally:
            if registry is not None:
                registry.close()


def _bring_up_to_date(registry: Registry) -> None:
    """What `modelkin calibrate` measured since is judged by too: an open registry reads it once."""
    registry.backgrounds = registry.store.backgrounds.used()
