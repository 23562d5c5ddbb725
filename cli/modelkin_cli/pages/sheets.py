"""Tables that lose nothing in a narrow terminal: where the columns do not fit, each row is a list of its cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Column, Table
from rich.text import Text

FOLDED = 8  # columns that a cell of words needs: narrower, words are broken letter by letter
GAP = 3  # columns between two of a table


class Sheet(Table):
    """A table whose text is folded and never cut off."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._least() <= options.max_width:
            yield from super().__rich_console__(console, options)
        else:
            yield from self._lists()

    def _least(self) -> int:
        """Columns of the terminal that it takes to show figures whole and words readably."""
        return sum(map(_least_width, self.columns)) + GAP * (len(self.columns) - 1)

    def _lists(self) -> Iterator[Text]:
        for number, row in enumerate(self.rows):
            if number and self.show_header:
                yield Text()
            cells = [(_text(column.header), _text(list(column.cells)[number])) for column in self.columns]
            if not self.show_header:
                first, *others = (cell for _, cell in cells)
                yield Text.assemble(first, ": ", Text(" ").join(others), style=row.style or "")
                continue
            for header, cell in cells:
                if cell.plain:
                    yield Text.assemble((f"{header.plain}: ", "dim"), cell, style=row.style or "")


def _least_width(column: Column) -> int:
    words = [_text(cell).plain for cell in (column.header, *column.cells)]
    widest = max((cell_len(line) for text in words for line in (text.splitlines() if column.no_wrap else text.split())), default=0)
    return widest if column.no_wrap else min(widest, FOLDED)


def _text(cell: RenderableType) -> Text:
    return cell if isinstance(cell, Text) else Text(str(cell))


def new_table(*headings: str, right: Iterable[str] = ()) -> Sheet:
    """A table with these headings; the columns of figures, set `right`, are never broken."""
    table = Sheet(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    figures = set(right)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in figures else "left", overflow="fold", no_wrap=heading in figures)
    return table
