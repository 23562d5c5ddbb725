"""Rows of a table at other places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from modelkin_indexer.places import Place
from modelkin_indexer.results.fingerprint import Matrices, Vectors

Table = TypeVar("Table", Matrices, Vectors)
Places = tuple[Place, ...]


def moved(places: Places, wanted: Mapping[int, Place]) -> Places:
    """Places with some rows at others; who held such a place and is not moved itself, steps aside."""
    taken = set(wanted.values())
    return tuple(wanted[row] if row in wanted else displaced(place) if place in taken else place for row, place in enumerate(places))


def displaced(place: Place) -> Place:
    """A place whose role is another tensor's now."""
    return place._replace(role=f"{place.role} (as named)")


def chosen_rows(table: Table, rows: npt.NDArray[np.int64]) -> Table:
    """Some rows of a table of matrices or vectors."""
    columns: dict[str, Any] = {field: getattr(table, field)[rows] for field in table.__struct_fields__ if field != "places"}
    return type(table)(places=tuple(table.places[row] for row in rows.tolist()), **columns)
