"""Tables that anybody computes from a formula, as published models keep them: kind -> some of its forms, with names where they are met.

Each maker gives a list of arrays of one kind with other sizes and settings. `benchmarks.truth.fixed_tables` disguises them (turned,
scaled, cast, flattened) and asks the indexer whether it knows them for what they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common.coupling_tables import couplings

Table = npt.NDArray[Any]
Maker = Callable[[], Iterable[Table]]
MAKERS: dict[str, Maker] = {"coupling coefficients": couplings}


def kind(name: str) -> Callable[[Maker], Maker]:
    """Registers a maker under the name of its kind."""

    def take(maker: Maker) -> Maker:
        MAKERS[name] = maker
        return maker

    return take


def frequencies(d: int, base: float, spacing: int | None = None) -> Table:
    return base ** (-np.arange(d) / (spacing or d))


def waves(positions: Table, f: Table, layout: str) -> Table:
    angles = np.outer(positions, f)
    s, c = np.sin(angles), np.cos(angles)
    if layout == "interleaved":
        return np.stack([s, c], -1).reshape(len(positions), -1)
    return np.concatenate([s, c] if layout == "halves" else [c, s], 1)


@kind("sinusoidal positions")
def positions() -> Iterable[Table]:
    for n, d, base in ((512, 128, 1e4), (200, 64, 500.0), (1500, 96, 1e4), (64, 32, 1e2), (77, 256, 1e5)):
        for layout in ("interleaved", "halves", "cos first"):
            yield waves(np.arange(n), frequencies(d // 2, base), layout)
    yield waves(np.arange(300), frequencies(64, 1e4, 63), "halves")
    yield np.concatenate([np.zeros((2, 128)), waves(np.arange(2, 300), frequencies(64, 1e4, 63), "halves")])
    yield waves(np.arange(400)[::-1], frequencies(48, 1e4), "interleaved")
    yield waves(np.arange(200) - 99.5, frequencies(48, 1e4), "halves")
    yield waves(4 * np.arange(256), frequencies(64, 1e4), "halves")


@kind("sinusoidal positions, each channel a frequency")
def doubled() -> Iterable[Table]:
    for n, d, base in ((512, 128, 1e4), (100, 64, 1e4), (800, 48, 1e3)):
        i = np.arange(d)
        angles = np.arange(n)[:, None] / base ** (2 * i / d)
        yield np.where(i % 2 == 0, np.sin(angles), np.cos(angles))


@kind("positions on a grid")
def grids() -> Iterable[Table]:
    for rows, columns, d, extra in ((16, 16, 128, 1), (14, 14, 96, 0), (12, 20, 64, 0), (32, 32, 64, 1), (7, 7, 128, 0)):
        y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        one, two = (waves(p.ravel(), frequencies(d // 4, 1e4), "halves") for p in (y, x))
        yield np.concatenate([np.zeros((extra, d)), np.concatenate([one, two], 1)])
    t, y, x = np.meshgrid(np.arange(4), np.arange(8), np.arange(8), indexing="ij")
    yield np.concatenate([waves(p.ravel(), frequencies(16, 1e4), "interleaved") for p in (t, y, x)], 1)
    y, x = np.meshgrid((np.arange(24) + 1) / 24 * 2 * np.pi, (np.arange(24) + 1) / 24 * 2 * np.pi, indexing="ij")
    yield np.concatenate([waves(p.ravel(), frequencies(32, 1e4), "interleaved") for p in (y, x)], 1)


@kind("Fourier features of a grid")
def features() -> Iterable[Table]:
    for n, bands, top in ((224, 32, 112.0), (128, 10, 0.0)):
        x = np.linspace(-1, 1, n)
        f = np.linspace(1, top, bands) if top else 2.0 ** np.arange(bands)
        yield np.concatenate([x[:, None], np.sin(np.pi * np.outer(x, f)), np.cos(np.pi * np.outer(x, f))], 1)


@kind("rotary tables")
def rotary() -> Iterable[Table]:
    for n, d, base in ((256, 64, 1e4), (2048, 128, 5e5), (512, 80, 1e6), (577, 64, 1e2)):
        a = np.outer(np.arange(n), frequencies(d // 2, base))
        yield np.cos(np.concatenate([a, a], 1))
        yield np.sin(a)
        yield np.stack([np.cos(np.concatenate([a, a], 1)), np.sin(np.concatenate([a, a], 1))])
        yield np.stack([np.cos(a), np.sin(a)], -1)
        yield np.repeat(np.cos(a), 2, axis=1)
    f = frequencies(64, 5e5)
    f = np.where(2 * np.pi / f > 8192, f / 8, np.where(2 * np.pi / f < 2048, f, f / 3))
    yield np.cos(np.outer(np.arange(512), f))
    y, x = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
    yield np.cos(np.concatenate([np.outer(p.ravel(), frequencies(16, 1e2)) for p in (y, x)], 1))


@kind("rotary frequencies")
def inverse_frequencies() -> Iterable[Table]:
    for d, base in ((32, 1e4), (64, 5e5), (16, 1e4), (48, 1e6), (64, 100.0)):
        yield frequencies(d, base)
    f = frequencies(64, 5e5)
    smooth = np.clip((8192 / (2 * np.pi / f) - 1) / 3, 0, 1)
    yield (1 - smooth) * f / 8 + smooth * f


def windows(name: str, n: int) -> Table:
    t = np.arange(n)
    made = {
        "hann": np.hanning(n + 1)[:-1],
        "symmetric hann": np.hanning(n),
        "hamming": np.hamming(n + 1)[:-1],
        "blackman": np.blackman(n + 1)[:-1],
        "bartlett": np.bartlett(n),
        "none": np.ones(n),
        "root hann": np.sqrt(np.hanning(n + 1)[:-1]),
        "kaiser": np.kaiser(n, 9.0),
        "sine": np.sin(np.pi * (t + 0.5) / n),
        "gauss": np.exp(-0.5 * ((t - (n - 1) / 2) / (n / 6)) ** 2),
        "povey": np.hanning(n) ** 0.85,
    }
    return np.asarray(made[name])


@kind("windows")
def window_vectors() -> Iterable[Table]:
    names = ("hann", "symmetric hann", "hamming", "blackman", "bartlett", "root hann", "kaiser", "sine", "povey")
    yield from (windows(name, n) for name, n in product(names, (400, 64)))
    yield windows("hann", 512)[None, None]
    yield np.pad(windows("hann", 400), 56)


@kind("Fourier bases")
def stft() -> Iterable[Table]:
    for n, name in (
        *((512, "hann"), (400, "hann"), (256, "hamming"), (320, "blackman")),
        *((128, "none"), (256, "symmetric hann"), (200, "root hann")),
    ):
        k = np.outer(np.arange(n // 2 + 1), np.arange(n)) * 2 * np.pi / n
        w = windows(name, n)
        real, imag = np.cos(k) * w, -np.sin(k) * w
        yield np.concatenate([real, imag])[:, None]
        yield real[:, None]
        yield imag
        yield np.stack([real, imag], 1).reshape(-1, 1, n)
    n, k = 512, np.outer(np.arange(257), np.arange(512)) * 2 * np.pi / 512
    yield np.concatenate([np.cos(k), np.sin(k)])[:, None] * np.pad(windows("hann", 400), 56)
    full = np.outer(np.arange(96), np.arange(96)) * 2 * np.pi / 96
    yield (np.cos(full) + np.sin(full)) / math.sqrt(96)


@kind("inverse Fourier bases")
def istft() -> Iterable[Table]:
    for n, name in ((400, "hann"), (256, "hamming"), (320, "root hann")):
        k = np.outer(np.arange(n // 2 + 1), np.arange(n)) * 2 * np.pi / n
        both = np.concatenate([np.cos(k), -np.sin(k)]) * windows(name, n)
        yield both.T / n * 2
        yield both[:, None] / n * 2


@kind("cosine transforms")
def dct() -> Iterable[Table]:
    for n, k in ((128, 40), (80, 13), (64, 64), (40, 20), (256, 256)):
        t = np.cos(np.pi / n * (np.arange(n)[:, None] + 0.5) * np.arange(k)) * math.sqrt(2 / n)
        t[:, 0] *= math.sqrt(0.5)
        yield t
        yield t.T


@kind("sine transforms")
def dst() -> Iterable[Table]:
    for n in (64, 100):
        yield np.sin(np.pi / (n + 1) * np.outer(np.arange(1, n + 1), np.arange(1, n + 1)))


@kind("lapped transforms")
def lapped() -> Iterable[Table]:
    for n in (64, 128):
        yield np.cos(np.pi / n * (np.arange(2 * n)[None] + 0.5 + n / 2) * (np.arange(n)[:, None] + 0.5)) * windows("sine", 2 * n)


def mel_points(scale: str, low: float, high: float, count: int) -> Table:
    if scale == "htk":
        at = np.linspace(2595 * np.log10(1 + low / 700), 2595 * np.log10(1 + high / 700), count)
        return 700 * (10 ** (at / 2595) - 1)
    if scale == "slaney":
        ends = [f * 3 / 200 if f < 1000 else 15 + np.log(f / 1000) / np.log(6.4) * 27 for f in (low, high)]
        at = np.linspace(*ends, count)
        return np.where(at < 15, at * 200 / 3, 1000 * np.exp((at - 15) * np.log(6.4) / 27))
    if scale == "bark":
        ends = [6 * np.arcsinh(f / 600) for f in (low, high)]
        return 600 * np.sinh(np.linspace(*ends, count) / 6)
    return np.linspace(low, high, count)


def triangles(bins: int, bands: int, rate: float, scale: str, area: bool, low: float = 0.0, high: float | None = None) -> Table:
    f, hz = np.linspace(0, rate / 2, bins), mel_points(scale, low, high or rate / 2, bands + 2)
    slope = hz[None] - f[:, None]
    m = np.maximum(0, np.minimum(-slope[:, :-2] / np.diff(hz)[:-1], slope[:, 2:] / np.diff(hz)[1:]))
    return m * 2 / (hz[2:] - hz[:-2]) if area else m


@kind("mel filters")
def mel() -> Iterable[Table]:
    for bins, bands, rate, scale, area in (
        *((257, 64, 16000.0, "htk", False), (201, 80, 16000.0, "slaney", True), (513, 80, 22050.0, "slaney", True)),
        *((1025, 128, 44100.0, "htk", False), (201, 128, 16000.0, "slaney", True)),
    ):
        m = triangles(bins, bands, rate, scale, area)
        yield m
        yield m.T[None]
    yield triangles(257, 80, 16000.0, "htk", False, 20.0, 7600.0)
    centres = np.linspace(1127 * np.log(1 + 20 / 700), 1127 * np.log(1 + 8000 / 700), 82)
    bins = 1127 * np.log(1 + np.linspace(0, 8000, 257) / 700)
    up, down = (bins[:, None] - centres[:-2]) / np.diff(centres)[:-1], (centres[2:] - bins[:, None]) / np.diff(centres)[1:]
    yield np.maximum(0, np.minimum(up, down))


@kind("Bark and linear filters")
def bark() -> Iterable[Table]:
    yield triangles(257, 40, 8000.0, "bark", False)
    yield triangles(129, 20, 16000.0, "linear", False).T


@kind("logarithms of filters")
def logarithms() -> Iterable[Table]:
    yield np.log(triangles(257, 64, 32000.0, "slaney", True, 50.0, 14000.0) + 1e-3)
    yield np.log(triangles(201, 80, 16000.0, "htk", False) + 1e-5).T


@kind("distances smeared over centres")
def smear() -> Iterable[Table]:
    for n, m, top in ((128, 64, 8.0), (300, 50, 6.0), (256, 16, 5.0)):
        d, c = np.linspace(0, top, n)[:, None], np.linspace(0, top, m)
        yield np.exp(-((d - c) ** 2) / (2 * (top / m) ** 2))
        yield np.exp(-10.0 * (d - c) ** 2).T


@kind("bell-shaped filters")
def bells() -> Iterable[Table]:
    f = np.linspace(0, 8000, 257)[None]
    for count, width in ((40, 0.108), (24, 0.2)):
        centre = mel_points("bark", 50, 7500, count)[:, None]
        yield 1 / (1 + ((f - centre) / (24.7 + width * centre)) ** 2) ** 2


@kind("constant-Q kernels")
def constant_q() -> Iterable[Table]:
    for n, length, octave in ((84, 512, 12), (48, 1024, 24)):
        k = np.zeros((n, length))
        for i in range(n):
            f = 0.006 * 2 ** (i / octave)
            m = int(min(length, 15 / f))
            x = np.arange(m) - m / 2
            k[i, length // 2 - m // 2 : length // 2 - m // 2 + m] = np.cos(2 * math.pi * f * x) * np.hanning(m) / m
        yield k[:, None]


@kind("Gabor and sinc filters")
def gabor() -> Iterable[Table]:
    t = np.arange(-200, 201)
    f = mel_points("htk", 60, 7800, 40)[:, None] / 16000
    yield (np.cos(2 * np.pi * f * t) * np.exp(-0.5 * (t * f / 3.0) ** 2))[:, None]
    yield (2 * 1.3 * f * np.sinc(2 * 1.3 * f * t) - 2 * f * np.sinc(2 * f * t))[:, None] * np.hamming(401)


@kind("filter banks of one prototype")
def pqmf() -> Iterable[Table]:
    for bands, taps in ((4, 62), (8, 126), (16, 256)):
        t = np.arange(taps + 1)
        prototype = np.sinc((t - taps / 2) * 0.57 / bands) * 0.57 / bands * np.kaiser(taps + 1, 9.0)
        k = np.arange(bands)[:, None]
        yield (2 * prototype * np.cos((2 * k + 1) * np.pi / (2 * bands) * (t - taps / 2) + (-1.0) ** k * np.pi / 4))[:, None]


@kind("resampling filters")
def resampling() -> Iterable[Table]:
    for new, old in ((160, 147), (2, 1), (3, 2), (1, 3)):
        width = math.ceil(6 * old / (min(new, old) * 0.99))
        t = np.arange(-width, width + old)[None] / old - np.arange(new)[:, None] / new
        t = np.clip(t * min(new, old) * 0.99, -6, 6)
        yield (np.cos(t * np.pi / 12) ** 2 * np.sinc(t) * min(new, old) * 0.99 / old)[:, None]
    for up in (2, 4):
        yield np.broadcast_to(np.kaiser(12, 4.66) * np.sinc((np.arange(12) - 5.5) / up), (64, 1, 12)).copy()
