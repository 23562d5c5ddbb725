"""One place of one model measured: its values streamed once in bounded blocks, its numbers out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import xxhash
from msgspec import Struct

from modelkin_indexer import sketch, spec
from modelkin_indexer.anatomy.constants.table_reading import is_held
from modelkin_indexer.fingerprinting import channels
from modelkin_indexer.fingerprinting.channels import RowCollector
from modelkin_indexer.fingerprinting.experts import SingleExperts, single_experts
from modelkin_indexer.fingerprinting.grams import Frame, MatrixGrams
from modelkin_indexer.fingerprinting.statistics import Moments, Statistics, row_correlation
from modelkin_indexer.fingerprinting.unnamed import Readings
from modelkin_indexer.fingerprinting.word_sums import Digests, WordSums
from modelkin_indexer.places import Piece, Place
from modelkin_indexer.sketch import Block
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored import values
from modelkin_indexer.sources.stored.usable import LARGEST, Unusable, usable
from modelkin_indexer.spec import Key

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.int8]
# Not cryptographic, and need not be: who makes two tensors collide still has to match their sketches. 58 GB/s where BLAKE3 gives 6.
VECTOR_DIGEST_BYTES = xxhash.xxh3_64().digest_size
NO_DIGEST = b""
QUIET = partial(np.errstate, over="ignore", invalid="ignore")  # what is no finite number is looked for, not warned of


class VectorMeasure(Struct, frozen=True):
    """What is kept of a norm, bias or other vector. `values` stays in memory only, for folding gains."""

    place: Place
    values: Singles
    sketch: Floats
    scale: float
    digest: bytes
    unusable: Unusable | None = None


class MatrixMeasure(Struct, frozen=True):
    """What is kept of a matrix; `digests`, `singles` and `anchors` at level full only, `anchors` are the token rows of the frame.

    `unusable` tells of numbers that are none; they are measured as zeros. `held` are all numbers of a small one, if all of them are some.
    `readings` are kept of a model whose names tell nothing (unnamed.py).
    """

    piece: Piece
    bits: int
    sampled: channels.Sampled
    mean: float
    sd: float
    statistics: Statistics
    spectrum: float
    gram: Floats
    anchored: Floats
    digest: bytes
    digests: Digests | None = None
    singles: SingleExperts | None = None
    anchors: Singles | None = None
    unusable: Unusable | None = None
    held: Singles | None = None
    readings: Bytes | None = None


def measure_vector(source: Source, piece: Piece, key: Key) -> VectorMeasure:
    """Read a vector whole."""
    parts = [values.read_rows(source, view, 0, view.rows).ravel() for view in piece.views]
    vector, unusable = _usable_vector(np.concatenate(parts))
    wide = vector.astype(np.float64)
    unit, scale = sketch.sketch_rows((wide - wide.mean())[None, :], key, "vector", 1, spec.VECTOR_NUMBERS)
    return VectorMeasure(piece.place, vector, unit, scale, xxhash.xxh3_64_digest(vector.tobytes()), unusable)


def _usable_vector(vector: Singles) -> tuple[Singles, Unusable | None]:
    """The vector, the mean of the others in place of numbers that are none."""
    if usable(vector):
        return vector, None
    found, good = Unusable(vector.size), np.abs(vector) <= LARGEST
    found.take(0, vector[:, None])
    vector[~good] = vector[good].mean() if good.any() else 0
    return vector, found


def sampled_blocks(piece: Piece, key: Key) -> list[Block]:
    """The row blocks that the probe channel reads of a matrix."""
    return sketch.chosen_rows(key, piece.views[0].rows, piece.views[0].columns, len(piece.views))


def probe_matrix(source: Source, piece: Piece, key: Key) -> MatrixMeasure:
    """Level probe: read the sampled rows only."""
    blocks = sampled_blocks(piece, key)
    rows = np.concatenate([values.read_rows(source, piece.views[block.expert], block.start, block.stop) for block in blocks])
    unusable = None if usable(rows) else Unusable(rows.size)
    if unusable is not None:
        for block, some in zip(blocks, np.split(rows, np.cumsum([block.stop - block.start for block in blocks])[:-1]), strict=True):
            unusable.take(block.expert * piece.views[0].rows + block.start, some)
    moments = Moments(rows.size, rows.shape[1])
    with QUIET():
        moments.add(rows)
    nothing = np.zeros(spec.GRAM_NUMBERS)
    return MatrixMeasure(
        piece=piece,
        bits=_bits(source, piece),
        sampled=channels.sample(rows, blocks, key, _slots(piece)),
        mean=float(rows.mean(dtype=np.float64)),
        sd=float(rows.std(dtype=np.float64)),
        statistics=moments.statistics(),
        spectrum=row_correlation(rows),
        gram=nothing,
        anchored=nothing,
        digest=NO_DIGEST,
        unusable=unusable,
    )


def _slots(piece: Piece) -> int:
    return sketch.slots(piece.views[0].rows, piece.views[0].columns, len(piece.views))


def measure_matrix(source: Source, piece: Piece, key: Key, frame: Frame, advance: Callable[[int], None]) -> MatrixMeasure:
    """Level full: stream every value once; twice where some are no numbers, which only the sums of all tell."""
    done = 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        advance(count)

    try:
        return _measured(source, piece, key, frame, told, None)
    except _Unusable:
        found = _measured(source, piece, key, frame, lambda _: None, Unusable(piece.parameters))
        advance(piece.parameters * _bits(source, piece) // 8 - done)
        return found


class _Unusable(Exception):
    """Some numbers are none."""


def _measured(
    source: Source, piece: Piece, key: Key, frame: Frame, advance: Callable[[int], None], unusable: Unusable | None
) -> MatrixMeasure:
    columns, blocks = piece.views[0].columns, sampled_blocks(piece, key)
    sampled, singles, anchors = RowCollector(blocks, columns), single_experts(piece, key), _anchor_rows(piece, frame)
    hasher, words, moments = xxhash.xxh3_128(), WordSums(columns), Moments(piece.parameters, columns)
    grams = MatrixGrams(piece, key, frame, moments)
    readings = Readings(piece, frame.readings) if frame.readings is not None else None
    held: list[Singles] | None = [] if unusable is None and is_held(source, piece) else None
    with QUIET():
        for view, start, raw, room in _stream(source, piece):
            hasher.update(raw.data)
            dtype = source.tensors[piece.views[view].tensor].dtype
            if unusable is None:
                block = words.read(dtype, raw, room)
            else:
                block = values.decoded_in(dtype, raw, room)
                unusable.take(view * piece.views[0].rows + start, block)
                words.add(block)
            if held is not None:
                held.append(block.copy())
            moments.add(block)
            if unusable is None and not np.isfinite(moments.squares):
                raise _Unusable
            for collector in (sampled, singles, anchors):
                if collector is not None:
                    collector.take(view, start, block)
            grams.add(view, start, block)
            if readings is not None:
                readings.add(start, block)
            advance(raw.nbytes)
    mean, digests = moments.total / piece.parameters, words.digests()
    gram, anchored = grams.vectors()
    return MatrixMeasure(
        piece=piece,
        bits=_bits(source, piece),
        sampled=channels.sample(sampled.rows, blocks, key, _slots(piece)),
        mean=mean,
        sd=float(np.sqrt(max(moments.squares / piece.parameters - mean**2, 0.0))),
        statistics=moments.statistics(),
        spectrum=grams.spectrum(),
        gram=gram,
        anchored=anchored,
        digest=hasher.digest(),
        digests=digests,
        singles=singles.finished(digests.rows) if singles is not None else None,
        anchors=anchors.rows if anchors is not None else None,
        unusable=unusable,
        held=np.concatenate(held) if held is not None else None,
        readings=readings.vectors() if readings is not None else None,
    )


def _stream(source: Source, piece: Piece) -> Iterator[tuple[int, int, npt.NDArray[np.uint8], Singles]]:
    """(view number, first row, raw bytes, room for their values) of every block, in canonical order. Buffers are used again."""
    view = piece.views[0]
    size = max((stop - start) * view.columns for start, stop in values.row_blocks(view))
    raw_buffer, buffer = np.empty(size * _bits(source, piece) // 8, np.uint8), np.empty(size, np.float32)
    for number, view in enumerate(piece.views):
        for start, stop in values.row_blocks(view):
            raw = values.read_stored(source, view, start, stop, out=raw_buffer)
            yield number, start, raw, buffer[: (stop - start) * view.columns].reshape(stop - start, view.columns)


def _anchor_rows(piece: Piece, frame: Frame) -> RowCollector | None:
    """Token rows of a component's embedding, or of a table that may be it."""
    if frame.anchors is None:
        return None
    return RowCollector([Block(token, token + 1, 0) for token in frame.anchors.tolist()], piece.views[0].columns)


def _bits(source: Source, piece: Piece) -> int:
    return values.bits(source.tensors[piece.views[0].tensor].dtype)
