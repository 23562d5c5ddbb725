"""Numbers that nothing can be measured with: NaN, infinite, or absurdly large. They are taken for zeros, and told."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field

Singles = npt.NDArray[np.float32]
LARGEST = 1e15  # above it the squares of a row's 16,384 numbers may sum to no float32; weights that work stay below 1e5
SURE = 0.99  # of the largest square: room for the rounding of float32 sums
NAMED = 5  # rows named in a sentence


class Unusable(Struct):
    """What of a tensor could not be used: how many `numbers` of `all`, and the first of the `rows` that they are in."""

    all: int
    numbers: int = 0
    rows: list[int] = field(default_factory=list)
    in_rows: int = 0

    def take(self, first: int, block: Singles) -> None:
        """Set what cannot be used of some rows, which begin with row `first`, to zero, and count it."""
        bad = ~(np.abs(block) <= LARGEST)  # true of NaN too
        if not bad.any():
            return
        rows = np.flatnonzero(bad.any(axis=1))
        self.numbers += int(np.count_nonzero(bad))
        self.in_rows += len(rows)
        self.rows += (first + rows[: max(0, NAMED - len(self.rows))]).tolist()
        block[bad] = 0

    @property
    def share(self) -> float:
        return self.numbers / self.all

    @property
    def where(self) -> str:
        """`rows 3, 7 and 20 more`, or for a vector how many numbers."""
        named = ", ".join(map(str, self.rows))
        more = self.in_rows - len(self.rows)
        return f"row{'s' if self.in_rows > 1 else ''} {named}" + (f" and {more} more" if more > 0 else "")


def usable(block: Singles) -> bool:
    """Whether all numbers can be used."""
    flat = block.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = float(flat @ flat)  # four times as fast as looking at each number
    if squares <= SURE * LARGEST**2:  # false of NaN
        return True
    return bool(np.all(np.abs(block) <= LARGEST))
