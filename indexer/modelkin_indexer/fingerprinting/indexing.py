"""A source in, a fingerprint out: the one way that all channels and levels share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from modelkin_data import name_tables
from modelkin_indexer import sketch, spec
from modelkin_indexer.anatomy import layouts
from modelkin_indexer.anatomy.constants.table_reading import is_small
from modelkin_indexer.anatomy.parts import anatomy_of, config_of
from modelkin_indexer.errors import UnusableValues
from modelkin_indexer.fingerprinting import measure
from modelkin_indexer.fingerprinting.about import about
from modelkin_indexer.fingerprinting.channels import token_frame
from modelkin_indexer.fingerprinting.experts import expert_table
from modelkin_indexer.fingerprinting.grams import Frame
from modelkin_indexer.fingerprinting.left_out import SOUND, LeftOut, index_tables
from modelkin_indexer.fingerprinting.measure import MatrixMeasure, VectorMeasure, measure_matrix, measure_vector, probe_matrix
from modelkin_indexer.fingerprinting.statistics import quantiles
from modelkin_indexer.fingerprinting.unnamed import stacked_frames, token_tables
from modelkin_indexer.places import Anatomy, Piece
from modelkin_indexer.results.fingerprint import SIDES, Fingerprint, Matrices, Vectors
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored import values
from modelkin_indexer.spec import PUBLIC_KEY, Key

Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Each = Callable[[Callable[[Piece], Any], Iterable[Piece]], Iterable[Any]]
Progress = Callable[[int], None]
SMALL_MODEL = 1 << 21  # numbers of a model that one thread measures as fast as several: about 10 ms
READ_WHOLE = ("norm", "bias")  # small whatever their axes: gains of each head stand in a matrix
LARGEST_FLOAT16 = 65504.0  # what half precision holds: kurtosis, spectrum and quantiles end there
MOST_COUNTED = 65535  # seen rows beyond this say nothing more


def fingerprint_source(
    source: Source,
    *,
    level: str = "full",
    key: Key = PUBLIC_KEY,
    threads: int | None = None,
    progress: Progress = lambda _: None,
    strict: bool = False,
    alike: Mapping[str, Any] = MappingProxyType({}),
    tokens: Ints | None = None,
) -> Fingerprint:
    """Index one source.

    `alike` is the config of another model, whose numbers of heads fused attention is taken apart by where the own config tells none and
    both are of one width. `tokens` are the rows of another model's tokens by their numbers there: the anchored channel then rests on
    those, and is comparable with that model's alone.
    `progress` is called with numbers of bytes as they are done (level full). The result does not depend on `threads`. Weights that are no
    numbers (NaN, infinite) are left out and told; `strict` refuses them.

    Raises:
        SourceError: the weights cannot be read; UnusableValues: none of them is a number, or with `strict` one is not.
    """
    anatomy = anatomy_of(source, alike)
    with _loaded_libraries().limit(limits=1), _workers(anatomy, threads) as each:
        vectors = list(each(lambda piece: measure_vector(source, piece, key), (p for p in anatomy.pieces if _is_vector(p))))
        matrices = _measure_matrices(each, source, anatomy, key, vectors, level, progress, tokens)
    left = LeftOut(source, anatomy, strict)
    kept, vectors = left.matrices(matrices), left.vectors(vectors)
    if left.unusable and not kept and not vectors:
        raise UnusableValues("holds no weights that are finite numbers", path=source.path, remedy=SOUND)
    return Fingerprint(
        about=about(source, anatomy, kept, vectors, left, level, key),
        matrices=_matrix_table(kept, key),
        vectors=_vector_table(vectors),
        experts=expert_table([(m.piece.place, m.singles) for m in kept if m.singles is not None]),
    )


def read_as_probe(source: Source, key: Key = PUBLIC_KEY) -> None:
    """Read what level probe looks at, in one thread, and keep nothing: for a source whose bytes are noted, not read."""
    anatomy = anatomy_of(source)
    for piece in anatomy.pieces:
        whole = [(number, 0, view.rows) for number, view in enumerate(piece.views)]
        small = is_small(source, piece)
        sampled = [(block.expert, block.start, block.stop) for block in measure.sampled_blocks(piece, key)]
        for number, start, stop in whole if small or _is_vector(piece) else sampled:
            values.read_stored(source, piece.views[number], start, stop)
    index_tables(source, anatomy)


def _is_vector(piece: Piece) -> bool:
    return piece.is_vector or piece.place.family in READ_WHOLE


@cache
def _loaded_libraries() -> ThreadpoolController:
    """What multiplies in threads of its own: found once, for many small models follow each other."""
    return ThreadpoolController()


@contextmanager
def _workers(anatomy: Anatomy, threads: int | None) -> Iterator[Each]:
    """What maps work over pieces: threads, or of a small model this one, for whom starting others takes longer than the work."""
    if threads == 1 or sum(piece.parameters for piece in anatomy.pieces) <= SMALL_MODEL:
        yield map
        return
    from concurrent.futures import ThreadPoolExecutor  # which a small model does without

    with ThreadPoolExecutor(threads or min(4, os.cpu_count() or 1)) as pool:
        try:
            yield pool.map
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _measure_matrices(
    each: Each,
    source: Source,
    anatomy: Anatomy,
    key: Key,
    vectors: Sequence[VectorMeasure],
    level: str,
    progress: Progress,
    tokens: Ints | None,
) -> list[MatrixMeasure]:
    pieces = [piece for piece in anatomy.pieces if not _is_vector(piece)]
    if level == "probe":
        return list(each(lambda piece: probe_matrix(source, piece, key), pieces))
    less_one = {piece.place: gains_less_one(source, piece) for piece in anatomy.pieces if _is_vector(piece)}
    gains = {vector.place: vector.values + np.float32(less_one[vector.place]) for vector in vectors}
    unnamed = token_tables(source, anatomy)
    tables = unnamed or [piece for piece in pieces if piece.residual == "none"]
    first = {piece.place for piece in tables}
    bodies = sorted((piece for piece in pieces if piece.place not in first), key=lambda piece: (-piece.parameters, piece.place))

    def measure_table(piece: Piece) -> MatrixMeasure:
        numbers = sketch.anchor_tokens(key, piece.views[0].rows if tokens is None else len(tokens))
        anchors = numbers if tokens is None else tokens[numbers]
        return measure_matrix(source, piece, key, Frame(anchors=anchors if unnamed or _is_anchor(piece) else None), progress)

    measured = list(each(measure_table, tables))
    frames, readings = {}, None
    if unnamed:
        readings = stacked_frames([m.anchors for m in measured if m.anchors is not None], unnamed[0].views[0].rows, key)
    else:
        frames = {m.piece.place.component: _token_frame(m, key, tokens) for m in measured if m.anchors is not None}

    def measure_body(piece: Piece) -> MatrixMeasure:
        gain = gains.get(piece.reads_norm) if piece.reads_norm is not None else None
        return measure_matrix(source, piece, key, Frame(gain, frames.get(piece.place.component), readings), progress)

    measured += each(measure_body, bodies)
    return sorted(measured, key=lambda m: m.piece.place)


def _is_anchor(piece: Piece) -> bool:
    """Whether names tell that a table holds the tokens."""
    return (piece.place.family, piece.place.role, piece.residual) == ("embedding", "token", "none")


def _token_frame(table: MatrixMeasure, key: Key, tokens: Ints | None) -> Singles:
    assert table.anchors is not None
    count = table.piece.views[0].rows if tokens is None else len(tokens)
    return token_frame(table.anchors, sketch.anchor_tokens(key, count), key)


def gains_less_one(source: Source, piece: Piece) -> bool:
    """By the architecture of the piece's own component: the language model beside a vision tower may store gains otherwise."""
    config = config_of(source, piece.views[0].tensor)
    section = layouts.config_section(config, piece.place.component)
    return str(section.get("model_type", config.get("model_type", ""))) in name_tables().gains_less_one


def _half(rows: Sequence[Any], width: int) -> Any:
    return np.array(rows, dtype=np.float64).reshape(len(rows), width).astype(np.float16)


def _matrix_table(matrices: Sequence[MatrixMeasure], key: Key) -> Matrices:
    has_grams = any(m.gram.any() for m in matrices)
    has_anchored = any(m.anchored.any() for m in matrices)

    def column(kind: type[Any], pick: Callable[[MatrixMeasure], Any]) -> Any:
        return np.array([pick(m) for m in matrices], dtype=kind)

    return Matrices(
        places=tuple(m.piece.place for m in matrices),
        rows=column(np.int32, lambda m: sum(view.rows for view in m.piece.views)),
        columns=column(np.int32, lambda m: m.piece.views[0].columns),
        side=column(np.int8, lambda m: SIDES.index(m.piece.residual)),
        experts=column(np.int16, lambda m: len(m.piece.views)),
        bits=column(np.int8, lambda m: m.bits),
        mean=column(np.float32, lambda m: m.mean),
        sd=column(np.float32, lambda m: m.sd),
        zeros=column(np.float16, lambda m: m.sampled.zeros),
        distinct=column(np.float16, lambda m: m.sampled.distinct),
        seen=column(np.uint16, lambda m: min(m.statistics.seen, MOST_COUNTED)),
        kurtosis=column(np.float16, lambda m: min(m.statistics.kurtosis, LARGEST_FLOAT16)),
        column_spread=column(np.float16, lambda m: m.statistics.column_spread),
        row_spread=column(np.float16, lambda m: m.statistics.row_spread),
        spectrum=column(np.float16, lambda m: min(m.spectrum, LARGEST_FLOAT16)),
        scale=column(np.float32, lambda m: m.sampled.scale),
        probe=_half([m.sampled.probe for m in matrices], spec.PROBE_NUMBERS),
        top=column(np.int8, lambda m: sketch.top_block(key, m.piece.views[0].rows, m.piece.views[0].columns, len(m.piece.views))),
        gram=_half([m.gram if has_grams else [] for m in matrices], spec.GRAM_NUMBERS if has_grams else 0),
        anchored=_half([m.anchored if has_anchored else [] for m in matrices], spec.GRAM_NUMBERS if has_anchored else 0),
        digest=np.frombuffer(b"".join(m.digest for m in matrices), np.uint8).reshape(len(matrices), -1 if matrices else 0).copy(),
        numbers=_sums([m.digests.numbers for m in matrices if m.digests is not None], len(matrices)),
        blocks=_sums([m.digests.blocks for m in matrices if m.digests is not None], len(matrices)),
        readings=_readings(matrices),
    )


def _readings(matrices: Sequence[MatrixMeasure]) -> Any:
    """Of a model whose names tell nothing; no columns of others."""
    found = np.zeros((len(matrices), max((len(m.readings) for m in matrices if m.readings is not None), default=0)), np.int8)
    for row, m in enumerate(matrices):
        if m.readings is not None:
            found[row] = m.readings
    return found


def _sums(rows: Sequence[Any], count: int) -> Any:
    return np.array(rows, np.uint64).reshape(count, -1 if rows else 0)


def _vector_table(vectors: Sequence[VectorMeasure]) -> Vectors:
    ordered = sorted(vectors, key=lambda v: v.place)
    spread = [np.clip(quantiles(v.values, spec.QUANTILES), -LARGEST_FLOAT16, LARGEST_FLOAT16) for v in ordered]
    return Vectors(
        places=tuple(v.place for v in ordered),
        length=np.array([v.values.size for v in ordered], np.int32),
        mean=np.array([v.values.mean(dtype=np.float64) for v in ordered], np.float32),
        sd=np.array([v.values.std(dtype=np.float64) for v in ordered], np.float32),
        scale=np.array([v.scale for v in ordered], np.float32),
        sketch=_half([v.sketch for v in ordered], spec.VECTOR_NUMBERS),
        quantiles=_half(spread, spec.QUANTILES),
        constant=np.array([np.ptp(v.values) == 0 for v in ordered], np.bool_),
        digest=np.frombuffer(b"".join(v.digest for v in ordered), np.uint8).reshape(len(ordered), measure.VECTOR_DIGEST_BYTES).copy(),
    )
