"""A batch of sources into a registry, one after the other: a bad one is reported and the batch goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelkin.reading import DEFAULT_LEVEL, guessed_name, read_source
from modelkin.wishes import Begin, HowToRead, Reading
from modelkin_indexer import spec
from modelkin_indexer.errors import FingerprintError, ModelkinError, RegistryError
from modelkin_registry.answers.contract import Added
from modelkin_registry.registry import Registry

UNREADABLE, REGISTRY_TROUBLE = ModelkinError.exit_code, RegistryError.exit_code


class Batch:
    """Adds sources to an open registry. `exit_code` is that of the worst that happened, `counts` how often each status came."""

    def __init__(self, registry: Registry, how: HowToRead, begin: Begin, say: Callable[[str], None], *, replace: bool = False) -> None:
        """`replace`: names of models with other weights are taken, and those models kept under names of their own."""
        self.registry, self.how, self.begin, self.say, self.replace = registry, how, begin, say, replace
        self.exit_code = 0
        self.counts = {"added": 0, "unchanged": 0, "failed": 0}
        self._taken: dict[str, str] = {}

    def add(self, sources: Sequence[str], name: str | None = None) -> Iterator[Added]:
        """One result a source, each as soon as it is stored or has failed."""
        for source in sources:
            started = time.monotonic()
            failed = self._blank(source, name or guessed_name(source))
            try:
                added = self._one(source, name, failed)
            except (ModelkinError, OSError) as error:
                code = getattr(error, "exit_code", UNREADABLE)
                self.exit_code = max(self.exit_code, code)
                added = replace(failed, reason=str(error))
            self.counts[added.status] += 1
            yield replace(added, seconds=round(time.monotonic() - started, 3))

    @property
    def summary(self) -> str:
        """`2 added, 1 failed`."""
        return ", ".join(f"{number} {status}" for status, number in self.counts.items() if number)

    @property
    def stored_words(self) -> str:
        """`1 model was`, for what is to come after it."""
        added = self.counts["added"]
        return "1 model was" if added == 1 else f"{added} models were"

    def _one(self, source: str, name: str | None, blank: Added) -> Added:
        reading = read_source(source, self.how, self.begin, self.registry.store)
        for note in reading.notes:
            self.say(f"{source}: {note}")
        model = name or reading.name
        self._claim(model, source)
        told: dict[str, Any] = {"origin": reading.origin, "files": reading.files, "claims": reading.claims}
        result = self.registry.add(model, reading.fingerprint, **told, structure=reading.structure, replace=self.replace)
        if result.kept:
            self.say(f"{source}: the model that had the name {model!r} is now {result.kept!r}.")
        return _described(replace(blank, model=result.name, status=result.status), reading)

    def _claim(self, model: str, source: str) -> None:
        """Two sources of one call must not become one model by accident."""
        first = self._taken.setdefault(model, source)
        if Path(first).resolve() != Path(source).resolve():
            raise FingerprintError(f"{source}: {first} of the same call is named {model!r} too. Add it alone, with `--as NAME`.")

    def _blank(self, source: str, model: str) -> Added:
        return Added(
            source=source,
            model=model,
            status="failed",
            reason=None,
            level=self.how.level or DEFAULT_LEVEL,
            spec=spec.VERSION,
            key=self.how.key.name,
            parameters=None,
            coverage=None,
            unplaced=(),
            components=(),
            bytes_total=None,
            bytes_read=None,
            fingerprint_bytes=None,
            seconds=0.0,
        )


def _described(added: Added, reading: Reading) -> Added:
    about = reading.fingerprint.about
    return replace(
        added,
        level=about.level,
        spec=about.spec,
        key=about.key,
        parameters=about.parameters,
        coverage=about.coverage,
        unplaced=about.unplaced,
        components=about.components,
        bytes_total=about.bytes_total,
        bytes_read=about.bytes_read,
        fingerprint_bytes=len(reading.fingerprint.to_bytes()),
    )
