"""Two models held against each other number by number, in bounded memory: every common byte of both is read."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace
from threadpoolctl import threadpool_limits

from modelkin_indexer.anatomy.constants.fixed_tables import CONSTANT
from modelkin_indexer.anatomy.constants.table_reading import fixed_reason
from modelkin_indexer.anatomy.parts import anatomy_of
from modelkin_indexer.exact import layer_samples
from modelkin_indexer.exact.delta_spectrum import Sketch, delta_spectrum, described, has_rank
from modelkin_indexer.exact.journal import Journal
from modelkin_indexer.exact.pairing import Contents, LayerMaps, PlacePair, pair_places
from modelkin_indexer.exact.totals import PairTotals, Sides
from modelkin_indexer.places import Piece, View
from modelkin_indexer.results.exact import DeltaSpectrum, ExactReading, LayerMatrix, NotCompared, TensorComparison
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored import values
from modelkin_indexer.sources.stored.usable import Unusable, usable

Singles = npt.NDArray[np.float32]
Progress = Callable[[int], None]
UNTOUCHED = ("position", "other", "embedding")  # families whose constant matrices are left out
TABLE_ROWS = 32  # rows looked at to tell
RELATED_L2 = 1.0  # |B - A| / |A| below which the spectrum of the difference is worth two more readings: strangers have sqrt(2)
ROWS, COLUMNS = 0, 1


class ExactOptions(Struct, frozen=True):
    """How to compare. `pair` names the two sides in the journal, if there is one. The result does not depend on `threads`.

    `places` are what `common_places` gives for these sources, `layer_maps` and `contents`, where the caller has asked.
    """

    layer_maps: LayerMaps | None = None
    contents: Contents | None = None
    journal: Journal | None = None
    pair: str = "a-b"
    threads: int | None = None
    progress: Progress = lambda _: None
    all_layers: bool = False
    places: tuple[list[PlacePair], list[NotCompared]] | None = None


def read_exact(a: Source, b: Source, options: ExactOptions) -> ExactReading:
    """Measure all pairs of counterparts, and on samples what places that are no counterparts have in common.

    Raises:
        SourceError: weights cannot be read.
        JournalError: the journal cannot be written.
    """
    pairs, left = options.places or common_places(a, b, options.layer_maps, options.contents)
    found = tuple(compare_places(a, b, pairs, options))
    axes = {layer_samples.role_of(pair.a): channel_axis(pair.a) for pair in pairs}
    mismatched: list[TensorComparison] = []
    within: list[TensorComparison] = []
    matrices: dict[str, list[LayerMatrix]] = {"a-b": [], "a-a": [], "b-b": []}
    for ours, theirs in layer_samples.sample_sides(a, b, pairs):
        mismatched += layer_samples.shifted(ours, theirs, axes)
        within += layer_samples.shifted(ours, ours, axes)
        if options.all_layers:
            for sides, one, other in (("a-b", ours, theirs), ("a-a", ours, ours), ("b-b", theirs, theirs)):
                matrices[sides] += layer_samples.layer_matrices(sides, one, other)
    return ExactReading(
        pairs=found,
        not_compared=tuple(left),
        mismatched=tuple(mismatched),
        within=tuple(within),
        matrices=tuple(chain.from_iterable(matrices.values())),
    )


def common_places(
    a: Source, b: Source, layer_maps: LayerMaps | None = None, contents: Contents | None = None
) -> tuple[list[PlacePair], list[NotCompared]]:
    """Counterparts that may be compared; fixed tables, which strangers share bit by bit, are left out and named."""
    pairs, left = pair_places(anatomy_of(a, b.config), anatomy_of(b, a.config), layer_maps, contents)
    kept = []
    for pair in pairs:
        reason = _table_reason(a, pair.a) or _table_reason(b, pair.b)
        if reason:
            left.append(NotCompared(*pair.a.place, pair.a.views[0].tensor, f"never evidence: {reason}"))
        else:
            kept.append(pair)
    return kept, left


def _table_reason(source: Source, piece: Piece) -> str:
    if piece.is_vector or len(piece.views) > 1:
        return ""
    view = piece.views[0]
    stop = min(view.rows, TABLE_ROWS)
    reason = fixed_reason(source, piece, values.read_rows(source, view, 0, stop), np.arange(stop))
    return "" if reason == CONSTANT and piece.place.family not in UNTOUCHED else reason


def channel_axis(piece: Piece) -> int:
    """The axis whose order strangers do not share: the residual stream's channels."""
    return ROWS if piece.residual == "out" or piece.place.family == "conv" else COLUMNS


def compare_places(a: Source, b: Source, pairs: Sequence[PlacePair], options: ExactOptions) -> Iterator[TensorComparison]:
    """One comparison after the other, in the order of `pairs`; those in the journal are taken from it."""
    threads = options.threads or min(4, os.cpu_count() or 1)
    stop = threading.Event()

    def told(done: int) -> None:
        if stop.is_set():
            raise _Stopped
        tell(done)

    tell, options = options.progress, replace(options, progress=told)
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        todo = iter(pairs)
        waiting: deque[Future[TensorComparison]] = deque()
        try:
            for pair in islice(todo, threads):
                waiting.append(pool.submit(_compared, a, b, pair, options))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(_compared, a, b, pair, options) for pair in islice(todo, 1))
        except BaseException:  # Ctrl-C among them: what is under way ends at its next block, what is done is in the journal
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


class _Stopped(Exception):
    """Ends a thread whose result nobody waits for."""


def _compared(a: Source, b: Source, pair: PlacePair, options: ExactOptions) -> TensorComparison:
    key = (options.pair, pair.a.place, pair.b.place, pair.rows)
    done = options.journal.find(key) if options.journal is not None else None
    if done is None:
        done = compare_pair(a, b, pair, options.progress)
        if options.journal is not None:
            options.journal.add(key, done)
    else:
        options.progress(pair_bytes(a, b, pair))
    return done


def pair_bytes(a: Source, b: Source, pair: PlacePair) -> int:
    """Bytes of a pair that are compared, both sides together."""
    return pair.numbers * (values.bits(_dtype(a, pair.a)) + values.bits(_dtype(b, pair.b))) // 8


def _dtype(source: Source, piece: Piece) -> str:
    return source.tensors[piece.views[0].tensor].dtype


def compare_pair(a: Source, b: Source, pair: PlacePair, progress: Progress = lambda _: None) -> TensorComparison:
    """All statistics of one pair; numbers that are none count as zeros.

    Related matrices are read once more, for the spectrum of their difference; stacks of matrices, and those that begin unlike, twice.
    """
    axis = channel_axis(pair.a)
    sides = Sides(pair.a, pair.b, _dtype(a, pair.a), _dtype(b, pair.b), axis)
    columns = pair.a.views[0].columns
    channels = pair.rows if axis == ROWS else columns
    totals = PairTotals(sides, pair.a.parameters if pair.a.is_vector else channels, pair.numbers)
    moved = np.zeros(len(pair.a.views))
    ranked = not pair.a.is_vector and has_rank(pair.rows, columns)
    sketch = Sketch(pair.rows, columns) if ranked and len(moved) == 1 else None
    for view, start, first, second in _blocks(a, b, pair):
        before = totals.squared_distance
        totals.add(start, first, second)
        moved[view] += totals.squared_distance - before
        if sketch is not None and totals.squared_distance < RELATED_L2**2 * totals.squared_length:
            sketch.add(start, np.subtract(second, first, out=second))
        else:
            sketch = None
        progress(first.size * (values.bits(sides.dtype_a) + values.bits(sides.dtype_b)) // 8)
    result = totals.result()
    if not ranked or result.relative_l2 is None or not 0 < result.relative_l2 < RELATED_L2:
        return result
    return replace(result, delta=_spectrum(a, b, pair, int(np.argmax(moved)), sketch, totals.rounding / len(moved), progress))


def _spectrum(
    a: Source, b: Source, pair: PlacePair, view: int, sketch: Sketch | None, rounding: float, progress: Progress
) -> DeltaSpectrum | None:
    """The spectrum of one matrix's difference: of a stack of experts the one that moved furthest."""
    one = replace(pair, a=replace(pair.a, views=pair.a.views[view : view + 1]), b=replace(pair.b, views=pair.b.views[view : view + 1]))

    def differences() -> Iterator[tuple[int, Singles]]:
        for _, start, first, second in _blocks(a, b, one):
            progress(0)
            yield start, np.subtract(second, first, out=second)

    if sketch is None:
        sketch = Sketch(pair.rows, pair.a.views[0].columns)
        for start, block in differences():
            sketch.add(start, block)
    found = delta_spectrum(sketch, differences())
    return None if found is None else described(sketch, found, rounding)


def _blocks(a: Source, b: Source, pair: PlacePair) -> Iterator[tuple[int, int, Singles, Singles]]:
    """(view, first row, rows of A, rows of B), numbers that are none as zeros. Buffers are used again for the next block."""
    for view, start, first, second in _stored_blocks(a, b, pair):
        for block in (first, second):
            if not usable(block):
                Unusable(block.size).take(0, block)
        yield view, start, first, second


def _stored_blocks(a: Source, b: Source, pair: PlacePair) -> Iterator[tuple[int, int, Singles, Singles]]:
    if pair.a.is_vector:
        yield 0, 0, _vector(a, pair.a), _vector(b, pair.b)
        return
    columns = pair.a.views[0].columns
    bounds = list(_bounds(pair))
    first, second = (np.empty(max(stop - start for start, stop in bounds) * columns, np.float32) for _ in range(2))
    for number, (ours, theirs) in enumerate(zip(pair.a.views, pair.b.views, strict=True)):
        for start, stop in bounds:
            shape, size = (stop - start, columns), (stop - start) * columns
            one = values.read_rows(a, ours, start, stop, out=first[:size].reshape(shape))
            yield number, start, one, values.read_rows(b, theirs, start, stop, out=second[:size].reshape(shape))


def _bounds(pair: PlacePair) -> Iterator[tuple[int, int]]:
    """Row blocks of the side that wants the larger ones, cut off after the common rows."""
    view: View = max((piece.views[0] for piece in (pair.a, pair.b)), key=lambda view: view.strides[-1] != 1)
    for start, stop in values.row_blocks(view):
        if start < pair.rows:
            yield start, min(stop, pair.rows)


def _vector(source: Source, piece: Piece) -> Singles:
    return np.concatenate([values.read_rows(source, view, 0, view.rows).ravel() for view in piece.views])[None, :]
