"""What an answer says of the parts of a model, of how much was compared, and what a machine may make of it."""

from __future__ import annotations

from dataclasses import dataclass

from modelkin_registry.answers.plain import Plain

RELATED, NOTHING_FOUND, NOT_EXAMINED = "related", "nothing found", "not examined"
ALTERNATIVES = ("query from relative", "relative from query", "both from a third")
VERDICTS = (RELATED, NOTHING_FOUND, NOT_EXAMINED)


@dataclass(frozen=True)
class Part(Plain):
    """One component of the query beside its nearest counterpart.

    share     of the query's informative parameters that stand in it
    relation  None where nothing of it was compared
    compared  share of its own informative parameters that had something to be held against
    shared    share of its own informative parameters that carry evidence
    """

    name: str
    share: float
    relation: str | None
    relative: str | None
    compared: float
    shared: float


@dataclass(frozen=True)
class Unread(Plain):
    """What of a model was not decoded or not understood: bytes, and their share of all; None where that is not known."""

    what: str
    bytes: int | None
    share: float | None


@dataclass(frozen=True)
class Examined(Plain):
    """How much of the query was held against anything. `models` were searched, `models_comparable` had a part of its kind and shape.

    `share` is that of the query's informative parameters, unread bytes among them, that the most comparable model could be held against;
    `unread` names what was not decoded or not understood, with bytes and share; `parts_without_counterpart` had none in any model.
    """

    models: int
    models_comparable: int
    share: float
    unread: tuple[Unread, ...]
    parts_without_counterpart: tuple[str, ...]
