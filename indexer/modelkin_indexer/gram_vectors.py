"""How a Gram matrix lies in a fingerprint: its upper triangle, off-diagonal numbers times the root of two."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from modelkin_indexer import spec

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
UPPER = np.triu_indices(spec.DIRECTIONS)
UPPER_WEIGHTS = np.where(UPPER[0] == UPPER[1], 1.0, np.sqrt(2.0))  # so that inner products equal those of the full matrices
LEADING_ROUNDS = 4  # double steps of the power method towards a Gram matrix' strongest direction


def upper(matrix: Floats) -> Floats:
    """The upper triangle of a symmetric matrix, so weighted that inner products equal those of the full matrices."""
    return np.asarray(matrix[UPPER] * UPPER_WEIGHTS)


def without_leading(grams: npt.NDArray[np.floating[Any]]) -> Singles:
    """Gram vectors (n, 136) without their strongest direction and, on what is left, without their isotropic part.

    One direction may be all that two Gram matrices have in common, and that is no copy: the mean row of a matrix weighs as much as all its
    other directions together where rows lean one way, and any model with the same column means has it. A copy agrees in the rest too.
    """
    full = np.zeros((len(grams), spec.DIRECTIONS, spec.DIRECTIONS), np.float32)
    full[:, UPPER[0], UPPER[1]] = full[:, UPPER[1], UPPER[0]] = grams / UPPER_WEIGHTS
    leading = np.ones((spec.DIRECTIONS, 1), np.float32)  # one start for all, so that like matrices end alike where two directions are near
    for _ in range(LEADING_ROUNDS):
        leading = full @ (full @ leading)
        leading /= np.maximum(np.linalg.norm(leading, axis=1, keepdims=True), np.float32(1e-30))
    others = np.eye(spec.DIRECTIONS, dtype=np.float32) - leading @ leading.transpose(0, 2, 1)
    left = others @ full @ others
    isotropic = np.trace(left, axis1=1, axis2=2) / np.maximum(np.trace(others, axis1=1, axis2=2), 1.0)
    left -= isotropic[:, None, None] * others
    return np.asarray(left[:, UPPER[0], UPPER[1]] * UPPER_WEIGHTS, np.float32)
