"""How two tensors make a matrix: which of the forms gives every matrix of a model the shape that its neighbours need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modelkin_indexer.joined.pairs import Matrices, Pair, Shape

PRODUCT, TURNED_PRODUCT, ROWS, COLUMNS = "product", "turned product", "rows", "columns"
FORMS = (PRODUCT, TURNED_PRODUCT, ROWS, COLUMNS)
WRITING = ("o", "down")  # roles that write the residual stream; the others read it
INNER = ((("q", 0), ("o", 1)), (("k", 0), ("v", 0)), (("gate", 0), ("down", 1)), (("up", 0), ("down", 1)), (("gate", 0), ("up", 0)))


def shape_as(form: str, pair: Pair) -> Shape | None:
    """The matrix [out, in] that the parts make, None where their shapes do not go together.

    product         the second times the first, which reads the input
    turned product  the first times the second
    rows, columns   one after the other
    """
    (rows, columns), (more_rows, more_columns) = pair.shapes
    if form == PRODUCT:
        return (more_rows, columns) if more_columns == rows else None
    if form == TURNED_PRODUCT:
        return (rows, more_columns) if columns == more_rows else None
    if form == ROWS:
        return (rows + more_rows, columns) if columns == more_columns else None
    return (rows, columns + more_columns) if rows == more_rows else None


def form_of(matrices: Matrices, widths: Mapping[str, int]) -> str | None:
    """The form in which all pairs of a model stand; None where none fits, or several do.

    `widths` are those of the residual streams, by component. A matrix that reads the stream has as many columns, one that writes it as many
    rows; queries have as many rows as the output has columns, keys as values, gate and up as down has columns.
    """
    fitting = [form for form in FORMS if all(_fits(form, roles, widths.get(place[0])) for place, roles in matrices.layers.items())]
    if fitting == [PRODUCT, TURNED_PRODUCT]:  # square factors alone: the first is applied first
        return PRODUCT
    return fitting[0] if len(fitting) == 1 else None


def _fits(form: str, roles: Mapping[str, Shape | Pair], width: int | None) -> bool:
    told = {role: shape_as(form, one) if isinstance(one, Pair) else one for role, one in roles.items()}
    shapes = {role: shape for role, shape in told.items() if shape is not None}
    if width is None or len(shapes) < len(told):
        return False
    stream = {shape[0 if role in WRITING else 1] for role, shape in shapes.items()}
    return stream == {width} and all(_equal(shapes[role][axis] for role, axis in sides if role in shapes) for sides in INNER)


def _equal(sizes: Iterable[int]) -> bool:
    return len(set(sizes)) <= 1
