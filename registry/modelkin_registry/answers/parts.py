"""What an answer says of the parts of a model, of how much was compared, and what a machine may make of it."""

from __future__ import annotations

from modelkin_registry.answers.plain import Plain

RELATED, NOTHING_FOUND, NOT_EXAMINED = "related", "nothing found", "not examined"
ALTERNATIVES = ("query from relative", "relative from query", "both from a third")
EXAMINED_SHARE = (
    0.5  # share of the query's informative weights held against one model, from which nothing found is said; below, not examined
)
VERDICTS = (RELATED, NOTHING_FOUND, NOT_EXAMINED)
# What an audit looks at, by the code of what it finds.
AUDITED = {
    "constants": "tensors that are never compared, since anybody computes them or a name and a form tell them",
    "unread": "bytes that were not decoded or understood",
    "unplaced": "tensors without a known place",
    "oversized": "vectors as large as matrices",
    "shards": "shards that are missing",
    "unknown-names": "names that no table knows, beside names that it knows",
    "same-place": "two tensors for one place",
    "training-state": "what only training uses",
    "stored-in-parts": "matrices that are stored as two tensors",
    "layers": "layers against config.json",
    "hidden-size": "width against config.json",
    "vocabulary": "vocabulary against config.json",
    "heads": "heads against config.json",
    "mlp-width": "width of the MLPs against config.json",
    "not-finite": "NaN, infinite and absurdly large numbers",
    "zeroed": "matrices of zeros",
    "repeated-layers": "layers that are equal",
    "fine-noise": "small changes of numbers on a coarse grid",
    "folded": "norm gains that are all 1",
    "rescaled-units": "scales moved between units of two matrices",
    "rescaled-layers": "scales moved between matrices of a layer",
    "rotated": "a residual stream without directions of its own",
}


class Part(Plain, frozen=True):
    """One component of the query beside its nearest counterpart.

    share     of the query's informative parameters that stand in it
    relation  None where nothing of it was compared
    compared  share of its own informative parameters that had something to be held against
    shared    share of its own informative parameters that carry evidence
    """

    name: str
    share: float
    relation: str | None
    relative: str | None
    compared: float
    shared: float


class Lone(Plain, frozen=True):
    """One of the few matrices in which two models agree, where nothing else of them does.

    name    component.layer.family.role in the query; of a tensor whose name tells nothing the role is the name
    layers  places that hold the same numbers
    r       correlation with the relative's
    share   of the query's informative parameters that stand in all these places
    """

    name: str
    layers: int
    r: float
    share: float


class Unread(Plain, frozen=True):
    """What of a model was not decoded or not understood: bytes, and their share of all; None where that is not known."""

    what: str
    bytes: int | None
    share: float | None


class Counterpart(Plain, frozen=True):
    """A tensor of the query, or several that are one there, and what stands for it in the relative.

    query, relative  component.layer.family.role, those of several with " + " between; of tensors whose names tell nothing the role is
                     the name. `relative` is None without a counterpart: then nothing is said of the tensor
    found            "digest" (the same numbers), "sketch" (near by what they hold), "shape" (what was left, by shape and spread) or "name"
    r                correlation, 1.0 by digest; None where nothing tells
    channel          what r was measured in
    parameters       numbers in the query's tensor
    """

    query: str
    relative: str | None
    found: str | None
    r: float | None
    channel: str | None
    parameters: int


class Counterparts(Plain, frozen=True):
    """How the query's tensors found their counterparts: how many by what, `none` of them, and how many under other names (`renamed`).

    Constant tensors, which say nothing, are not counted. `tensors` are the pairs themselves, where they were asked for.
    """

    digest: int = 0
    sketch: int = 0
    shape: int = 0
    name: int = 0
    none: int = 0
    renamed: int = 0
    tensors: tuple[Counterpart, ...] | None = None

    @property
    def total(self) -> int:
        """All of the query's tensors that say something."""
        return self.digest + self.sketch + self.shape + self.name + self.none


class Examined(Plain, frozen=True):
    """How much of the query was held against anything. `models` were searched, `models_comparable` had a part of its kind and shape.

    `share` is that of the query's informative parameters, unread bytes among them, that the most comparable model could be held against;
    `unread` names what was not decoded or not understood, with bytes and share; `parts_without_counterpart` had none in any model.
    `same_lengths` are models of whose matrices the query's have the lengths (Frobenius norms), place by place, though nothing else agrees.
    At level probe, which does not see copies in other coordinates: `same_gains` are models whose norm gains hold the query's numbers, in
    whatever order; `may_be_turned` those of its shapes where they or the query have gains of ones alone, as a rotated copy has them.
    `doubtful` are models that agree with the query in some of the rows that level probe looks at, and in others not at all.
    """

    models: int
    models_comparable: int
    share: float
    unread: tuple[Unread, ...]
    parts_without_counterpart: tuple[str, ...]
    same_lengths: tuple[str, ...] = ()
    same_gains: tuple[str, ...] = ()
    may_be_turned: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()
