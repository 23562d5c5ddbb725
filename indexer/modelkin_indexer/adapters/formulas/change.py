"""What an adapter does to one tensor of its base: numbers that are added, a map that turns the base's rows into others, or both.

Some changes are known without the base, others only on it: a rotation of the weight, or numbers whose places follow from its shape.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.quantised.packing import Floats
from modelkin_indexer.quantised.parts import Parts, Plain, Rows

Shape = tuple[int, ...]
Delta = Callable[[Shape, int, int], Floats]  # shape of the base's tensor, rows [start, stop): what is added to them
Turn = Callable[[Rows, Shape], Rows]  # rows of the base's tensor to those of the turned one
After = Callable[[Floats, Shape, int, int], Floats]  # rows of the sum, the shape, and which they are: the sum as it is used
MOST_NUMBERS = 1 << 33  # of one change: small factors can stand for any number; the largest public token tables have 2^31


class Change(Struct, frozen=True):
    """The change of one tensor; rows are counted over all axes but the last.

    name      of the base's tensor
    uses      the adapter's tensors that it is made of
    shape     of the base's tensor, None where the adapter does not tell it
    delta     what is added, None for nothing
    turn      what is done to the base's rows before, None for nothing
    after     what is done to rows of the sum, None for nothing
    alone     whether the delta is all of the change, and says something without the base
    optional  whether the base may lack the tensor (a bias that is scaled with its weight)
    held      the adapter's own copy of the base's tensor, as peft keeps token tables; "" for none
    rank      of the delta, 0 where it has none
    unknown   why the change cannot be told even on the base; "" where it can
    """

    name: str
    uses: tuple[str, ...]
    shape: Shape | None = None
    delta: Delta | None = None
    turn: Turn | None = None
    after: After | None = None
    alone: bool = False
    optional: bool = False
    held: str = ""
    rank: int = 0
    unknown: str = ""

    @property
    def all_uses(self) -> tuple[str, ...]:
        return (*self.uses, *((self.held,) if self.held else ()))

    def by_itself(self, parts: Parts) -> Plain | None:
        """The change as a tensor, or the sum where the adapter holds the base's; None where the base is needed."""
        if self.held:
            return replace(self.on(parts, self.held, parts.tensors[self.held].shape), name=self.name)
        delta, shape = self.delta, self.shape
        if not self.alone or delta is None or shape is None:
            return None
        return Plain(self.name, shape, "", self.all_uses, lambda start, stop: delta(shape, start, stop))

    def on(self, parts: Parts, base: str, shape: Shape) -> Plain:
        """The tensor `base`, of this shape, with the change, under its own name. `parts` has both."""

        def before(start: int, stop: int) -> Floats:
            return parts.rows(base, start, stop)

        turned = self.turn(before, shape) if self.turn is not None else before
        delta, after = self.delta, self.after

        def rows(start: int, stop: int) -> Floats:
            found = turned(start, stop)
            found = found if delta is None else found + delta(shape, start, stop)
            return found if after is None else after(found, shape, start, stop)

        return Plain(base, shape, "", tuple(dict.fromkeys((base, *self.all_uses))), rows)


def too_large(shape: Shape) -> bool:
    """Whether a stated shape has more numbers than any known weight."""
    return prod(shape) > MOST_NUMBERS
