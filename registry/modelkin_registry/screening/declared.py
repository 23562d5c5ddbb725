"""What a submission says of itself, and what its organiser allows it."""

from __future__ import annotations

from msgspec import field

from modelkin_registry.answers.plain import Plain

ANY = "*"  # any model; of components, all of them


class Declaration(Plain, frozen=True):
    """One submission of a batch.

    name              by which the report calls it, unique in the batch
    source            its weights: a path, or hf://org/name
    base              models that it says it was made from: registered ones, other submissions, or models that nobody registered
    reused            of single components the models that they come from
    from_scratch      components of which it says that they were trained from scratch; ANY for all
    allowed_bases     models that it may be made from, beside those of the policy; None where the manifest does not say
    allowed_parts     of single components the models that they may come from without being declared; ANY for any
    licence           its own licence
    allowed_licences  licences that models it is made from may have, beside those of the policy; None where the manifest does not say
    file              which file of its folder is read, where that holds several models
    """

    name: str
    source: str
    base: tuple[str, ...] = ()
    reused: dict[str, tuple[str, ...]] = field(default_factory=dict)
    from_scratch: tuple[str, ...] = ()
    allowed_bases: tuple[str, ...] | None = None
    allowed_parts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    licence: str | None = None
    allowed_licences: tuple[str, ...] | None = None
    file: str | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """Every model that it says it was made from, in whole or in part."""
        return tuple(dict.fromkeys((*self.base, *(one for models in self.reused.values() for one in models))))

    def claims_scratch(self, component: str) -> bool:
        """Whether it says of this component that it was trained from scratch."""
        return ANY in self.from_scratch or component in self.from_scratch
