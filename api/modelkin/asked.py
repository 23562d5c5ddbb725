"""What is asked of one open registry or of several as one: sources are paths and Hub ids as well as fingerprints."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from modelkin.keys import read_key
from modelkin.registries import OnDemand, open_asked
from modelkin.settings import Settings
from modelkin.wishes import TIME_LIMIT, Listener, OpenRegistry, exact_wishes, how_to_read
from modelkin_indexer.errors import RegistryError
from modelkin_registry.answers.asked import SHOWN
from modelkin_registry.store.address import place_of

if TYPE_CHECKING:
    from modelkin.evidencing import Evidenced, Verified
    from modelkin.wishes import Asked, CompareOptions, HowToRead, Options, Reading
    from modelkin_indexer.results.fingerprint import Fingerprint
    from modelkin_registry.answers.asked import CompareAnswer, DecomposeAnswer, QueryAnswer
    from modelkin_registry.answers.trajectory import TrajectoryAnswer
    from modelkin_registry.questions import Questions
    from modelkin_registry.screening.results import Screened, Screening


class AskedRegistry(OpenRegistry):
    """What `Registry` and `Registries` are asked. Use them from the thread that opened them."""

    def __init__(self, inner: Questions, settings: Settings, listener: Listener) -> None:
        self.inner, self.settings, self.listener = inner, settings, listener
        self._key = read_key(settings.key_file)

    def close(self) -> None:
        self.inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        return self.inner.store.count()

    def __contains__(self, name: str) -> bool:
        return name in self.inner.store

    # questions

    def read(self, source: Asked, **options: Unpack[Options]) -> Reading:
        """A source as its fingerprint, with what its folder says. Raises SourceError, FingerprintError."""
        from modelkin.sources.reading import reading_of

        return reading_of(source, self._how(options), self.listener, self.inner.store)

    def query(
        self,
        source: Asked,
        *,
        k: int = SHOWN,
        show_all: bool = False,
        exact: bool = False,
        tensors: bool = False,
        confirm: bool = False,
        where: Sequence[str] = (),
        **options: Unpack[Options],
    ) -> QueryAnswer:
        """The registered models nearest to a source, with evidence.

        Args:
            source: a path, a Hub id, or what was read before.
            k: relatives at most.
            show_all: add the nearest models without evidence.
            exact: hold every registered model against it, not only those that the index finds.
            tensors: list each tensor with its counterpart in each relative (`counterparts.tensors`).
            confirm: read the weights of the nearest models again, under a key drawn for this question alone (`confirmed`).
            where: conditions; only models that meet all of them are asked for, as if there were no others (`ListOptions`).

        Raises:
            WrongFilter: a condition that is none.
            SourceError: nothing there, or weights that cannot be read.
            FingerprintError: made with another key or spec than the registry's.
            UnsupportedFormat: `confirm` of a fingerprint or a Hub id, which have no weights here.
        """
        from modelkin.answering.asking import query
        from modelkin.answering.nearest import Search
        from modelkin_registry.store.filters import parse_where

        search = Search(k, show_all, exact, tensors, confirm, parse_where(where))
        return query(self.inner, source, self._how(options), self.listener, search)

    def compare(
        self,
        a: Asked,
        b: Asked,
        *,
        controls: Sequence[Asked] = (),
        exact: bool = False,
        align: bool = False,
        tensors: bool = False,
        **options: Unpack[CompareOptions],
    ) -> CompareAnswer:
        """Model A against model B, family by family; each is a source, or the name of a registered model.

        Args:
            controls: third models; a figure that they reach too says nothing of A and B.
            exact: compare number by number too: every byte of A, B and controls is read, which must be weights then (see `ExactOptions`).
            align: work out and undo a change of coordinates, and test what agrees then.
            tensors: list each tensor of A with its counterpart in B (`counterparts.tensors`).

        Raises:
            SourceError: a side that is neither there nor registered, or cannot be read.
            FingerprintError: sides made with different keys.
            ValueError: `resume` or `layers` without `exact`.
        """
        from modelkin.answering.comparing import Pair, compare

        wishes = exact_wishes(exact, options)
        return compare(Pair(a, b, controls), self._how(options), self._demand(), self.listener, wishes, align=align, tensors=tensors)

    def decompose(
        self, source: Asked, *, parents: Sequence[Asked] = (), base: Asked | None = None, **options: Unpack[Options]
    ) -> DecomposeAnswer:
        """What a merge was made of, and in what proportion: of `parents`, or without of registered models that are sought.

        Raises:
            SourceError: a model that is neither there nor registered, or cannot be read.
            FingerprintError: made with another key, or a parent of other shapes.
            UnknownModel: a base that is not registered, where parents are sought.
        """
        from modelkin.answering import asking
        from modelkin.sources.reading import name_of

        how = self._how(options)
        if parents:
            return asking.weigh(self._demand(), source, parents, how, self.listener, base)
        return asking.decompose(self.inner, source, how, self.listener, None if base is None else name_of(base))

    def screen(
        self,
        manifest: str | os.PathLike[str],
        *,
        out: str | os.PathLike[str],
        policy: str | os.PathLike[str] | None = None,
        jobs: int | None = None,
        time_limit: float = TIME_LIMIT,
        each: Callable[[Screened], None] | None = None,
        evidence: bool = False,
        command: str = "",
        **options: Unpack[Options],
    ) -> Screening:
        """Screen a batch of submissions by a policy: each beside this registry, and all against one another. Nothing is registered.

        Stopped anywhere, it goes on with the next call that has the same `out`. A submission that cannot be read is told as such.

        Args:
            manifest: a list of submissions (CSV, or JSON a line) with what each declares, or a folder in which each entry is one.
            out: a folder for what is measured and for the answer's files; made if it is not there.
            policy: a policy in TOML; by default the one that comes with modelkin.
            jobs: processes; by default as many as there are processors, fewer for small batches.
            time_limit: seconds that reading one submission may take; one that takes longer is told as not read.
            each: is told what became of each submission, once the whole batch is decided.
            evidence: write a bundle into `out` for each pair that a finding rests on, which `verify` makes again.
            command: what makes it again, as bundles shall tell it.

        Raises:
            SourceNotFound: no list, folder or policy is there.
            WrongLine: the list or the policy has a mistake, with its line.
            OutputInside: `out` lies among the submissions of a folder.
            OSError: `out` cannot be written.
        """
        from modelkin.screening.screening import Wishes, screened

        wishes = Wishes(Path(out), policy, jobs, time_limit, each or (lambda _: None), evidence, command)
        return screened(self.inner, self.settings, Path(manifest), self._how(options), self.listener, wishes)

    def trajectory(self, *checkpoints: Asked, log: str | os.PathLike[str] | None = None, **options: Unpack[Options]) -> TrajectoryAnswer:
        """Whether checkpoints lead from a random start to the last: in the order given, or those in one folder by their names' numbers.

        Args:
            log: the run's log (CSV, JSON lines or TensorBoard's event files: step, loss, learning rate): whether checkpoints and log agree.

        Raises:
            SourceError: one is not there, or cannot be read.
            WrongLine: the log has a mistake.
        """
        from modelkin.answering.series import examined

        return examined(self.inner, checkpoints, log, self._how(options), self.listener)

    def evidence(
        self,
        a: Asked,
        b: Asked,
        target: str | os.PathLike[str],
        *,
        controls: Sequence[Asked] = (),
        forms: Sequence[str] = (),
        command: str = "",
        **options: Unpack[Options],
    ) -> Evidenced:
        """Write the comparison of A with B into one file that others can check without trusting whoever wrote it.

        Args:
            target: the file, JSON; one of that name is replaced.
            controls: third models; a figure that they reach too says nothing of A and B.
            forms: what else is written beside it, to tell others' tools what it says: "cyclonedx", "spdx", "in-toto", "model-card".
                These name the bundle by its digest.
            command: what makes it again, as the bundle shall tell it.

        Raises:
            EvidenceError: a form that there is none of, or the file cannot be written.
            SourceError: a side that is neither there nor registered, or cannot be read.
            FingerprintError: sides made with different keys.
        """
        from modelkin.answering.comparing import Pair
        from modelkin.evidencing import write_evidence

        pair = Pair(a, b, controls)
        return write_evidence(pair, target, forms, self._how(options), self._demand(), self.listener, command)

    def verify(self, bundle: str | os.PathLike[str], *, weights: Sequence[Asked] = (), **options: Unpack[Options]) -> Verified:
        """Make every number of a bundle of evidence again, and tell where it differs.

        Args:
            bundle: a file that `evidence` wrote.
            weights: A, B and the controls in its order, or the first of them: they are read again, under its key.

        Raises:
            EvidenceError: no bundle, a damaged one, or one that was changed so that it cannot be read.
            UnusableKey: weights are to be read, and this is not the bundle's key.
            SourceError: weights that cannot be read.
        """
        from modelkin.evidencing import check_evidence

        return check_evidence(bundle, weights, self._how(options), self._demand(), self.listener)

    def get(self, name: str) -> Fingerprint:
        """A registered model's fingerprint. Raises UnknownModel."""
        return self.inner.get(name)

    def _how(self, options: Options) -> HowToRead:
        return how_to_read(self._key, options, self.settings.offline)

    def _demand(self) -> OnDemand:
        return OnDemand(self.settings, self.listener.say, self.inner)


class Registries(AskedRegistry):
    """Several open registries, asked as if they were one: relatives ranked together, chance reckoned for the models of all.

    >>> with Registries.open("ours.db", "postgresql://our-server/models") as registries:  # doctest: +SKIP
    ...     registries.query("models/mystery").relatives[0].held_by
    """

    @classmethod
    def open(
        cls,
        *paths: str | os.PathLike[str],
        key_file: str | os.PathLike[str] | None = None,
        offline: bool = False,
        listener: Listener | None = None,
    ) -> Self:
        """Open these registries, files and addresses of PostgreSQL; their order does not matter.

        Raises:
            RegistryError: fewer than two, one that is given twice, is not there, damaged, busy, or of another key or spec. It is named.
        """
        if len(paths) < 2:
            raise RegistryError("one registry alone is opened with `modelkin.open`. Give two or more.")
        first, *others = map(place_of, paths)
        settings = Settings(first, None if key_file is None else Path(key_file), offline, others=tuple(others))
        return cls.at(settings, listener or Listener())

    @classmethod
    def at(cls, settings: Settings, listener: Listener) -> Self:
        """The registries that these settings mean. Raises RegistryError."""
        return cls(open_asked(settings, say=listener.say), settings, listener)
