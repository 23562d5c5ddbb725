"""Two models held against each other, with controls; number by number or in other coordinates where that is asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from modelkin.registries import OnDemand
from modelkin.sources.sides import judge_of, sides_of, structure_of_sides
from modelkin.sources.tokens import read_by_tokens
from modelkin.wishes import Asked, ExactWishes, HowToRead, Listener
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import CompareAnswer
from modelkin_registry.answers.parts import RELATED
from modelkin_registry.explanation.compare import compare_fingerprints


class Pair(Struct, frozen=True):
    """What is compared: A, B, and third models that show what such figures are worth."""

    a: Asked
    b: Asked
    controls: Sequence[Asked] = ()

    def paths(self) -> tuple[str, ...]:
        """All of them as paths, for comparisons that read weights.

        Raises:
            ValueError: one is a fingerprint, which holds no weights.
        """
        given = (self.a, self.b, *self.controls)
        found = tuple(os.fspath(one) for one in given if isinstance(one, (str, os.PathLike)))
        if len(found) != len(given):
            raise ValueError("an exact or aligned comparison reads weights: give paths, not fingerprints")
        return found


def compare(
    pair: Pair,
    how: HowToRead,
    registry: OnDemand,
    listener: Listener,
    exact: ExactWishes | None = None,
    *,
    align: bool = False,
    tensors: bool = False,
) -> CompareAnswer:
    """What A shows of B. The registry is asked only for names that are not here, and for its backgrounds.

    Raises:
        SourceError: a side that is not there, or cannot be read.
        FingerprintError: sides made with different keys.
        RegistryError: a name needs a registry, and there is none.
    """
    a, b, *others = sides_of((pair.a, pair.b, *pair.controls), how, registry, listener)

    def held(of: Fingerprint) -> CompareAnswer:
        return compare_fingerprints(
            of,
            b.fingerprint,
            a_name=a.name,
            b_name=b.name,
            controls={side.name: side.fingerprint for side in others},
            judge=judge_of(registry),
            claims={side.name: side.claims for side in (a, b)},
            tensors=tensors or exact is not None,
        )

    answer = held(a.fingerprint)
    if answer.examined is not None and answer.examined.same_lengths and isinstance(pair.b, (str, os.PathLike)):
        by_tokens = read_by_tokens(pair.a, pair.b, b.fingerprint, how, listener)
        found = held(by_tokens) if by_tokens is not None else answer
        answer = found if found.verdict == RELATED else answer
    notes = (f"{side.name}: {note}" for side in (a, b, *others) for note in side.notes)
    answer = replace(answer, structure=structure_of_sides(a, b), warnings=(*answer.warnings, *notes))
    turned = dict(zip(pair.paths(), (side.turned for side in (a, b, *others)), strict=True)) if align or exact is not None else {}
    if align:
        from modelkin.answering.exact import add_aligned  # brings scipy, a tenth of a second that other comparisons do without

        first, second, *_ = pair.paths()
        answer = add_aligned(answer, first, second, how, turned, listener)
    if exact is not None:
        from modelkin.answering.exact import add_exact

        answer = add_exact(answer, pair.paths(), how, turned, exact, listener)
        if answer.counterparts is not None and not tensors:
            answer = replace(answer, counterparts=replace(answer.counterparts, tensors=None))
    return answer
