"""What a registry has nearest to what was read of a source."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from modelkin.sources.reading import name_of
from modelkin.sources.sides import Side, turned_as, with_heads_of
from modelkin.sources.tokens import read_by_tokens
from modelkin.wishes import Asked, HowToRead, Listener, Reading
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import SHOWN, QueryAnswer
from modelkin_registry.answers.parts import RELATED
from modelkin_registry.answers.relations import is_descent
from modelkin_registry.questions import Questions
from modelkin_registry.store.filters import Where

MOST_READ_AGAIN = 3  # models of which lengths alone agree that a query is read again for: turned round, or by the strings of their tokens


class Search(Struct, frozen=True):
    """How far a query goes.

    Relatives shown, whether those without evidence too, whether every model is held against it, whether tensors are listed, whether the
    weights are read again under a fresh key, and which models are asked for alone (all of them without conditions).
    """

    k: int = SHOWN
    show_all: bool = False
    exact: bool = False
    tensors: bool = False
    confirm: bool = False
    where: Where = ()


def nearest_to(
    registry: Questions, asked: Asked, reading: Reading, how: HowToRead, listener: Listener, search: Search
) -> tuple[Fingerprint, QueryAnswer]:
    """The answer for what was read, and the fingerprint that it is of: what its files leave open is read as the nearest has it."""
    source, fingerprint = name_of(asked), reading.fingerprint
    answer = ask(registry, fingerprint, source, reading, search)
    lengths = answer.examined.same_lengths[:MOST_READ_AGAIN] if answer.examined is not None else ()
    if near := [Side(name, registry.get(name)) for name in dict.fromkeys([*(one.model for one in answer.relatives[:1]), *lengths])]:
        side = with_heads_of(near, asked, Side(source, fingerprint), how, listener)
        if side.fingerprint is not fingerprint:
            fingerprint, answer = side.fingerprint, ask(registry, side.fingerprint, source, reading, search)
        turned = turned_as(near, asked, side, how, listener).fingerprint
        again = ask(registry, turned, source, reading, search) if turned is not fingerprint else answer
        if _shows_more(again, answer):
            fingerprint, answer = turned, again
        elif answer.verdict != RELATED:
            answer = again  # strangers either way, and more of them was compared
    for name in answer.examined.same_lengths[:MOST_READ_AGAIN] if answer.examined is not None else ():
        by_tokens = read_by_tokens(asked, registry.store.get(name).origin, registry.get(name), how, listener)
        found = ask(registry, by_tokens, source, reading, search) if by_tokens is not None else None
        if found is not None and found.verdict == RELATED:
            return fingerprint, found
    return fingerprint, answer


def _shows_more(again: QueryAnswer, answer: QueryAnswer) -> bool:
    """Whether weights that were read turned show more of a relative by descent, and each of those that they showed before.

    Else they stay as they are stored: a registered model, which anybody may have made for it, would turn them away from all others.
    """
    known, found = ({one.model: one.shared_of_all for one in it.relatives if is_descent(one)} for it in (answer, again))
    return known.keys() <= found.keys() and any(share > known.get(model, 0.0) for model, share in found.items())


def ask(registry: Questions, fingerprint: Fingerprint, source: str, reading: Reading, search: Search) -> QueryAnswer:
    """The answer for one fingerprint of what was read. Where some models were asked for alone, it tells which."""
    among = registry.store.matching(search.where) if search.where else None
    answer = registry.query(
        fingerprint,
        source=source,
        k=search.k,
        show_all=search.show_all,
        exact=search.exact,
        tensors=search.tensors,
        claims=reading.claims,
        structure=reading.structure,
        among=among,
    )
    if among is None:
        return answer
    said = ", ".join(f"{one.field}{one.relation}{one.value}" for one in search.where)
    note = f"Only models with {said} were asked: {answer.registry.models} of the registry's {registry.store.count()}."
    return replace(answer, warnings=(*answer.warnings, note))
