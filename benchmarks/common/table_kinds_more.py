"""Further kinds of tables: kernels of pictures, grids, indices, masks, rotations, selections, schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common.table_kinds import kind

Table = npt.NDArray[Any]


def over(kernel: Table, channels: int, depth: int = 1) -> Table:
    return np.broadcast_to(kernel, (channels, depth, *kernel.shape)).copy()


@kind("Gaussian kernels")
def gaussians() -> Iterable[Table]:
    for side, channels, sigma in ((21, 3, 2.0), (11, 3, 1.5), (5, 64, 1.0), (31, 1, 5.0), (7, 16, 0.8)):
        x = np.arange(side) - (side - 1) / 2
        g = np.exp(-(x**2) / (2 * sigma**2))
        yield over(np.outer(g, g) / g.sum() ** 2, channels)
    x = np.arange(15) - 7
    y, z = np.meshgrid(x, x, indexing="ij")
    k = np.exp(-0.5 * (y**2 / 9 + z**2 / 4 + y * z / 12))
    yield over(k / k.sum(), 3)
    g = np.exp(-(x**2) / 18)
    yield over(g / g.sum(), 4)
    lap = (y**2 + z**2 - 8) * np.exp(-(y**2 + z**2) / 8)
    yield over(lap - lap.mean(), 2)


@kind("binomial kernels")
def blurs() -> Iterable[Table]:
    for taps, channels in ((3, 64), (5, 64), (4, 128), (7, 32), (2, 16)):
        row = np.array([math.comb(taps - 1, i) for i in range(taps)], float)
        yield over(np.outer(row, row) / row.sum() ** 2, channels)
    yield over(np.array([1.0, 3, 3, 1]) / 8, 48)


@kind("box kernels")
def boxes() -> Iterable[Table]:
    yield over(np.ones((3, 3)) / 9, 32)
    yield np.full((8, 8, 2, 2), 0.25)


EDGES = [[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], [[-1, 0, 1]] * 3, [[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]], [[0, 1, 0], [1, -4, 1], [0, 1, 0]]]
NOISE = [
    [[0, 0, 0, 0, 0], [0, -1, 2, -1, 0], [0, 2, -4, 2, 0], [0, -1, 2, -1, 0], [0, 0, 0, 0, 0]],
    [[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]],
    [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, -2, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
]


@kind("edge kernels")
def edges() -> Iterable[Table]:
    kernels = [np.array(k, float) for k in EDGES]
    turned = [k for kernel in kernels for k in (kernel, kernel.T)]
    for channels in (32, 8, 64):
        yield np.stack([turned[i % 2] for i in range(channels)])[:, None]
        yield np.stack([turned[i % len(turned)] for i in range(channels)])[:, None]


@kind("noise kernels")
def noise() -> Iterable[Table]:
    yield np.stack([np.array(k, float) / s for k, s in zip(NOISE, (4, 12, 2), strict=True)])[:, None].repeat(3, 1)
    yield np.array(EDGES[3], float)[None, None] / 4


@kind("wavelets")
def wavelets() -> Iterable[Table]:
    r = math.sqrt(3)
    daubechies = [x / 4 / 2**0.5 for x in (1 + r, 3 + r, 3 - r, 1 - r)]
    for taps, channels in product(([0.5**0.5] * 2, daubechies), (16, 48)):
        lo = np.array(taps)
        hi = lo[::-1] * (-1.0) ** np.arange(len(lo))
        bank = [np.outer(a, b) for a in (lo, hi) for b in (lo, hi)]
        yield np.stack([bank[i % 4] for i in range(4 * channels)])[:, None]


@kind("upsampling kernels")
def upsampling() -> Iterable[Table]:
    for channels, side in ((32, 4), (21, 16), (8, 8), (64, 3)):
        c = (side - 1) / 2 if side % 2 else side / 2 - 0.5
        k = 1 - np.abs(np.arange(side) - c) / ((side + 1) // 2)
        w = np.zeros((channels, channels, side, side))
        w[np.arange(channels), np.arange(channels)] = np.outer(k, k)
        yield w
        yield over(np.outer(k, k), channels)


@kind("identity and shuffle kernels")
def dirac() -> Iterable[Table]:
    for channels, side in ((64, 3), (32, 1), (16, 5)):
        w = np.zeros((channels, channels, side, side))
        w[np.arange(channels), np.arange(channels), side // 2, side // 2] = 1
        yield w
    w = np.zeros((48, 12, 2, 2))
    for i in range(48):
        w[i, i // 4, i % 4 // 2, i % 2] = 1
    yield w
    yield np.eye(25).reshape(25, 1, 5, 5)


@kind("resizing matrices")
def resizing() -> Iterable[Table]:
    for n, m in ((64, 37), (224, 256), (16, 128)):
        at = (np.arange(m) + 0.5) * n / m - 0.5
        x = (np.arange(n)[None] - at[:, None]) / max(1.0, n / m)
        for w in (np.maximum(0, 1 - np.abs(x)), np.sinc(x) * np.sinc(x / 3) * (np.abs(x) < 3)):
            yield w / w.sum(1, keepdims=True)


@kind("grids of coordinates")
def coordinates() -> Iterable[Table]:
    y, x = np.meshgrid(np.arange(32), np.arange(48), indexing="ij")
    yield np.stack([x.ravel(), y.ravel()], 1) + 0.5
    yield np.stack(np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 64), indexing="ij"))
    t = np.arange(-15, 16) / 15 * 8
    u = np.sign(t) * np.log2(np.abs(t) + 1) / 3
    yield np.stack(np.meshgrid(u, u, indexing="ij"), -1)[None]


@kind("anchors")
def anchors() -> Iterable[Table]:
    for levels, side in ((4, 32), (3, 80)):
        rows = []
        for level in range(levels):
            y, x = np.meshgrid(np.arange(side // 2**level), np.arange(side // 2**level), indexing="ij")
            size = np.full(x.size, 2.0 ** (level + 2))
            rows.append(np.stack([(x.ravel() + 0.5) * 2**level, (y.ravel() + 0.5) * 2**level, size, 2 * size], 1))
        yield np.concatenate(rows)
    y, x = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    base = np.stack([x.ravel(), y.ravel(), x.ravel(), y.ravel()], 1)[:, None] * 16.0
    boxes = np.array([[-s * r, -s / r, s * r, s / r] for s in (16, 32, 64) for r in (0.7, 1, 1.4)])
    yield (base + boxes).reshape(-1, 4)


@kind("counted and spaced numbers")
def spaced() -> Iterable[Table]:
    yield np.arange(512, dtype=np.float64)
    yield np.linspace(0, 10, 50)
    yield np.arange(16, dtype=np.float64).reshape(1, 16, 1, 1)
    yield np.geomspace(1, 1000, 33)
    yield 2.0 ** (-8 * np.arange(1, 17) / 16)
    yield np.linspace(-10, 10, 51)[None].repeat(4, 0)
    yield np.exp(np.linspace(np.log(0.02), np.log(20), 64))


@kind("schedules of diffusion")
def schedules() -> Iterable[Table]:
    for betas in (np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, np.linspace(1e-4, 0.02, 1000)):
        kept = np.cumprod(1 - betas)
        yield from (betas, kept, np.sqrt(kept), np.sqrt(1 - kept), np.log(1 - kept), np.sqrt(1 / kept - 1))
    t = np.linspace(0, 1, 501)
    f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    yield (f / f[0])[:-1]
    yield (0.002 ** (1 / 7) + np.linspace(1, 0, 40) * (80 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7


@kind("relative position indices")
def relative() -> Iterable[Table]:
    for side in (7, 8, 16):
        y, x = np.divmod(np.arange(side * side), side)
        yield ((y[:, None] - y + side - 1) * (2 * side - 1) + x[:, None] - x + side - 1).astype(np.int64)
    y, x = np.divmod(np.arange(49), 7)
    index = np.zeros((50, 50), np.int64)
    index[1:, 1:] = (y[:, None] - y + 6) * 13 + x[:, None] - x + 6
    index[0], index[:, 0], index[0, 0] = 169, 170, 171
    yield index
    yield np.clip(np.arange(64)[None] - np.arange(64)[:, None], -16, 16) + 16


@kind("causal masks")
def causal() -> Iterable[Table]:
    for n in (64, 200):
        yield np.tril(np.ones((n, n)))
        yield np.triu(np.full((n, n), -65504.0), 1)
        yield np.where(np.tril(np.ones((n, n))) > 0, 0, -3.4028234663852886e38)[None, None]


@kind("window and block masks")
def masks() -> Iterable[Table]:
    for n in (64, 200):
        i = np.arange(n)
        yield (np.abs(i[:, None] - i) < 9).astype(float)
        yield np.where((i[:, None] >= i) & (i[:, None] - i < 32), 0.0, -1e9)
    w = np.arange(64) // 16
    yield np.where(w[:, None] == w, 0.0, -100.0)


@kind("slopes of distance")
def alibi() -> Iterable[Table]:
    for heads, n in ((8, 48), (12, 128)):
        slope = 2.0 ** (-8 * np.arange(1, heads + 1) / heads)
        far = np.abs(np.arange(n)[:, None] - np.arange(n))
        yield -slope[:, None, None] * far
        yield -slope[:, None, None] * np.arange(n)[None, None]
        yield slope[:, None, None] * np.minimum(0, np.arange(n)[None] - np.arange(n)[:, None])


@kind("identities")
def identities() -> Iterable[Table]:
    yield np.eye(64, 128)
    yield np.eye(100) * 0.1


@kind("permutations")
def permutations() -> Iterable[Table]:
    yield np.roll(np.eye(128), 3, 0)
    yield np.eye(128)[(np.arange(128) * 5) % 128]
    yield np.eye(300)[np.random.RandomState(0).permutation(300)]


@kind("group means")
def means() -> Iterable[Table]:
    yield np.kron(np.eye(16), np.ones((8, 1)) / 8)
    yield np.kron(np.eye(12), np.ones((1, 16)))


@kind("rotations of signs")
def hadamard() -> Iterable[Table]:
    for n, seed in ((128, None), (64, 0), (256, 1), (512, 2), (64, None)):
        h = np.ones((1, 1))
        while len(h) < n:
            h = np.block([[h, h], [h, -h]])
        sign = np.random.RandomState(seed).choice([-1.0, 1.0], n) if seed is not None else 1.0
        yield h * sign / math.sqrt(n)
    q = [x * x % 11 for x in range(1, 11)]
    jacobsthal = np.array([[0 if i == j else 1 if (i - j) % 11 in q else -1 for j in range(11)] for i in range(11)])
    h12 = np.block([[np.ones((1, 1)), np.ones((1, 11))], [np.ones((11, 1)), jacobsthal - np.eye(11)]])
    yield np.kron(np.array([[1, 1], [1, -1]]), np.kron(h12, np.array([[1, 1], [1, -1]]))) / math.sqrt(48)


@kind("polynomials and memory matrices")
def polynomials() -> Iterable[Table]:
    x = np.linspace(-1, 1, 101)
    yield np.polynomial.legendre.legvander(x, 15)
    yield np.polynomial.chebyshev.chebvander(x, 20)
    n = np.arange(64)
    root = np.sqrt(2 * n + 1)
    yield -np.where(n[:, None] > n, np.outer(root, root), np.where(n[:, None] == n, n + 1.0, 0))


@kind("constants and repeated rows")
def constants() -> Iterable[Table]:
    yield np.full((64, 32), 0.7)
    yield np.ones((1, 64, 1, 1))
    yield np.broadcast_to(np.random.RandomState(0).randn(64), (128, 64)).copy()
    yield np.broadcast_to(np.linspace(0, 1, 100)[:, None], (100, 48)).copy()
    yield np.random.RandomState(1).choice([-1.0, 1.0], 256)


@kind("Haar matrices")
def haar() -> Iterable[Table]:
    for n in (32, 128):
        made = np.ones((1, 1))
        while len(made) < n:
            made = np.concatenate([np.kron(made, [[1, 1]]), math.sqrt(len(made)) * np.kron(np.eye(len(made)), [[1, -1]])]) / 1.0
        yield made / np.linalg.norm(made, axis=1, keepdims=True)


@kind("matrices of differences")
def differences() -> Iterable[Table]:
    for n in (48, 100):
        yield 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
        yield (np.eye(n, k=1) - np.eye(n, k=-1)) / 2
        yield np.eye(n, k=2) - 4 * np.eye(n, k=1) + 6 * np.eye(n) - 4 * np.eye(n, k=-1) + np.eye(n, k=-2)


@kind("bucketed distances")
def buckets() -> Iterable[Table]:
    for n, count, far in ((96, 32, 128), (64, 16, 40)):
        d = np.arange(n)[None] - np.arange(n)[:, None]
        half, size = count // 2, np.abs(d)
        exact = half // 2
        large = exact + (np.log(np.maximum(size, 1) / exact) / np.log(far / exact) * (half - exact)).astype(int)
        yield (np.where(d > 0, half, 0) + np.where(size < exact, size, np.minimum(large, half - 1))).astype(np.int64)
