"""What evidence is judged against: one value that goes with every pair of models, so that nobody can leave a part of it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from msgspec import Struct
from msgspec.structs import replace

from modelkin_data import backgrounds as shipped

Strangers = Mapping[tuple[str, str], float]  # (family, channel) -> spread of its mean cosine over strangers


class Judge(Struct, frozen=True):
    """Made by the registry that is asked; `ALONE` where two models are compared without one.

    searched     models that were searched: p-values are corrected for them
    backgrounds  what the registry measured on its own strangers, in place of the shipped spread
    strangers    what strangers show of this very query: widens the nulls where it is more
    """

    searched: int
    backgrounds: Strangers
    strangers: Strangers

    def widened(self, strangers: Strangers) -> Self:
        """The same with what strangers show of the query."""
        return replace(self, strangers=strangers)

    def between_models(self, family: str, channel: str) -> float:
        """Standard deviation between strangers of this family's mean cosine, beyond sketch noise."""
        known = self.backgrounds.get((family, channel))
        return shipped.between_models(family, channel) if known is None else known


ALONE = Judge(1, {}, {})  # two models without a registry beside them: shipped backgrounds, one model searched
