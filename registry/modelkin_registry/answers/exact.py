"""Exact and aligned comparisons, as answers tell them."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from modelkin_indexer.results.aligned import AlignedRole, ChannelMap
from modelkin_indexer.results.exact import LayerMatrix, NotCompared, TensorComparison
from modelkin_registry.answers.plain import Plain


class Spread(Plain, frozen=True):
    """Mean and standard deviation over tensors, and their number."""

    mean: float
    sd: float
    count: int


class Strangers(Plain, frozen=True):
    """One set of figures to hold a pair's against. `name` says what: within A, mismatched layers, or a control with A or B."""

    name: str
    cosine: Spread | None
    cosine_floor: Spread | None
    pearson: Spread | None
    measures: Mapping[str, Spread | None]


class GroupFigures(Plain, frozen=True):
    """A family (role "") or a role of it, over its tensors. `shared` counts tensors that stand out; `p_value` is corrected for all."""

    component: str
    family: str
    role: str
    tensors: int
    numbers: int
    cosine: Spread | None
    cosine_floor: Spread | None
    pearson: Spread | None
    p_value: float | None
    shared: int
    equal: int
    informative: bool
    finding: str
    measures: Mapping[str, Spread | None]
    strangers: tuple[Strangers, ...]


class ExactRow(TensorComparison, Plain, frozen=True):
    """A pair of tensors, judged: how likely strangers agree as far, and how that was come by, or why there is no p-value (`p_kind`)."""

    p_value: float | None = None
    p_kind: str = ""


class ExactAnswer(Struct, frozen=True):
    """An exact comparison judged. `rows` are the contract's objects, one a pair of tensors."""

    rows: tuple[ExactRow, ...]
    families: tuple[GroupFigures, ...]
    roles: tuple[GroupFigures, ...]
    not_compared: tuple[NotCompared, ...]
    matrices: tuple[LayerMatrix, ...] = ()


class Preservation(Plain, frozen=True):
    """One component's answer. `outcome`: "selective", "all kept", "matrices only", "strangers" or "not comparable"."""

    component: str
    outcome: str
    norm_cosine: float | None
    norm_floor: float | None
    norm_pearson: float | None
    norm_p_value: float | None
    kept: tuple[str, ...]
    not_kept: tuple[str, ...]
    sentence: str


class RecoveredFamily(Plain, frozen=True):
    """One family before and after. `null_mean`, `null_sd`: what mismatched layers show after the same search; p is one-sided.

    `finding`: recovered (it was in other coordinates), kept (it agreed before), none, or not judged (too few layers to compare with).
    """

    component: str
    family: str
    layers: int
    before: float | None
    after: float
    null_mean: float | None
    null_sd: float | None
    p_value: float | None
    orders: Mapping[str, int]
    finding: str


class ExactSummary(Plain, frozen=True):
    """An exact comparison by family and by role of a family, each beside strangers' figures, and what was not compared."""

    families: tuple[GroupFigures, ...]
    roles: tuple[GroupFigures, ...]
    preservation: tuple[Preservation, ...]
    not_compared: tuple[NotCompared, ...]
    layer_matrices: tuple[LayerMatrix, ...]


class Aligned(Plain, frozen=True):
    """The aligned test: the change of coordinates by component of A, and what agrees once it is undone, by family and role of a layer."""

    maps: Mapping[str, ChannelMap]
    families: tuple[RecoveredFamily, ...]
    roles: tuple[AlignedRole, ...]
