"""What the processes of a screening do: measure a submission, or hold one against others of the batch, and keep what came of it."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Sequence

from msgspec import Struct

from modelkin.errors import problem_of
from modelkin.registries import open_asked
from modelkin.screening.kept import Kept
from modelkin.screening.measuring import Work, measure
from modelkin.sources.naming import HUB_PREFIX
from modelkin.wishes import Listener
from modelkin_indexer.errors import FingerprintError, RegistryError, SourceError
from modelkin_registry.questions import Questions
from modelkin_registry.screening.batch import Batch
from modelkin_registry.screening.measured import Measured

STOPPED = "its fingerprint is not where it was put: start again"


class Measuring(Struct, frozen=True):
    """A submission to be measured. `identity` is the name under which it is kept."""

    identity: str
    work: Work


class Pairing(Struct, frozen=True):
    """A submission to be held against later ones of the batch, by its place. `batch` are the names and identities of all."""

    identity: str
    first: int
    partners: tuple[int, ...]
    batch: tuple[tuple[str, str], ...]


Task = Measuring | Pairing


class Reply(Struct, frozen=True):
    """What came of a task: why it failed, if it did; or, with `ends`, an error that ends the call: "registry" or "fault"."""

    failure: str | None
    ends: str = ""


class Worker:
    """Does tasks one after the other, with one open registry."""

    def __init__(self, registry: Questions, kept: Kept, listener: Listener) -> None:
        self.registry, self.kept, self.listener = registry, kept, listener
        self._batch: tuple[tuple[tuple[str, str], ...], Batch] | None = None

    def do(self, task: Task) -> str | None:
        """Do a task and keep what came of it. Returns why that failed, where it may not fail another time. Raises RegistryError."""
        if isinstance(task, Pairing):
            self.kept.keep_pairs(task.identity, self._batch_of(task.batch).between(task.first, task.partners))
            return None
        try:
            self.kept.keep(task.identity, *measure(self.registry, task.work, self.listener))
        except RegistryError:
            raise
        except Exception as error:  # whatever is wrong with one submission, the others are measured
            problem = problem_of(error)
            if problem.is_fault:
                self.listener.fault(error)
            lasting = isinstance(error, (SourceError, FingerprintError)) and not task.work.declaration.source.startswith(HUB_PREFIX)
            if not lasting:
                return str(problem)
            self.kept.keep_failure(task.identity, str(problem))
        return None

    def _batch_of(self, batch: tuple[tuple[str, str], ...]) -> Batch:
        if self._batch is None or self._batch[0] != batch:
            self._batch = batch, batch_of(self.kept, self.registry, batch)
        return self._batch[1]


def batch_of(kept: Kept, registry: Questions, batch: Sequence[tuple[str, str]]) -> Batch:
    """The readable submissions from their kept fingerprints. Raises FingerprintError where one is gone."""
    fingerprints, relatives = [], []
    for name, identity in batch:
        fingerprint, measured = kept.as_stored(identity), kept.measured(identity)
        if fingerprint is None or not isinstance(measured, Measured):
            raise FingerprintError(f"{name}: {STOPPED}")
        fingerprints.append(fingerprint)
        relatives.append({row.relative for row in measured.kin})
    return Batch([name for name, _ in batch], fingerprints, relatives, registry.judge(max(1, len(batch) - 1)))


def serve() -> None:
    """Be a worker: what it is begun with, then tasks, come pickled on stdin; after each a reply goes to stdout. Ends where stdin does."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no reply
    settings, folder = pickle.load(sys.stdin.buffer)  # noqa: S301  # of the call that made this process
    registry = open_asked(settings, begin=False, say=lambda _: None)
    worker = Worker(registry, Kept(folder), Listener())
    while True:
        try:
            task = pickle.load(sys.stdin.buffer)  # noqa: S301  # as above
        except EOFError:
            return
        pickle.dump(_replied(worker, task), replies)
        replies.flush()


def _replied(worker: Worker, task: Task) -> Reply:
    try:
        return Reply(worker.do(task))
    except RegistryError as error:
        return Reply(str(error), "registry")
    except Exception as error:  # told where the call was made
        return Reply(str(problem_of(error)), "fault")
