"""Coupling coefficients of the rotation group, real ones as libraries of equivariant networks keep them: made here from their formula."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[Any]


def couplings() -> Iterator[Table]:
    """One table for each triple of degrees up to 4 that couple, and some with a norm of their own."""
    for a in range(5):
        for b in range(a, 5):
            for c in range(abs(a - b), min(a + b, 4) + 1):
                if max(a, b, c) > 0 and (2 * a + 1) * (2 * b + 1) * (2 * c + 1) > 20:
                    yield real_coupling(a, b, c)


@cache
def _clebsch(a: int, b: int, c: int) -> Table:
    """<a m, b n | c k> by Racah's formula, [2a+1, 2b+1, 2c+1]."""
    f = math.factorial
    out = np.zeros((2 * a + 1, 2 * b + 1, 2 * c + 1))
    front = (2 * c + 1) * f(a + b - c) * f(a - b + c) * f(-a + b + c) / f(a + b + c + 1)
    for m in range(-a, a + 1):
        for n in range(-b, b + 1):
            k = m + n
            if abs(k) > c:
                continue
            root = math.sqrt(front * f(c + k) * f(c - k) * f(a - m) * f(a + m) * f(b - n) * f(b + n))
            total = 0.0
            for s in range(a + b - c + 1):
                below = (s, a + b - c - s, a - m - s, b + n - s, c - b + m + s, c - a - n + s)
                if min(below) >= 0:
                    total += (-1) ** s / math.prod(f(x) for x in below)
            out[m + a, n + b, k + c] = root * total
    return out


def _real(degree: int) -> Table:
    """From complex to real harmonics."""
    q = np.zeros((2 * degree + 1, 2 * degree + 1), complex)
    for m in range(-degree, 0):
        q[degree + m, degree - m], q[degree + m, degree + m] = 1 / math.sqrt(2), -1j / math.sqrt(2)
    q[degree, degree] = 1
    for m in range(1, degree + 1):
        q[degree + m, degree + m], q[degree + m, degree - m] = (-1) ** m / math.sqrt(2), 1j * (-1) ** m / math.sqrt(2)
    return (-1j) ** degree * q


def real_coupling(a: int, b: int, c: int) -> Table:
    """The real table of three degrees, of norm 1."""
    made = np.einsum("ij,kl,mn,ikn->jlm", _real(a), _real(b), np.conj(_real(c).T), _clebsch(a, b, c).astype(complex))
    real = made.real if np.abs(made.real).max() > np.abs(made.imag).max() else made.imag
    return np.asarray(real / np.linalg.norm(real))
