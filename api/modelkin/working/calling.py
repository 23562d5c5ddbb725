"""`modelkin work`: workers that take jobs from a registry's queue, on this machine or a cluster's. One that dies is replaced.

They may be ended anywhere: what they hold is given back, and what they have stored is whole.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec.structs import replace

from modelkin.settings import Settings
from modelkin.sources.network import hub_client
from modelkin.wishes import Listener, WorkOptions
from modelkin.working.crew import Crew, Launcher
from modelkin.working.on_ray import OnRay
from modelkin.working.processes import Processes
from modelkin.working.worker import Begun, Said
from modelkin_indexer.errors import RegistryAway
from modelkin_registry.answers.shared import Synced, Syncing
from modelkin_registry.registry import Registry

RATE, LEASE, KEEP_FREE = 10.0, 120.0, 1 << 30  # what holds unless told otherwise: see WorkOptions
BACK_OFF = 30.0  # seconds until the second try of a job


def worked(registry: Registry, settings: Settings, wishes: WorkOptions, listener: Listener, each: Callable[[Synced], None]) -> Syncing:
    """Do what waits in the queue, and tell of each job as it is done; `stay`: until the call is interrupted.

    Raises:
        Offline: requests are forbidden.
        RegistryError: the registry may not be written, is out of reach, or the disk is full.
        HubError: the Hub seems to be down.
        LaunchError: the cluster is not there, or out of the registry's reach.
    """
    hub_client("what waits in the queue", listener.announce, offline=settings.offline)
    with registry.store.batch():
        pass  # fails at once where nothing may be written
    done: list[Synced] = []
    beside = registry.store.path.resolve().parent
    with _launching(registry, wishes.get("ray")) as launcher, TemporaryDirectory(prefix="modelkin-work-", dir=beside) as folder:
        crew = Crew(_begun(settings, registry, wishes, Path(folder)), wishes.get("jobs", 1), launcher)
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


@contextmanager
def _launching(registry: Registry, ray: str | None) -> Iterator[Launcher]:
    """Where workers are begun. Raises LaunchError."""
    if ray is None:
        yield Processes()
        return
    cluster = OnRay(ray)
    try:
        cluster.require_reach(registry.store.place)
        yield cluster
    finally:
        cluster.leave()


def _begun(settings: Settings, registry: Registry, wishes: WorkOptions, folder: Path) -> Begun:
    jobs = wishes.get("jobs", 1)
    return Begun(
        settings=replace(settings, registry=registry.store.place, key_file=settings.key_file and settings.key_file.resolve()),
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
