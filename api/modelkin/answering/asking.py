"""Questions to a registry about a source: what it is closest to, and what it was merged from."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from modelkin.answering.nearest import Search, ask, nearest_to
from modelkin.registries import OnDemand
from modelkin.sources.reading import name_of, reading_of
from modelkin.sources.sides import say_notes, sides_of
from modelkin.wishes import Asked, HowToRead, Listener
from modelkin_registry.answers.asked import DecomposeAnswer, QueryAnswer
from modelkin_registry.questions import Questions

EMPTY = "The registry is empty; fill it with `modelkin add SOURCE...`."


def query(registry: Questions, asked: Asked, how: HowToRead, listener: Listener, search: Search) -> QueryAnswer:
    """The registered models nearest to a source, with evidence. Raises SourceError, FingerprintError."""
    if not registry.store.count():
        listener.say(EMPTY)
    reading, source = reading_of(asked, how, listener, registry.store), name_of(asked)
    fingerprint, answer = nearest_to(registry, asked, reading, how, listener, search)
    if search.confirm:
        from modelkin.answering.confirming import confirmed

        every = replace(search, show_all=True, tensors=False)
        wide = answer if search.show_all else ask(registry, fingerprint, source, reading, every)
        answer = confirmed(registry, asked, how, listener, answer, wide, tensors=search.tensors)
    return replace(answer, warnings=(*answer.warnings, *(f"{source}: {note}" for note in reading.notes)))


def decompose(registry: Questions, asked: Asked, how: HowToRead, listener: Listener, base: str | None) -> DecomposeAnswer:
    """What of the registry a source was merged from. Raises SourceError, FingerprintError, UnknownModel."""
    fingerprint = reading_of(asked, how, listener, registry.store).fingerprint
    return registry.decompose(fingerprint, base=base, source=name_of(asked))


def weigh(
    registry: OnDemand, asked: Asked, parents: Sequence[Asked], how: HowToRead, listener: Listener, base: Asked | None
) -> DecomposeAnswer:
    """The weights of parents that are named, each a source or a registered model. `base` is one of them, or one more.

    Raises:
        SourceError: one is neither here nor registered, or cannot be read.
        FingerprintError: made with another key, or a parent of other shapes.
    """
    from modelkin_registry.merging.reporting import fitted

    reading = reading_of(asked, how, listener)
    sides = sides_of([*parents, *([] if base is None else [base])], how, registry, listener)
    say_notes(sides, listener)
    found = {side.name: side.fingerprint for side in sides}
    return fitted(reading.fingerprint, found, base=None if base is None else sides[-1].name, source=name_of(asked))
