"""Rows to search by that depend on no name and no layer: what a copy under other names is found by.

A model's tensors without their names are a set. What each of them is becomes signs; the sum over the set is the row, and the cosine of two
rows is about the share of tensors that both have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from modelkin_indexer import sketch, spec
from modelkin_indexer.results.fingerprint import Fingerprint, Matrices
from modelkin_registry.store.rows import IndexRows

Floats = npt.NDArray[np.float64]
SHAPED, CONTENTS = "shaped", "contents"
EVERYTHING = "all"  # stands for the component: which tensor is of which, only names tell
CONTENT_NUMBERS = 192  # of the contents row: its noise is 0.07, and a vote takes a third of the tensors
MOST_DIGESTS = 4096  # of one model, the smallest: two mixtures with the same experts keep the same ones
FEWEST_NUMBERS = 64  # a tensor of fewer numbers may be equal by chance or by default


def nameless_rows(fingerprint: Fingerprint) -> list[IndexRows]:
    """What a model is found by whatever its tensors are called.

    shaped    probe sketches, each with the signs of its shape, summed up: finds renamed copies and what was trained on from them
    contents  digests of values: finds equal tensors in another order or turned round too (level full; at level probe only vectors)
    """
    found = ((SHAPED, _shaped(fingerprint.matrices)), (CONTENTS, _contents(fingerprint)))
    return [IndexRows(kind, EVERYTHING, (-1,), sketch.unit(row)[0].astype(np.float32)[None, :]) for kind, row in found if row.any()]


def _shaped(table: Matrices) -> Floats:
    shapes = list(zip(table.rows.tolist(), table.columns.tolist(), table.experts.tolist(), strict=True))
    telling = np.flatnonzero((table.sd > 0) & (table.parameters >= FEWEST_NUMBERS)).tolist()
    groups: dict[tuple[int, int, int], list[int]] = {}
    for row in telling:
        groups.setdefault(shapes[row], []).append(row)
    sums = np.array([table.probe[rows].astype(np.float64).sum(axis=0) for rows in groups.values()]).reshape(-1, spec.PROBE_NUMBERS)
    return np.asarray((sums * _signs([f"shape {list(shape)}".encode() for shape in groups], spec.PROBE_NUMBERS)).sum(axis=0))


def _contents(fingerprint: Fingerprint) -> Floats:
    digests = sorted(set(_digests(fingerprint)))[:MOST_DIGESTS]
    return np.asarray(_signs(digests, CONTENT_NUMBERS).sum(axis=0, dtype=np.float64))


def _digests(fingerprint: Fingerprint) -> Iterator[bytes]:
    """Both sums of every matrix, which a turn exchanges; those of single experts, which others store one by one; and vectors'."""
    table, vectors, experts = fingerprint.matrices, fingerprint.vectors, fingerprint.experts
    large = (table.sd > 0) & (table.parameters >= FEWEST_NUMBERS)
    for number in (*table.numbers[large].ravel().tolist(), *experts.numbers.ravel().tolist()):
        if number:
            yield number.to_bytes(8, "little")
    varied = ~vectors.constant.astype(bool) & (vectors.length >= FEWEST_NUMBERS)
    for digest in vectors.digest[varied]:
        yield b"vector" + digest.tobytes()


def _signs(names: Sequence[bytes], count: int) -> npt.NDArray[np.int8]:
    """±1 (names, count), each row a pure function of a name."""
    size = count // 8
    bits = b"".join([hashlib.blake2b(name, digest_size=size, person=b"modelkin search").digest() for name in names])
    return np.unpackbits(np.frombuffer(bits, np.uint8)).astype(np.int8).reshape(-1, count) * 2 - 1
