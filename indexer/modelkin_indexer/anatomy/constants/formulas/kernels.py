"""Small kernels that a formula gives: blurs, edges, wavelets, upsampling, resampling: the same few in all channels, or mirror images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelkin_indexer.anatomy.constants.formulas.rounding import Rounding

Floats = npt.NDArray[np.float64]
LARGEST = 4096  # numbers of one kernel
FEW = 16  # different kernels, at most, of a table that repeats them
REPEATED = 3  # times that each stands there on the average, at least
FEWEST_KERNELS = 8  # written kernels of a table that repeats them
MIRRORED = 1e-4  # of the kernel's largest number: what an exact mirror image may be off, beside rounding
IMAGE = 1e-6  # of a line's energy: the same of a whole line
FEWEST_NUMBERS = 9  # of a kernel whose mirror image says anything: 3 x 3
FIRST = 4  # lines that are tried before all
MOST_LINES = 1024  # each is held against all


def repeated(kernels: Floats) -> bool:
    """Whether a table (kernels, numbers) holds the same few kernels over and over; zeros in between count for nothing."""
    written = kernels[kernels.any(axis=1)]
    if len(written) < FEWEST_KERNELS or not 2 <= kernels.shape[1] <= LARGEST:
        return False
    if len({row.tobytes() for row in written[: 4 * FEW]}) > FEW:
        return False
    different = {row.tobytes(): row for row in written}
    if len(different) > FEW or len(written) < REPEATED * len(different):
        return False
    sizes = np.unique(np.abs(written[: 4 * FEW]))
    return len(sizes) > 2 or _told_by_signs(np.array(list(different.values())))


def _told_by_signs(kernels: Floats) -> bool:
    """Whether different kernels of one size of numbers (and zeros) are few beside what signs allow, or orthogonal as Haar's are."""
    products = kernels @ kernels.T
    apart = np.abs(products - np.diag(np.diag(products))).max() <= MIRRORED * products.max()
    return bool(kernels.shape[1] >= FEWEST_NUMBERS and len(kernels) <= FEW // 4) or (kernels.shape[1] >= 4 and bool(apart))


def mirrored(kernels: Floats, error: Rounding) -> bool:
    """Whether every kernel (kernels, rows, columns) is its own mirror image, or its negative, along both axes."""
    written = kernels[kernels.any(axis=(1, 2))]
    if not len(written) or not FEWEST_NUMBERS <= written[0].size <= LARGEST or min(written.shape[1:]) < 2:
        return False
    largest = np.abs(written).max(axis=(1, 2), keepdims=True)
    slack = MIRRORED * largest + 2 * error.of(largest)
    for axis in (1, 2):
        turned = np.flip(written, axis)
        even, odd = (np.abs(written - turned) <= slack).all(axis=(1, 2)), (np.abs(written + turned) <= slack).all(axis=(1, 2))
        if not (even | odd).all():
            return False
    return bool((np.ptp(written, axis=(1, 2)) > 0).any())


def mirror_images(lines: Floats, error: Rounding) -> bool:
    """Whether the mirror image of every line, zeros at its ends left out, is a line of the table too, or its negative."""
    live = lines[lines.any(axis=1)]
    if not 0 < len(live) <= MOST_LINES or not FEWEST_NUMBERS <= lines.shape[1] <= LARGEST:
        return False
    written = live != 0
    first, last = written.argmax(axis=1), written[:, ::-1].argmax(axis=1)
    if np.ptp(live, axis=1).max() == 0 or (live.shape[1] - first - last).min() < FEWEST_NUMBERS:
        return False
    index = np.arange(lines.shape[1])
    forth, back = (
        np.take_along_axis(some, np.minimum(index + start[:, None], lines.shape[1] - 1), axis=1) * (index + start[:, None] < lines.shape[1])
        for some, start in ((live, first), (live[:, ::-1], last))
    )
    energy, limit = (live**2).sum(axis=1), IMAGE + 4 * error.relative**2

    def found(some: slice) -> bool:
        off = (energy[some, None] + energy[None] - 2 * np.abs(back[some] @ forth.T)) / energy[some, None]
        return bool((off.min(axis=1) <= limit).all())

    return found(slice(FIRST)) and found(slice(None))
