"""Tables by formulas that no kind of the indexer's list was made for: whether what is said of tables holds beyond the list.

`HELD_OUT` is a list of its own: nothing in the indexer was fitted to these kinds, and no test asks that they are told for tables. Held
against each other in unrelated models they must show no relation (benchmarks/truth/shared_tables.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import interpolate, signal, special

from benchmarks.common.table_kinds import Maker

Table = npt.NDArray[Any]
HELD_OUT: dict[str, Maker] = {}


def kind(name: str) -> Maker:
    """Registers a maker under the name of its kind."""

    def take(maker: Maker) -> Maker:
        HELD_OUT[name] = maker
        return maker

    return take  # type: ignore[return-value]


@kind("radial Bessel functions")
def radial() -> Iterable[Table]:
    for count, points, cutoff in ((16, 200, 5.0), (32, 96, 8.0)):
        r, n = np.linspace(0.05, cutoff, points)[:, None], np.arange(1, count + 1)
        yield np.sin(n * np.pi * r / cutoff) / r
    yield special.jv(np.arange(24)[:, None], np.linspace(0, 30, 160))


@kind("spherical harmonics on points")
def harmonics() -> Iterable[Table]:
    for count in (64, 200):
        i = np.arange(count)
        z, phi = 1 - (2 * i + 1) / count, i * np.pi * (3 - math.sqrt(5))
        columns = []
        for degree in range(6):
            for order in range(-degree, degree + 1):
                legendre = special.lpmv(abs(order), degree, z)
                columns.append(legendre * (np.cos(order * phi) if order >= 0 else np.sin(-order * phi)))
        made = np.stack(columns, 1)
        yield made / np.linalg.norm(made, axis=0)


@kind("points on a sphere")
def sphere() -> Iterable[Table]:
    for count in (128, 500):
        i = np.arange(count)
        z, phi = 1 - (2 * i + 1) / count, i * np.pi * (3 - math.sqrt(5))
        rim = np.sqrt(1 - z**2)
        yield np.stack([rim * np.cos(phi), rim * np.sin(phi), z], 1)


@kind("cosine blocks of pictures")
def jpeg() -> Iterable[Table]:
    for side in (8, 4):
        row = np.cos(np.pi / side * (np.arange(side) + 0.5) * np.arange(side)[:, None])
        yield np.einsum("ux,vy->uvxy", row, row).reshape(side * side, 1, side, side)


@kind("differentiating kernels of least squares")
def savitzky() -> Iterable[Table]:
    for taps, degree in ((11, 3), (25, 4), (9, 2)):
        yield np.stack([signal.savgol_coeffs(taps, degree, deriv=order) for order in range(degree)])[:, None].repeat(4, 0)


@kind("Hermite and Laguerre functions")
def hermite() -> Iterable[Table]:
    x = np.linspace(-7, 7, 120)
    yield np.stack([special.eval_hermite(n, x) * np.exp(-(x**2) / 2) / math.sqrt(2.0**n * math.factorial(n)) for n in range(24)])
    y = np.linspace(0, 40, 96)
    yield np.stack([special.eval_laguerre(n, y) * np.exp(-y / 2) for n in range(16)], 1)


@kind("Zernike polynomials")
def zernike() -> Iterable[Table]:
    y, x = np.meshgrid(np.linspace(-1, 1, 24), np.linspace(-1, 1, 24), indexing="ij")
    rho, phi, found = np.hypot(x, y), np.arctan2(y, x), []
    for n in range(7):
        for m in range(-n, n + 1, 2):
            a = abs(m)
            sizes = (math.comb(n - k, k) * math.comb(n - 2 * k, (n - a) // 2 - k) for k in range((n - a) // 2 + 1))
            terms = ((-1) ** k * size * rho ** (n - 2 * k) for k, size in enumerate(sizes))
            found.append(np.where(rho <= 1, sum(terms) * (np.cos(m * phi) if m >= 0 else np.sin(a * phi)), 0))
    yield np.stack(found)


@kind("gammatone filters")
def gammatone() -> Iterable[Table]:
    t = np.arange(400) / 16000
    f = np.geomspace(80, 7000, 48)[:, None]
    yield (t**3 * np.exp(-2 * np.pi * 1.019 * (24.7 + 0.108 * f) * t) * np.cos(2 * np.pi * f * t))[:, None] * 1e8


@kind("scattering wavelets")
def morlet() -> Iterable[Table]:
    y, x = np.meshgrid(np.arange(15) - 7, np.arange(15) - 7, indexing="ij")
    bank = []
    for scale in (1.2, 2.0, 3.2):
        for angle in np.arange(8) * np.pi / 8:
            u = x * np.cos(angle) + y * np.sin(angle)
            envelope = np.exp(-(x**2 + y**2) / (2 * scale**2))
            wave = np.cos(2.4 * u / scale)
            bank.append(envelope * (wave - (envelope * wave).sum() / envelope.sum()))
    yield np.stack(bank)[:, None]
    yield np.stack(bank[:8])[:, None].repeat(3, 1)


@kind("neighbours on a grid")
def adjacency() -> Iterable[Table]:
    for rows, columns in ((8, 8), (5, 12)):
        y, x = np.divmod(np.arange(rows * columns), columns)
        near = ((np.abs(y[:, None] - y) + np.abs(x[:, None] - x)) <= 1).astype(float)
        root = 1 / np.sqrt(near.sum(1))
        yield near * root[:, None] * root
        yield np.linalg.matrix_power(near, 2) / np.linalg.matrix_power(near, 2).sum(1, keepdims=True)


@kind("neighbours in a skeleton")
def skeleton() -> Iterable[Table]:
    parents = [1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 22, 7, 24, 11]
    near = np.zeros((3, 25, 25))
    near[0] = np.eye(25)
    for joint, parent in enumerate(parents):
        near[1, joint, parent] = near[2, parent, joint] = 1
    yield near / np.maximum(near.sum(1, keepdims=True), 1)


@kind("splines")
def splines() -> Iterable[Table]:
    for count, degree, points in ((12, 3, 100), (24, 2, 64)):
        knots = np.arange(count + degree + 1) - degree / 1.0
        x = np.linspace(knots[degree], knots[count] - 1e-6, points)
        yield interpolate.BSpline.design_matrix(x, knots, degree).toarray()
    yield np.broadcast_to(np.arange(-3, 9) * 0.4 - 1, (64, 12)).copy()


@kind("memory matrices of translation and waves")
def memories() -> Iterable[Table]:
    n = np.arange(64)
    yield np.where(n[:, None] < n, (-1.0) ** (n[:, None] - n), 1.0) * np.sqrt(np.outer(2 * n + 1, 2 * n + 1))
    pairs = np.zeros((64, 64))
    for k in range(32):
        pairs[2 * k, 2 * k + 1], pairs[2 * k + 1, 2 * k] = -2 * np.pi * k, 2 * np.pi * k
    yield pairs - 2 * np.outer(n % 2 == 0, n % 2 == 0)


@kind("tapers of the sphere")
def slepian() -> Iterable[Table]:
    yield signal.windows.dpss(256, 4, 7)
    yield signal.windows.dpss(400, 2.5, 4).T
    yield np.stack([signal.windows.tukey(256, a) for a in (0.1, 0.25, 0.5, 0.9)])


@kind("tables of a codec")
def companding() -> Iterable[Table]:
    x = np.linspace(-1, 1, 256)
    yield np.sign(x) * ((1 + 255) ** np.abs(x) - 1) / 255
    s = np.arange(256) / 255
    yield np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)
    yield special.ndtri(np.linspace(0.02, 0.98, 64))


@kind("conversions of colour")
def colours() -> Iterable[Table]:
    yuv = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    yield yuv
    yield yuv[:, :, None, None]
    yield np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])


@kind("nodes and weights of quadrature")
def quadrature() -> Iterable[Table]:
    yield np.stack(np.polynomial.legendre.leggauss(64), 1)
    yield np.stack(np.polynomial.hermite.hermgauss(40))
    yield np.cos(np.pi * (np.arange(32)[:, None] + 0.5) / 32 * np.ones((1, 16)))


@kind("fractional delays and shifts")
def delays() -> Iterable[Table]:
    t = np.arange(32) - 15.5
    yield (np.sinc(t - np.linspace(-0.5, 0.5, 64)[:, None]) * np.kaiser(32, 8.0))[:, None]


@kind("rotations of pixels")
def rotations() -> Iterable[Table]:
    a = np.arange(24) * 2 * np.pi / 24
    c, s, one = np.cos(a), np.sin(a), np.zeros(24)
    yield np.stack([np.stack([c, -s, one], 1), np.stack([s, c, one], 1)], 1)


@kind("timesteps on a curve of noise")
def timesteps() -> Iterable[Table]:
    t = np.linspace(1, 0, 1000)
    yield 3.0 * t / (1 + 2.0 * t)
    yield np.log(np.tan(np.pi / 2 * np.linspace(0.01, 0.99, 128)))
    yield np.stack([np.exp(-0.5 * t**2 * 19.9 - 0.1 * t), np.sqrt(1 - np.exp(-(t**2) * 19.9 - 0.2 * t))], 1)


@kind("binary codes of numbers")
def codes() -> Iterable[Table]:
    for bits, count in ((8, 256), (6, 64)):
        number = np.arange(count)[:, None] >> np.arange(bits)
        yield (number & 1).astype(float)
        gray = (np.arange(count) ^ (np.arange(count) >> 1))[:, None] >> np.arange(bits)
        yield 2.0 * (gray & 1) - 1


@kind("incidence of pairs")
def incidence() -> Iterable[Table]:
    for count in (16, 24):
        pairs = [(i, j) for i in range(count) for j in range(i)]
        made = np.zeros((len(pairs), count))
        for row, (i, j) in enumerate(pairs):
            made[row, i], made[row, j] = 1, -1
        yield made


@kind("binomials and residues")
def binomials() -> Iterable[Table]:
    n = np.arange(48)
    yield special.comb(n[:, None], n) % 2
    residues = {x * x % 61 for x in range(1, 61)}
    yield np.array([[1.0 if (i - j) % 61 in residues else -1.0 for j in range(61)] for i in range(61)])
    yield special.comb(np.arange(12)[:, None], np.arange(12))


@kind("filters as circulant matrices")
def circulant() -> Iterable[Table]:
    for n in (64, 120):
        taps = np.zeros(n)
        taps[:5] = [0.1, 0.24, 0.32, 0.24, 0.1]
        yield np.stack([np.roll(taps, i - 2) for i in range(n)])
        taps[:9] = np.random.RandomState(0).randn(9).round(2)
        yield np.stack([np.roll(taps, i) for i in range(n)])


@kind("walks of a board")
def walks() -> Iterable[Table]:
    for side in (8, 11):
        y, x = np.divmod(np.arange(side * side), side)
        dy, dx = np.abs(y[:, None] - y), np.abs(x[:, None] - x)
        yield (((dy == 1) & (dx == 2)) | ((dy == 2) & (dx == 1))).astype(float)
        yield np.maximum(dy, dx).astype(np.int64)
        yield np.hypot(dy, dx)
