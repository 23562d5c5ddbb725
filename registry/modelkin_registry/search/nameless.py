"""Rows to search by that depend on no name and no layer: what a copy under other names is found by.

A model's tensors without their names are a set. What each of them is becomes signs; the sum over the set is the row, and the cosine of two
rows is about the share of tensors that both have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

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
    telling = (table.sd > 0) & (table.parameters >= FEWEST_NUMBERS)
    shapes, group = np.unique(np.column_stack([table.rows, table.columns, table.experts])[telling], axis=0, return_inverse=True)
    sums = np.zeros((len(shapes), spec.PROBE_NUMBERS))
    np.add.at(sums, group.reshape(-1), table.probe[telling].astype(np.float64))
    signs = [_signs(f"shape {shape}".encode(), spec.PROBE_NUMBERS) for shape in shapes.tolist()]
    return np.asarray((sums * np.array(signs).reshape(sums.shape)).sum(axis=0))


def _contents(fingerprint: Fingerprint) -> Floats:
    digests = sorted(set(_digests(fingerprint)))[:MOST_DIGESTS]
    signs = np.array([_signs(digest, CONTENT_NUMBERS) for digest in digests], np.int8).reshape(-1, CONTENT_NUMBERS)
    return np.asarray(signs.sum(axis=0, dtype=np.float64))


def _digests(fingerprint: Fingerprint) -> Iterator[bytes]:
    """Both sums of every matrix, which a turn exchanges; those of single experts, which others store one by one; and vectors'."""
    table, vectors, experts = fingerprint.matrices, fingerprint.vectors, fingerprint.experts
    large = (table.sd > 0) & (table.parameters >= FEWEST_NUMBERS)
    for number in (*table.numbers[large].ravel().tolist(), *experts.numbers.ravel().tolist()):
        if number:
            yield int(number).to_bytes(8, "little")
    varied = ~vectors.constant.astype(bool) & (vectors.length >= FEWEST_NUMBERS)
    for digest in vectors.digest[varied]:
        yield b"vector" + digest.tobytes()


def _signs(name: bytes, count: int) -> npt.NDArray[np.int8]:
    """±1 (count,), a pure function of a name."""
    bits = hashlib.blake2b(name, digest_size=count // 8, person=b"modelkin search").digest()
    return np.unpackbits(np.frombuffer(bits, np.uint8)).astype(np.int8) * 2 - 1
