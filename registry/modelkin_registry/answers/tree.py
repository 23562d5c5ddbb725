"""Family trees, as answers tell them."""

from __future__ import annotations

from modelkin_registry.answers.claims import WeighedClaim
from modelkin_registry.answers.plain import CONTRACT, Plain


class TreeModel(Plain, frozen=True):
    """One model of a forest. `copies`: further registered names of the same weights. `said`: the claims in short, against the weights."""

    model: str
    copies: tuple[str, ...]
    parameters: int
    components: tuple[str, ...]
    added: str
    said: str
    claims: tuple[WeighedClaim, ...]


class TreeEdge(Plain, frozen=True):
    """Evidence drawn between two models.

    kind       "descent", "merge", "part" (a component or some families alone), or "shared start" (one initialisation, nothing learned)
    direction  "hint" where something speaks for `parent` having come first, else "unknown"; `reasons` are about the child
    r          mean correlation of the shared weights; p_value is corrected for the number of registered models, rounded up to a power of 2
    families   those that carry the evidence, as component/family; weight: the parent's share of a merge
    """

    parent: str
    child: str
    kind: str
    relation: str
    also: tuple[str, ...]
    r: float | None
    p_value: float | None
    shared: float
    distance: float
    families: tuple[str, ...]
    direction: str
    reasons: tuple[str, ...]
    weight: float | None = None


class TreeAnswer(Plain, frozen=True):
    """A forest. `alone`: models without a relative; `held`: pairs compared; `left_out`: models too many to show around one.

    `without_ancestor`: groups of siblings whose common ancestor is not registered: each went a way of its own from it.
    """

    around: str | None
    models: tuple[TreeModel, ...]
    edges: tuple[TreeEdge, ...]
    alone: tuple[str, ...]
    held: int
    left_out: int
    warnings: tuple[str, ...]
    without_ancestor: tuple[tuple[str, ...], ...] = ()
    contract: int = CONTRACT
