"""Tables of waves: positions, rotary tables, Fourier and cosine bases, whatever their base, spacing, scale, order or window.

A plain wave of any frequency and phase obeys x[t - s] + x[t + s] = 2 cos(w s) x[t] for every step s, so one number a line is fitted and
all the others are predicted. A windowed wave has its energy in a few neighbouring bins. Learned lines do neither, not to this precision.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelkin_indexer.anatomy.constants.formulas.medians import different, median, medians
from modelkin_indexer.anatomy.constants.formulas.rounding import Rounding

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
SILENCE = 1e-9  # energy beside the largest line's below which a line is zeros: rounding of sin(pi n) leaves 1e-14
OFF = 1e-3  # share of a line's energy that the recurrence may leave: half precision leaves 2e-6, noise of 1 % 3e-4, normal numbers 0.3
FAINT = 0.1  # of the middle line's energy: what fainter lines are off by is measured against
JUMPS = 0.05  # of a line's predictions that are passed over: where cosines end and sines begin, or padding
TURNS = 1.9  # |2 cos w| below which a line has turned: above it, it is nearly straight, as anything smooth is
MOST = 0.97  # of the lines must be waves: a table may have a column of its own (a class token, a coordinate)
TURNING = 0.05  # of the lines, and ...
FEWEST_TURNING = 3  # ... as many at least must have turned
SHORTEST = 12  # of a line: 10 predictions from one fitted number
WINDOW = 4  # rows one after the other: 2 predictions a column
FIRST = 8  # windows that are tried before all
WINDOWS = 0.5  # of these must follow: on a grid of side 7 three in seven go over the edge
FEWEST_COLUMNS = 12  # of a window: by chance 1 in 70 random columns obeys, so 12 do once in 1e22
SURELY = 4.0  # times the energy of silence from which a line's spectrum is none either: the two sums differ by a factor of 2 at most
SPECTRUM = 48  # shortest line whose bins tell anything: 9 of 25 are looked at
NEAR = 4  # bins to each side of the strongest that a window may spread a wave over (Hann 1, Blackman 2, symmetric ones more)
LEFT = 3e-3  # share of the energy that may lie elsewhere: symmetric windows 1e-3; trained narrow filters (DNSMOS, wav2vec): 0.05 and more
BAND = 0.15  # of all bins to each side that a filter may pass, ...
STOPPED = 1e-6  # ... if this share of the energy at most lies elsewhere: a filter made for 60 dB; training leaves noise at 20 dB
WIDEST = 0.3  # of the bins that may be looked at to each side of a short kernel's
TOLD = 0.4  # of the lines must be long enough to tell
DIFFERENT = 0.4  # of the lines have frequencies of their own: learned smooth tables crowd in the lowest bins
CIRCLES = 64  # pairs looked at, at least
FIRST_PAIRS = 16  # that are looked at before all
ROUND = 2e-2  # what a pair's length may be off
SPREAD = 0.15  # standard deviation of the cosines' sizes: signs of one size lie on circles too


def plain_waves(lines: Floats) -> bool:
    """Whether these lines (lines, length) are waves, one frequency and phase each."""
    energy = (lines**2).sum(axis=1)
    live = energy > SILENCE * energy.max(initial=0)
    length = lines.shape[1]
    if length < SHORTEST or live.sum() < FEWEST_TURNING:
        return False
    lines = lines[live]
    obeys, turned = np.ones(len(lines), bool), np.zeros(len(lines), bool)
    step = 1
    while 2 * step <= length - SHORTEST // 2 and not turned.all():
        cosine, left = _recurrence(lines[:, : -2 * step], lines[:, step:-step], lines[:, 2 * step :])
        obeys &= turned | (left <= OFF)
        turned |= np.abs(cosine) <= TURNS
        if obeys.mean() < MOST:
            return False
        step *= 2
    return _enough(obeys, turned & obeys)


def stepping_waves(rows: Floats, numbers: Ints) -> bool:
    """Whether columns are waves from row to row, as far as rows whose `numbers` follow each other show."""
    windows = [at for at in range(0, len(rows) - WINDOW + 1, WINDOW) if numbers[at + WINDOW - 1] - numbers[at] == WINDOW - 1]
    if not windows or rows.shape[1] < FEWEST_COLUMNS:
        return False
    tried = _windows([rows[at : at + WINDOW] for at in windows[:: max(1, len(windows) // FIRST)]])
    if np.mean(tried) < WINDOWS / 2:
        return False
    return float(np.mean([_window(rows[at : at + WINDOW]) for at in windows])) >= WINDOWS


def _windows(some: Sequence[Floats]) -> Sequence[bool]:
    """`_window` of each, in one go where no column is silent."""
    rows = np.stack(some)
    energy = (rows**2).sum(axis=1)
    if not (energy > SILENCE * energy.max(axis=1, keepdims=True)).all():
        return [_window(window) for window in some]
    cosine, left = _recurrence(rows[:, :-2], rows[:, 1:-1], rows[:, 2:])
    obeys = left <= OFF
    return [_enough(line, line & turned) for line, turned in zip(obeys, np.abs(cosine) <= TURNS, strict=True)]


def _window(rows: Floats) -> bool:
    energy = (rows**2).sum(axis=0)
    live = energy > SILENCE * energy.max(initial=0)
    if live.sum() < FEWEST_COLUMNS:
        return False
    columns = rows if live.all() else rows[:, live]
    cosine, left = _recurrence(columns[:-2], columns[1:-1], columns[2:], axis=0)
    obeys = left <= OFF
    return _enough(obeys, obeys & (np.abs(cosine) <= TURNS))


def _recurrence(before: Floats, here: Floats, after: Floats, axis: int = 1) -> tuple[Floats, Floats]:
    """The fitted 2 cos w of each line along an axis, and the share of its energy that it does not predict, but for a few jumps.

    Where no line obeys, the share is what is left at least: as many of the largest as may be jumps are not looked for.
    """
    both = before + after
    own = (here**2).sum(axis=axis)
    with np.errstate(all="ignore"):
        cosine = np.where(own > 0, (both * here).sum(axis=axis) / own, 0.0)
        off = (both - np.expand_dims(cosine, axis) * here) ** 2
        size = (both**2).sum(axis=axis) + own
        size += FAINT * (median(size) if size.ndim == 1 else medians(size)[:, None])
        missed, jumps = off.sum(axis=axis), int(JUMPS * off.shape[axis])
        if jumps:
            least = missed - jumps * off.max(axis=axis)
            missed = least if (least > OFF * size).all() else _but_jumps(off, (both != 0) | (here != 0))
        left = missed / size
    return cosine, np.where(np.isfinite(left), left, 0.0)


def _but_jumps(missed: Floats, written: Bools) -> Floats:
    """The sum of each line without its largest few: as many as are JUMPS of what is not zeros alone."""
    jumps = (JUMPS * written.sum(axis=1)).astype(np.int64)
    if not jumps.any():
        return np.asarray(missed.sum(axis=1))
    if (jumps == jumps[0]).all():
        kept = missed.shape[1] - int(jumps[0])
        return np.asarray(np.partition(missed, kept, axis=1)[:, :kept].sum(axis=1))
    sums = np.cumsum(np.sort(missed, axis=1), axis=1)
    return np.asarray(sums[np.arange(len(sums)), missed.shape[1] - 1 - jumps])


def _enough(obeys: Bools, turned: Bools) -> bool:
    return bool(obeys.mean() >= MOST and turned.sum() >= max(FEWEST_TURNING, TURNING * len(obeys)))


def windowed_waves(lines: Floats, error: Rounding) -> bool:
    """Whether each of these lines is one wave under a window, and most have frequencies of their own."""
    if lines.shape[1] < SPECTRUM or _begin_without_windows(lines, error):
        return False
    power = _power(lines)
    total = power.sum(axis=1)
    live = total > SILENCE * total.max(initial=0)
    if live.sum() < 2:
        return False
    reach = _reach(lines)
    told = live & (reach <= WIDEST * power.shape[1])
    if told.sum() < max(2, TOLD * live.sum()):
        return False
    peaks = power[told].argmax(axis=1)
    waves = _in_few_bins(power[told], reach[told], error)
    return bool(waves.mean() >= MOST and different(peaks) / len(peaks) >= DIFFERENT and median(peaks) > NEAR)


def _begin_without_windows(lines: Floats, error: Rounding) -> bool:
    """Whether so many of the first lines are loud and no waves that the others need not be looked at."""
    first = lines[: 1 + int((1 - MOST) * len(lines))]
    energy = (lines**2).sum(axis=1)
    loud = (energy[: len(first)] > SURELY * SILENCE * energy.max(initial=0)).all()
    if not loud:
        return False
    power, reach = _power(first), _reach(first)
    return bool((reach <= WIDEST * power.shape[1]).all() and not _in_few_bins(power, reach, error).any())


def _power(lines: Floats) -> Floats:
    power = np.abs(np.fft.rfft(lines, axis=1)) ** 2
    power[:, 1:-1] *= 2  # the same wave at the negative frequency
    return np.asarray(power)


def _reach(lines: Floats) -> Floats:
    """Bins to each side that a window may spread a wave over: a shorter kernel is spread over more."""
    return np.asarray(np.ceil(NEAR * lines.shape[1] / np.maximum(_support(lines), 1)))


def _in_few_bins(power: Floats, reach: Floats, error: Rounding) -> Bools:
    """Which lines have their energy in a few neighbouring bins."""
    bins, total = power.shape[1], power.sum(axis=1)
    away = np.abs(np.arange(bins) - power.argmax(axis=1)[:, None])
    off, far = (np.where(away > limit, power, 0.0).sum(axis=1) / total for limit in (reach[:, None], BAND * bins))
    return np.asarray((off <= LEFT) | (far <= STOPPED + error.relative**2))


def _support(lines: Floats) -> Ints:
    """Numbers of each line from its first to its last that is not zero."""
    written = lines != 0
    support: Ints = lines.shape[1] - written.argmax(axis=1) - written[:, ::-1].argmax(axis=1)
    return support


def on_circles(rows: Floats) -> bool:
    """Whether columns are pairs of a cosine and a sine of one size: beside each other, in halves, or in halves of halves."""
    columns = rows.shape[1]
    if columns % 2 or rows.size < 2 * CIRCLES or columns < 2 * FEWEST_TURNING:
        return False
    written = rows[rows.any(axis=1)]
    if not len(written):
        return False
    halves = written.reshape(len(written), 2, columns // 2)
    pairs = [(written[:, ::2], written[:, 1::2]), (halves[:, 0], halves[:, 1])]
    if columns % 4 == 0:
        quarters = written.reshape(len(written), 2, 2, columns // 4)
        pairs.append((quarters[:, :, 0], quarters[:, :, 1]))
    return any(_round(a, b) for a, b in pairs)


def _round(a: Floats, b: Floats) -> bool:
    largest = max(float(np.abs(a[0]).max(initial=0)), float(np.abs(b[0]).max(initial=0)))
    if np.ptp(np.hypot(a[0, :FIRST_PAIRS], b[0, :FIRST_PAIRS])) > 4 * ROUND * largest:  # no size is larger than twice the largest number
        return False
    size = np.hypot(a[0], b[0])
    if np.ptp(size) > 2 * ROUND * size.max(initial=0):
        return False
    size = np.hypot(a, b)
    whole = median(size) if size.size else 0.0
    if whole <= 0 or np.abs(size / whole - 1).max() > ROUND:
        return False
    share = np.abs(a).ravel() / whole
    return bool(share.std() >= SPREAD and different(share.round(3)) > CIRCLES // 8)
