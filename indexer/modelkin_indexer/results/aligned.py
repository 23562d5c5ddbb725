"""What the aligned test measures: plain values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Singles = npt.NDArray[np.float32]
KINDS = ("same", "permuted", "rotated")  # from the simplest: a map is told as the simplest one that does as well


class ChannelMap(Struct, frozen=True):
    """u @ `matrix` is a vector u of A's stream in B's coordinates; None leaves it as it is. `kind` is one of KINDS.

    `table` names the tensor it was fitted on; `before` and `after` are correlations of its held out `rows`, `shuffled` what the same fit
    gives where rows are no counterparts. `turned`: channels whose sign changed (of a permutation).
    """

    kind: str
    matrix: Singles | None
    table: str
    rows: int
    before: float | None
    after: float
    shuffled: float
    turned: int = 0


class AlignedRole(Struct, frozen=True):
    """One role of one layer. `before` and `after` correlate `units` of A with B's over held out `channels`.

    `before` is None where the shapes differ. `order` is same, as stored, reordered or turned. `shifted` is what the same search gives
    against layers of B that are no counterparts.
    """

    component: str
    layer: int
    layer_b: int
    family: str
    role: str
    units: int
    of: int
    channels: int
    order: str
    before: float | None
    after: float
    shifted: tuple[float, ...]


class AlignedReading(Struct, frozen=True):
    """All that was measured. `maps` are by component of A; a component without a table of rows that both have keeps its coordinates."""

    maps: Mapping[str, ChannelMap]
    roles: tuple[AlignedRole, ...]
