"""Two models with evidence, as an edge that a family tree may have."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

from msgspec import Struct

from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.relations import PARTIAL, is_descent
from modelkin_registry.batches.pairs import Seen

Part = tuple[str, str]
WHOLE_SHARE = 0.5  # share of the smaller model's weights from which a link is one of whole models, not of parts
MOVED = 2.0  # added to the weight of links in other coordinates: more than any distance


class Views(Struct, frozen=True, eq=False):
    """Two models held against each other: `relative` is b as seen from a, `back` a as seen from b.

    r       mean correlation of what they share
    lean    how many standard errors speak for a = b + independent changes (positive) or for the reverse (negative)
    """

    relative: Relative
    back: Relative
    r: float
    lean: float = 0.0


class Link(Struct, frozen=True, eq=False, dict=True):
    """Two models with evidence. `a` is the smaller one and asks.

    closeness  share of either model's weights that carry evidence times their correlation, the lower of both sides; what has no counterpart
               and what is not understood counts as not shared
    hold       holds the two against each other: what they are to each other is worked out where it is asked for
    seen       what a product over many pairs showed of b from a and of a from b; None where they were held at once
    one_way    whether one of the two may be a copy by a step that does not go back: where not, they need not be held to know it
    """

    a: str
    b: str
    closeness: float
    hold: Callable[[], Views]
    seen: tuple[Seen, Seen] | None = None
    one_way: bool = True

    @cached_property
    def views(self) -> Views:
        return self.hold()

    @property
    def relative(self) -> Relative:
        return self.views.relative

    @property
    def back(self) -> Relative:
        return self.views.back

    @property
    def r(self) -> float:
        return self.views.r

    @property
    def lean(self) -> float:
        return self.views.lean

    @property
    def correlation(self) -> float:
        """Mean correlation of what they share, be it by descent or from one start; of a start in parts alone less."""
        return self.seen[0].r if self.seen is not None else self.r or self.closeness

    @cached_property
    def distance(self) -> float:
        """Between 0 (the same weights) and about sqrt(2): the chord of the angle between the two."""
        return math.sqrt(max(0.0, 2.0 * (1.0 - self.closeness)))

    @cached_property
    def is_moved(self) -> bool:
        """Whether some of the evidence lies in other coordinates (gram, anchored), whose distances are on another scale."""
        if self.seen is not None:
            return False
        return any(f.inherited and f.informative and f.channel != "probe" for c in self.relative.components for f in c.families)

    @cached_property
    def weight(self) -> float:
        """The distance; all links in other coordinates are farther than those in the same ones."""
        return self.distance + (MOVED if self.is_moved else 0.0)

    @property
    def is_descent(self) -> bool:
        return is_descent(self.relative)

    @property
    def may_be_whole(self) -> bool:
        """Whether `is_whole` may be true, as far as it is known without holding the two against each other."""
        return self.seen[0].shared >= WHOLE_SHARE if self.seen is not None else self.is_whole

    @cached_property
    def is_whole(self) -> bool:
        """Whether one whole model may come from the other, not only parts of it."""
        if self.seen is not None and not self.may_be_whole:
            return False
        partial = any(side.relation in PARTIAL for side in (self.relative, self.back))
        return self.is_descent and not partial and self.relative.shared >= WHOLE_SHARE

    def other(self, name: str) -> str:
        return self.b if name == self.a else self.a

    def may_parts(self, name: str) -> frozenset[Part]:
        """What `parts` may hold, as far as it is known without holding the two against each other."""
        return self.seen[0 if name == self.a else 1].parts if self.seen is not None else self.parts(name)

    def parts(self, name: str) -> frozenset[Part]:
        """The (component, informative family) pairs of one model that carry evidence of the other."""
        view = self.view(name)
        return frozenset((c.query, f.family) for c in view.components for f in c.families if f.informative and f.inherited)

    def view(self, name: str) -> Relative:
        """The other model as the relative of this one."""
        return self.relative if name == self.a else self.back
