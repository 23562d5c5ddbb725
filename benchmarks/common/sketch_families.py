"""Families of models in sketch space: a base, children of it and of each other, with the statistics that further training leaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.common import sketch_space
from benchmarks.common.sketch_space import Model
from modelkin_indexer.results.fingerprint import Fingerprint

SEED, STRANGERS = 17, 18
FARTHEST, NEAREST = 0.85, 0.998  # cosine of a child with its parent, even in the logarithm of the distance
DIGESTS = ("digest", "numbers", "blocks")
FROM_CHILD = 3  # every third model is made from any earlier one of its family, the others from the base


def families(count: int, size: int, *, full: bool = False, seed: int = SEED) -> Iterator[tuple[str, Fingerprint]]:
    """`count` models in families of `size`, each a pure function of its number; names in no order of descent."""
    for start in range(0, count, size):
        random = np.random.default_rng([seed, start])
        made = [sketch_space.fresh(random)]
        for number in range(min(size, count - start)):
            if number:
                parent = made[int(random.integers(0, len(made)))] if number % FROM_CHILD == 0 else made[0]
                distance = (1 - FARTHEST) * ((1 - NEAREST) / (1 - FARTHEST)) ** random.uniform()
                made.append(sketch_space.child(random, parent, float(1 - distance)))
            yield f"m{start + number:05}", _fingerprint(made[number], start, start + number, full)


def strangers(count: int, *, full: bool = False) -> Iterator[tuple[str, Fingerprint]]:
    """Models that share nothing but their shapes."""
    return families(count, 1, full=full, seed=STRANGERS)


def _fingerprint(model: Model, family: int, number: int, full: bool) -> Fingerprint:
    """With the family's statistics, and digests of its own."""
    found = sketch_space.fingerprint(model, np.random.default_rng([SEED, family, 1]), full=full)
    own = sketch_space.fingerprint(model, np.random.default_rng([SEED, number, 2]), full=full)
    digests = {name: getattr(own.matrices, name) for name in DIGESTS if hasattr(own.matrices, name)}  # other builds have fewer
    matrices = _changed(found.matrices, digests)
    return _changed(found, {"matrices": matrices, "vectors": _changed(found.vectors, {"digest": own.vectors.digest})})


def _changed(record: Any, new: dict[str, Any]) -> Any:
    """A copy with other fields, whichever kind of records a build has: earlier ones, which make these models too, have dataclasses."""
    return type(record)(**{name: new.get(name, getattr(record, name)) for name in record.__annotations__})
