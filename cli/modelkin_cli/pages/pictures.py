"""The heat strip: families down, the query's layers across, one mark a layer that reads without colour too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from msgspec import Struct
from rich.text import Text

from modelkin_cli.pages.figures import correlation

if TYPE_CHECKING:
    from modelkin_registry.answers.evidence import ComponentEvidence, FamilyEvidence

WHOLE_WIDTH = 100  # columns used at most: wider strips are hard to follow by eye
LABEL, FIGURE = 11, 9  # columns of a family's name and of its r
RULER_STEP = 5  # every fifth layer is numbered where a layer is too narrow for its own number
WIDEST_CELL = 3  # columns of a layer where there is room; its number fits above
LOW_INFORMATION = "low-information: says nothing of the other weights"
LOW_SCALE = ((0.7, "="), (0.2, "-"), (-2.0, "."))  # marks of their own, so that a row cannot be quoted as evidence
NO_COUNTERPART = " "
NO_LAYERS = "(outside the layers)"
NARROWEST = LABEL + FIGURE + len(NO_LAYERS)  # columns of a strip beside names and figures; below, its marks stand under them


class Step(Struct, frozen=True):
    """One step of the scale: what a layer is marked with whose r is at least `least`."""

    least: float
    mark: str
    ascii_mark: str
    style: str
    words: str


# 0.2 is about what chance gives a single layer (sd 0.05 to 0.13); 0.95 and 0.4 part light changes from heavy ones in trained models.
SCALE = (
    Step(0.95, "█", "#", "bold red", "0.95 or more"),
    Step(0.7, "▓", "+", "yellow", "0.7"),
    Step(0.4, "▒", "x", "cyan", "0.4"),
    Step(0.2, "░", ":", "blue", "0.2"),
    Step(-2.0, "·", ".", "bright_black", "below"),
)


def step_of(r: float) -> Step:
    """The step of the scale for a correlation."""
    return next(step for step in SCALE if r >= step.least)


def heat_strip(component: ComponentEvidence, layers: int, width: int, *, ascii_only: bool = False) -> list[Text]:
    """The lines of one component's strip, none longer than `width`.

    Args:
        layers: layers that the query has in this component; those without a mark have no counterpart.
    """
    informative = [f for f in component.families if f.informative and f.r is not None]
    low = [f for f in component.families if not f.informative and f.r is not None]
    strip = _Strip(layers, min(width, WHOLE_WIDTH), ascii_only)
    lines = list(strip.block(informative))
    if low:
        lines += [*strip.rule(), *strip.block(low, faded=True)]
    return lines


def legend(width: int, *, ascii_only: bool = False) -> list[Text]:
    """What the marks mean, broken where the width ends."""
    parts = [Text("r of a layer:")]
    parts += [Text.assemble((_mark(step.least, False, ascii_only)), f" {step.words}") for step in SCALE]
    parts += [Text("blank: no counterpart"), Text("in brackets, = - . : low-information")]
    lines = [Text()]
    for part in parts:
        if len(lines[-1]) and len(lines[-1]) + 2 + len(part) > width:
            lines.append(Text())
        lines[-1] = lines[-1] + ("  " if len(lines[-1]) else "") + part
    return lines


def _mark(r: float, faded: bool, ascii_only: bool) -> tuple[str, str]:
    """The mark of a layer and its style."""
    if faded:
        return next(mark for least, mark in LOW_SCALE if r >= least), "dim"
    step = step_of(r)
    return step.ascii_mark if ascii_only else step.mark, step.style


class _Strip(Struct, frozen=True):
    layers: int
    width: int
    ascii_only: bool

    @property
    def room(self) -> int:
        return max(self.width - LABEL - FIGURE, RULER_STEP)

    @property
    def cell(self) -> int:
        """Columns a layer: as wide as fits, up to WIDEST_CELL."""
        return max(1, min(WIDEST_CELL, self.room // max(self.layers, 1)))

    def block(self, families: Sequence[FamilyEvidence], faded: bool = False) -> Iterator[Text]:
        """Rows of these families, in several runs of layers where they do not fit side by side."""
        if self.width < NARROWEST:
            yield from self._stacked(families, faded)
            return
        step = self.room // self.cell // RULER_STEP * RULER_STEP
        outside = [f for f in families if not f.layers]
        inside = [f for f in families if f.layers]
        for start in range(0, self.layers if inside else 0, step):
            stop = min(start + step, self.layers)
            yield self._ruler(start, stop)
            for family in inside:
                yield self._head(family, faded) + self._cells(family, start, stop, faded, self.cell)
        for family in outside:
            yield self._head(family, faded) + Text(NO_LAYERS, style="dim")

    def _stacked(self, families: Sequence[FamilyEvidence], faded: bool) -> Iterator[Text]:
        """Each family's name and r, and under them a mark a layer, as many lines as it takes."""
        for family in families:
            figure = f"({correlation(family.r)})" if faded else correlation(family.r)
            yield from self._folded(f"{family.family} {figure}", "dim" if faded else "bold")
            if not family.layers:
                yield from self._folded(NO_LAYERS, "dim")
                continue
            for start in range(0, self.layers, self.width):
                yield self._cells(family, start, min(start + self.width, self.layers), faded, 1)

    def _head(self, family: FamilyEvidence, faded: bool) -> Text:
        label = Text(family.family[: LABEL - 1].ljust(LABEL), style="dim" if faded else "bold")
        figure = f"({correlation(family.r)})" if faded else f"{correlation(family.r)} "
        return label + Text(f"{figure:>{FIGURE - 1}} ", style="dim" if faded else "")

    def _cells(self, family: FamilyEvidence, start: int, stop: int, faded: bool, cell: int) -> Text:
        found: dict[int, float] = {}
        for layer, _, r in family.layers:
            found[layer] = max(r, found.get(layer, r))
        row = Text()
        for layer in range(start, stop):
            if layer not in found:
                row.append(NO_COUNTERPART * cell)
                continue
            mark, style = _mark(found[layer], faded, self.ascii_only)
            row.append(mark * cell, style=style)
        return row

    def _ruler(self, start: int, stop: int) -> Text:
        """Numbers above the layers, each at its layer's first column; one that would not fit is left out."""
        line = f"{'layer':{LABEL}}{'r':>{FIGURE - 2}}  "
        for layer in range(start, stop, 1 if self.cell == WIDEST_CELL else RULER_STEP):
            at = LABEL + FIGURE + (layer - start) * self.cell
            if at >= len(line) and at + len(str(layer)) <= self.width:
                line = line.ljust(at) + str(layer)
        return Text(line, style="dim")

    def rule(self) -> Iterator[Text]:
        """What parts evidence from what is none: a line across, or in a narrow terminal its words on several."""
        dash = "-" if self.ascii_only else "─"
        words = f"{dash * 2} {LOW_INFORMATION}"
        if len(words) + 3 <= self.width:
            yield Text(f"{words} ".ljust(self.width, dash), style="dim")
        else:
            yield from self._folded(words, "dim")

    def _folded(self, words: str, style: str) -> Iterator[Text]:
        yield from (Text(line, style=style) for line in wrap(words, self.width))
