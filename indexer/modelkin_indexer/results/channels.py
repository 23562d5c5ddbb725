"""The channels: one row for each kind of vector that a matrix has in a fingerprint. What asks for all of them takes them from here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer import spec
from modelkin_indexer.gram_vectors import without_leading

Sketch = npt.NDArray[np.floating[Any]]
NEURONS, STREAM = "the order of neurons", "the order of the residual stream's channels"


def _as_stored(sketches: Sketch) -> Sketch:
    return sketches


class Channel(Struct, frozen=True):
    """One channel.

    numbers   of a matrix: the width of the column of `Matrices` that has the channel's name
    full      whether only level full has it; level probe has a column of no numbers then
    free      numbers that may differ independently: two unrelated sketches correlate by 1 / sqrt(free)
    least_r   the least r that is evidence, in a cell or a family, whatever its p-value: what strangers reach, and a margin
    blind_to  changes that it does not see
    compared  stored sketches (n, numbers) as they are compared
    """

    name: str
    numbers: int
    full: bool
    free: int
    least_r: float
    blind_to: tuple[str, ...] = ()
    compared: Callable[[Sketch], Sketch] = _as_stored


GRAM_LEFT = (spec.DIRECTIONS - 1) * spec.DIRECTIONS // 2 - 1  # free numbers of a Gram matrix less a direction and the isotropic part
TABLE = (
    # strangers reach 0.10 (heads on the same frozen features)
    Channel("probe", spec.PROBE_NUMBERS, full=False, free=spec.PROBE_NUMBERS, least_r=0.12),
    # strangers share dominant directions (0.37)
    Channel("gram", spec.GRAM_NUMBERS, full=True, free=GRAM_LEFT, least_r=0.4, blind_to=(NEURONS,), compared=without_leading),
    # barely trained strangers with one tokenizer reach 0.34
    Channel("anchored", spec.GRAM_NUMBERS, full=True, free=spec.GRAM_NUMBERS, least_r=0.5, blind_to=(NEURONS, STREAM)),
)
CHANNELS = tuple(one.name for one in TABLE)
