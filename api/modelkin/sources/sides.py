"""Models that are held against each other: each a source that is read, the name of a registered model, or a fingerprint at hand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from modelkin.registries import OnDemand
from modelkin.sources.naming import FINGERPRINT_SUFFIX, hub_id
from modelkin.sources.reading import read_alike, read_source, read_turned
from modelkin.wishes import Asked, HowToRead, Listener, Reading
from modelkin_indexer.errors import RegistryError, SourceNotFound, UnknownModel
from modelkin_indexer.results.beside import Claim, StructurePart
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.claims import StructureBeside
from modelkin_registry.counterparts.turned.orientation import is_nearer, to_turn
from modelkin_registry.evidence.judge import ALONE, Judge
from modelkin_registry.structure.comparison import Structure, compare_structure


class Side(Struct, frozen=True):
    """A model of the call: what it is called, its fingerprint, what is said of it and lies beside it, and notes of its reading.

    `turned` are the tensors that were read as stored [in, out].
    """

    name: str
    fingerprint: Fingerprint
    claims: Sequence[Claim] = ()
    structure: Sequence[StructurePart] = ()
    notes: Sequence[str] = ()
    turned: frozenset[str] = frozenset()


def sides_of(asked: Sequence[Asked], how: HowToRead, registry: OnDemand, listener: Listener) -> list[Side]:
    """Each side, read from here, from the registry, or from the Hub; the registry is opened only if a name needs it.

    Raises:
        SourceError: neither there nor registered, or weights that cannot be read.
        RegistryError: a name needs a registry, and there is none.
    """
    found: dict[str, Side] = {}
    sides = [_side(one, f"model {number}", how, registry, listener, found) for number, one in enumerate(asked, 1)]
    for number, one in enumerate(asked):  # one after the other: of two that leave their layout open one follows
        others = [side for other, side in enumerate(sides) if other != number]
        side = with_heads_of(others, one, sides[number], how, listener)
        # Which way matrices lie only those before it tell: a third model would turn a side away from the one that it is held against.
        sides[number] = turned_as(others[: max(number, 1)], one, side, how, listener)
    return sides


def say_notes(sides: Sequence[Side], listener: Listener) -> None:
    """Tell what was noted when sides were read, where the answer has no place for it."""
    for note in dict.fromkeys(f"{side.name}: {note}" for side in sides for note in side.notes):
        listener.say(note)


def with_heads_of(others: Sequence[Side], asked: Asked, side: Side, how: HowToRead, listener: Listener) -> Side:
    """A side read again with the heads of the first other that tells them, where its own files leave them open and it matters."""
    path = _weights(asked)
    telling = next((other for other in others if _tells_heads(other)), None)
    if path is None or telling is None or _tells_heads(side):
        return side
    found = read_alike(path, how, listener, telling.fingerprint.about.config or {})
    if found is None:
        return side
    listener.say(f"{side.name}: its files tell no number of heads; its attention is taken apart by the heads of {telling.name}.")
    return replace(side, fingerprint=found)


def turned_as(others: Sequence[Side], asked: Asked, side: Side, how: HowToRead, listener: Listener) -> Side:
    """A side whose matrices are read as stored [in, out] where the first other that tells which way they lie shows it."""
    path = _weights(asked)
    for other in others if path is not None else ():
        places = to_turn(side.fingerprint, other.fingerprint)
        found = read_turned(path, how, listener, places) if path is not None and places else None
        if found is not None and is_nearer(found[0], side.fingerprint, other.fingerprint):
            listener.say(f"{side.name}: its matrices are read as stored [in, out], as what {other.name} holds shows.")
            return replace(side, fingerprint=found[0], turned=found[1])
    return side


def _weights(asked: Asked) -> Path | None:
    """Where the weights of a side lie that can be read again."""
    if isinstance(asked, (Fingerprint, Reading)):
        return None
    path = Path(os.fspath(asked))
    return path if path.exists() and path.suffix != FINGERPRINT_SUFFIX else None


def _tells_heads(side: Side) -> bool:
    return bool((side.fingerprint.about.config or {}).get("num_attention_heads"))


def _side(asked: Asked, stand_in: str, how: HowToRead, registry: OnDemand, listener: Listener, found: dict[str, Side]) -> Side:
    if isinstance(asked, Fingerprint):
        return Side(stand_in, asked)
    if isinstance(asked, Reading):
        return Side(asked.name, asked.fingerprint, asked.claims, asked.structure, asked.notes)
    name = os.fspath(asked)
    if name not in found:
        found[name] = _named(name, how, registry, listener)
    return found[name]


def _named(name: str, how: HowToRead, registry: OnDemand, listener: Listener) -> Side:
    if not os.path.exists(name):  # noqa: PTH110  # Path.exists raises where a folder may not be searched
        try:
            kept = registry.get()
        except RegistryError:
            if hub_id(name) is None:
                raise
        else:
            if hub_id(name) is None or name in kept.store:
                return _registered(name, registry)
    reading = read_source(name, how, listener, registry.opened.store if registry.opened is not None else None)
    return Side(name, reading.fingerprint, reading.claims, reading.structure, reading.notes)


def _registered(name: str, registry: OnDemand) -> Side:
    kept = registry.get()
    try:
        return Side(name, kept.get(name), kept.claims_of(name), kept.structure_of(name))
    except UnknownModel as error:
        raise SourceNotFound("no such file or folder, and no registered model", path=name, remedy=str(error)) from error


def judge_of(registry: OnDemand) -> Judge:
    """What the registry judges by that is named, or that holds one of the sides; ALONE where there is no such registry.

    Raises RegistryError where one of several cannot be read.
    """
    if registry.opened is None and not registry.is_named:
        return ALONE
    try:
        return registry.get().judge(1)
    except RegistryError:
        if registry.are_several:  # which of them is in trouble must be known: the others alone may judge by less
            raise
        return ALONE  # what needs the registry has said so already


def structure_of_sides(a: Side, b: Side) -> StructureBeside:
    """The structure of A beside that of B, each from its folder or from the registry."""
    mine, theirs = (Structure(side.fingerprint.about.config or {}, side.structure) for side in (a, b))
    return compare_structure(mine, theirs, b.name, lambda hashes: np.zeros(len(hashes), np.int64))
