"""A bundle of evidence that was checked, as people read it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from modelkin.evidencing import REPRODUCED, Verified
from modelkin_cli.pages.sheets import new_table
from modelkin_cli.pages.text import printable


def verified_page(answer: Verified) -> Iterator[RenderableType]:
    """The verdict, what differs, and how it was checked."""
    source = f"the weights of {', '.join(map(printable, answer.weights))}" if answer.weights else "its fingerprints"
    file, first, second = printable(answer.file), *map(printable, answer.models[:2])
    if answer.verdict == REPRODUCED:
        yield Text(f"Reproduced: all {answer.values:,} values of {file}, from {source}.", style="bold")
        yield Text(f"- {first} against {second}: {answer.relation}, key {printable(answer.key)}.")
    else:
        yield Text(
            f"Refused: {file} is not what it says, in {answer.count:,} {'places' if answer.count > 1 else 'place'}.", style="bold red"
        )
        table = new_table("where", "it says", "found")
        for one in answer.differences:
            table.add_row(printable(one.where), printable(str(one.told)), printable(str(one.found)))
        yield table
    for note in answer.notes:
        yield Text(f"- {printable(note)}", style="dim")
