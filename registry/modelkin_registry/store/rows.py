"""Rows to search by: what a revision of a model contributes to the vector index, and how each kind of row is stored and scored."""

from __future__ import annotations

import hashlib
import re
import zlib
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Array = npt.NDArray[Any]
ROW = np.dtype([("revision", "<i8"), ("component", "<i2"), ("layer", "<i2")])  # what an indexed row is of

CODE_BITS = 256  # bits of a sign code: a copy at cosine 0.4 is still among the nearest 1000 of a million strangers (infra trial)
CODES_PREFIX = "layer/"  # kinds that are stored as sign codes: many rows a model, so 32 bytes a row
UNIT_TOLERANCE = 1e-2  # how far from 1 a row's length may be: float16 sketches are off by up to 1e-3
MAX_DIMS = 1 << 14  # a row longer than this is a mistake, not a sketch
COMPONENT_PATTERN = re.compile(r"[a-z][a-z0-9_.-]{0,31}")
SCORE_OF_DISTANCE = np.cos(np.pi * np.arange(CODE_BITS + 1) / CODE_BITS).astype(np.float32)  # Charikar 2002: P(bit differs) = angle / pi


class IndexRows(Struct, frozen=True):
    """Rows of one kind and component of one revision.

    kind     names the vector space, e.g. `sum/attention` or `layer/mlp`; kinds that start with `layer/` are kept as sign codes
    layers   one per row; -1 for rows that stand for a whole component
    rows     float32 (n, d), unit length; rows of zeros say nothing and are not kept
    """

    kind: str
    component: str
    layers: tuple[int, ...]
    rows: npt.NDArray[np.float32]


class EncodedRows(Struct, frozen=True):
    """IndexRows as stored: `layers` int16 little endian, `data` uint8 (n, row_bytes(kind, dims))."""

    kind: str
    component: str
    dims: int
    layers: Array
    data: Array


class TableRows(Struct, frozen=True, dict=True):
    """Rows of one kind: `revisions` int64 (n,), `components` int16 codes (n,), `layers` int16 (n,), `data` uint8 (n, row_bytes)."""

    revisions: Array
    components: Array
    layers: Array
    data: Array

    @cached_property
    def numbers(self) -> Array:
        """The rows float32 (n, d), of kinds that are not kept as codes; made once, since a small table is asked by every query."""
        return numbers(self.data)

    def __len__(self) -> int:
        return len(self.revisions)

    def of(self, chosen: Array) -> TableRows:
        """The rows that are chosen: bool (n,)."""
        return TableRows(self.revisions[chosen], self.components[chosen], self.layers[chosen], self.data[chosen])

    def labels(self) -> Array:
        """Each row's revision, component and layer as an array of ROW."""
        labels = np.empty(len(self), ROW)
        labels["revision"], labels["component"], labels["layer"] = self.revisions, self.components, self.layers
        return labels


def checksum(*values: object) -> int:
    """What tells a damaged row from the one that was stored."""
    found = 0
    for value in values:
        found = zlib.crc32(value if isinstance(value, bytes) else f"{value!r} ".encode(errors="replace"), found)
    return found


def is_codes(kind: str) -> bool:
    """Whether rows of this kind are kept as sign codes instead of float16 numbers."""
    return kind.startswith(CODES_PREFIX)


def row_bytes(kind: str, dims: int) -> int:
    """Bytes of one stored row."""
    return CODE_BITS // 8 if is_codes(kind) else 2 * dims


def encode(rows: IndexRows) -> EncodedRows:
    """The stored form, rows of zeros left out.

    Raises:
        ValueError: not unit rows of finite numbers, one a layer, or a kind or component that cannot be a name.
    """
    values = np.asarray(rows.rows, np.float32)
    _check(rows, values)
    keep = np.any(values != 0, axis=1)
    layers = np.asarray(rows.layers, "<i2")[keep]
    return EncodedRows(rows.kind, rows.component, values.shape[1], layers, stored(rows.kind, values[keep]))


def _check(rows: IndexRows, values: Array) -> None:
    where = f"rows of kind {rows.kind!r}, component {rows.component!r}"
    if not rows.kind.isprintable() or not rows.kind or not COMPONENT_PATTERN.fullmatch(rows.component):
        raise ValueError(f"{where}: a kind is printable text and a component a short lower-case word")
    if values.ndim != 2 or values.shape[0] != len(rows.layers) or not 0 < values.shape[1] <= MAX_DIMS:
        raise ValueError(f"{where}: shape {values.shape} for {len(rows.layers)} layers")
    lengths = np.linalg.norm(values.astype(np.float64), axis=1)
    if not np.all((lengths == 0) | (np.abs(lengths - 1) <= UNIT_TOLERANCE)):  # NaN fails too
        raise ValueError(f"{where}: rows must be unit vectors or zero")


def stored(kind: str, values: Array) -> Array:
    """Rows float (n, d) as uint8 (n, row_bytes): sign codes, or float16 little endian."""
    if is_codes(kind):
        return sign_codes(values)
    return np.ascontiguousarray(values, "<f2").view(np.uint8).reshape(len(values), -1)


def numbers(data: Array) -> Array:
    """Stored float16 rows as float32 (n, d)."""
    return np.ascontiguousarray(data).view("<f2").astype(np.float32)


def sign_codes(values: Array) -> Array:
    """Signs of CODE_BITS fixed projections: float (n, d) -> uint8 (n, CODE_BITS / 8).

    Rounded to float16 first and summed in float64, so that the code of a stored sketch is the same on every machine. Without BLAS: it
    takes several threads for so small a product and then waits for them, 30 ms instead of 1 on a busy machine.
    """
    rounded = np.asarray(values, np.float16).astype(np.float64)
    return np.packbits(np.einsum("nd,db->nb", rounded, projection(rounded.shape[1])) > 0, axis=1)


@cache
def projection(dims: int) -> Array:
    """The fixed signs (dims, CODE_BITS), a pure function of the number of dimensions."""
    stream = hashlib.shake_256(f"modelkin sign codes 1, {dims} numbers".encode()).digest(dims * CODE_BITS // 8)
    signs = np.unpackbits(np.frombuffer(stream, np.uint8)).reshape(dims, CODE_BITS).astype(np.float64) * 2 - 1
    signs.setflags(write=False)
    return signs


def hamming(queries: Array, codes: Array) -> Array:
    """Differing bits of codes uint8 (q, bytes) and (n, bytes): int16 (q, n)."""
    words, wanted = (np.ascontiguousarray(side).view(np.uint64) for side in (codes, queries))
    columns = np.ascontiguousarray(words.T)
    different = np.empty((len(wanted), len(words)), np.int16)
    for number, query in enumerate(wanted):
        np.add.reduce(np.bitwise_count(columns ^ query[:, None]), axis=0, dtype=np.int16, out=different[number])
    return different
