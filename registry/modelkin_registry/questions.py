"""What can be asked of an open registry, or of several that are asked as one: relatives, comparisons, merges, series."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from modelkin_indexer.results.beside import Claim, StructurePart
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import SHOWN
from modelkin_registry.evidence.judge import Judge, Strangers
from modelkin_registry.store.address import Place

if TYPE_CHECKING:
    from modelkin_registry.answers.asked import CompareAnswer, DecomposeAnswer, QueryAnswer
    from modelkin_registry.answers.claims import StructureBeside, WeighedClaim
    from modelkin_registry.answers.trajectory import TrajectoryAnswer
    from modelkin_registry.asking import Asking
    from modelkin_registry.search.known import Known
    from modelkin_registry.search.questioned import Questioned, WholeIndex


class Questions:
    """A store and its index as they are asked. Use from the thread that opened them."""

    def __init__(self, store: Questioned, index: WholeIndex, backgrounds: Strangers, places: Sequence[Place]) -> None:
        """`places` are those of all registries that are asked: what opens them again."""
        self.store, self.index, self.backgrounds, self.places = store, index, backgrounds, tuple(places)

    @cached_property
    def known(self) -> Known[Questioned]:
        """The models as fingerprints, and what is held against what."""
        from modelkin_registry.search.known import Known  # brings the evidence, which takes longer to import than most else is done in

        return Known(self.store, self.index)

    @cached_property
    def _asking(self) -> Asking:
        from modelkin_registry.asking import Asking

        return Asking(self.store, self.index, self.known, self.judge)

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def get(self, name: str) -> Fingerprint:
        """A registered model's fingerprint. Raises UnknownModel."""
        return self.known.named(name)

    def query(
        self,
        fingerprint: Fingerprint,
        *,
        source: str = "",
        k: int = SHOWN,
        show_all: bool = False,
        exact: bool = False,
        claims: Sequence[Claim] = (),
        structure: Sequence[StructurePart] = (),
        tensors: bool = False,
        besides: str | None = None,
        among: Collection[int] | None = None,
    ) -> QueryAnswer:
        """The registered models nearest to a fingerprint, with evidence.

        `show_all` adds the nearest without evidence; `exact` confirms every registered model instead of the index's candidates. Models that
        `claims` name are held against it too, and each claim is told beside what the weights show; it changes nothing else. `tensors` lists
        every tensor with its counterpart in each relative. `besides` names a registered model that is left out, with all its revisions, as
        if it were not there: the one that the fingerprint is of. `among` are numbers of revisions: they alone are asked for, as if the
        registry had no others, and all of their search rows are looked at.

        Raises:
            FingerprintError: made with another key or spec than the registry's.
            UnknownModel: `besides` is not registered.
        """
        from modelkin_registry.asking import Asked

        return self.told(self._asking.query(fingerprint, Asked(source, k, show_all, exact, claims, structure, tensors, besides, among)))

    def told(self, answer: QueryAnswer) -> QueryAnswer:
        """An answer with what is to be told of where its relatives are: of one registry nothing. For answers put together anew, too."""
        return answer

    def told_merge(self, answer: DecomposeAnswer) -> DecomposeAnswer:
        """The same of a merge taken apart."""
        return answer

    def weighed_claims(self, name: str) -> tuple[WeighedClaim, ...]:
        """What a registered model claims to be made from, beside what the weights show of it; nothing of an outdated fingerprint.

        Raises UnknownModel.
        """
        return self._asking.weighed_claims(name)

    def structure_beside(self, fingerprint: Fingerprint, structure: Sequence[StructurePart], name: str) -> StructureBeside:
        """A model's structure beside that of a registered one, never evidence. Raises UnknownModel."""
        return self._asking.structure_beside(fingerprint, structure, name)

    def structure_of(self, name: str) -> list[StructurePart]:
        """The present structure of a registered model. Raises UnknownModel."""
        return self.store.structure.of_model(self.store.get(name).model_id)

    def claims_of(self, name: str) -> list[Claim]:
        """What is said of a registered model now. Raises UnknownModel."""
        return self._asking.claims_of(name)

    def decompose(
        self, fingerprint: Fingerprint, parents: Sequence[str] | None = None, *, base: str | None = None, source: str = ""
    ) -> DecomposeAnswer:
        """Which registered models, in which proportion, a merge was made of. `parents` names them; without, they are sought.

        Raises:
            FingerprintError: made with another key or spec than the registry's.
            UnknownModel: a parent or base that is not registered.
        """
        return self.told_merge(self._asking.decompose(fingerprint, parents, base, source))

    def judge(self, searched: int) -> Judge:
        """What this registry judges by, for an answer that looks at so many models."""
        return Judge(searched, self.backgrounds, {})

    def compare(
        self, a: Fingerprint, b: Fingerprint, *, a_name: str = "A", b_name: str = "B", controls: Mapping[str, Fingerprint] | None = None
    ) -> CompareAnswer:
        """Hold two fingerprints against each other, and third models against both. Raises FingerprintError."""
        from modelkin_registry.explanation.compare import compare_fingerprints

        return compare_fingerprints(a, b, a_name=a_name, b_name=b_name, controls=controls or {}, judge=self.judge(1))

    def trajectory(self, names: Sequence[str], series: Sequence[Fingerprint]) -> TrajectoryAnswer:
        """Examine checkpoints said to lead from a random start to the last one, the registry beside them. Raises FingerprintError."""
        from modelkin_registry.answers.relations import is_descent
        from modelkin_registry.answers.trajectory import Resemblance
        from modelkin_registry.trajectories.trajectories import examine_series, mean_r

        found = []
        for step, fingerprint in enumerate(series):
            relatives = self.query(fingerprint, source=names[step], k=1).relatives
            found += [Resemblance(step, one.model, one.relation, mean_r(one)) for one in relatives if is_descent(one)]
        return examine_series(names, series, self.judge(1), found)
