"""A batch of submissions: measured, held against one another, decided, and written."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from modelkin.screening.kept import WORK, Failed, Kept, files_of, identity_of
from modelkin.screening.lineage import RegistryLineage
from modelkin.screening.manifest import read_batch
from modelkin.screening.measuring import Work
from modelkin.screening.running import Pool
from modelkin.screening.workers import Measuring, Pairing, Task, batch_of
from modelkin.screening.written import write_answer
from modelkin.settings import Settings
from modelkin.wishes import HowToRead, Listener
from modelkin_data.policy import default_policy
from modelkin_indexer.errors import OutputInside, SourceNotFound, WrongLine
from modelkin_registry.questions import Questions
from modelkin_registry.screening.deciding import Asked, Unreadable, decided
from modelkin_registry.screening.declared import Declaration
from modelkin_registry.screening.explained import Entry
from modelkin_registry.screening.policy import Policy, read_policy
from modelkin_registry.screening.results import Screened, Screening
from modelkin_registry.screening.rings import Between

DEFAULT = "default policy"
NOTHING_KEPT = "what was measured of it is gone from the output folder: start again"
INSIDE = "{out} lies in the folder of submissions, and would be one of them the next time. Give another folder with --out."
GIVE_POLICY = "Give a policy in TOML, or leave it out: `modelkin screen --show-policy` prints the one that is used then."
Bar = Callable[[int], None]


class Wishes(Struct, frozen=True):
    """What a call asks of a screening: where it writes, by which policy, in how many processes, how many seconds one submission may take,
    whom it tells of each submission, and whether it writes evidence for others; `command` is what makes it again, as that tells it."""

    out: Path
    policy: str | os.PathLike[str] | None
    jobs: int | None
    time_limit: float
    each: Callable[[Screened], None]
    evidence: bool = False
    command: str = ""


def policy_of(given: str | os.PathLike[str] | None) -> Policy:
    """The policy in a file, by default the one that comes with modelkin. Raises SourceNotFound, WrongLine."""
    if given is None:
        return read_policy(default_policy(), DEFAULT)
    path = Path(given)
    try:
        return read_policy(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise SourceNotFound(f"cannot be read ({error.strerror})", path=path, remedy=GIVE_POLICY) from error
    except UnicodeDecodeError as error:
        raise WrongLine(path, 1, "is not UTF-8") from error


def screened(registry: Questions, settings: Settings, manifest: Path, how: HowToRead, listener: Listener, wishes: Wishes) -> Screening:
    """Screen a batch.

    Raises:
        SourceNotFound: no list, folder or policy is there.
        WrongLine: the list or the policy has a mistake.
        OutputInside: `out` lies among the submissions of a folder.
        RegistryError: trouble with the registry.
        OSError: the output cannot be written.
    """
    policy = policy_of(wishes.policy)
    if manifest.is_dir() and manifest.resolve() in (wishes.out.resolve(), wishes.out.resolve().parent):
        raise OutputInside(INSIDE.format(out=wishes.out))
    batch = read_batch(manifest)
    kept = Kept(wishes.out / WORK)
    kept.folder.mkdir(parents=True, exist_ok=True)
    first, *others = registry.places
    settings = replace(settings, registry=first, others=tuple(others))
    with closing(Pool(registry, settings, kept, listener, wishes.jobs, wishes.time_limit)) as pool:
        run = _Run(registry, kept, pool, how, policy, listener)
        readable = run.measured(batch)
        pairs = run.pairs([one for one in readable if isinstance(one, Entry)])
    asked = Asked(registry.store.count(), how.key.name)
    answer = decided(readable, pairs, policy, RegistryLineage(registry), asked)
    write_answer(answer, wishes.out)
    if wishes.evidence:
        from modelkin.screening.evidence import Evidence, Submitted  # brings what compares

        submitted = Submitted({said.name: said for said in batch}, run.identities)
        Evidence(registry, kept, submitted, how, listener, wishes.command).write(answer, wishes.out)
    for one in answer.results:
        wishes.each(one)
    return answer


class _Run:
    """One call's way through a batch."""

    def __init__(self, registry: Questions, kept: Kept, pool: Pool, how: HowToRead, policy: Policy, listener: Listener) -> None:
        self.registry, self.kept, self.pool, self.policy, self.listener = registry, kept, pool, policy, listener
        self.how = how if how.threads else replace(how, threads=1)  # processes share the processors
        self.identities: dict[str, str] = {}

    def measured(self, batch: Sequence[Declaration]) -> list[Entry | Unreadable]:
        """Each submission, read and held against the registry; from what is kept where nothing of it changed."""
        sizes = {}
        for said in batch:
            files = files_of(said.source)
            sizes[self._identify(said, files)] = sum(size for _, size, _ in files)
        tasks = [self._task(said) for said in batch if self.kept.measured(self.identities[said.name]) is None]
        done = len(batch) - len(tasks)
        if done and tasks:
            self.listener.say(f"{done} of {len(batch)} submissions were measured already.")
        bar = self.listener.begin(f"Measuring {len(tasks)} submissions", sum(sizes[task.identity] for task in tasks))
        failures: dict[str, str] = {}

        def tell(task: Task, failure: str | None) -> None:
            bar(sizes[task.identity])
            if failure is not None:
                failures[task.identity] = failure

        self.pool.run(tasks, tell)
        return [self._entry(said, failures.get(self.identities[said.name])) for said in batch]

    def pairs(self, entries: Sequence[Entry]) -> list[Between]:
        """What submissions have in common with one another."""
        batch = tuple((one.name, self.identities[one.name]) for one in entries)
        partners = batch_of(self.kept, self.registry, batch).partners() if len(batch) > 1 else []
        tasks = [
            Pairing(identity_of("pairs", batch, first, others), first, tuple(others), batch)
            for first, others in enumerate(partners)
            if others
        ]
        waiting = [task for task in tasks if self.kept.pairs(task.identity) is None]
        bar = self.listener.begin("Holding them against one another", sum(len(task.partners) for task in waiting))
        self.pool.run(waiting, lambda task, _: bar(len(task.partners) if isinstance(task, Pairing) else 0))
        return [pair for task in tasks for pair in self.kept.pairs(task.identity) or ()]

    def _identify(self, said: Declaration, files: list[tuple[str, int, tuple[int, int]]]) -> str:
        """The name under which a submission is kept: a digest of its files and of all that it is measured by."""
        how = (self.how.level, self.how.key.name, str(self.how.base), self.how.strict, self.how.offline)
        by = (self.policy.audit, self.policy.named)
        store = (self.registry.store.registry_id, self.registry.store.generation())
        allowed = said.allowed_bases, said.allowed_parts
        found = identity_of(said.source, said.file, said.named, allowed, files, how, by, store)
        self.identities[said.name] = found
        return found

    def _task(self, said: Declaration) -> Measuring:
        return Measuring(self.identities[said.name], Work(said, self.how, self.policy.audit, self.policy.named))

    def _entry(self, said: Declaration, failure: str | None) -> Entry | Unreadable:
        found = self.kept.measured(self.identities[said.name]) if failure is None else Failed(failure)
        if isinstance(found, Failed):
            return Unreadable(said, found.reason)
        return Unreadable(said, NOTHING_KEPT) if found is None else Entry(said, found)
