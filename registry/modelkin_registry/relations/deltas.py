"""What was done to the values between two models in the same coordinates: nothing, rounding, noise, pruning, training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modelkin_indexer import spec
from modelkin_indexer.places import NO_LAYER, Place
from modelkin_indexer.results.fingerprint import Matrices, Vectors
from modelkin_indexer.results.once import once
from modelkin_registry.counterparts.copying.copies import EXTRA_SHARE, layers_more, sized
from modelkin_registry.evidence.nulls import median
from modelkin_registry.evidence.places import INFORMATIVE, SHOWN_AS, ComponentPair, PlaceCosine
from modelkin_registry.evidence.side import Side
from modelkin_registry.evidence.similarity import TOKEN_FAMILIES, all_independent_rows
from modelkin_registry.evidence.start import learned_shares, may_be_drawn

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]
IDENTICAL_DELTA = 6e-4  # relative L2 difference that float16 storage of the sketches alone produces, with room
RECAST_DELTA = 2.5e-3  # rounding to bfloat16 moves a tensor by at most 2^-9 of each value, 0.0011 rms; with room for a second cast
GRID_RATIO = 0.75  # distinct magnitudes fall below this share of the relative's: values lie on a quantiser's grid
QUANTIZED_R = 0.8  # a quantised copy stays at least this close (3 bits: 0.98)
NEW_ZEROS = 0.1  # share of new exact zeros that pruning leaves
STEADY_SLOPE = 0.1  # rounding and added noise leave the slope on the original at 1; training and mixing do not
EVEN_DELTA = 0.12  # spread of log |delta| over tensors: sketch noise alone is 0.06; training leaves 0.3 and more
FEWEST_EVEN_PLACES = 8  # tensors needed to call a delta even
FINE_TUNED_R = 0.9  # above: the delta is under about 45 % of the weights; below: continued training or a delta as large
HALVES = {"F16", "BF16"}
ADAPTED_FAMILIES = ("attention", "mlp", "expert")  # what adapters are put on
ADAPTED_R = 0.7  # an adapter's delta is smaller than the weights it is added to (lineagebench: 0.05-0.2 of their energy)
TINY = float(np.finfo(np.float64).tiny)
# Float32 steps (2^-23) between means and spreads of one tensor that two converters made of the same numbers: folding a normalisation into
# a kernel in another order moves each number by a step or so, and a mean by that over the root of its rows (measured: at most 1 step).
STEPS = 4 * 2.0**-23
SINGLE = 32  # bits of a number, from which such steps are its last digits: a change in fewer bits is no smaller than 2^-12
# Root mean square of the error of a number format near 1, where it is largest: a step over the root of 12; and with room for what 48
# numbers of a sketch leave open (three standard errors of a length, 1 / sqrt(96) each). Half precision has a smallest step as well.
FORMAT_ERROR = {"BF16": 2.0**-7 / math.sqrt(12), "F16": 2.0**-10 / math.sqrt(12)}
SMALLEST_STEP = {"F16": 2.0**-24 / math.sqrt(12)}
SKETCH_ROOM = 1.3
# Of n numbers the mean of the squared errors is off by 0.9 / sqrt(n) of itself (standard deviation), and none exceeds half a step.
FEW_NUMBERS, HALF_STEP = 3 * 0.9, math.sqrt(3)
SAME_VECTOR_R = 0.999  # centred cosine of a vector with itself in another number format
SAME_ROWS_R = 1 - RECAST_DELTA**2 / 2  # cosine of sketches of the same rows, each stored beside others
FEWEST_EQUAL = 2  # matrices equal to the last bit that are more than a frozen one


def delta_name(pair: ComponentPair, *, partial: bool) -> str:
    """What was done to the values, where coordinates were kept; of a transplant only to those that came over."""
    informative = [p for p in pair.places if p.channel == "probe" and SHOWN_AS.get(p.family, p.family) in INFORMATIVE]
    inherited = {f.family for f in pair.families if f.inherited and f.channel == "probe"}
    kept = [p for p in informative if SHOWN_AS.get(p.family, p.family) in inherited and (p.family != "expert" or stacks_kept(pair))]
    if not kept:
        return _expert_change(pair)
    if copied := _copied(kept, pair) if partial else whole_copy(pair):
        return copied
    if not partial and (_copied(kept, pair) or _copied_but_for_tables(kept, pair)) and (_same_vectors(pair) or _none_differs(pair)):
        return "copied in part"  # what is compared is equal, but the relative is mostly something else, or lacks some of it
    return _changed(pair, informative, kept)


def _copied_but_for_tables(kept: Sequence[PlaceCosine], pair: ComponentPair) -> bool:
    """Whether tables of another number of rows agree in all rows that were looked at of both, and everything else is equal."""
    ours, theirs = pair.query.matrices, pair.relative.matrices
    tables = [p for p in kept if p.family in TOKEN_FAMILIES and ours.rows[p.query_row] != theirs.rows[p.relative_row]]
    others = [p for p in kept if p not in tables]
    return bool(tables and others and _copied(others, pair)) and all(p.cosine >= SAME_ROWS_R for p in tables)


def stacks_kept(pair: ComponentPair) -> bool:
    """Whether stacked experts may be held against each other number by number: all of them were found, in their order."""
    return pair.experts is None or (pair.experts.share >= 1 and pair.experts.moved == 0)


def _expert_change(pair: ComponentPair) -> str:
    """What was done to experts that were taken over one by one; of what is seen in other coordinates only that it was trained."""
    cosine = pair.experts.cosine if pair.experts is not None and pair.experts.share > 0 else FINE_TUNED_R
    return "copied in part" if cosine >= SAME_VECTOR_R else "fine-tuned" if cosine >= FINE_TUNED_R else "continued"


def _changed(pair: ComponentPair, informative: Sequence[PlaceCosine], kept: Sequence[PlaceCosine]) -> str:
    """The name of a change that is more than rounding to another number format."""
    _, slope, _ = normalised_deltas(informative, pair)
    r = float(np.average([p.cosine for p in kept], weights=pair.query.matrices.parameters[[p.query_row for p in kept]]))
    bodies = [p for p in kept if p.family in ("attention", "mlp", "expert")] or list(kept)
    ours, theirs = [p.query_row for p in bodies], [p.relative_row for p in bodies]
    steady = abs(median(slope) - 1) <= STEADY_SLOPE
    if r >= QUANTIZED_R and stored_quantized(pair):
        return (
            "quantized"  # before new zeros: a quantiser's grid has a point at 0, a tenth of the values of Q4_0 fall on it (below as well)
        )
    distinct = pair.query.matrices.distinct[ours], pair.relative.matrices.distinct[theirs]
    if steady and r >= QUANTIZED_R and _grid_ratio(*distinct) < GRID_RATIO:
        return "quantized"
    if median(pair.query.matrices.zeros[ours] - pair.relative.matrices.zeros[theirs]) >= NEW_ZEROS:
        return "pruned"
    if steady and _even(even_deltas(informative, pair)) and not _copied(kept, pair):  # rounding has one relative size too
        return "noised"
    if r >= ADAPTED_R and _adapted(pair):
        return "low-rank delta"
    return "fine-tuned" if r >= FINE_TUNED_R else "continued"


def _adapted(pair: ComponentPair) -> bool:
    """Whether the change is confined to projections inside layers: all else is equal to the last bit, as a merged adapter leaves it.

    The rank itself cannot be read off eight sketched rows: whole weights show it.
    """
    if not (pair.query.matrices.digest.shape[1] and pair.relative.matrices.digest.shape[1]) or not _same_vectors(pair):
        return False
    if not any(v.family == "norm" for v in pair.vectors):
        return False
    kept = [p for p in pair.places if p.channel == "probe"]
    outside = [p for p in kept if p.family not in ADAPTED_FAMILIES]
    return bool(outside) and bool(same_bytes([p.query_row for p in outside], [p.relative_row for p in outside], pair).all())


def stored_quantized(pair: ComponentPair) -> bool:
    """Whether one side says that its weights are stored quantised and the other does not."""
    return (pair.query.about.quantization != "") != (pair.relative.about.quantization != "")


@once
def whole_copy(pair: ComponentPair) -> str:
    """`identical` or `recast` if all of the query's component has its equal in the relative, which has no layer more; else ""."""
    ours, theirs = _places(pair.query), _places(pair.relative)
    extra = [row for place, row in theirs.items() if place not in ours]
    if not _holds(pair.relative, theirs, ours):
        return ""
    copied = _copied_rows([(row, theirs[place]) for place, row in ours.items()], pair)
    if not copied or not _same_vectors(pair):
        return ""
    return "" if layers_more(sized(pair.query.matrices, ours.values()), sized(pair.relative.matrices, extra)) else copied


def contained(pair: ComponentPair) -> bool:
    """Whether every matrix of one side is in the other to the last bit, and is half of it at least: a copy with layers more or fewer.

    By place, else wherever it was found: where the first layers were left out, all others have moved on. Frozen draws of a public seed are
    equal as well: vectors that were learned beside them differ then, and in the matrices nothing learned shows.
    """
    ours, theirs = _places(pair.query), _places(pair.relative)
    for less, more, side in ((ours, theirs, pair.relative), (theirs, ours, pair.query)):
        if len(less) >= FEWEST_EQUAL and _holds(side, more, less) and _shows_copy([(ours[place], theirs[place]) for place in less], pair):
            return True
    return _contained_elsewhere(pair, [*ours.values()], [*theirs.values()])


def drawn(pair: ComponentPair) -> bool:
    """Whether a part of a model may be a frozen draw of a public seed: nothing in it looks learned, and its vectors are what a start gives.

    A model that is all of one component is told as an untrained start instead.
    """
    rows, table = [*_places(pair.query).values()], pair.query.matrices
    if len(rows) == len(table) or not all(may_be_drawn(pair.query, vector.query_row) for vector in pair.vectors):
        return False
    return not (learned_shares(pair.query, rows) > 0).any()


def _contained_elsewhere(pair: ComponentPair, ours: Sequence[int], theirs: Sequence[int]) -> bool:
    found = [(p.query_row, p.relative_row) for p in pair.places if p.channel == "probe"]
    same = same_bytes([a for a, _ in found], [b for _, b in found], pair).tolist()
    equal = [rows for rows, is_same in zip(found, same, strict=True) if is_same]
    sides = (ours, {a for a, _ in equal}, pair.query.matrices), (theirs, {b for _, b in equal}, pair.relative.matrices)
    for (less, in_less, _), (more, in_more, table) in (sides, sides[::-1]):
        held, everything = (int(table.parameters[list(rows)].sum()) for rows in (in_more, more))
        if len(less) >= FEWEST_EQUAL and in_less.issuperset(less) and held >= (1 - EXTRA_SHARE) * everything:
            return _shows_copy(equal, pair)
    return False


def _shows_copy(rows: Sequence[tuple[int, int]], pair: ComponentPair) -> bool:
    """Whether these matrices are equal to the last bit, and either hold something learned or have no vectors beside them that differ."""
    if _copied_rows(rows, pair) != "identical":
        return False
    if all(_same_vector(vector.query_row, vector.relative_row, pair) for vector in pair.vectors):
        return True
    return bool((learned_shares(pair.query, [row for row, _ in rows]) > 0).any())


def _holds(side: Side, more: Mapping[Place, int], less: Mapping[Place, int]) -> bool:
    """Whether a side's places are those of the other and little else, by their numbers."""
    if not less.keys() <= more.keys():
        return False
    if len(less) == len(more):
        return True
    numbers = side.matrices.parameters
    extra = [row for place, row in more.items() if place not in less]
    return int(numbers[extra].sum()) <= EXTRA_SHARE * int(numbers[list(more.values())].sum())


def _places(side: Side) -> Mapping[Place, int]:
    """Matrix places of a component, named without it."""
    return _row_of(side.matrices, side.component)


@once
def _row_of(table: Matrices | Vectors, component: str) -> Mapping[Place, int]:
    return dict(_rows_of(table, component))


@once
def _rows_of(table: Matrices | Vectors, component: str) -> Sequence[tuple[Place, int]]:
    """Places of a component, named without it, and their rows."""
    return [(p._replace(component=""), row) for row, p in enumerate(table.places) if p.component == component]


def _same_vectors(pair: ComponentPair) -> bool:
    """Whether every vector of the query's component has its equal, but for rounding to another number format; of layers that came from
    others there; of layers whose matrices have no counterpart nothing is asked.

    Single numbers may be missing: exporters write them into the graph; and constant vectors, which say nothing.
    """
    query, relative = pair.query, pair.relative
    theirs = _row_of(relative.vectors, relative.component)
    layers = dict(pair.layer_map.pairs) if pair.layer_map.found else {}
    alone = {place.layer for place in _places(query)} - {NO_LAYER, *layers} if layers else set()
    ours = [
        (p if layers.get(p.layer, p.layer) == p.layer else p._replace(layer=layers[p.layer]), row)
        for p, row in _rows_of(query.vectors, query.component)
        if p.layer not in alone
    ]
    needed = [(place, row) for place, row in ours if place in theirs or (query.vectors.length[row] > 1 and not query.vectors.constant[row])]
    return all(place in theirs and _same_vector(row, theirs[place], pair) for place, row in needed)


def _none_differs(pair: ComponentPair) -> bool:
    """Whether no vector that the relative has in its place, or elsewhere, differs from it: others may have no counterpart."""
    theirs = _row_of(pair.relative.vectors, pair.relative.component)
    found = [(row, theirs[place]) for place, row in _rows_of(pair.query.vectors, pair.query.component) if place in theirs]
    elsewhere = [(v.query_row, v.relative_row) for v in pair.vectors]
    return all(_same_vector(a, b, pair) for a, b in elsewhere) and all(
        _same_vector(a, b, pair) for a, b in found if pair.query.vectors.constant[a] != pair.relative.vectors.constant[b]
    )


def _same_vector(a: int, b: int, pair: ComponentPair) -> bool:
    ours, theirs = pair.query.vectors, pair.relative.vectors
    if (ours.digest[a] == theirs.digest[b]).all():
        return True
    size = max(float(abs(theirs.mean[b])), float(theirs.sd[b]))
    near = abs(float(ours.mean[a]) - float(theirs.mean[b])) <= RECAST_DELTA * size
    cosine = float(ours.sketch[a].astype(float) @ theirs.sketch[b].astype(float))
    same_shape = cosine >= SAME_VECTOR_R or bool(ours.constant[a] and theirs.constant[b])
    if pair.query.about.dtypes.keys() == pair.relative.about.dtypes.keys():
        return same_shape and _last_digits(ours, theirs, a, b, 1)
    return (near and same_shape) or _differs_by_rounding(cosine, a, b, pair)


def _differs_by_rounding(cosine: float, a: int, b: int, pair: ComponentPair) -> bool:
    """Whether two vectors are no further apart than storing one in the shorter format leaves them.

    Rounding goes by the numbers, and correlation by their spread: of gains that hardly left 1 it leaves little.
    """
    ours, theirs = pair.query.vectors, pair.relative.vectors
    formats = HALVES & (pair.query.about.dtypes.keys() ^ pair.relative.about.dtypes.keys())
    x, y = float(ours.scale[a]), float(theirs.scale[b])
    moved = float(ours.mean[a]) - float(theirs.mean[b])
    apart = math.sqrt(max(x**2 + y**2 - 2 * cosine * x * y, 0.0) / max(int(theirs.length[b]), 1) + moved**2)
    size = math.hypot(float(theirs.mean[b]), float(theirs.sd[b]))
    room = SKETCH_ROOM * min(math.sqrt(1 + FEW_NUMBERS / math.sqrt(max(int(theirs.length[b]), 1))), HALF_STEP)
    return any(apart <= room * (FORMAT_ERROR[name] * size + SMALLEST_STEP.get(name, 0.0)) for name in formats)


def _last_digits(ours: Matrices | Vectors, theirs: Matrices | Vectors, a: int, b: int, rows: int) -> bool:
    """Whether two tensors have one mean and one spread but for the last digits of single precision.

    A change of relative size d in numbers independent of each other moves the mean by d / sqrt(n) of the spread, and one number that is
    changed by c spreads by c / n; errors that whole rows share move it by 1 / sqrt(rows) of their size.
    """
    mean, other = float(ours.mean[a]), float(theirs.mean[b])
    sd, spread = float(ours.sd[a]), float(theirs.sd[b])
    return abs(mean - other) <= STEPS * (abs(other) + spread / math.sqrt(rows)) and abs(sd - spread) <= STEPS * spread


def _copied(kept: Sequence[PlaceCosine], pair: ComponentPair) -> str:
    return _copied_rows([(p.query_row, p.relative_row) for p in kept], pair)


def _copied_rows(rows: Sequence[tuple[int, int]], pair: ComponentPair) -> str:
    """`identical` for equal bytes in equal precision, `recast` for equal values but for rounding; else ""."""
    one_format = pair.query.about.dtypes.keys() == pair.relative.about.dtypes.keys() and not pair.changes_only
    if one_format and not all(_rounded(x, y, pair) for x, y in rows[:1]):
        return ""  # as below, before more is asked of all of them
    ours, theirs = pair.query.matrices, pair.relative.matrices
    a, b = [x for x, _ in rows], [y for _, y in rows]
    if (ours.rows[a] != theirs.rows[b]).any() or (ours.columns[a] != theirs.columns[b]).any():
        return ""
    same_precision = bool((ours.bits[a] == theirs.bits[b]).all()) and _halves(pair.query) == _halves(pair.relative)
    if same_bytes(a, b, pair).all():
        return "identical" if same_precision else "recast"
    # Of an adapter's change, a product of factors, the formats of the factors are not known: rounding is as small as theirs.
    largest = RECAST_DELTA
    if one_format:
        if not (same_precision and all(_rounded(x, y, pair) for x, y in rows)):
            return ""
        largest = IDENTICAL_DELTA
    p, q = (side.sketches["probe"][0][at].astype(float) for side, at in ((ours, a), (theirs, b)))  # stored rows are of length 1 only nearly
    cosine = np.sum(p * q, axis=1) / np.maximum(np.linalg.norm(p, axis=1) * np.linalg.norm(q, axis=1), TINY)
    x, y = ours.scale[a].astype(float), theirs.scale[b].astype(float)
    delta = np.sqrt(np.maximum(x**2 + y**2 - 2 * cosine * x * y, 0.0))
    return "recast" if (delta <= largest * (y if largest < RECAST_DELTA else np.maximum(y, _lengths(theirs, b)))).all() else ""


def _lengths(table: Matrices, rows: Sequence[int]) -> Floats:
    """Lengths that the sampled rows would have with what the sketch takes out of them, their means: rounding goes by whole numbers."""
    at = list(rows)
    sampled = all_independent_rows(table)[at] * (table.columns[at] - 1)
    return np.asarray(np.hypot(table.mean[at].astype(float), table.sd[at].astype(float)) * np.sqrt(np.maximum(sampled, 0)))


def _rounded(a: int, b: int, pair: ComponentPair) -> bool:
    """Whether two matrices in one number format are equal, or differ as rounding in single precision lets them: a little, and everywhere.

    A few numbers that were changed move no mean, but leave eighths of the rows as they are (level full).
    """
    if same_bytes([a], [b], pair).all():
        return True
    ours, theirs = pair.query.matrices, pair.relative.matrices
    if ours.bits[a] < SINGLE or not _last_digits(ours, theirs, a, b, int(theirs.rows[b])):
        return False
    if not (ours.blocks.shape[1] and theirs.blocks.shape[1]):
        return True
    eighths, others = ours.blocks[a, : spec.EIGHTHS], theirs.blocks[b, : spec.EIGHTHS]
    return bool((eighths != others)[(eighths != 0) | (others != 0)].all())


def _halves(side: Side) -> set[str]:
    """The two-byte formats that a side's model uses: they have equally many bits, and differ in precision."""
    return HALVES & side.about.dtypes.keys()


def same_bytes(a: Sequence[int], b: Sequence[int], pair: ComponentPair) -> Bools:
    """Of rows of both tables, one against one: equal digests at level full, equal sketches of sampled rows where a side was only probed."""
    ours, theirs, a, b = pair.query.matrices, pair.relative.matrices, list(a), list(b)
    if not (ours.digest.shape[1] and theirs.digest.shape[1]):
        same = np.asarray(ours.scale[a] == theirs.scale[b], np.bool_)
        if same.any():  # half precision is slow to compare
            same &= (ours.probe[a] == theirs.probe[b]).all(axis=1)
        return same
    known = ours.digest[a].any(axis=1) & theirs.digest[b].any(axis=1)
    same = (ours.digest[a] == theirs.digest[b]).all(axis=1)
    single = ours.numbers[a].any(axis=1) & (ours.numbers[a] == theirs.numbers[b]).all(axis=1)  # an expert of a stack
    return np.asarray(np.where(known, same, single), np.bool_)


def _grid_ratio(ours: Floats, theirs: Floats) -> float:
    return median(ours.astype(float) / theirs.astype(float))


def _even(delta: Floats) -> bool:
    """Whether the change has one relative size in all tensors, as added noise has and training has not."""
    moved = delta[delta > IDENTICAL_DELTA]
    return len(moved) >= FEWEST_EVEN_PLACES and len(moved) == len(delta) and float(np.std(np.log(moved))) <= EVEN_DELTA


def normalised_deltas(chosen: Sequence[PlaceCosine], pair: ComponentPair) -> tuple[Floats, Floats, Floats]:
    """Of places of the probe channel: |query - relative| / |relative|, and the slopes of each side on the other.

    The slope <query, relative> / <relative, relative> is 1 where the query is the relative plus changes independent of it, and below
    1 both ways where both are a third model (or an initialisation) plus changes of their own.
    """
    cosine = np.array([p.cosine for p in chosen])
    ours = pair.query.matrices.scale[[p.query_row for p in chosen]].astype(float)
    theirs = pair.relative.matrices.scale[[p.relative_row for p in chosen]].astype(float)
    delta = np.sqrt(np.maximum(ours**2 + theirs**2 - 2 * cosine * ours * theirs, 0.0)) / theirs
    return delta, cosine * ours / theirs, cosine * theirs / ours


def even_deltas(chosen: Sequence[PlaceCosine], pair: ComponentPair) -> Floats:
    """Standard deviation of the change in each aligned informative place / standard deviation of the relative's values there."""
    delta, _, _ = normalised_deltas(chosen, pair)
    rows = [p.relative_row for p in chosen]
    table = pair.relative.matrices
    sampled = all_independent_rows(table)[rows] * (table.columns[rows] - 1)  # rows were centred too
    return np.asarray(delta * table.scale[rows] / np.sqrt(np.maximum(sampled, 1)) / np.maximum(table.sd[rows], np.finfo(np.float32).tiny))
