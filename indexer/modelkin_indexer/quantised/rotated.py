"""Weights that were turned, group of inputs by group, before they were quantised (ConvRot): turned back.

The turn is a symmetric Hadamard matrix: a power of H4 = [[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]] / 2 (Kronecker).
Turned twice is not turned. A matrix of size 4^n is applied as n steps of H4, so it is never made.
https://github.com/Comfy-Org/comfy-kitchen (backends/eager/convrot_w4a4.py)
"""

from __future__ import annotations

import numpy as np

from modelkin_indexer.quantised.packing import Floats

H4 = np.array([[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]], np.float32) / 2


def is_size(size: int) -> bool:
    """Whether there is a turn of this size: a power of 4."""
    return size >= 4 and size & (size - 1) == 0 and size.bit_length() % 2 == 1


def turned(rows: Floats, size: int) -> Floats:
    """Each group of `size` columns turned."""
    found = rows.reshape(-1, size)
    done = 1
    while done < size:
        found = np.einsum("ab,nkbj->nkaj", H4, found.reshape(-1, size // (4 * done), 4, done), optimize=False)
        done *= 4
    turned: Floats = np.ascontiguousarray(found.reshape(rows.shape), np.float32)
    return turned
