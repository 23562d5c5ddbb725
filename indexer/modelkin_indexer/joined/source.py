"""A source whose matrices are stored as two tensors each, seen as one with whole matrices.

Only the fewest models are stored so, and what computes the same as a known model may be: a matrix as two factors, of which one may be any
invertible one, or cut into two. Where names and shapes leave no choice, products are multiplied out and halves put together; else the parts
stay what they are, tensors of names that nobody knows, which are compared with nothing.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from modelkin_indexer.anatomy import layouts
from modelkin_indexer.joined.forms import COLUMNS, PRODUCT, ROWS, form_of, shape_as
from modelkin_indexer.joined.pairs import Matrices, Pair, matrices_of
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised.parts import Parts, Plain
from modelkin_indexer.quantised.source import Counted, QuantisedSource, plain_source
from modelkin_indexer.source import Source

Floats = npt.NDArray[np.float32]
MOST_HELD = 1 << 26  # numbers of a factor, which is held whole while its product is read: 512 MB of double precision
# A product's numbers for one that is stored, at most: a factor of rank 32 in a width of 4,096 has 64. Else a file of megabytes would stand
# for trillions of numbers.
MOST_GROWTH = 64
WORDS = {ROWS: "cut into two tensors; they are read joined", COLUMNS: "cut into two tensors; they are read joined"}
PRODUCTS = "stored as products of two tensors; they are read multiplied out"


class JoinedSource(QuantisedSource):
    """See `Source` for the attributes; closing it closes the source it was made from. `joined`: names of the matrices put together."""

    joined: tuple[str, ...] = ()


def matrices_presented(source: Source) -> Source:
    """The source with whole matrices, or as it is where none is stored as two. Raises SourceError; the source is closed then."""
    matrices = matrices_of(source.tensors, source.config)
    form = form_of(matrices, _widths(matrices, source.tensors, source.config)) if matrices is not None else None
    if matrices is None or form is None:
        return source
    pairs = [pair for pair in matrices.pairs if form in WORDS or _is_readable(pair, form)]
    if not pairs:
        return source
    try:
        counted = Counted(source)
        parts = Parts(counted)
        plains = [_joined(parts, pair, form) for pair in pairs]
        found = plain_source(JoinedSource, counted, plains, quantization=source.quantization)
    except BaseException:
        source.close()
        raise
    found.joined = tuple(sorted(plain.name for plain in plains))
    found.notes += (f"{len(plains)} matrices are {WORDS.get(form, PRODUCTS)}.",)
    return found


def _widths(matrices: Matrices, tensors: Mapping[str, TensorInfo], config: Mapping[str, Any]) -> dict[str, int]:
    """Widths of the residual streams: by the config, else the length that most vectors have."""
    lengths = Counter(info.shape[0] for info in tensors.values() if len(info.shape) == 1)
    most = max(lengths, key=lambda length: (lengths[length], length), default=None)
    found = {component: layouts.config_hidden(config, component) or most for component, _ in matrices.layers}
    return {component: width for component, width in found.items() if width}


def _joined(parts: Parts, pair: Pair, form: str) -> Plain:
    shape = shape_as(form, pair)
    assert shape is not None
    if form == ROWS:
        cut = pair.shapes[0][0]

        def rows(start: int, stop: int) -> Floats:
            first = parts.rows(pair.parts[0], min(start, cut), min(stop, cut))
            return np.concatenate([first, parts.rows(pair.parts[1], max(start - cut, 0), max(stop - cut, 0))])
    elif form == COLUMNS:

        def rows(start: int, stop: int) -> Floats:
            return np.hstack([parts.rows(part, start, stop) for part in pair.parts])
    else:
        inner, outer = pair.parts if form == PRODUCT else pair.parts[::-1]
        rows = _Product(parts, outer, inner).rows
    return Plain(pair.matrix, shape, "", pair.parts, rows)


class _Product:
    """Rows of a product: those of the outer factor times the inner one, which each thread holds while it asks for this product."""

    _held = threading.local()

    def __init__(self, parts: Parts, outer: str, inner: str) -> None:
        self._parts, self._outer, self._inner = parts, outer, inner

    def rows(self, start: int, stop: int) -> Floats:
        outer = self._parts.rows(self._outer, start, stop).astype(np.float64)
        return np.asarray(outer @ self._whole(), np.float32)  # rounded once, so that the order of the sums hardly shows

    def _whole(self) -> npt.NDArray[np.float64]:
        if getattr(self._held, "of", None) is not self:
            info = self._parts.tensors[self._inner]
            self._held.of, self._held.factor = self, self._parts.rows(self._inner, 0, info.shape[0]).astype(np.float64)
        return np.asarray(self._held.factor)


def _is_readable(pair: Pair, form: str) -> bool:
    """Whether the factor that reads the input can be held, and the product stands for no more than a file may."""
    shape = shape_as(form, pair)
    assert shape is not None
    sizes = [rows * columns for rows, columns in pair.shapes]
    return sizes[0 if form == PRODUCT else 1] <= MOST_HELD and shape[0] * shape[1] <= MOST_GROWTH * sum(sizes)
