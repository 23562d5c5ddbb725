"""One process of `modelkin work`: takes jobs from the queue, reads each, and stores what came of it while the job is still its own."""

from __future__ import annotations

import os
import pickle
import random
import resource
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from modelkin.errors import problem_of
from modelkin.keys import read_key
from modelkin.registries import open_registry
from modelkin.settings import Settings
from modelkin.sources.hub_reading import Brought, bring_model
from modelkin.sources.network import hub_client
from modelkin.taking.storing import LOST, store_brought
from modelkin.wishes import HowToRead
from modelkin_indexer.errors import RegistryAway, RegistryError
from modelkin_indexer.hub.errors import HubError
from modelkin_registry.answers.shared import Synced
from modelkin_registry.registry import Registry
from modelkin_registry.store.opening import open_store
from modelkin_registry.store.records import MAX_TRIES, Leased

POLL_SECONDS = 1.0  # between two looks at a queue that has nothing to take now
AWAY_SECONDS = 300.0  # how long a registry may be out of reach before a worker gives up
FAILURES_IN_A_ROW = 20  # passing failures after which the Hub is taken to be down, so that no job uses up its tries
BEATS = 3  # signs of life in the time of a lease


class Begun(Struct, frozen=True):
    """What a worker is begun with: the call's settings, its own name, bounds, and a folder for what it reads.

    rate        requests a second at most, of this process
    lease       seconds after which another one takes what this one holds, if it falls silent
    back_off    seconds until a job is tried again whose failure may pass; twice as many each time
    keep_free   bytes that are left free on the disk: below, no job is taken
    memory      bytes of this process at most; None without a bound
    """

    settings: Settings
    holder: str
    folder: Path
    parent: int
    rate: float
    lease: float
    back_off: float
    max_bytes: int | None
    keep_free: int
    memory: int | None
    stay: bool
    strict: bool


class Said(Struct, frozen=True):
    """Words of a worker for whoever called; `begun`: it has the registry open."""

    words: str = ""
    begun: bool = False


class Ended(Struct, frozen=True):
    """A worker is done; or why not, and what kind of trouble it was: "registry", "hub" or "fault". Of the Hub's, where and what to do."""

    failure: str = ""
    kind: str = ""
    path: str = ""
    remedy: str = ""


def serve() -> None:
    """Be a worker: what it is begun with comes pickled on stdin, what it tells goes to stdout."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no reply
    begun: Begun = pickle.load(sys.stdin.buffer)  # noqa: S301  # of the call that made this process

    def tell(reply: Synced | Said | Ended) -> None:
        pickle.dump(reply, replies)
        replies.flush()

    threading.Thread(target=_end_with, args=(begun.parent,), daemon=True).start()
    if begun.memory is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (begun.memory, begun.memory))
    try:
        with closing(Worker(begun, lambda words: tell(Said(words)))) as worker:
            for one in worker.work():
                tell(one)
        tell(Ended())
    except BrokenPipeError:
        return  # nobody listens: the call was ended
    except RegistryError as error:
        tell(Ended(str(error), "registry"))
    except HubError as error:
        tell(Ended(error.problem, "hub", str(error.path), error.remedy))
    except Exception as error:  # told where the call was made
        tell(Ended(str(problem_of(error)), "fault"))


def _end_with(parent: int) -> None:
    """End this process, whatever it does, soon after the one that began it."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)


def _opened(settings: Settings, say: Callable[[str], None]) -> Registry:
    """The registry, waited for where it is out of reach. Raises RegistryError."""
    last_try = time.monotonic() + AWAY_SECONDS
    while True:
        try:
            return open_registry(settings, begin=False, say=say)
        except RegistryAway:
            if time.monotonic() > last_try:
                raise
        time.sleep(POLL_SECONDS)


class Worker:
    """Does jobs one after the other, with one open registry."""

    def __init__(self, begun: Begun, say: Callable[[str], None]) -> None:
        self.begun = begun
        self.registry = _opened(begun.settings, say)
        self.store = self.registry.store
        self.client = hub_client("what waits in the queue", lambda _: None, offline=begun.settings.offline, rate=begun.rate)
        self.how = HowToRead(read_key(begun.settings.key_file), strict=begun.strict, offline=begun.settings.offline)

    def close(self) -> None:
        self.registry.close()

    def work(self) -> Iterator[Synced | Said]:
        """Until nothing waits. Raises RegistryError, HubError."""
        yield Said(begun=True)
        threading.Thread(target=self._beat, daemon=True).start()
        failures = 0
        while True:
            try:
                self._require_room()
                jobs = self.store.leases.take(self.begun.holder, self.begun.lease)
                if not jobs and self._is_over():
                    return
                for job in jobs:
                    brought = self._brought(job)
                    yield self._stored(job, brought)
                    failures = failures + 1 if brought.passing else 0
                    self._require_hub(failures, brought)
            except RegistryAway:
                self._bear()

    def _is_over(self) -> bool:
        """Whether there is nothing to wait for; else it has been waited for a while. Jobs of others are waited for: these may die."""
        if not (self.store.leases.lent().jobs or self.begun.stay):
            return True
        time.sleep(POLL_SECONDS)
        return False

    def _brought(self, job: Leased) -> Brought:
        bounds = [bound for bound in (job.max_bytes, self.begun.max_bytes) if bound is not None]
        how = replace(self.how, level=job.level)
        return bring_model(self.client, job, min(bounds, default=None), how, self.store.place, self.begun.folder)

    def _stored(self, job: Leased, brought: Brought) -> Synced:
        """What came of a job: stored, put off, or set aside with its reason."""
        is_held = partial(self.store.leases.holds, self.begun.holder, job.repo)
        if brought.reading is not None or not brought.passing or job.tries + 1 >= MAX_TRIES:
            return store_brought(self.registry, job, brought, is_held)
        with self.store.batch():
            if not is_held():
                return Synced(job.repo, "lost", LOST, None, brought.size, brought.seconds)
            pause = self.begun.back_off * 2**job.tries * random.uniform(0.5, 1)  # noqa: S311  # so that not all come back at once
            self.store.leases.later(job.repo, pause, brought.reason or "")
        return Synced(job.repo, "later", brought.reason, None, brought.size, brought.seconds)

    def _require_room(self) -> None:
        """That the disk has room for what a job reads; where the call stays, it is waited for."""
        while (free := shutil.disk_usage(self.begun.folder).free) < self.begun.keep_free:
            if not self.begun.stay:
                raise RegistryError(
                    f"{self.begun.folder}: {free:,} bytes are free on this disk, and {self.begun.keep_free:,} are to stay free. "
                    "Free some space, or lower --keep-free; what waits stays in the queue."
                )
            time.sleep(POLL_SECONDS)

    def _require_hub(self, failures: int, brought: Brought) -> None:
        if failures == FAILURES_IN_A_ROW:
            raise HubError(
                f"failed {failures} times in a row, the last time: {brought.reason}",
                path=self.client.endpoint,
                remedy="What is left waits in the queue.",
            )

    def _bear(self) -> None:
        """Wait until the registry is there again, and give back what was held. Raises RegistryAway after a while."""
        pause, last_try = 0.2, time.monotonic() + AWAY_SECONDS
        while True:
            try:
                self.store.leases.give_back(self.begun.holder)
                return
            except RegistryAway:
                if time.monotonic() > last_try:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 10)

    def _beat(self) -> None:
        """Let the registry know that this worker lives, over a connection of its own."""
        store = None
        while True:
            time.sleep(self.begun.lease / BEATS)
            try:
                store = store or open_store(self.store.place, create=False, key_name=self.how.key.name)
                store.leases.keep(self.begun.holder, self.begun.lease)
            except RegistryAway:
                continue  # the next beat may come through
