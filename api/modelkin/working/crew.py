"""Workers that a call begins, watches, and replaces when they die, wherever they run."""

from __future__ import annotations

import os
import queue
import secrets
import socket
import threading
from collections.abc import Iterator
from typing import Protocol

from msgspec.structs import replace

from modelkin.working.worker import Begun, Ended, Said
from modelkin_indexer.errors import RegistryError
from modelkin_indexer.hub.errors import HubError
from modelkin_registry.answers.shared import Synced

STILLBORN = 3  # workers in a row that end before they have the registry open, after which no other one is begun
Reply = Synced | Said | Ended


class Launcher(Protocol):
    """Begins workers somewhere. Both may be called from any thread."""

    def begin(self, begun: Begun) -> Iterator[Reply]:
        """Begin one now; what it tells, which ends without `Ended` where it dies."""

    def end(self) -> None:
        """Let none of them go on."""


class Crew:
    """Workers, each watched by a thread."""

    def __init__(self, begun: Begun, jobs: int, launcher: Launcher) -> None:
        self.begun, self.jobs, self.launcher = begun, jobs, launcher
        self.holders: list[str] = []
        self._replies: queue.SimpleQueue[Reply | str] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._troubles: list[Ended] = []
        self._is_ended = False

    def begin(self) -> None:
        self._threads = [threading.Thread(target=self._watch, daemon=True) for _ in range(self.jobs)]
        for thread in self._threads:
            thread.start()

    def told(self) -> Iterator[Synced | Said | str]:
        """What the workers tell, and the names of those that died, until the last has ended."""
        left = self.jobs
        while left:
            reply = self._replies.get()
            if isinstance(reply, Ended):
                left -= 1
                if reply.failure:
                    self._troubles.append(reply)
            elif not (isinstance(reply, Said) and reply.begun):
                yield reply

    def complain(self) -> None:
        """Raise what ended a worker."""
        for trouble in self._troubles[:1]:
            if trouble.kind == "registry":
                raise RegistryError(trouble.failure)
            if trouble.kind == "hub":
                raise HubError(trouble.failure, path=trouble.path, remedy=trouble.remedy, passing=True)
            raise RuntimeError(trouble.failure)

    def end(self) -> None:
        """Let no worker go on, and wait until none does."""
        with self._lock:
            self._is_ended = True
            self.launcher.end()
        for thread in self._threads:
            thread.join()

    def _watch(self) -> None:
        """One worker after the other, until one has ended as it should."""
        stillborn, ended = 0, Ended(f"{STILLBORN} processes in a row could not be begun", "fault")
        try:
            while stillborn < STILLBORN and (begun := self._begun()) is not None:
                holder, told = begun
                last, was_begun = self._heard(told)
                if last is not None:
                    ended = last
                    return
                stillborn = 0 if was_begun else stillborn + 1
                self._replies.put(holder)
        except Exception as error:  # else the call would wait for ever
            ended = Ended(f"{type(error).__name__}: {error}", "fault")
        finally:
            self._replies.put(ended)

    def _heard(self, told: Iterator[Reply]) -> tuple[Ended | None, bool]:
        """Pass on what a worker tells. Returns how it ended, None where it died; and whether it had begun."""
        was_begun, last = False, None
        for reply in told:
            was_begun = was_begun or (isinstance(reply, Said) and reply.begun)
            if isinstance(reply, Ended):
                last = reply
            else:
                self._replies.put(reply)
        return last, was_begun

    def _begun(self) -> tuple[str, Iterator[Reply]] | None:
        """A new worker: the name under which it holds jobs, and what it tells. None once the call has ended."""
        holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        with self._lock:
            if self._is_ended:
                return None
            self.holders.append(holder)
            return holder, self.launcher.begin(replace(self.begun, holder=holder))
