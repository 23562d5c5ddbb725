"""Answers to `decompose`, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from modelkin_indexer.errors import FingerprintError
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import DecomposeAnswer, Searched
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.relations import is_descent
from modelkin_registry.answers.sides import describe, warnings_about
from modelkin_registry.merging.by_layer import attribute_layers, layer_merge
from modelkin_registry.merging.decomposition import Decomposition, fit_parents
from modelkin_registry.merging.recipe import layer_recipe, recipe
from modelkin_registry.merging.table import able
from modelkin_registry.merging.words import layer_object, layer_sentence, merge_object, merge_sentences


def fitted(
    query: Fingerprint, parents: Mapping[str, Fingerprint], *, base: str | None, source: str, registry: Searched | None = None
) -> DecomposeAnswer:
    """The query against named parents. `base` is one of them.

    Raises:
        FingerprintError: made with another key than a parent's, or a parent of other shapes.
    """
    for name, parent in parents.items():
        if parent.about.key != query.about.key:
            raise FingerprintError(f"{name}: made with key {parent.about.key!r}, {source} with {query.about.key!r}. Use one key.")
    others = sorted(set(parents) - set(able(query, parents)))
    if others:
        raise FingerprintError(f"{', '.join(others)}: its layers have other shapes than those of {source}. Leave it out; it is no parent.")
    found = fit_parents(query, parents, base)
    words = merge_sentences(_subject(source), found) if found else []
    return _answer(query, found, source=source, registry=registry, words=words, named=True)


def sought(
    query: Fingerprint, merge: Decomposition | None, near: Sequence[Relative], *, source: str, registry: Searched
) -> DecomposeAnswer:
    """The answer where parents were sought in a registry."""
    subject = _subject(source)
    if merge:
        return _answer(query, merge, source=source, registry=registry, words=merge_sentences(subject, merge))
    by_layer = layer_merge(attribute_layers(near))
    if by_layer:
        answer = _answer(query, None, source=source, registry=registry, words=[layer_sentence(subject, by_layer)])
        return replace(answer, merge=layer_object(by_layer), recipe=layer_recipe(by_layer, query))
    nearest = next((f" Its nearest relative is {one.model} ({one.relation})." for one in near if is_descent(one)), "")
    words = [f"{subject} is not explained as a merge of registered models.{nearest}"]
    return _answer(query, None, source=source, registry=registry, words=words)


def _answer(
    query: Fingerprint,
    found: Decomposition | None,
    *,
    source: str,
    registry: Searched | None,
    words: Sequence[str],
    named: bool = False,
) -> DecomposeAnswer:
    described = merge_object(found) if found else None
    return DecomposeAnswer(
        query=describe(query, source),
        registry=registry,
        merge=described if found and found.is_merge else None,
        fit=described if named else None,
        recipe=recipe(found, query) if found else None,
        explanation=tuple(words),
        warnings=warnings_about(query, source),
    )


def _subject(source: str) -> str:
    return Path(source).name or "The model"
