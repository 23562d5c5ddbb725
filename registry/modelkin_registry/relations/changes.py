"""What was done to the relative's weights to make the query's, in words, each with its size. Facts only: relations.py has decided."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modelkin_registry.answers.relations import CHANGED, COPIES
from modelkin_registry.evidence.experts import cloned_experts
from modelkin_registry.evidence.nulls import median
from modelkin_registry.evidence.places import INFORMATIVE, ComponentPair, PlaceCosine
from modelkin_registry.evidence.side import Side
from modelkin_registry.relations.coordinates import UNKNOWN_SYMMETRY, reparameterised
from modelkin_registry.relations.decisions import Relation, role_means, shown
from modelkin_registry.relations.deltas import IDENTICAL_DELTA, even_deltas, normalised_deltas, same_bytes, stacks_kept

Floats = npt.NDArray[np.floating[Any]]
# Width of what a quantiser's grid spans, in standard deviations of the weights, over sqrt(12): the error of rounding is spacing / sqrt(12).
# Groups of 32 normal values span 4.1, rows of a thousand 6.5; between them the estimate is good to half a bit.
GRID_SPAN = 4.5 / math.sqrt(12)
MOST_ROUNDED = 0.25  # of a matrix' size that rounding moves: 0.19 with 3 bits (Q3_K, benchmarks/results/formats.md); training moves more
CLONED_R = 0.8  # experts of one layer this close to each other were made from one matrix


def what_changed(pair: ComponentPair, relation: Relation) -> tuple[str, ...]:
    """Sentences on one component, those that hold."""
    if not relation.is_descent:
        return ()
    names = {relation.name, *relation.also}
    found = [*_coordinates(pair, names), *_layers(pair, names), *_width(pair, names)]
    found += [*_vocabulary(pair, names), *_experts(pair), *_values(pair, names)]
    return tuple(found)


def _coordinates(pair: ComponentPair, names: set[str]) -> Iterable[str]:
    if "reparameterised" in names:
        symmetries = reparameterised(pair, role_means(pair))
        known = [name for name in symmetries if name != UNKNOWN_SYMMETRY]
        yield f"The same weights in other coordinates: {', '.join(known)}." if known else "The same weights in other coordinates."


def _layers(pair: ComponentPair, names: set[str]) -> Iterable[str]:
    if "layers rearranged" not in names:
        return
    used = Counter(theirs for _, theirs in pair.layer_map.pairs)
    order = [theirs for _, theirs in pair.layer_map.pairs]
    repeated = sorted(layer for layer, times in used.items() if times > 1)
    dropped = sorted(set(range(pair.layers[1])) - set(used))
    new = sorted(set(range(pair.layers[0])) - {ours for ours, _ in pair.layer_map.pairs})
    groups = ((repeated, "there more than once here"), (dropped, "there without a counterpart here"), (new, "here without one there"))
    parts = [f"layer{'s' if len(layers) > 1 else ''} {_numbers(layers)} {what}" for layers, what in groups if layers]
    parts += ["layers in another order"] if not repeated and order != sorted(order) else []
    yield f"{pair.layers[1]} layers there, {pair.layers[0]} here: {'; '.join(parts)}."


def _numbers(values: Sequence[int]) -> str:
    """`1-3, 7` for ascending numbers."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _width(pair: ComponentPair, names: set[str]) -> Iterable[str]:
    if "pruned" not in names:
        return
    ours, theirs = pair.query.matrices, pair.relative.matrices
    sizes: dict[str, tuple[int, int]] = {}
    for p in pair.places:
        if p.family == "mlp" and p.role in ("up", "gate"):
            sizes["neurons of the MLP"] = int(ours.rows[p.query_row]), int(theirs.rows[p.relative_row])
        if p.family == "attention" and p.role == "q":
            sizes["rows of the queries"] = int(ours.rows[p.query_row]), int(theirs.rows[p.relative_row])
            sizes["channels of the residual stream"] = int(ours.columns[p.query_row]), int(theirs.columns[p.relative_row])
    kept = [f"{a} of {b} {what}" for what, (a, b) in sorted(sizes.items()) if a < b]
    if kept:
        yield f"Narrower: keeps {', '.join(kept)}."


def _vocabulary(pair: ComponentPair, names: set[str]) -> Iterable[str]:
    ours, theirs = _tokens(pair.query), _tokens(pair.relative)
    if ours is None or theirs is None:
        return
    kept = any(f.family == "embedding" and f.inherited for f in pair.families)
    if kept and ours != theirs:
        yield f"Token tables of {theirs} tokens there and {ours} here; the rows looked at are the same or close."
    elif not kept and "vocabulary changed" in names:
        held = f"Token tables ({theirs} tokens there, {ours} here) show nothing in common row by row"
        yield f"{held}: another tokenizer, other tables, or the same rows in another order or a selection of them."


def _tokens(side: Side) -> int | None:
    """Rows of a component's table of input tokens; a head alone may be a classifier's."""
    wanted = side.component, "embedding", "token"
    rows = [
        int(rows) for rows, p in zip(side.matrices.rows, side.matrices.places, strict=True) if (p.component, p.family, p.role) == wanted
    ]
    return max(rows, default=None)


def _experts(pair: ComponentPair) -> Iterable[str]:
    found = pair.experts
    if found is not None and found.share > 0:
        if found.share < 1:
            yield f"{found.share:.0%} of the experts looked at are the relative's: {_expert_list(found.matches)}."
        if found.duplicated > 0:
            yield f"{found.duplicated:.0%} of the experts repeat an expert that another one already is."
        if found.moved > 0:
            yield f"{found.moved:.0%} of the shared experts sit at another number."
    if pair.upcycled and (clones := cloned_experts(pair.query)) is not None:
        whole = "each was made from the whole dense matrix" if clones >= CLONED_R else "they were changed or cut apart since"
        layers = ", ".join(f"{a} from {b}" for a, b in pair.layer_map.pairs[:12])
        yield f"Experts of one layer agree with each other at r {clones:.2f}: {whole}. Layers of experts: {layers}."


def _expert_list(matches: Sequence[tuple[int, int, int, int]]) -> str:
    shown_first = [f"layer {a} expert {m} from layer {b} expert {n}" for a, m, b, n in matches[:6]]
    return ", ".join(shown_first) + (f" and {len(matches) - 6} more" if len(matches) > 6 else "")


def _values(pair: ComponentPair, names: set[str]) -> Iterable[str]:
    """What was done to the numbers of matrices whose coordinates were kept."""
    inherited = {f.family for f in pair.families if f.informative and f.inherited and f.channel == "probe"}
    kept = [p for p in pair.places if p.channel == "probe" and shown(p.family) in inherited & set(INFORMATIVE)]
    kept = kept if stacks_kept(pair) else [p for p in kept if p.family != "expert"]
    if not kept or names & COPIES or ("reparameterised" in names and not names & CHANGED):
        return
    deltas, _, _ = normalised_deltas(kept, pair)
    if "quantized" in names:
        yield _rounding(kept, deltas, pair)
    elif "noised" in names:
        spread = median(even_deltas(kept, pair))
        yield f"The change has one relative size everywhere, as added noise has: sd {spread:.3g} of each matrix's own spread."
    else:
        # What the rounding of sketches leaves between equal matrices is no change, however it is told.
        equal = same_bytes([p.query_row for p in kept], [p.relative_row for p in kept], pair)
        deltas = np.where(equal, 0.0, deltas)
        changed = [(p, float(d)) for p, d in zip(kept, deltas, strict=True) if d > IDENTICAL_DELTA and p.cosine > 0]
        if "pruned" in names and (zeros := _new_zeros(kept, pair)) > 0:
            yield f"{zeros:.0%} of the sampled numbers were set to zero."
        if changed:
            yield f"Relative size of the change: {_sizes(changed)}."
            yield from _untouched(kept, deltas)


def _rounding(kept: Sequence[PlaceCosine], deltas: Floats, pair: ComponentPair) -> str:
    stored = pair.query.about.quantization or pair.relative.about.quantization
    error = median([float(d) for d in deltas if d > IDENTICAL_DELTA] or [0.0])
    if stored and error <= MOST_ROUNDED:
        return f"Stored quantised ({stored}); rounding moved the matrices by {error:.2%} of their size."
    if error > MOST_ROUNDED:
        rest = "more than 3 bits in small groups leave, so coarser rounding or another change"
        return f"The matrices differ by {error:.0%} of their size: {rest}."
    bits = math.log2(1 + GRID_SPAN / error) if error > 0 else 16.0
    return f"Values lie on a grid of about {bits:.0f} bits: rounding moved the matrices by {error:.2%} of their size."


def _new_zeros(kept: Sequence[PlaceCosine], pair: ComponentPair) -> float:
    bodies = [p for p in kept if p.family not in ("embedding", "head")]
    if not bodies:
        return 0.0
    return median(pair.query.matrices.zeros[[p.query_row for p in bodies]] - pair.relative.matrices.zeros[[p.relative_row for p in bodies]])


def _sizes(changed: Sequence[tuple[PlaceCosine, float]]) -> str:
    """`attention 0.08 (layers 0.05 to 0.11), mlp 0.10`."""
    parts = []
    for family in sorted({shown(p.family) for p, _ in changed}):
        layers: dict[int, list[float]] = {}
        for place, size in changed:
            if shown(place.family) == family:
                layers.setdefault(place.layers[0], []).append(size)
        means = [sum(sizes) / len(sizes) for sizes in layers.values()]
        span = f" (layers {min(means):.2g} to {max(means):.2g})" if len(means) > 1 else ""
        parts.append(f"{family} {float(np.mean([size for sizes in layers.values() for size in sizes])):.2g}{span}")
    return ", ".join(parts)


def _untouched(kept: Sequence[PlaceCosine], deltas: Floats) -> Iterable[str]:
    moved = {p.role for p, d in zip(kept, deltas, strict=True) if d > IDENTICAL_DELTA}
    equal = sorted({p.role for p in kept} - moved)
    if equal:
        yield f"Unchanged in all rows that were read: {', '.join(equal)}."
