"""An audit, as people read it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.text import Text

from modelkin.words import size
from modelkin_cli.pages import figures
from modelkin_cli.pages.answers import sentences
from modelkin_cli.pages.sheets import Sheet, new_table
from modelkin_cli.pages.text import printable
from modelkin_registry.answers.asked import AuditAnswer, Unusual
from modelkin_registry.answers.parts import NOT_EXAMINED


def audit_page(answer: AuditAnswer, console: Console) -> Iterator[RenderableType]:
    """Findings first, then what was looked for without any."""
    yield from sentences(answer.explanation, answer.warnings, console)
    if answer.findings:
        yield _findings(answer)
        yield Text()
    quiet = [one.words for one in answer.looked if one.state == "nothing found"]
    if quiet:
        yield Text(f"Looked for without finding: {'; '.join(quiet)}.", style="dim")
    for one in answer.looked:
        if one.state == NOT_EXAMINED:
            yield Text(f"Not examined: {one.words} ({printable(one.reason or '')}).", style="dim")
    yield Text("These are facts about numbers; why a file is so, they do not tell.", style="dim")


def _findings(answer: AuditAnswer) -> Sheet:
    table = new_table("finding", "tensors", "bytes", "share", right=("bytes", "share"))
    for one in answer.findings:
        stored = figures.NOTHING if one.bytes is None else size(one.bytes)
        table.add_row(one.code, _named(one), stored, figures.NOTHING if one.share is None else figures.share(one.share))
    return table


def _named(one: Unusual) -> str:
    more = one.count - len(one.tensors)
    return printable(", ".join(one.tensors)) + (f" and {more:,} more" if more > 0 else "")
