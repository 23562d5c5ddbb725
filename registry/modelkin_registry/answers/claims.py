"""What is told beside the weights: claims held against them, and what lies in the folders of two models."""

from __future__ import annotations

from typing import Any

from modelkin_registry.answers.plain import Plain


class WeighedClaim(Plain, frozen=True):
    """A declared model beside what weights show of it. `model`: the registered one that is meant, None where none is.

    `verdict` is "consistent", "nothing", "not comparable", "not registered", or of an adapter's base "not measurable".
    """

    kind: str
    value: str
    source: str
    model: str | None
    relation: str | None
    verdict: str


class Contradiction(Plain, frozen=True):
    """Where what is claimed and what weights show differ. `kind`: "claims none", "claims another" or "claims another relation".

    `claim` and `source` say what is claimed and where (None where nothing is); `model` and `relation` what the weights show.
    """

    kind: str
    claim: str | None
    source: str | None
    model: str
    relation: str
    sentence: str


class Passage(Plain, frozen=True):
    """Code that two models' repositories have in common: a file and its first and last lines on either side."""

    file: str
    lines: tuple[int, int]
    relative_file: str
    relative_lines: tuple[int, int]


class StructureBeside(Plain, frozen=True):
    """What lies beside the weights of two models. Shown apart, never a reason for a relation. None where a side has nothing of the kind.

    `config` has the fields that both have: those that agree, and those that differ with both values. `vocabulary_overlap` is the estimated
    share of tokens in both among those in either. `code` is the share of the query's code that the relative's has too, `code_elsewhere` the
    share of that which other registered models have as well: a common template. `licence` is "same", "changed" or "different".
    """

    model: str
    config_agrees: tuple[str, ...]
    config_differs: dict[str, tuple[Any, Any]]
    vocabulary_overlap: float | None
    code: float | None
    code_elsewhere: float | None
    passages: tuple[Passage, ...]
    licence: str | None
    sentences: tuple[str, ...] = ()
