"""Parts that were left out, and tensors that a loader of the architecture would not use."""

from __future__ import annotations

import re

from modelkin.auditing.examined import NO_WEIGHTS, Examined, Found
from modelkin_indexer.anatomy.splits import split_name
from modelkin_indexer.places import Piece
from modelkin_indexer.results.fingerprint import NOT_FINITE

# Share of the names that tables know from which the others are remarkable: of 159 models (benchmarks/results/audit.json) those whose
# architecture is in a table have all names known, but one (93 %), and the others 75 % at most.
MOSTLY_KNOWN = 0.9
OVERSIZED = "vectors as large as matrices"
COPY = re.compile(r"(.+)\.\d+")  # how a second tensor for a taken place is called
TRAINING = re.compile(
    r"(?:^|[._/])(?:exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer|square_avg|optimizer|optimizer_states?|optim|master_params?|"
    r"lr_scheduler|grad_scaler|gradients?|model_ema|ema_model)(?:[._/]|$)"
)


def constants(it: Examined) -> Found:
    """Tensors that are never fingerprinted, reason by reason."""
    reasons: dict[str, list[str]] = {}
    for name, reason in (it.fingerprint.about.constants or {}).items():
        reasons.setdefault(reason, []).append(name)
    return [it.unusual("constants", f"Never compared: {reason}.", names) for reason, names in sorted(reasons.items())]


def unread(it: Examined) -> Found:
    """What was not decoded, not understood, or left out by its name alone."""
    entries = it.fingerprint.about.unread
    told = [one for one in entries if not one["what"].startswith((NOT_FINITE, OVERSIZED))]
    return [it.unusual("unread", f"Not read: {one['what']}.", (), one["bytes"]) for one in told]


def unplaced(it: Examined) -> Found:
    """Tensors whose place is unknown."""
    names = it.fingerprint.about.unplaced
    return [it.unusual("unplaced", "Neither name nor shape tells what these tensors are.", names)] if names else []


def oversized(it: Examined) -> Found:
    """Vectors as large as matrices."""
    told = [one for one in it.fingerprint.about.unread if one["what"].startswith(OVERSIZED)]
    words = "Longer than any row or column of the model's matrices, so neither a gain nor a bias"
    return [it.unusual("oversized", f"{words}: {one['what'].partition(': ')[2]}.", (), one["bytes"]) for one in told]


def shards(it: Examined) -> Found:
    """Shards that were not there."""
    found = it.fingerprint.about.shards
    return [it.unusual("shards", f"{found[0]} of the {found[1]} shards are here.", ())] if found is not None else []


def unknown_names(it: Examined) -> Found:
    """Names that no table knows in a model whose names are nearly all known."""
    if it.anatomy is None:
        return NO_WEIGHTS
    pieces = it.anatomy.pieces
    unknown = sorted({view.tensor for piece in pieces if not piece.named for view in piece.views} | set(it.anatomy.packed))
    every = len({view.tensor for piece in pieces for view in piece.views} | set(it.anatomy.packed))
    known = every - len(unknown)
    if not every or known < MOSTLY_KNOWN * every:
        return f"the tables know {known} of {every} names: this architecture is in none of them"
    words = (
        f"No table of names has these, beside {known} that one has; a loader by these tables leaves them out. Heads for a task and parts "
        "of a new architecture are so too."
    )
    return [it.unusual("unknown-names", words, unknown)] if unknown else []


def same_place(it: Examined) -> Found:
    """Second tensors for a place."""
    if it.anatomy is None:
        return NO_WEIGHTS
    pairs = []
    for place, piece in it.pieces.items():
        copied = COPY.fullmatch(place.role)
        first = it.pieces.get(place._replace(role=copied[1])) if copied is not None else None
        if first is not None and piece.named and first.named and _rivals(first, piece):
            pairs.append((first.views[0].tensor, [view.tensor for view in piece.views]))
    if not pairs:
        return []
    names = list(dict.fromkeys(name for _, tensors in pairs for name in tensors))
    words = f"Their place in the model is another tensor's too (of the first: {pairs[0][0]}); a loader uses one for each place."
    return [it.unusual("same-place", words, names)]


def _rivals(first: Piece, second: Piece) -> bool:
    """Whether two matrices would be loaded into one: of one size, and in one module of one layer.

    Models of several parts have places more than once, each in its own part.
    """
    one, two = (split_name(piece.views[0].tensor) for piece in (first, second))
    modules = [(split.stack, split.layer, split.module.rpartition(".")[0]) for split in (one, two)]
    return modules[0] == modules[1] and not second.is_vector and first.views[0].shape == second.views[0].shape


def training_state(it: Examined) -> Found:
    """Tensors that training keeps and a model does not use."""
    if it.source is None:
        return NO_WEIGHTS
    names = [name for name in it.source.tensors if TRAINING.search(name)]
    words = "Named as what only training uses: states of an optimizer, gradients, running averages of the weights."
    return [it.unusual("training-state", words, names)] if names else []


def stored_in_parts(it: Examined) -> Found:
    """Matrices that no loader finds under their names, since each is stored as two tensors."""
    if it.source is None:
        return NO_WEIGHTS
    from modelkin_indexer.joined.source import JoinedSource  # a written fingerprint does without the indexer's imports

    names = it.source.joined if isinstance(it.source, JoinedSource) else ()
    words = (
        "Each is stored as two tensors, as factors or cut in two, which loaders by these tables do not put together. They are read as one."
    )
    return [it.unusual("stored-in-parts", words, names)] if names else []
