"""A query asked again of the weights themselves, under a key drawn for this one question: nobody can have prepared a model for it."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from modelkin.answering.nearest import Search, nearest_to
from modelkin.errors import problem_of
from modelkin.keys import KEY_BYTES
from modelkin.sources.naming import FINGERPRINT_SUFFIX, hub_id
from modelkin.sources.reading import name_of, reading_of
from modelkin.wishes import Asked, HowToRead, Listener
from modelkin_indexer.errors import UnsupportedFormat
from modelkin_indexer.spec import private_key
from modelkin_registry.answers.asked import Confirmation, QueryAnswer
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.relations import RELATIONS, is_descent
from modelkin_registry.explanation.parts import FORGEABLE
from modelkin_registry.explanation.query import query_answer
from modelkin_registry.questions import Questions
from modelkin_registry.registry import Registry
from modelkin_registry.search.known import same_weights

MOST_READ = 5  # registered models read again: the nearest, those without evidence too
GIVE_WEIGHTS = "Give a file or folder of weights, or leave --confirm out."
NO_WEIGHTS = "its weights are not where they were read"


def confirmed(
    registry: Questions, asked: Asked, how: HowToRead, listener: Listener, answer: QueryAnswer, wide: QueryAnswer, *, tensors: bool
) -> QueryAnswer:
    """The answer by what the weights show under a fresh key; `wide` is the same answer with the nearest models without evidence.

    Relatives whose weights are not at hand stay as they were told, and are named.

    Raises:
        UnsupportedFormat: the source is a fingerprint, or on the Hub: there are no weights here to read again.
        SourceError: its weights cannot be read any more.
    """
    if not isinstance(asked, (str, os.PathLike)) or Path(asked).suffix == FINGERPRINT_SUFFIX or hub_id(os.fspath(asked)) is not None:
        raise UnsupportedFormat("has no weights here to confirm an answer by", path=name_of(asked), remedy=GIVE_WEIGHTS)
    how = replace(how, key=private_key(secrets.token_bytes(KEY_BYTES)), level="full")  # all of the weights, whatever was asked for before
    candidates = [one for one in wide.relatives if one.compared > 0][:MOST_READ]
    with tempfile.TemporaryDirectory() as folder, Registry.open(Path(folder) / "again.db", key_name=how.key.name) as again:
        left = {one.model: _taken_in(again, registry, one.model, how, listener) for one in candidates}
        read = [name for name, reason in left.items() if not reason]
        if not read:
            return _told(answer, candidates, {}, left)
        reading = reading_of(asked, how, listener)
        fingerprint, found = nearest_to(again, asked, reading, how, listener, Search(MOST_READ, exact=True, tensors=tensors))
    kept = [one for one in answer.relatives if one.model not in read]
    fresh = {one.model: one.relation for one in found.relatives}
    assert answer.examined is not None
    whole = query_answer(
        fingerprint,
        sorted((*found.relatives, *kept), key=lambda one: -RELATIONS[one.relation].rank),
        source=name_of(asked),
        registry=answer.registry,
        examined=answer.examined,
        merge=None,
        claims=answer.claims,
        contradictions=answer.contradictions,
    )
    doubts = [] if any(is_descent(one) for one in kept) else [FORGEABLE]  # of what was read again there is none
    notes = tuple(note for note in dict.fromkeys((*answer.warnings, *found.warnings)) if note not in doubts)
    whole = registry.told(replace(whole, merge=found.merge, structure=answer.structure, warnings=notes))
    return _told(whole, candidates, {name: fresh.get(name, "unrelated") for name in read}, left)


def _taken_in(again: Registry, registry: Questions, name: str, how: HowToRead, listener: Listener) -> str:
    """Read a registered model's weights under the fresh key; why not, or ""."""
    stored = registry.store.get(name)
    origin = stored.origin
    if not origin or not Path(origin).exists():
        return NO_WEIGHTS
    try:
        fingerprint = reading_of(origin, how, listener).fingerprint
        if not same_weights(stored, fingerprint):
            return f"other weights are there now: {origin}"
        again.add(name, fingerprint, origin=origin)
    except Exception as error:  # whatever is wrong with one model, the others are read
        problem = problem_of(error)
        if problem.is_fault:
            listener.fault(error)
        return str(problem)
    return ""


def _told(answer: QueryAnswer, candidates: Iterable[Relative], fresh: dict[str, str], left: dict[str, str]) -> QueryAnswer:
    """The answer with what became of each candidate, in fields and in words."""
    rows = tuple(Confirmation(one.model, one.relation, fresh.get(one.model), left[one.model] or None) for one in candidates)
    words = f"Read again under a key drawn for this question: {len(fresh)} of {answer.registry.models} registered models, the nearest."
    if not fresh:
        words = "Not confirmed: of the nearest registered models none has its weights at hand."
    differing = [
        f"{row.model}: {row.told} by the registry's fingerprint, {row.found} by the weights under a fresh key, which is what is told here."
        for row in rows
        if row.found not in (None, row.told)
    ]
    unread = [f"{row.model} was not confirmed: {row.reason}." for row in rows if row.reason]
    explanation = (*answer.explanation[:1], words, *answer.explanation[1:])
    return replace(answer, confirmed=rows, explanation=explanation, warnings=(*answer.warnings, *differing, *unread))
