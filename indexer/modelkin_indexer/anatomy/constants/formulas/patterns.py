"""Tables of few values in a regular order, whatever the formula: told by how much shorter than chance they can be written down.

Numbers drawn one by one from any distribution are written k bits shorter than their entropy with a probability of 2^-k at most. Weights in
few values (ternary, 4 bits) are such draws, wherever pruning left them: neither the places of zeros nor the values in between must do so.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelkin_indexer.anatomy.constants.formulas.medians import different

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]
MOST_VALUES = 256  # of one table: a code of a byte each
FEWEST = 256  # numbers of a table, after equal lines are told once: of fewer the code's own words are longer than the numbers
MOST_NUMBERS = 1 << 14  # of a table that are written down at once
SHORTER = 0.5  # of the entropy, at most: draws need all of it, weights whose zeros stand in blocks of 8 x 8 need 0.8
SAVED = 200.0  # bits that must be saved: chance saves so many once in 10^60
HARDEST = 6  # of 9, by zlib's scale; 9 takes ten times as long


def regular(table: Floats) -> bool:
    """Whether a matrix, or a vector as one row, of few values has them in a regular order, from its first row to its last."""
    if table.size < FEWEST or different(table.flat[:MOST_VALUES]) > MOST_VALUES // 2:
        return False
    height = max(1, MOST_NUMBERS // table.shape[1])
    told = 0
    for start in range(0, len(table), height):
        lines = table[max(0, min(start, len(table) - height)) :][:height]  # the last lines are told beside those before them
        if different(lines) > MOST_VALUES:
            return False
        lines = _once(_once(lines).T).T if min(lines.shape) > 1 else lines
        if lines.size >= FEWEST:
            if not _shorter(lines):
                return False
            told += 1
    return told > 0


def _shorter(lines: Floats) -> bool:
    """Whether the places of the most common value, and all others in their order, can be written down much shorter than chance gives."""
    values, codes = np.unique(lines, return_inverse=True)
    codes = codes.reshape(lines.shape).astype(np.uint8)
    common = np.bincount(codes.ravel(), minlength=len(values)).argmax()
    orders = (codes,) if 1 in codes.shape else (codes, codes.T)
    needed, used = _bits([(one != common).astype(np.uint8) for one in orders])
    if used > SHORTER * needed:
        return False
    further, spent = _bits([one[one != common] for one in orders])
    return needed + further - used - spent >= SAVED and spent <= SHORTER * further


def _once(lines: Floats) -> Floats:
    """Lines that stand there several times once, in their order: repeated heads and rows are no pattern of their values."""
    _, first = np.unique(lines, axis=0, return_index=True)
    return lines[np.sort(first)]


def _bits(orders: Sequence[Codes]) -> tuple[float, float]:
    """Entropy of codes, drawn one by one, and what the shortest of their orders takes when written down, beyond as many equal codes."""
    codes = orders[0]
    counts = np.bincount(codes.ravel()).astype(float)
    share = counts[counts > 0] / max(codes.size, 1)
    needed = float(-(share * np.log2(share)).sum() * codes.size)
    return needed, min(map(_written, orders)) - _written(np.zeros_like(codes)) if needed else 0.0


def _written(codes: Codes) -> float:
    code = zlib.compressobj(HARDEST, wbits=-zlib.MAX_WBITS)
    return 8.0 * (len(code.compress(np.ascontiguousarray(codes).tobytes())) + len(code.flush()))
