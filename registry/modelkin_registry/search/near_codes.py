"""The nearest of many sign codes, all of them looked at, by the compiled core: there where a C compiler was at hand when modelkin was
installed. FAISS finds the same without it, in more time: it takes one query after the other through all codes, the core all queries through
a few codes at once, and it counts the bits of eight words in one step where the processor can.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

from modelkin_registry.store.rows import Array

try:
    from modelkin_registry.search import _code_core  # type: ignore[attr-defined, unused-ignore]
except ImportError:  # no compiler when modelkin was installed
    _code_core = None
CORE: Any = _code_core


def nearest_codes(codes: Array, wanted: Array, k: int, chosen: Array | None, threads: int) -> tuple[Array, Array, Array]:
    """All codes that are as near to a query as its k-th nearest, ties among them, and with several threads some that are further.

    Args:
        codes: uint8 (n, 32), contiguous.
        wanted: uint8 (q, 32), the queries.
        chosen: bool (n,) of which codes are looked at; all where it is None.

    Returns flat columns int64 in the order of the queries: which query, the code's position, the bits that differ.
    """
    bounds = np.linspace(0, len(codes), threads + 1).astype(np.int64).tolist()

    def found(part: tuple[int, int]) -> Array:
        start, end = part
        told = CORE.nearest(codes[start:end], wanted, k, None if chosen is None else np.ascontiguousarray(chosen[start:end]))
        columns = np.array([np.frombuffer(column, np.int64) for column in told])
        columns[1] += start
        return columns

    if threads == 1:
        query, position, distance = found((0, len(codes)))
        return query, position, distance
    with ThreadPoolExecutor(threads) as pool:
        every = np.concatenate([*pool.map(found, pairwise(bounds))], axis=1)
    query, position, distance = every[:, np.argsort(every[0], kind="stable")]
    return query, position, distance
