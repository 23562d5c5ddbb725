"""Tables of comparisons that read all weights: exact ones, and what undoing a change of coordinates brings.

Every figure stands beside the strangers', norms apart from what is evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from modelkin_cli.pages import figures
from modelkin_cli.pages.sheets import new_table
from modelkin_cli.pages.text import printable
from modelkin_registry.exact.preservation import KEPT

if TYPE_CHECKING:
    from modelkin_indexer.results.exact import LayerMatrix
    from modelkin_registry.answers.exact import Aligned, ExactSummary, GroupFigures, Spread, Strangers

ROWS_NOTE = (
    "Mean ± sd over tensors. floor: the cosine that means and spreads alone give. Lines below A, B are strangers' figures: a figure that "
    "they reach too says nothing. Samples stand for whole tensors within A and between mismatched layers."
)
ALIGNED_NOTE = (
    "Pearson r on channels that nothing was fitted on. mismatched: the same search against layers that are no counterparts. "
    "Token tables of strangers with one tokenizer align too: they are no evidence."
)
MEASURES_NOTE = (
    "No evidence by themselves: they compare sizes and spreads, which trained models have in common. L2: |B - A| / |A|. equal, half unit: "
    "share of numbers. W1 in units of A's spread."
)
SIZES = {
    "relative_l2": "L2",
    "equal_fraction": "equal",
    "half_unit_fraction": "half unit",
    "mean_abs_difference": "mean |d|",
    "p99_abs_difference": "99 % |d|",
}
SPREADS = {"cv_difference": "cv difference", "variance_ratio": "variance ratio", "wasserstein": "W1", "kolmogorov": "KS"}
LABEL_WIDTH = 12  # `other layers`
MATRIX_ROWS = 4  # layers shown of a matrix of all layers; --json has the rest


def exact_page(summary: ExactSummary) -> Iterator[RenderableType]:
    """The tables of an exact comparison."""
    families, roles = summary.families, summary.roles
    norms = [group for group in roles if group.family == "norm"]
    informative = [group for group in families if group.informative]
    yield Text("\nNumber by number\n", style="bold")
    yield cosine_table(informative)
    if norms:
        yield Text("\nLow-information families; norms by role\n", style="dim")
        yield cosine_table([*norms, *(g for g in families if not g.informative and g.family != "norm")])
    yield Text(ROWS_NOTE, style="dim")
    yield Text("\nOther measures\n", style="bold")
    yield measures_table([*informative, *norms], SIZES)
    yield Text()
    yield measures_table([*informative, *norms], SPREADS)
    yield Text(MEASURES_NOTE, style="dim")
    yield from _layer_tables(summary.layer_matrices)


def cosine_table(groups: Sequence[GroupFigures]) -> Table:
    """Raw cosine, its floor and the centred r of each group, strangers' lines under it."""
    right = ("raw cosine", "floor", "centred r", "p")
    table = new_table("figures of", *right, right=right)
    table.columns[0].min_width = LABEL_WIDTH
    for group in groups:
        style = "bold" if group.finding in KEPT and group.informative else "dim"
        table.add_row(Text(f"{_titled(group)}: {_finding(group)}", style=style))
        cosines = _spread(group.cosine), _mean(group.cosine_floor), _spread(group.pearson)
        table.add_row(f"A, B ({group.tensors})", *cosines, figures.probability(group.p_value))
        for strangers in group.strangers:
            table.add_row(*_strangers(strangers), style="dim")
    return table


def _titled(group: GroupFigures) -> str:
    name = f"{group.family} {group.role}".strip()
    return printable(name if group.component == "text" else f"{group.component} {name}")


def _finding(group: GroupFigures) -> str:
    return f"{group.finding} ({group.shared} of {group.tensors})" if group.finding == "partly shared" else group.finding


def _strangers(strangers: Strangers) -> tuple[str, str, str, str]:
    return printable(strangers.name), _spread(strangers.cosine), _mean(strangers.cosine_floor), _spread(strangers.pearson)


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return figures.NOTHING
    mean = figures.correlation(spread.mean)
    return mean if spread.count == 1 else f"{mean} ± {spread.sd:.3f}"


def _mean(spread: Spread | None) -> str:
    return figures.NOTHING if spread is None else figures.correlation(spread.mean)


def measures_table(groups: Sequence[GroupFigures], headings: Mapping[str, str]) -> Table:
    """The other measures, each beside the strangers'."""
    table = new_table("figures of", *headings.values(), right=tuple(headings.values()))
    table.columns[0].min_width = LABEL_WIDTH
    for group in groups:
        table.add_row(Text(_titled(group), style="dim"))
        table.add_row("A, B", *_measures(group.measures, headings))
        for strangers in group.strangers:
            table.add_row(printable(strangers.name), *_measures(strangers.measures, headings), style="dim")
    return table


def _measures(measures: Mapping[str, Spread | None], headings: Mapping[str, str]) -> list[str]:
    return [figures.NOTHING if (found := measures[name]) is None else f"{found.mean:.2g}" for name in headings]


def _layer_tables(matrices: Sequence[LayerMatrix]) -> Iterator[RenderableType]:
    """For each role: how layers agree with the same layer, with the others, and where the best one is."""
    if not matrices:
        return
    yield Text("\nLayer by layer, centred r (every cell: --json)\n", style="bold")
    right = ("same layer", "other layers")
    table = new_table("sides", "role", *right, "best counterparts", right=right)
    for matrix in matrices:
        same = [row[at] for at, row in enumerate(matrix.pearson) if at < len(row)]
        other = [cell for at, row in enumerate(matrix.pearson) for to, cell in enumerate(row) if to != at]
        best = [max(range(len(row)), key=lambda to, row=row: row[to]) for row in matrix.pearson]  # type: ignore[misc]
        words = ", ".join(f"{matrix.layers[at]}:{matrix.other_layers[to]}" for at, to in list(enumerate(best))[:MATRIX_ROWS])
        role = printable(f"{matrix.family} {matrix.role}")
        table.add_row(matrix.sides.upper(), role, _average(same), _average(other), words + (", ..." if len(best) > MATRIX_ROWS else ""))
    yield table


def _average(cells: Sequence[float]) -> str:
    return figures.correlation(sum(cells) / len(cells)) if cells else figures.NOTHING


def aligned_page(found: Aligned) -> Iterator[RenderableType]:
    """The tables of the aligned test."""
    yield Text("\nCoordinates undone\n", style="bold")
    right = ("r before", "r after", "mismatched", "p")
    if found.maps:
        table = new_table("residual stream of", "fitted on", "map", *right[:2], "rows shuffled", right=(*right[:2], "rows shuffled"))
        for component, one in found.maps.items():
            cells = [figures.NOTHING if r is None else figures.correlation(r) for r in (one.before, one.after, one.shuffled)]
            table.add_row(printable(component), printable(one.table), one.kind, *cells, style="dim")
        yield table
        yield Text()
    table = new_table("family", "finding", "units", *right, right=right)
    for family in found.families:
        cells = [figures.NOTHING if r is None else figures.correlation(r) for r in (family.before, family.after, family.null_mean)]
        style = "bold" if family.finding in ("recovered", "kept") else "dim"
        name = family.family if family.component == "text" else f"{family.component} {family.family}"
        table.add_row(
            Text(printable(name), style=style), family.finding, ", ".join(family.orders), *cells, figures.probability(family.p_value)
        )
    yield table
    yield Text(ALIGNED_NOTE, style="dim")
