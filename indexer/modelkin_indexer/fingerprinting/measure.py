"""One place of one model measured: its values streamed once in bounded blocks, its numbers out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from modelkin_indexer import sketch, spec
from modelkin_indexer.errors import UnusableValues
from modelkin_indexer.fingerprinting import channels
from modelkin_indexer.places import NO_LAYER, Piece, Place, View
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored import values
from modelkin_indexer.spec import Key

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
RowBlock = tuple[int, int, int]  # view (expert) number, first row, row after the last
# Not cryptographic, and need not be: who makes two tensors collide still has to match their sketches. 58 GB/s where BLAKE3 gives 6.
VECTOR_DIGEST_BYTES = xxhash.xxh3_64().digest_size
NO_DIGEST = b""
TOO_LARGE = "Check the file; weights of this size cannot work."
TOKEN_FAMILIES = ("embedding", "head")
RECURRENT = "recurrent_"  # roles of LSTM and GRU weights


@dataclass(frozen=True)
class VectorMeasure:
    """What is kept of a norm, bias or other vector. `values` stays in memory only, for folding gains."""

    place: Place
    values: Singles
    sketch: Floats
    scale: float
    digest: bytes


@dataclass(frozen=True)
class MatrixMeasure:
    """What is kept of a matrix; `experts` has one row a single expert (or router row), `anchors` the token rows of the frame."""

    piece: Piece
    bits: int
    sampled: channels.Sampled
    mean: float
    sd: float
    gram: Floats
    anchored: Floats
    digest: bytes
    experts: Floats | None = None
    anchors: Singles | None = None


@dataclass(frozen=True)
class Frame:
    """What a piece is projected on: `gain` folds the norm it reads, `tokens` is the anchored frame; None where there is none."""

    gain: Singles | None = None
    tokens: Singles | None = None


def measure_vector(source: Source, piece: Piece, key: Key) -> VectorMeasure:
    """Read a vector whole."""
    parts = [values.read_rows(source, view, 0, view.rows).ravel() for view in piece.views]
    vector = np.concatenate(parts)
    require_finite(vector, source, piece.views[0])
    wide = vector.astype(np.float64)
    unit, scale = sketch.sketch_rows((wide - wide.mean())[None, :], key, "vector", 1, spec.VECTOR_NUMBERS)
    return VectorMeasure(piece.place, vector, unit, scale, xxhash.xxh3_64_digest(vector.tobytes()))


def sampled_blocks(piece: Piece, key: Key) -> tuple[list[RowBlock], int]:
    """The row blocks that the probe channel reads of a matrix, and the number of row slots."""
    place, rows = piece.place, piece.views[0].rows
    if piece.experts and len(piece.views) > 1:
        return sketch.expert_rows(key, place.role, len(piece.views), rows), spec.EXPERT_BLOCKS * spec.EXPERT_BLOCK_ROWS
    if place.family in TOKEN_FAMILIES and piece.residual == "none":
        return [(0, *block) for block in sketch.token_rows(key, rows)], spec.TOKEN_BLOCKS * spec.TOKEN_BLOCK_ROWS
    blocks = sketch.matrix_rows(key, place.family, place.role, rows) if _named(piece) else sketch.unnamed_rows(key, rows)
    return [(0, *block) for block in blocks], spec.MATRIX_BLOCKS * spec.MATRIX_BLOCK_ROWS


def _named(piece: Piece) -> bool:
    """Whether a matrix has the same role in every container. Convolutions outside layers and LSTMs may have other names elsewhere."""
    place = piece.place
    return piece.named and not place.role.startswith(RECURRENT) and not (place.family == "conv" and place.layer == NO_LAYER)


def probe_matrix(source: Source, piece: Piece, key: Key) -> MatrixMeasure:
    """Level probe: read the sampled rows only."""
    blocks, slots = sampled_blocks(piece, key)
    rows = np.concatenate([values.read_rows(source, piece.views[view], start, stop) for view, start, stop in blocks])
    require_finite(rows, source, piece.views[0])
    sampled = channels.sample(rows, _row_numbers(blocks), key, slots)
    nothing = np.zeros(spec.GRAM_NUMBERS)
    return MatrixMeasure(piece, _bits(source, piece), sampled, sampled.mean, sampled.sd, nothing, nothing, NO_DIGEST)


def _row_numbers(blocks: list[RowBlock]) -> npt.NDArray[np.int64]:
    """Positions of the sampled rows in their matrix."""
    return np.concatenate([np.arange(start, stop) for _, start, stop in blocks])


class _RowCollector:
    """Keeps the wanted rows while blocks stream past, in the order they were asked for."""

    def __init__(self, blocks: list[RowBlock], columns: int) -> None:
        wanted = [(view, row) for view, start, stop in blocks for row in range(start, stop)]
        self.slots: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for slot, (view, row) in enumerate(wanted):
            self.slots[view].append((slot, row))
        self.rows = np.zeros((len(wanted), columns), np.float32)

    def take(self, view: int, start: int, block: Singles) -> None:
        for slot, row in self.slots.get(view, ()):
            if start <= row < start + len(block):
                self.rows[slot] = block[row - start]


def measure_matrix(source: Source, piece: Piece, key: Key, frame: Frame, advance: Callable[[int], None]) -> MatrixMeasure:
    """Level full: stream every value once."""
    columns = piece.views[0].columns
    blocks, slots = sampled_blocks(piece, key)
    sampled = _RowCollector(blocks, columns)
    singles = _single_rows(piece, key, columns)
    anchors = _anchor_rows(piece, key, columns)
    directions = _directions(piece, key, frame)
    gram = channels.GramAccumulator(directions, piece.residual, columns) if directions is not None else None
    hasher, total, squares, ones = xxhash.xxh3_128(), 0.0, 0.0, np.ones(columns, np.float32)
    for view, start, raw, block in _stream(source, piece):
        hasher.update(raw.data)
        with np.errstate(over="ignore", invalid="ignore"):
            total += float((block @ ones).sum(dtype=np.float64))
        with np.errstate(over="ignore", invalid="ignore"):
            squares += float(block.ravel() @ block.ravel())
        if not np.isfinite(squares):
            require_finite(block, source, piece.views[view])
            raise UnusableValues("values are too large to measure", path=source.path, tensor=piece.views[view].tensor, remedy=TOO_LARGE)
        for collector in (sampled, singles, anchors):
            if collector is not None:
                collector.take(view, start, block)
        if gram is not None:
            gram.add(start, block)
            if start + len(block) == piece.views[view].rows:
                gram.end_matrix()
        advance(raw.nbytes)
    count = piece.parameters
    mean = total / count
    sd = float(np.sqrt(max(squares / count - mean**2, 0.0)))
    grams = _gram_vectors(gram, frame)
    return MatrixMeasure(
        piece,
        _bits(source, piece),
        channels.sample(sampled.rows, _row_numbers(blocks), key, slots),
        mean,
        sd,
        *grams,
        hasher.digest(),
        experts=_single_sketches(piece, key, singles),
        anchors=anchors.rows if anchors is not None else None,
    )


def _stream(source: Source, piece: Piece) -> Iterator[tuple[int, int, npt.NDArray[np.uint8], Singles]]:
    """(view number, first row, raw bytes, values) of every block, in canonical order. Buffers are used again for the next block."""
    view = piece.views[0]
    size = max((stop - start) * view.columns for start, stop in values.row_blocks(view))
    raw_buffer, buffer = np.empty(size * _bits(source, piece) // 8, np.uint8), np.empty(size, np.float32)
    for number, view in enumerate(piece.views):
        dtype = source.tensors[view.tensor].dtype
        for start, stop in values.row_blocks(view):
            raw = values.read_stored(source, view, start, stop, out=raw_buffer)
            block = values.decode(dtype, raw, out=buffer[: (stop - start) * view.columns])
            yield number, start, raw, block.reshape(stop - start, view.columns)


def _directions(piece: Piece, key: Key, frame: Frame) -> Singles | None:
    """Keyed directions beside the token frame's, gains folded in: (residual size, 16 or 32). None where no side faces the stream."""
    view = piece.views[0]
    if piece.residual == "none":
        return None
    size = view.columns if piece.residual == "in" else view.rows
    directions = sketch.signs(key, "gram", size, spec.DIRECTIONS)
    if frame.tokens is not None and len(frame.tokens) == size:
        directions = np.hstack([directions, frame.tokens])
    if frame.gain is not None and piece.residual == "in" and len(frame.gain) == size:
        directions = directions * frame.gain[:, None]
    return np.ascontiguousarray(directions)


def _gram_vectors(gram: channels.GramAccumulator | None, frame: Frame) -> tuple[Floats, Floats]:
    nothing = np.zeros(spec.GRAM_NUMBERS)
    if gram is None:
        return nothing, nothing
    n = spec.DIRECTIONS
    plain = channels.gram_vector(gram.total[:n, :n], gram.directions[:, :n])
    if gram.directions.shape[1] == n:
        return plain, nothing
    return plain, channels.gram_vector(gram.total[n:, n:], gram.directions[:, n:])


def _single_rows(piece: Piece, key: Key, columns: int) -> _RowCollector | None:
    """Rows for the small vectors of single experts; a router's own rows stand for its experts."""
    view = piece.views[0]
    if piece.experts and len(piece.views) > 1:
        start, stop = sketch.single_expert_rows(key, piece.place.role, view.rows)
        return _RowCollector([(number, start, stop) for number in range(len(piece.views))], columns)
    if (piece.place.family, piece.place.role) == ("router", "router"):
        return _RowCollector([(0, 0, view.rows)], columns)
    return None


def _single_sketches(piece: Piece, key: Key, collected: _RowCollector | None) -> Floats | None:
    """(experts, EXPERT_NUMBERS) unit vectors."""
    if collected is None:
        return None
    count = len(piece.views) if piece.experts else len(collected.rows)
    groups = collected.rows.reshape(count, -1, collected.rows.shape[1]).astype(np.float64)
    slots = groups.shape[1]
    width = spec.EXPERT_NUMBERS // spec.EXPERT_ROWS if piece.experts else spec.EXPERT_NUMBERS
    out = np.zeros((count, spec.EXPERT_NUMBERS))
    for number, rows in enumerate(groups):
        out[number, : slots * width] = sketch.sketch_rows(rows - rows.mean(), key, "expert", slots, width)[0]
    return out


def _anchor_rows(piece: Piece, key: Key, columns: int) -> _RowCollector | None:
    if (piece.place.family, piece.place.role, piece.residual) != ("embedding", "token", "none"):
        return None
    tokens = sketch.anchor_tokens(key, piece.views[0].rows)
    return _RowCollector([(0, int(token), int(token) + 1) for token in tokens], columns)


def require_finite(block: Singles, source: Source, view: View) -> None:
    """Raise UnusableValues if a value is NaN or infinite."""
    if not np.isfinite(block).all():
        raise UnusableValues(
            "contains NaN or infinite values",
            path=source.path,
            tensor=view.tensor,
            remedy="Such weights cannot be compared; ask the publisher for a sound file.",
        )


def _bits(source: Source, piece: Piece) -> int:
    return values.bits(source.tensors[piece.views[0].tensor].dtype)
