"""What must be said beside an answer that names models which an import brought."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modelkin_registry.answers.evidence import Relative
from modelkin_registry.store.records import DISPLACED


def about_imported(relatives: Iterable[Relative], senders: Mapping[str, str]) -> tuple[str, ...]:
    """One sentence a relative that was not read here. `senders`: the imported models by name, each with the file that brought it."""
    found = ((one.model, senders.get(one.model) or senders.get(one.model.rpartition(DISPLACED)[0])) for one in relatives)
    return tuple(f"{model}: from {sender}; its name and all that is said of it are its sender's word." for model, sender in found if sender)
