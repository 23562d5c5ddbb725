"""Tables of what was found. Norms and other low-information families never stand beside evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from modelkin_cli.pages import figures
from modelkin_cli.pages.sheets import new_table
from modelkin_cli.pages.text import printable
from modelkin_registry.answers.relations import DESCENT_FREE

if TYPE_CHECKING:
    from modelkin_registry.answers.evidence import ComponentEvidence, Control, FamilyEvidence, Relative
    from modelkin_registry.answers.upkeep import Finding, Format

STATE_STYLES = {"ok": "green", "repaired": "yellow", "broken": "bold red"}
RELATIVES_NOTE = "In brackets: no evidence. Norms and biases are left out: they cannot show descent by themselves."


def relation_text(relation: str, also: Sequence[str] = ()) -> Text:
    """A relation, bold where it means descent."""
    text = Text(relation, style="dim" if relation in DESCENT_FREE else "bold")
    return text + Text("".join(f", {name}" for name in also), style="dim")


def relatives_table(relatives: Sequence[Relative], components: Sequence[str]) -> Table:
    """One row a relative, best first. `components` are the query's."""
    table = new_table("model", "relation", "shared", "p", "r by family", right=("p",))
    for relative in relatives:
        table.add_row(
            printable(relative.model),
            relation_text(relative.relation, relative.also),
            shared_words(relative, components),
            figures.probability(relative.p_value),
            evidence_text(relative, named=len(components) > 1),
        )
    return table


def shared_words(relative: Relative, components: Sequence[str]) -> str:
    """`97 %`, or `97 % of vision` where the query has other components, which were not compared."""
    compared = [component.query for component in relative.components]
    part = "" if set(components) <= set(compared) else f" of {', '.join(compared)}"
    return figures.share(relative.shared) + (part if relative.shared else "")


def evidence_text(relative: Relative, named: bool) -> Text:
    """Each family with its r on a line of its own, those without evidence in brackets; components `named` if there are several."""
    lines = []
    for component in relative.components:
        found = [f for f in component.families if f.informative and f.r is not None]
        held = [_family_words(f) for f in found if f.inherited]
        others = [_family_words(f) for f in found if not f.inherited]
        lines += [Text(f"{component.query}:", style="dim")] if named else []
        lines += [Text(words) for words in held] + [Text(f"({words})", style="dim") for words in others]
    return Text("\n").join(lines)


def _family_words(family: FamilyEvidence) -> str:
    return f"{family.family} {figures.correlation(family.r)}"


def family_table(component: ComponentEvidence, controls: Sequence[Control]) -> Table:
    """Informative families of a comparison, with the controls' figures beside them."""
    names = [f"{side}-C{number}" for number in range(1, len(controls) + 1) for side in ("A", "B")]
    right = ("r", "null", "z", "p", *names)
    table = new_table("family", "r", *names, "null", "z", "p", "finding", right=right)
    for family in (f for f in component.families if f.informative):
        table.add_row(
            Text(family.family, style="bold" if family.inherited else ""),
            figures.correlation(family.r),
            *(text for control in controls for text in _control_figures(control, family.family)),
            figures.null(family),
            figures.standard_score(family.z),
            figures.probability(family.p_value),
            _finding(family),
        )
    return table


def _finding(family: FamilyEvidence) -> Text:
    """Whether the family is inherited, and in which channel where not number by number."""
    if not family.inherited:
        return Text("none", style="dim")
    return Text("inherited" if family.channel == "probe" else f"inherited ({family.channel})", style="bold")


def low_information_table(component: ComponentEvidence, controls: Sequence[Control]) -> Table | None:
    """Norms and the like, each raw cosine beside the floor that unrelated vectors reach; None where there are none."""
    low = [f for f in component.families if not f.informative]
    if not low:
        return None
    names = [f"{side}-C{number}" for number in range(1, len(controls) + 1) for side in ("A", "B")]
    table = new_table("family", "centred r", *names, "null", "raw cosine", right=("centred r", "null", *names))
    for family in low:
        table.add_row(
            family.family,
            figures.correlation(family.r),
            *(text for control in controls for text in _control_figures(control, family.family)),
            figures.null(family),
            _raw_cosine(family),
            style="dim",
        )
    return table


def _raw_cosine(family: FamilyEvidence) -> str:
    """A raw cosine never stands without the one that unrelated vectors of these means and spreads have."""
    if family.raw_cosine is None or family.raw_cosine_floor is None:
        return figures.NOTHING
    return f"{figures.correlation(family.raw_cosine)} (strangers {figures.correlation(family.raw_cosine_floor)})"


def _control_figures(control: Control, family: str) -> tuple[str, str]:
    """A control's r against both sides; several where it has the family in several components."""
    a, b = (
        "/".join(figures.correlation(f.r) for f in side if f.family == family) or figures.NOTHING for side in (control.a_c, control.b_c)
    )
    return a, b


def findings_table(findings: Sequence[Finding]) -> Table:
    """One row a thing that was looked at."""
    table = new_table("check", "state", "detail")
    for finding in findings:
        table.add_row(finding.check, Text(finding.state, style=STATE_STYLES[finding.state]), printable(finding.detail))
    return table


def format_tables(formats: Sequence[Format]) -> list[Table]:
    """A table a kind: containers, forms of quantised weights, adapters."""
    files = new_table("container", "suffixes", "read at level probe", "extra")
    weights, adapters = new_table("quantised weights"), new_table("adapters", "change worked out")
    for one in formats:
        if one.kind == "container":
            files.add_row(one.name, " ".join(one.suffixes), one.probe, one.extra)
        elif one.kind == "quantised":
            weights.add_row(one.name)
        else:
            adapters.add_row(one.name, "yes" if one.read else "no: known by name")
    return [files, weights, adapters]
