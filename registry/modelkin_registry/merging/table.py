"""What a merge is solved on: inner products of a model's sketches with those of its possible parents, place by place.

Sketches are linear, so weights fitted on them are weights of the models. Every sum that a fit needs is in these products.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.places import NO_LAYER, Place
from modelkin_indexer.results.fingerprint import Fingerprint, Matrices, Vectors

Floats = npt.NDArray[np.float64]
# Relative rms error of a stored number: half a step of 2^-7 (bfloat16) or 2^-10 (float16), uniform, over the rms of values between two
# powers of two. Measured on merges that were rounded once: 0.0015 to 0.0017.
ROUNDING = {"BF16": 1.6e-3, "F16": 2e-4, "F32": 0.0, "F64": 0.0}
UNKNOWN_ROUNDING = 2e-2  # of what is stored in 8 bits: the size of the step is not known here
STORED = 2e-4  # relative rms error of a sketch kept in float16


class Table(Struct, frozen=True):
    """Inner products by place, each place divided by the query's square there, so that all places count alike.

    products   (places, parents + 1, parents + 1); the query is last
    rounding   (places,) relative squares that storing the query's numbers leaves
    """

    names: tuple[str, ...]
    places: tuple[Place, ...]
    products: Floats
    rounding: Floats

    @property
    def away(self) -> Floats:
        """(places, parents, parents): inner products of the parents' differences from the query."""
        p = self.products
        return p[:, :-1, :-1] - p[:, :-1, -1:] - p[:, -1:, :-1] + p[:, -1:, -1:]

    def only(self, rows: Sequence[int]) -> Table:
        """The table of some of its places."""
        chosen = np.asarray(rows, np.int64)
        return Table(self.names, tuple(self.places[row] for row in rows), self.products[chosen], self.rounding[chosen])


def table_of_matrices(query: Fingerprint, parents: Mapping[str, Fingerprint]) -> Table:
    """The matrices that the query and all parents hold in one place and shape."""
    shared = _shared(_shapes(query), [_shapes(parent) for parent in parents.values()])
    rounding = _rounding(query)
    rows = _rows(query.matrices)
    squares = np.array([rounding[int(query.matrices.bits[rows[place]])] ** 2 for place in shared])
    return _table(query.matrices, {name: parent.matrices for name, parent in parents.items()}, "probe", shared, squares)


def table_of_vectors(query: Fingerprint, parents: Mapping[str, Fingerprint]) -> Table:
    """The norm gains that they all have, apart from the matrices."""
    shared = _shared(_gains(query), [_gains(parent) for parent in parents.values()])
    squares = np.full(len(shared), max(_rounding(query).values()) ** 2)
    return _table(query.vectors, {name: parent.vectors for name, parent in parents.items()}, "sketch", shared, squares)


def able(query: Fingerprint, parents: Mapping[str, Fingerprint]) -> dict[str, Fingerprint]:
    """Those that have every layer matrix of the query's largest component in the same place and shape, by name."""
    wanted = _body(query)
    return {name: parent for name, parent in sorted(parents.items()) if wanted and wanted.items() <= _shapes(parent).items()}


def _body(query: Fingerprint) -> dict[Place, tuple[int, int]]:
    sizes: dict[str, int] = {}
    for place, parameters in zip(query.matrices.places, query.matrices.parameters, strict=True):
        sizes[place.component] = sizes.get(place.component, 0) + int(parameters)
    largest = max(sorted(sizes), key=lambda component: sizes[component], default="")
    return {place: shape for place, shape in _shapes(query).items() if place.component == largest and place.layer != NO_LAYER}


def _rounding(query: Fingerprint) -> dict[int, float]:
    """Relative error of a stored number by its bits."""
    about = query.about
    plain = {64: "F64", 32: "F32", 16: "BF16" if about.dtypes.get("BF16", 0) >= about.dtypes.get("F16", 0) else "F16"}
    known = {bits: ROUNDING[dtype] for bits, dtype in plain.items()} if not about.quantization else {}
    return {int(bits): known.get(int(bits), UNKNOWN_ROUNDING) for bits in query.matrices.bits}


def _rows(table: Matrices | Vectors) -> dict[Place, int]:
    return {place: row for row, place in enumerate(table.places) if table.scale[row] > 0}


def _shapes(model: Fingerprint) -> dict[Place, tuple[int, int]]:
    table = model.matrices
    return {place: (int(table.rows[row]), int(table.columns[row])) for place, row in _rows(table).items()}


def _gains(model: Fingerprint) -> dict[Place, tuple[int, int]]:
    table = model.vectors
    return {place: (1, int(table.length[row])) for place, row in _rows(table).items() if place.family == "norm"}


def _shared(own: Mapping[Place, tuple[int, int]], others: Sequence[Mapping[Place, tuple[int, int]]]) -> list[Place]:
    return [place for place, shape in own.items() if all(other.get(place) == shape for other in others)]


def _table(query: Any, parents: Mapping[str, Any], sketch: str, places: Sequence[Place], rounding: Floats) -> Table:
    size = _scales(query, places)
    stacked = list(_flat([*parents.values(), query], sketch, places, size))
    values = np.stack(stacked, axis=1) if places else np.zeros((0, len(stacked), 1))
    products = np.einsum("pid,pjd->pij", values, values)  # without BLAS, whose sums depend on the machine
    return Table(tuple(parents), tuple(places), products, rounding)


def _scales(table: Any, places: Sequence[Place]) -> Floats:
    rows = _rows(table)
    return np.asarray(table.scale[[rows[place] for place in places]], np.float64)


def _flat(models: Sequence[Any], sketch: str, places: Sequence[Place], size: Floats) -> Iterator[Floats]:
    """Each model's linear sketches (places, numbers) over the query's sizes."""
    for model in models:
        rows = _rows(model)
        chosen = [rows[place] for place in places]
        yield getattr(model, sketch)[chosen].astype(np.float64) * (model.scale[chosen].astype(np.float64) / size)[:, None]
