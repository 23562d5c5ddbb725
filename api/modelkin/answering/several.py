"""A query under several keys. Weights that are a relative's are found under each of them; what shows under one alone may be made for it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from modelkin.answering.nearest import Search, nearest_to
from modelkin.keys import read_key
from modelkin.registries import open_asked
from modelkin.settings import Settings
from modelkin.sources.reading import name_of, reading_of
from modelkin.wishes import Asked, Listener, Options, how_to_read
from modelkin_indexer.errors import UnusableKey
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.spec import PUBLIC
from modelkin_registry.answers.asked import QueryAnswer, UnderKey
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.relations import RELATIONS
from modelkin_registry.explanation.query import query_answer
from modelkin_registry.questions import Questions

UNRELATED = "unrelated"


class _Told(Struct, frozen=True):
    """What one key's part of the registry told."""

    registry: Questions
    fingerprint: Fingerprint
    answer: QueryAnswer

    @property
    def key(self) -> str:
        return self.fingerprint.about.key

    def relation(self, model: str) -> str | None:
        """What is told of a model, None where it is not kept under this key."""
        known = {one.model: one.relation for one in self.answer.relatives}
        return known.get(model, UNRELATED if model in self.registry.store else None)


def under_each(
    parts: Sequence[Settings], asked: Asked, options: Options, listener: Listener, search: Search, *, starter: bool
) -> QueryAnswer:
    """One answer of those under each key: of every model the strongest relation under a private key.

    What is found under the public key, and under no private one that the model is kept under, is told in a warning and is no relative:
    anybody can make a model that shows a relation to what the public key looks at.

    Raises:
        UnusableKey: `confirm`, which draws a key of its own.
        RegistryError: the registry is not of one of the keys, and has no part under it.
        SourceError: a source that cannot be read.
        FingerprintError: a written fingerprint, which is of one key.
    """
    if search.confirm:
        raise UnusableKey("To confirm an answer a key is drawn for it. Give one key with --confirm.")
    with ExitStack() as opened:
        told: dict[str, _Told] = {}
        for settings in parts:
            registry = opened.enter_context(open_asked(settings, begin=starter, say=listener.say))
            how = how_to_read(read_key(settings.key_file), options, settings.offline)
            reading = reading_of(asked, how, listener, registry.store)
            found = nearest_to(registry, asked, reading, how, listener, search)
            told.setdefault(how.key.name, _Told(registry, *found))
        return _joined(list(told.values()), name_of(asked), search.k)


def _joined(told: Sequence[_Told], source: str, k: int) -> QueryAnswer:
    models = dict.fromkeys(one.model for part in told for one in part.answer.relatives)
    rows = tuple(UnderKey(model, part.key, relation) for model in models for part in told if (relation := part.relation(model)) is not None)
    places = {id(one): place for part in told for place, one in enumerate(part.answer.relatives)}
    chosen = [one for model in models if (one := _strongest(model, told)) is not None]
    relatives = sorted(chosen, key=lambda one: (-RELATIONS[one.relation].rank, places[id(one)], one.model))[:k]
    first = next((part for part in told if relatives and relatives[0] in part.answer.relatives), told[0])
    assert first.answer.examined is not None
    whole = query_answer(
        first.fingerprint,
        relatives,
        source=source,
        registry=first.answer.registry,
        examined=first.answer.examined,
        merge=None,
        claims=first.answer.claims,
        contradictions=first.answer.contradictions,
    )
    counts = [f"{part.key} ({part.answer.registry.models} models)" for part in told]
    words = f"{Path(source).name} was asked under {len(told)} keys: {', '.join(counts)}. What a private key shows decides."
    whole = first.registry.told(whole)
    return replace(
        whole,
        merge=first.answer.merge,
        structure=first.answer.structure,
        under_keys=rows,
        explanation=(*whole.explanation[:1], words, *whole.explanation[1:]),
        warnings=tuple(dict.fromkeys((*first.answer.warnings, *_differing(rows)))),
    )


def _strongest(model: str, told: Sequence[_Told]) -> Relative | None:
    """What is told of a model under a private key that it is kept under; else under the public one."""
    private = [part for part in told if part.key != PUBLIC and part.relation(model) is not None]
    found = [one for part in private or told for one in part.answer.relatives if one.model == model]
    return max(found, key=lambda one: (RELATIONS[one.relation].rank, one.shared_of_all), default=None)


def _differing(rows: Sequence[UnderKey]) -> list[str]:
    """Models that are told by descent under some of the keys that they are kept under, and not under others."""
    found: list[str] = []
    for model in dict.fromkeys(row.model for row in rows):
        related = [row.key for row in rows if row.model == model and RELATIONS[row.relation].descent]
        others = [row.key for row in rows if row.model == model and row.key not in related]
        if related and others:
            why = (
                "anybody can make a model show what the public key looks at, so it is not told as a relative"
                if related == [PUBLIC]
                else "it may have been changed in what the others look at"
            )
            found.append(f"{model}: related under {', '.join(related)}, and not under {', '.join(others)}: {why}.")
    return found
