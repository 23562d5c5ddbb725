"""Rows to search by of a model whose names tell nothing, in other coordinates: its readings in the slots of the roles that shapes allow.

Where several roles have one shape, the sum of their matrices stands in the slot of each: half of what is looked for, and still far above
chance. A wrong guess finds nothing, and what is found is looked at closer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from modelkin_indexer import sketch, spec
from modelkin_indexer.results.fingerprint import Fingerprint, Matrices
from modelkin_registry.store.rows import IndexRows

Floats = npt.NDArray[np.float64]
Sums = Mapping[int, Floats]  # length of the side that does not face the stream -> sum of unit vectors (136,)


def reading_rows(fingerprint: Fingerprint, slots: Mapping[str, Sequence[str]]) -> list[IndexRows]:
    """One row for each table that may hold the tokens and each family that shapes tell; none of a model with names."""
    table = fingerprint.matrices
    if not table.readings.shape[1]:
        return []
    vectors = table.readings.reshape(len(table), -1, 2, spec.GRAM_NUMBERS).astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=3, keepdims=True)
    vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    found = []
    for number in range(vectors.shape[1]):
        reads, writes = (_sums(table, vectors[:, number, axis], axis) for axis in (0, 1))
        for family, roles in _families(reads, writes):
            row = np.concatenate([roles.get(slot, np.zeros(spec.GRAM_NUMBERS)) for slot in slots[family]])
            found.append(IndexRows(f"anchored/{family}", f"reading-{number}", (-1,), sketch.unit(row)[0].astype(np.float32)[None, :]))
    return found


def _sums(table: Matrices, vectors: Floats, axis: int) -> Sums:
    """Readings along one axis, summed up by the length of the other side."""
    found: dict[int, Floats] = {}
    other = (table.rows, table.columns)[axis]
    for row in np.flatnonzero(vectors.any(axis=1)).tolist():
        found[int(other[row])] = found.get(int(other[row]), np.zeros(spec.GRAM_NUMBERS)) + vectors[row]
    return found


def _families(reads: Sums, writes: Sums) -> Iterator[tuple[str, Mapping[str, Floats]]]:
    """The longest side that the stream is written from is the MLP's, the next one the heads'; what else reads it are keys and values."""
    lengths = sorted((length for length in writes if length in reads), reverse=True)
    if lengths:
        both = reads[lengths[0]] / 2
        yield "mlp", {"gate": both, "up": both, "down": writes[lengths[0]]}
    if len(lengths) > 1:
        queries, others = reads[lengths[1]], [reads[length] for length in reads if length not in writes]
        keys = sum(others, np.zeros(spec.GRAM_NUMBERS)) / 2 if others else queries / 3
        yield "attention", {"q": queries if others else keys, "k": keys, "v": keys, "o": writes[lengths[1]]}
