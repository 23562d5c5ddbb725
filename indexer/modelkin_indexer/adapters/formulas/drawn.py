"""What PyTorch draws on a CPU from a seed, drawn again without it: Mersenne Twister, whose words come out as NumPy's do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MOST = 2**32 // 20  # numbers of a permutation; PyTorch draws longer ones in another way


def first_of_permutation(size: int, count: int, seed: int) -> npt.NDArray[np.int64]:
    """The first `count` numbers of torch.randperm(size), size below MOST, with a generator of this seed.

    Each step exchanges a number with one behind it; only those that were moved are kept.
    """
    words = np.random.RandomState(seed % 2**32)  # NumPy's newer generators are seeded in another way
    moved: dict[int, int] = {}
    found = np.empty(count, np.int64)
    for index in range(count):
        word = int(words.randint(0, 2**32, dtype=np.uint32))
        other = index + word % (size - index)
        found[index] = moved.get(other, other)
        moved[other] = moved.get(index, index)
    return found
