"""`modelkin work`: processes that take jobs from a registry's queue, on this machine beside others. One that dies is replaced.

The processes are Pythons of their own that are told what to do through pipes, so that they need nothing of the caller's program. They may
be ended anywhere: what they hold is given back, and what they have stored is whole.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from modelkin.settings import Settings
from modelkin.sources.network import hub_client
from modelkin.taking.worker import Begun, Ended, Said
from modelkin.wishes import Listener, WorkOptions
from modelkin_indexer.errors import RegistryAway, RegistryError
from modelkin_indexer.hub.errors import HubError
from modelkin_registry.answers.shared import Synced, Syncing
from modelkin_registry.registry import Registry

RATE, LEASE, KEEP_FREE = 10.0, 120.0, 1 << 30  # what holds unless told otherwise: see WorkOptions
BACK_OFF = 30.0  # seconds until the second try of a job
STILLBORN = 3  # processes in a row that end before they have the registry open, after which no other one is begun
WORKER = (sys.executable, "-P", "-c", "from modelkin.taking.worker import serve; serve()")  # -P: nothing from the folder of the call
Reply = Synced | Said | Ended


def worked(registry: Registry, settings: Settings, wishes: WorkOptions, listener: Listener, each: Callable[[Synced], None]) -> Syncing:
    """Do what waits in the queue, and tell of each job as it is done; `stay`: until the call is interrupted.

    Raises:
        Offline: requests are forbidden.
        RegistryError: the registry may not be written, is out of reach, or the disk is full.
        HubError: the Hub seems to be down.
    """
    hub_client("what waits in the queue", listener.announce, offline=settings.offline)
    with registry.store.batch():
        pass  # fails at once where nothing may be written
    done: list[Synced] = []
    with TemporaryDirectory(prefix="modelkin-work-", dir=_scratch(registry)) as folder:
        crew = _Crew(_begun(settings, registry, wishes, Path(folder)), wishes.get("jobs", 1))
        try:
            crew.begin()
            for reply in crew.told():
                if isinstance(reply, Synced):
                    done.append(reply)
                    each(reply)
                elif isinstance(reply, Said):
                    listener.say(reply.words)
                else:
                    _end(registry, reply, lapse=True)
        finally:
            crew.end()
            for holder in crew.holders:
                _end(registry, holder, lapse=False)
    registry.refresh()
    crew.complain()
    return Syncing(tuple(done), sum(one.bytes for one in done))


def _scratch(registry: Registry) -> Path:
    return registry.store.path.resolve().parent


def _begun(settings: Settings, registry: Registry, wishes: WorkOptions, folder: Path) -> Begun:
    jobs = wishes.get("jobs", 1)
    return Begun(
        settings=replace(settings, registry=registry.store.place),
        holder="",
        folder=folder,
        parent=os.getpid(),
        rate=wishes.get("rate", RATE) / jobs,
        lease=wishes.get("lease", LEASE),
        back_off=BACK_OFF,
        max_bytes=wishes.get("max_bytes"),
        keep_free=wishes.get("keep_free", KEEP_FREE),
        memory=wishes.get("memory"),
        stay=wishes.get("stay", False),
        strict=wishes.get("strict", False),
    )


def _end(registry: Registry, holder: str, *, lapse: bool) -> None:
    """Let others have what a process held that is no more. Out of reach, the registry does so itself when the lease ends."""
    with contextlib.suppress(RegistryAway):
        (registry.store.leases.lapse if lapse else registry.store.leases.give_back)(holder)


class _Crew:
    """Processes that work, each watched by a thread."""

    def __init__(self, begun: Begun, jobs: int) -> None:
        self.begun, self.jobs = begun, jobs
        self.holders: list[str] = []
        self._replies: queue.SimpleQueue[Reply | str] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._threads: list[threading.Thread] = []
        self._troubles: list[Ended] = []
        self._is_ended = False

    def begin(self) -> None:
        self._threads = [threading.Thread(target=self._watch, daemon=True) for _ in range(self.jobs)]
        for thread in self._threads:
            thread.start()

    def told(self) -> Iterator[Synced | Said | str]:
        """What the processes tell, and the names of those that died, until the last has ended."""
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
        """Raise what ended a process."""
        for trouble in self._troubles[:1]:
            if trouble.kind == "registry":
                raise RegistryError(trouble.failure)
            if trouble.kind == "hub":
                raise HubError(trouble.failure, path=trouble.path, remedy=trouble.remedy, passing=True)
            raise RuntimeError(trouble.failure)

    def end(self) -> None:
        """Let no process go on, and wait until none does."""
        with self._lock:
            self._is_ended = True
            for process in self._running:
                process.kill()
        for thread in self._threads:
            thread.join()

    def _watch(self) -> None:
        """One process after the other, until one has ended as it should."""
        stillborn, ended = 0, Ended(f"{STILLBORN} processes in a row could not be begun", "fault")
        try:
            while stillborn < STILLBORN and (begun := self._started()) is not None:
                process, holder = begun
                last, was_begun = self._heard(process)
                if last is not None:
                    ended = last
                    return
                stillborn = 0 if was_begun else stillborn + 1
                self._replies.put(holder)
        except Exception as error:  # else the call would wait for ever
            ended = Ended(f"{type(error).__name__}: {error}", "fault")
        finally:
            self._replies.put(ended)

    def _heard(self, process: subprocess.Popen[bytes]) -> tuple[Ended | None, bool]:
        """Pass on what a process tells. Returns how it ended, None where it died; and whether it had begun."""
        assert process.stdout is not None
        was_begun, last = False, None
        with process.stdout as told, contextlib.suppress(OSError, EOFError, pickle.UnpicklingError):
            while last is None:
                reply = pickle.load(told)  # noqa: S301  # of a process of ours
                was_begun = was_begun or (isinstance(reply, Said) and reply.begun)
                if isinstance(reply, Ended):
                    last = reply
                else:
                    self._replies.put(reply)
        process.wait()
        with self._lock:
            self._running.discard(process)
        return last, was_begun

    def _started(self) -> tuple[subprocess.Popen[bytes], str] | None:
        """A new process with the name under which it holds jobs, None once the call has ended. Ctrl-C does not reach it."""
        paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        with self._lock:
            if self._is_ended:
                return None
            process = subprocess.Popen(  # noqa: S603  # this Python, and nothing of a caller's
                WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **paths}, start_new_session=True
            )
            self._running.add(process)
            self.holders.append(holder)
        assert process.stdin is not None
        with process.stdin as pipe, contextlib.suppress(BrokenPipeError):
            pickle.dump(replace(self.begun, holder=holder), pipe)
        return process, holder
