"""A registry's models read again under another key, into a registry of that key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from modelkin.errors import problem_of
from modelkin.sources.naming import HUB_ID
from modelkin.taking.several import read_again
from modelkin.wishes import HowToRead, Listener
from modelkin_registry.answers.upkeep import Renewed
from modelkin_registry.registry import Registry
from modelkin_registry.store.records import StoredModel

LEFT, THERE, RENEWED = "left", "there", "renewed"


def refreshed(old: Registry, new: Registry, how: HowToRead, listener: Listener, *, places: Sequence[Path], hub: bool) -> Iterator[Renewed]:
    """One result for each model, as soon as it is stored or left. Models that `new` has are passed over."""
    for stored in sorted(old.store.stored(old.store.numbers(current=True)).values(), key=lambda one: one.model):
        told = Renewed(stored.model, RENEWED, None, stored.level, stored.origin)
        if stored.model in new.store:
            yield replace(told, status=THERE)
            continue
        try:
            reason = _read_again(old, new, stored, replace(how, level=stored.level), listener, places, hub)
        except Exception as error:  # whatever is wrong with one source, the others are done
            problem = problem_of(error)
            reason = str(problem)
            if problem.is_fault:
                listener.fault(error)
        yield replace(told, status=LEFT, reason=reason) if reason else told
    new.refresh()


def _read_again(
    old: Registry, new: Registry, stored: StoredModel, how: HowToRead, listener: Listener, places: Sequence[Path], hub: bool
) -> str:
    """Read one model where it is at hand and keep it under its name, with its claims, tags and note; why not, or "".

    Of a model that was imported only the weights count, and only where they lie under its name in a place that was named: where it came
    from, and what is said of it, is its sender's word.
    """
    found = [path for path in _at_hand(stored, places) if path.exists()]
    on_hub = HUB_ID.fullmatch(stored.origin) is not None and not stored.sender
    if not found and stored.sender:
        return f"it was imported from {stored.sender}: give the folder that has its weights under this name (--from)"
    if not found and not (on_hub and hub):
        return "it is on the Hub: add --hub" if on_hub else "its weights are not at hand: give their folder (--from)"
    asked = str(found[0]) if found else f"hf://{stored.origin}"
    reading = read_again(stored, asked, how, listener)
    if reading is None:
        return f"other weights are there now: {asked}"
    origin, claims = (reading.origin, reading.claims) if stored.sender else (stored.origin, old.claims_of(stored.model))
    told: dict[str, Any] = {"origin": origin, "files": reading.files, "claims": claims, "structure": reading.structure}
    with new.store.batch():
        put = new.add(stored.model, reading.fingerprint, **told)
        tags, notes = old.store.labels.tags([stored.model_id]), old.store.labels.notes([stored.model_id])
        new.store.labels.tag(put.model_id, tags.get(stored.model_id, ()))
        new.store.labels.note(put.model_id, notes.get(stored.model_id, ""))
    return ""


def _at_hand(stored: StoredModel, places: Sequence[Path]) -> list[Path]:
    """Where a model's weights may lie: under its name or its file's in one of the places, else where they were."""
    names = dict.fromkeys([stored.model, Path(stored.origin).name] if stored.origin and not stored.sender else [stored.model])
    inside = [place / name for place in places for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts]
    return [*inside, *([Path(stored.origin)] if stored.origin and not stored.sender else [])]
