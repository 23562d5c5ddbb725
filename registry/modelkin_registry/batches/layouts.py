"""What fingerprints of one layout have in common: whatever follows from places and shapes alone is worked out once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer import sketch, spec
from modelkin_indexer.results.channels import CHANNELS
from modelkin_indexer.results.fingerprint import SIDES, Fingerprint
from modelkin_registry.counterparts.common_names import UNTOLD, untold
from modelkin_registry.evidence.places import INFORMATIVE, SHOWN_AS
from modelkin_registry.evidence.similarity import FOLDED_NUMBERS, MOST_NUMBERS

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
KNOWN = 256  # layouts kept: most models of a registry are laid out like many others


class Layout(Struct, frozen=True, eq=False):
    """Places and shapes that many fingerprints share; one value for each of them, so that it is its own key.

    `behind` by channel: how many numbers stand behind each row's sketch (unless it is folded). `full`: which channels are there.
    """

    example: Fingerprint
    parameters: Ints
    tall: npt.NDArray[np.bool_]
    behind: dict[str, Ints]
    channels: tuple[str, ...]

    @property
    def places(self) -> tuple[Any, ...]:
        return self.example.matrices.places


def layout_of(model: Fingerprint) -> Layout:
    """The layout of a fingerprint, the same value for equal ones."""
    known = model.matrices.worked_out
    if layout_of not in known:
        table, vectors = model.matrices, model.vectors
        shapes = b"".join(
            np.ascontiguousarray(column).tobytes() for column in (table.rows, table.columns, table.experts, table.side, table.top)
        )
        widths = tuple(getattr(table, name).shape[1] for name in (*CHANNELS, "digest"))
        about = model.about.components, tuple(sorted(model.about.layers.items()))
        key = about, table.places, shapes, widths, vectors.places, np.ascontiguousarray(vectors.length).tobytes()
        known[layout_of] = _layout(_Key(key, model))
    return known[layout_of]  # type: ignore[no-any-return]


class _Key:
    """A key that brings along a fingerprint that has it."""

    def __init__(self, key: Hashable, model: Fingerprint) -> None:
        self.key, self.model = key, model

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.key == other.key


@lru_cache(maxsize=KNOWN)
def _layout(key: _Key) -> Layout:
    table = key.model.matrices
    rows, columns, experts = table.rows.tolist(), table.columns.tolist(), table.experts.tolist()
    shapes = list(zip(rows, columns, experts, strict=True))
    probe = [max(sketch.independent_rows(r // e, c, e) * (c - 1), 1) for r, c, e in shapes]
    sizes = [c if side == SIDES.index("in") else r // e for (r, c, e), side in zip(shapes, table.side.tolist(), strict=True)]
    gram = [size * (size + 1) // 2 for size in sizes]
    tall = np.array([sketch.is_tall(r, c) for r, c, _ in shapes], np.bool_)
    behind = {name: np.array(probe if name == "probe" else gram, np.int64) for name in CHANNELS}
    channels = tuple(name for name in CHANNELS if getattr(table, name).shape[1])
    return Layout(key.model, np.asarray(table.parameters, np.int64), tall, behind, channels)


def is_plain(model: Fingerprint) -> bool:
    """Whether a fingerprint may be held against many at once: no stacked or single experts, no adapter, names that tell something."""
    table = model.matrices
    return (
        len(table) > 0
        and not len(model.experts)
        and bool((table.experts == 1).all())
        and not any(place.family == "expert" for place in table.places)
        and model.about.adapter is None
        and not model.about.shards
        and untold(model.about) <= UNTOLD
    )


def own_numbers(model: Fingerprint) -> Ints:
    """How many numbers stand behind each row of the probe channel, folded sketches as they are; never more than similarity.py counts."""
    table, known = model.matrices, model.matrices.worked_out
    if own_numbers not in known:
        folded = ~table.probe[:, spec.EXPERT_NUMBERS :].any(axis=1)
        known[own_numbers] = np.minimum(np.where(folded, FOLDED_NUMBERS, layout_of(model).behind["probe"]), MOST_NUMBERS)
    return known[own_numbers]  # type: ignore[no-any-return]


def is_informative(family: str) -> bool:
    """Whether a family may support a relation."""
    return SHOWN_AS.get(family, family) in INFORMATIVE


class Stack:
    """Columns of several fingerprints of one layout, put together when they are asked for; each fingerprint once.

    `at` (given,) is the place of each given fingerprint in the columns.
    """

    def __init__(self, given: Sequence[Fingerprint]) -> None:
        each = {id(model): model for model in given}
        number = {key: at for at, key in enumerate(each)}
        self.models = list(each.values())
        self.at = np.array([number[id(model)] for model in given], np.int64)
        self.known: dict[Hashable, Array] = {}

    def of(self, chosen: Ints | Sequence[int]) -> Stack:
        """Some of those given."""
        return Stack([self.models[at] for at in self.at[chosen].tolist()])

    def column(self, name: Hashable, of: Callable[[Fingerprint], Array]) -> Array:
        """One column (models, ...)."""
        if name not in self.known:
            self.known[name] = np.stack([of(model) for model in self.models])
        return self.known[name]

    def matrices(self, name: str) -> Array:
        """A column of the matrices, (models, rows, ...)."""
        return self.column(("matrices", name), lambda model: getattr(model.matrices, name))

    def vectors(self, name: str) -> Array:
        """A column of the vectors, (models, rows, ...)."""
        return self.column(("vectors", name), lambda model: getattr(model.vectors, name))
