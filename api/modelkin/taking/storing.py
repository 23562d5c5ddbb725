"""What came of reading a repository of the Hub, into the registry and its journal: together or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from modelkin.sources.hub_reading import Brought
from modelkin_indexer.errors import ModelkinError, RegistryAway
from modelkin_registry.answers.shared import Synced
from modelkin_registry.registry import Registry
from modelkin_registry.store.records import HUB, Queued

LOST = "another worker has it: this one was not heard of in time, or the repository changed meanwhile"


def store_brought(registry: Registry, queued: Queued, brought: Brought, is_held: Callable[[], bool] = lambda: True) -> Synced:
    """Store the model, or note why there is none.

    `is_held` is asked inside the transaction: where the job is somebody else's by now, nothing is stored ("lost").

    Raises:
        RegistryAway: the registry is out of reach; nothing was stored or noted.
    """
    done = Synced(queued.repo, "failed", brought.reason, None, brought.size, brought.seconds)
    if brought.reading is not None:
        try:
            return _put(registry, queued, brought, done, is_held)
        except RegistryAway:
            raise
        except (ModelkinError, ValueError) as error:  # a name or rows that the registry refuses; its own trouble fails again below
            done = replace(done, reason=str(error))
    with registry.store.batch():
        if not is_held():
            return replace(done, status="lost", reason=LOST)
        registry.store.hub.note(queued.repo, "failed", reason=done.reason or "", size=brought.size, passing=brought.passing)
    return done


def _put(registry: Registry, queued: Queued, brought: Brought, done: Synced, is_held: Callable[[], bool]) -> Synced:
    reading = brought.reading
    assert reading is not None
    with registry.store.batch():
        if not is_held():
            return replace(done, status="lost", reason=LOST)
        told: dict[str, Any] = {"origin": reading.origin, "who": HUB, "files": reading.files, "claims": reading.claims}
        put = registry.add(queued.repo, reading.fingerprint, **told, structure=reading.structure)
        registry.store.hub.note(queued.repo, "done", model=put.model_id, content=brought.content, size=brought.size)
    return replace(done, status=put.status, reason=None, model=put.name)
