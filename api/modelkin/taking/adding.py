"""A batch of sources into a registry, one after the other: a bad one is reported and the batch goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from modelkin.errors import problem_of
from modelkin.sources.naming import guessed_name, hub_id
from modelkin.sources.reading import DEFAULT_LEVEL, name_of, reading_of
from modelkin.taking.at_once import at_once
from modelkin.taking.readers import COUNTED, Item, Readers, processes_for
from modelkin.taking.several import models_at
from modelkin.wishes import Asked, HowToRead, Listener, Reading
from modelkin_indexer import spec
from modelkin_indexer.errors import FingerprintError
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.upkeep import Added
from modelkin_registry.registry import Registry

PATHS = (str, os.PathLike)
TOGETHER = 0.25  # seconds of reading that are stored in one transaction: a file system takes some hundredths of one to keep it


class _Waiting(Struct, frozen=True):
    """A source that was read, or could not be, before it is stored. `name` is the one asked for; `blank` what is told if it fails."""

    source: Asked
    name: str | None
    blank: Added
    found: Reading | Exception
    seconds: float


class Batch:
    """Adds sources to an open registry. `exit_code` is that of the worst that happened."""

    def __init__(
        self,
        registry: Registry,
        how: HowToRead,
        listener: Listener,
        *,
        replace: bool,
        every: bool = False,
        key_file: Path | None = None,
    ) -> None:
        """`replace`: names of models with other weights are taken, and those models kept under names of their own. `every`: of a folder
        or a Hub repository with several models each is taken. `key_file` has the key of `how`, if that is private."""
        self.registry, self.how, self.listener, self.replace, self.every = registry, how, listener, replace, every
        self.key_file = key_file
        self.exit_code = 0
        self._taken: dict[str, Asked] = {}

    def add(self, sources: Sequence[Asked], name: str | None = None) -> Iterator[Added]:
        """One result a source, each as soon as it is stored or has failed; what is read within TOGETHER seconds is stored in one go."""
        waiting: list[_Waiting] = []
        began = time.monotonic()
        try:
            with closing(self._read_ahead(self._each(sources))) as items:
                for (source, file, own), ahead in items:
                    if not waiting:
                        began = time.monotonic()
                    waiting.append(self._read(source, file, own or name, ahead))
                    from_hub = isinstance(source, PATHS) and hub_id(os.fspath(source)) is not None
                    if from_hub or time.monotonic() - began >= TOGETHER:  # what one repository has the next one need not fetch
                        done, waiting = waiting, []
                        yield from self._stored(done)
        except GeneratorExit:  # nobody asks for more; what was read is stored by now
            raise
        except BaseException:
            yield from self._stored(waiting)  # what was read was not read in vain
            raise
        yield from self._stored(waiting)

    def _each(self, sources: Sequence[Asked]) -> Iterator[Item]:
        """The sources; of one with several models each of them, with its file and, from the Hub, its name."""
        for source in sources:
            models = (
                models_at(source, self.how, self.listener) if self.every and self.how.file is None and isinstance(source, PATHS) else {}
            )
            yield from ((source, file, own) for file, own in models.items() if len(models) > 1)
            if len(models) < 2:
                yield source, "", ""

    def _read_ahead(self, items: Iterator[Item]) -> Generator[tuple[Item, tuple[Reading, float] | None], None, None]:
        """Sources, those of many small ones with what processes beside this one have read of them."""
        first = list(islice(items, COUNTED))
        if not (jobs := processes_for(len(first), self.how, self.key_file)):
            yield from ((item, None) for item in chain(first, items))
            return
        with closing(Readers(self.how, self.key_file)) as readers, closing(at_once(jobs, readers.read, chain(first, items))) as read:
            yield from read

    def _read(self, source: Asked, file: str, name: str | None, ahead: tuple[Reading, float] | None) -> _Waiting:
        """A source, read, by another process or else here; whatever is wrong with it, the others are added."""
        started = time.monotonic()
        called = f"{name_of(source)}/{file}" if file else name_of(source)
        how = replace(self.how, file=file) if file else self.how
        blank = self._blank(called, name or guessed_name(called))
        try:
            if name is None and isinstance(source, Fingerprint):
                raise FingerprintError("a fingerprint at hand has no name of its own. Give one (name=...).")
            found: Reading | Exception = reading_of(source, how, self.listener, self.registry.store) if ahead is None else ahead[0]
        except Exception as error:
            found = error
        place = Path(source) / how.file if how.file and isinstance(source, PATHS) else source
        return _Waiting(place, name, blank, found, time.monotonic() - started if ahead is None else ahead[1])

    def _stored(self, waiting: Sequence[_Waiting]) -> list[Added]:
        """What becomes of these, in one transaction, in which each may fail alone."""
        exit_code = self.exit_code
        if any(isinstance(one.found, Reading) for one in waiting):
            try:
                with self.registry.store.batch():
                    return [self._tried(one) for one in waiting]
            except Exception:  # the disk is full, or somebody else writes: nothing of it is there
                self.exit_code = exit_code
        return [self._tried(one) for one in waiting]

    def _tried(self, one: _Waiting) -> Added:
        started = time.monotonic()
        try:
            if isinstance(one.found, Exception):
                raise one.found
            added = self._one(one, one.found)
        except Exception as error:
            problem = problem_of(error)
            self.exit_code = max(self.exit_code, problem.code)
            added = replace(one.blank, reason=str(problem))
            if problem.is_fault:
                self.listener.fault(error)
        return replace(added, seconds=round(one.seconds + time.monotonic() - started, 3))

    def _one(self, one: _Waiting, reading: Reading) -> Added:
        for note in reading.notes:
            self.listener.say(f"{one.blank.source}: {note}")
        model = one.name or reading.name
        self._claim(model, one.source)
        told: dict[str, Any] = {"origin": reading.origin, "files": reading.files, "claims": reading.claims}
        result = self.registry.add(model, reading.fingerprint, **told, structure=reading.structure, replace=self.replace)
        if result.kept:
            self.listener.say(f"{one.blank.source}: the model that had the name {model!r} is now {result.kept!r}.")
        told_apart = len(reading.fingerprint.matrices) + len(reading.fingerprint.vectors) > 0
        same = self.registry.store.twins(result.revision) if result.status == "added" and told_apart else ()
        return _described(replace(one.blank, model=result.name, status=result.status, same_as=tuple(same)), reading, result.size)

    def _claim(self, model: str, source: Asked) -> None:
        """Two sources of one call must not become one model by accident."""
        first = self._taken.setdefault(model, source)
        if first is source or (isinstance(first, PATHS) and isinstance(source, PATHS) and Path(first).resolve() == Path(source).resolve()):
            return
        one, other = name_of(source), name_of(first)
        raise FingerprintError(f"{one}: {other} of the same call is named {model!r} too. Add it alone, with `--as NAME`.")

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


def _described(added: Added, reading: Reading, size: int) -> Added:
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
        fingerprint_bytes=size,
    )
