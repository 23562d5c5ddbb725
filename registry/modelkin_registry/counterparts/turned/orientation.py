"""Matrices that a library stores the other way round, where no name tells it: what they are held against may, by its shapes or numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelkin_indexer.places import Place
from modelkin_indexer.results.fingerprint import Fingerprint, Matrices
from modelkin_registry.counterparts.matching import SETTLED_R
from modelkin_registry.counterparts.pairing import same_places

BODY = ("attention", "mlp")
PLAIN = (*BODY, "expert", "ssm", "router", "head")  # families of plain matrices, which are turned with the others where no shape tells
FEWEST_TURNED = 2  # matrices that have another one's shape turned round, from which a model may be stored so
STRANGE_R = 0.3  # mean |r| of matrices at the same places up to which they may be strangers': there it is 0.07, r having sd 0.09


def to_turn(ours: Fingerprint, theirs: Fingerprint) -> frozenset[Place]:
    """Places of our matrices that may be stored the other way round than theirs; none where nothing speaks for it.

    For it speak shapes; or, where the matrices of layers are square, one token table beside matrices that show nothing of each other.
    """
    turned, left_open = _by_shape(ours.matrices, theirs.matrices)
    if not turned and not _square_strangers(ours, theirs):
        return frozenset()
    return frozenset(ours.matrices.places[row] for row in (*turned, *left_open))


def _by_shape(table: Matrices, other: Matrices) -> tuple[list[int], list[int]]:
    """Rows of our matrices whose counterpart by name has their shape turned round, and rows of those whose shapes leave it open.

    None of the first where they are one alone, or fewer numbers than those whose counterpart has their shape. The family is not asked: of a
    name that no table knows the shape has a say in it.
    """
    known: dict[tuple[str, int, str], list[int]] = {}
    for row, place in enumerate(other.places):
        known.setdefault((place.component, place.layer, place.role), []).append(row)
    turned, plain, left_open = list[int](), list[int](), list[int]()
    for row in np.flatnonzero(table.experts == 1).tolist():
        place, shape = table.places[row], (int(table.rows[row]), int(table.columns[row]))
        found = {(int(other.rows[to]), int(other.columns[to])) for to in known.get((place.component, place.layer, place.role), ())}
        is_square = shape[0] == shape[1]
        if not is_square and shape[::-1] in found and shape not in found:
            turned.append(row)
        elif place.family in PLAIN:
            (plain if not is_square and shape in found else left_open).append(row)
    told = len(turned) >= FEWEST_TURNED and table.parameters[turned].sum() > table.parameters[plain].sum()
    return turned if told else [], left_open


def _square_strangers(ours: Fingerprint, theirs: Fingerprint) -> bool:
    """Whether both hold one token table, and of square matrices only some that show nothing of each other."""
    a, _ = _shared(ours.matrices, theirs.matrices, BODY)
    square = bool(len(a)) and bool((ours.matrices.rows[a] == ours.matrices.columns[a]).all())
    return (
        square
        and _mean(ours.matrices, theirs.matrices, BODY) < STRANGE_R
        and _mean(ours.matrices, theirs.matrices, ("embedding",)) >= SETTLED_R
    )


def is_nearer(turned: Fingerprint, plain: Fingerprint, theirs: Fingerprint) -> bool:
    """Whether a model, some of whose matrices were read the other way round, is in these the one that has something of the other.

    Or, where shapes tell how they are stored, whether nothing speaks against it: parts in common are few among them.
    """
    tables = turned.matrices, plain.matrices
    apart = (_apart(*tables), _apart(*tables[::-1]))
    found, known = (_mean(table, theirs.matrices, PLAIN, rows) for table, rows in zip(tables, apart, strict=True))
    return known < SETTLED_R and (found >= SETTLED_R or bool(_by_shape(plain.matrices, theirs.matrices)[0]))


def _apart(table: Matrices, other: Matrices) -> frozenset[int]:
    """Rows of a table that the other reading of the same model does not hold."""
    held = {place: row for row, place in enumerate(other.places)}
    rows = ((row, held.get(place)) for row, place in enumerate(table.places))
    return frozenset(row for row, to in rows if to is None or (table.probe[row] != other.probe[to]).any())


def _shared(
    table: Matrices, other: Matrices, families: tuple[str, ...], among: frozenset[int] | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of both at the same places, of these families and of one shape; `among` some of ours."""
    named = same_places(table.places, other.places)
    chosen = ((row, place) for row, place in enumerate(table.places) if among is None or row in among)
    rows = [row for row, place in chosen if named[row] >= 0 and place.family in families]
    a = np.array(rows, np.int64)
    b = named[a]
    same = (table.rows[a] == other.rows[b]) & (table.columns[a] == other.columns[b]) & (table.experts[a] == other.experts[b])
    return a[same], b[same]


def _mean(table: Matrices, other: Matrices, families: tuple[str, ...], among: frozenset[int] | None = None) -> float:
    """Mean |r| of matrices at the same places; 0 without any."""
    a, b = _shared(table, other, families, among)
    (x, x_length), (y, y_length) = table.sketches["probe"], other.sketches["probe"]
    lengths = x_length[a] * y_length[b]
    cosines = np.abs(np.linalg.vecdot(x[a], y[b]))[lengths > 0] / lengths[lengths > 0]
    return float(cosines.mean()) if len(cosines) else 0.0
