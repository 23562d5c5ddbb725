"""Whether one model holds the very numbers of another, under whatever names and in whatever layout: by digests of all that it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer import spec
from modelkin_indexer.places import NO_LAYER, Place
from modelkin_indexer.results.fingerprint import Fingerprint, Matrices, Vectors
from modelkin_indexer.results.once import once
from modelkin_registry.counterparts.contents import same_contents, value_keys
from modelkin_registry.counterparts.copying.constants import constants_replaced
from modelkin_registry.counterparts.copying.faces import united, units_of
from modelkin_registry.counterparts.copying.vector_unions import vectors_besides
from modelkin_registry.counterparts.moving import chosen_rows
from modelkin_registry.counterparts.pairing import FEWEST_NUMBERS, Pair

Key = tuple[int, int, bytes]  # rows, columns and digest of a tensor
EXTRA_SHARE = 0.5  # share of the relative's parameters that a copy may lack (its head, another component) whatever else is seen of both
SAME_SKETCH = 2e-3  # difference of two sketches of the same rows by the rounding of float16
# Of a matrix's digest (XXH3, 128 bits) the bytes that are the digest of its numbers as a vector (64 bits): of single precision, from 61 on.
VECTOR_DIGEST = slice(8, 16)
HALVES = {"F16", "BF16"}  # types of one width: where both occur, a tensor's own is not known
MOST_EXCHANGED = 1  # matrices whose halves stand the other way round: a final modulation (Flux)
FEWEST_LAYERS = 2  # tensors of one shape that make a stack
AGREE = 0.95  # share of the layers that keep their partners, and of tensors that keep their roles, from which layer numbers mean something


class Copy(Struct, frozen=True):
    """How the numbers of the query stand in the relative.

    `exact`: to the last bit, tensor by tensor. Else the values are the same: `turned` tensors are stored turned round, `united` are put
    together or cut apart, and `reordered` have their rows or columns in another order. `same_types`: in the same number formats.
    `extra` is the share of the relative that the query lacks. Not `whole`: that is most of it, or layers of a stack, so that what the query
    holds may have been cut out of the relative.
    """

    exact: bool
    same_types: bool = True
    turned: int = 0
    united: int = 0
    reordered: int = 0
    extra: float = 0.0
    whole: bool = True


def copy_of(query: Fingerprint, relative: Fingerprint) -> Copy | None:
    """How the query is the relative, None unless all that it holds is there.

    Of a whole copy the relative may hold a head or a component more, but no layer more of a stack. What was not read of the query could be
    anything.
    At level probe sampled rows and whole vectors stand for the digests.
    """
    if measured(query) < query.about.parameters:
        return None
    full = bool(query.matrices.digest.shape[1] and relative.matrices.digest.shape[1])
    if not (_may_be if full else _may_be_sampled)(query.matrices, relative.matrices):
        return None
    query, relative = told_once(query, full), told_once(relative, full)
    same_types = query.about.dtypes.keys() == relative.about.dtypes.keys()
    if same_types and (copy := _to_the_last_bit(query, relative, full)) is not None:
        return copy
    return _by_value(query, relative, same_types=same_types) if full else None


def told_once(model: Fingerprint, full: bool) -> Fingerprint:
    """A model without token tables that it holds a second time: a head that is the embedding counts once, as where names tell it."""
    table = model.matrices
    if not (twins := _twins(table, full)):
        return model
    return replace(model, matrices=chosen_rows(table, np.setdiff1d(np.arange(len(table)), twins)))


@once
def _twins(table: Matrices, full: bool) -> list[int]:
    """Rows of the token tables that stand in a table a second time."""
    is_tall = (table.rows > spec.TALL * table.columns) | (table.rows >= spec.TALL_ROWS)
    tall = np.flatnonzero(is_tall & (table.experts == 1) & (table.sd > 0))
    if len(tall) < 2:
        return []
    known: set[bytes] = set()
    twins = []
    for row in tall.tolist():
        content = _content(table, row, full)
        if table.places[row].layer == NO_LAYER and content in known:
            twins.append(row)
        known.add(content)
    return twins


def _content(table: Matrices, row: int, full: bool) -> bytes:
    """What two equal tensors have in common: the digest, or at level probe the sketch and its length."""
    return bytes(table.digest[row].tobytes() if full else table.probe[row].tobytes() + table.scale[row].tobytes())


@once
def measured(model: Fingerprint) -> int:
    """Numbers that the fingerprint speaks of; what is packed in a form that was not decoded is not among them."""
    return int(model.matrices.parameters.sum()) + int(model.vectors.length.sum())


def _may_be(ours: Matrices, theirs: Matrices) -> bool:
    """Whether any matrix that says something is in both; true where none says anything."""
    mine = _telling_keys(ours)
    return not mine or not mine.isdisjoint(_telling_keys(theirs))


@once
def _telling_keys(table: Matrices) -> frozenset[int]:
    return frozenset(value_keys(table).tolist()) - {0}


def _may_be_sampled(ours: Matrices, theirs: Matrices) -> bool:
    """Whether a matrix of the query, the largest that says something, is in both, by its sketch; true without such."""
    row = _largest(ours)
    if row is None:
        return True
    near = np.flatnonzero(theirs.scale == ours.scale[row])  # before half precision, which is slow to compare
    return bool(len(near)) and bool((theirs.probe[near] == ours.probe[row]).all(axis=1).any())


@once
def _largest(table: Matrices) -> int | None:
    """The largest matrix that says something."""
    sizes = np.where(table.sd > 0, table.parameters, 0)
    return int(sizes.argmax()) if sizes.any() else None


def _to_the_last_bit(query: Fingerprint, relative: Fingerprint, full: bool) -> Copy | None:
    ours, theirs = list(_tensors(query, relative, full)), list(_tensors(relative, query, full))
    waiting: dict[Key, list[Place]] = {}
    for key, place in reversed(ours):
        waiting.setdefault(key, []).append(place)
    pairs, extra = [], []
    for key, place in theirs:
        if waiting.get(key):
            pairs.append((waiting[key].pop(), place))
        else:
            extra.append((key, place))
    size, more = (sum(key[0] * key[1] for key, _ in side) for side in (ours, extra))
    if size < FEWEST_NUMBERS or any(waiting.values()) or not layers_in_order(pairs):
        return None
    if constants_replaced(query, relative, [key[:2] for key, _ in extra]):
        return None
    stacked = layers_more([(key[0], key[1], place) for key, place in ours], [(key[0], key[1], place) for key, place in extra])
    return Copy(True, extra=more / (size + more), whole=more <= EXTRA_SHARE * (size + more) and not stacked)


def _tensors(model: Fingerprint, other: Fingerprint, full: bool) -> Iterator[tuple[Key, Place]]:
    """(rows, columns and digest, place) of each tensor that is not constant; a matrix that is a vector of the other model counts as that.

    Biases of two axes (Maxout's, of outputs and pieces) are vectors where a name tells, else matrices.
    """
    flat = _vector_keys(other.vectors) if full else frozenset[Key]()
    for key, as_vector, place in _matrix_keys(model.matrices, full):
        yield as_vector if as_vector in flat else key, place
    for row, place in enumerate(model.vectors.places):
        if not model.vectors.constant[row]:
            yield (1, int(model.vectors.length[row]), model.vectors.digest[row].tobytes()), place


@once
def _vector_keys(vectors: Vectors) -> frozenset[Key]:
    return frozenset((1, int(length), digest.tobytes()) for length, digest in zip(vectors.length, vectors.digest, strict=True))


@once
def _matrix_keys(table: Matrices, full: bool) -> list[tuple[Key, Key, Place]]:
    """(key, key of the same numbers as a vector, place) of each matrix that is not constant."""
    contents = [(row, _content(table, row, full)) for row in np.flatnonzero(table.sd > 0).tolist()]
    return [
        (
            (int(table.rows[row]), int(table.columns[row]), digest),
            (1, int(table.parameters[row]), digest[VECTOR_DIGEST]),
            table.places[row],
        )
        for row, digest in contents
    ]


Sized = Sequence[tuple[int, int, Place]]  # rows, columns and place of tensors


def layers_more(ours: Sized, extra: Sized) -> bool:
    """Whether what the relative holds besides is a layer of a component that we have, or, where names tell no layers, one of a stack's."""
    components = {place.component for _, _, place in ours}
    shapes = Counter((rows, columns) for rows, columns, _ in ours if min(rows, columns) > 1)
    return any(
        place.component in components if place.layer != NO_LAYER else shapes[rows, columns] >= FEWEST_LAYERS
        for rows, columns, place in extra
    )


def layers_in_order(pairs: Sequence[tuple[Place, Place]]) -> bool:
    """Whether layers that keep together stand in their order. Where names are lost, or lie, or are another library's, which counts
    layers in its own way, layer numbers mean nothing.
    """
    layered = [(a, b) for a, b in pairs if NO_LAYER not in (a.layer, b.layer)]
    if sum(a[2:] == b[2:] for a, b in layered) < AGREE * len(layered):
        return True
    both = Counter((a.component, a.layer, b.component, b.layer) for a, b in layered)
    most: dict[tuple[str, int], tuple[int, str, int]] = {}
    for (component, layer, their_component, their_layer), count in both.items():
        most[component, layer] = max(most.get((component, layer), (0, "", 0)), (count, their_component, -their_layer))
    if sum(count for count, _, _ in most.values()) < AGREE * both.total():
        return True
    order = [(component, their, -layer) for (component, _), (_, their, layer) in sorted(most.items())]
    return all(a[2] < b[2] for a, b in pairwise(order) if a[:2] == b[:2])


def sized(table: Matrices, rows: Iterable[int]) -> Sized:
    """Rows of a table with their sizes."""
    return [(int(table.rows[row]), int(table.columns[row]), table.places[row]) for row in rows]


def _by_value(query: Fingerprint, relative: Fingerprint, *, same_types: bool) -> Copy | None:
    table, other = query.matrices, relative.matrices
    pairs = [pair for pair in same_contents(table, other) if not pair.repeats]
    rest = [
        [row for row in np.flatnonzero(value_keys(side)).tolist() if row not in known]
        for side, known in ((table, {pair.ours for pair in pairs}), (other, {pair.theirs for pair in pairs}))
    ]
    laid_out = same_in_order(table, other, *rest)
    for side, of_side in zip(rest, zip(*laid_out, strict=True), strict=False):
        side[:] = [row for row in side if row not in of_side]
    units = units_of(query, rest[0]), units_of(relative, rest[1])
    unions = united(*units)
    used = [{number for union in unions for number in union[side]} for side in (0, 1)]
    if len(used[0]) < len(units[0]):
        return None
    alone = [len(ours) == len(theirs) == 1 for ours, theirs in unions]
    turned = sum(_is_turned(table, other, pair) for pair in pairs) + sum(alone)
    exchanged = [pair.ours for pair in pairs if _halves_exchanged(table, other, pair)]
    halves = exchanged if len(exchanged) <= MOST_EXCHANGED else []
    same_bytes = same_types and not query.about.dtypes.keys() >= HALVES
    reordered = [p.ours for p in pairs if p.ours not in halves and _is_reordered(table, other, p, same_bytes=same_bytes)]
    moved = [*halves, *reordered, *(pair.ours for pair in pairs if _is_turned(table, other, pair)), *(units[0][n].row for n in used[0])]
    besides = vectors_besides(
        query.vectors, relative.vectors, {int(side) for row in moved for side in (table.rows[row], table.columns[row])}
    )
    if besides is None:
        return None
    if not layers_in_order([(table.places[pair.ours], other.places[pair.theirs]) for pair in pairs]):
        return None
    extra = sorted({unit.row for number, unit in enumerate(units[1]) if number not in used[1]})
    size, more = int(table.parameters.sum()), int(other.parameters[extra].sum())
    shapes = [(rows, columns) for rows, columns, _ in sized(other, extra)] + [(1, int(n)) for n in relative.vectors.length[besides]]
    if size < FEWEST_NUMBERS or constants_replaced(query, relative, shapes):
        return None
    stacked = layers_more(sized(table, range(len(table))), sized(other, extra))
    return Copy(
        False,
        same_types,
        turned=turned,
        united=len(alone) - sum(alone) + len(laid_out) + len(halves),
        reordered=len(reordered),
        extra=more / (size + more),
        whole=more <= EXTRA_SHARE * (size + more) and not stacked,
    )


def same_in_order(table: Matrices, other: Matrices, ours: Sequence[int], theirs: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of rows that hold the same numbers in the same order under another shape, as a table of positions with an axis more."""
    known = {(int(other.parameters[row]), other.digest[row].tobytes()): row for row in theirs}
    keys = {(int(table.parameters[row]), table.digest[row].tobytes()): row for row in ours}
    return [(row, known[key]) for key, row in keys.items() if key in known]


def _is_turned(table: Matrices, other: Matrices, pair: Pair) -> bool:
    return bool((table.numbers[pair.ours] != other.numbers[pair.theirs]).any())


def _halves_exchanged(table: Matrices, other: Matrices, pair: Pair) -> bool:
    """Whether the second half of the rows stands before the first, as libraries store a shift and a scale of the stream in one.

    Under one name on both sides it would be a change. The order inside the halves is not seen, so it is said of one matrix at most.
    """
    if table.places[pair.ours] == other.places[pair.theirs] or table.experts[pair.ours] > 1:
        return False
    if table.rows[pair.ours] != 2 * table.columns[pair.ours]:
        return False
    ours, theirs = table.blocks[pair.ours][: spec.EIGHTHS], other.blocks[pair.theirs][: spec.EIGHTHS]
    return bool((np.roll(ours, spec.EIGHTHS // 2) == theirs).all())


def _is_reordered(table: Matrices, other: Matrices, pair: Pair, *, same_bytes: bool) -> bool:
    """Whether rows or columns stand in another order though the numbers are the same, in one orientation.

    Sampled rows differ, or sums over eighths of the rows, or, where equal numbers are stored as `same_bytes`, the bytes in their order.
    """
    a, b = pair.ours, pair.theirs
    if _is_turned(table, other, pair) or table.rows[a] != other.rows[b]:
        return False
    if (table.blocks[a] != other.blocks[b]).any():
        return True
    if same_bytes and table.bits[a] == other.bits[b] and (table.digest[a] != other.digest[b]).any():
        return True
    apart = np.abs(table.probe[a].astype(float) - other.probe[b].astype(float))
    return bool(apart.max() > SAME_SKETCH)
