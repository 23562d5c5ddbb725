"""Questions that wait their turn: asked once however many people ask at once, and once as long as the registry has not changed."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from modelkin.serving.working.kept import Kept, Record
from modelkin.serving.working.questions import State, state_of
from modelkin.serving.working.workers import Workers
from modelkin_registry.registry import Registry

KNOWN = 4096  # questions of which the answer's digest is remembered
Compute = Callable[[Registry], Record]


class Asking:
    """Answers, found where they are kept or worked out and kept."""

    def __init__(self, readers: Workers, askers: Workers, kept: Kept) -> None:
        self._readers, self._askers, self._kept = readers, askers, kept
        self._known: OrderedDict[tuple[object, State], str] = OrderedDict()
        self._running: dict[tuple[object, State], asyncio.Task[tuple[Record, bool]]] = {}

    async def known(self, question: object) -> Record | None:
        """The answer, if it is kept and the registry has not changed since."""
        state = await self._readers.do(state_of)
        return await self._found((question, state))

    async def answer(self, question: object, compute: Compute) -> tuple[Record, bool]:
        """The answer, and whether it is kept under its digest. `question`: what tells it from all others. Raises Busy."""
        key = (question, await self._readers.do(state_of))
        if (found := await self._found(key)) is not None:
            return found, True
        if (running := self._running.get(key)) is None:
            running = self._running[key] = asyncio.create_task(self._computed(key, compute))
            running.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(running)

    async def of_digest(self, digest: str) -> Record | None:
        """The answer of this digest, if it is kept."""
        return await self._readers.do(lambda _: self._kept.get(digest))

    async def _found(self, key: tuple[object, State]) -> Record | None:
        digest = self._known.get(key)
        if digest is None:
            return None
        self._known.move_to_end(key)
        return await self.of_digest(digest)

    async def _computed(self, key: tuple[object, State], compute: Compute) -> tuple[Record, bool]:
        def computed(registry: Registry) -> tuple[Record, bool]:
            record = compute(registry)
            return record, self._kept.keep(record)

        record, is_kept = await self._askers.do(computed)
        if is_kept:
            self._known[key] = record.digest
            while len(self._known) > KNOWN:
                self._known.popitem(last=False)
        return record, is_kept
