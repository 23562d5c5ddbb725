"""Whole answers as people read them: what was found in one sentence, the reasons, the tables, the picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from modelkin.words import size
from modelkin_cli.pages import figures
from modelkin_cli.pages.pictures import LOW_INFORMATION, heat_strip, legend
from modelkin_cli.pages.tables import RELATIVES_NOTE, family_table, low_information_table, relation_text, relatives_table
from modelkin_cli.pages.text import printable
from modelkin_registry.answers.contract import CompareAnswer, ComponentEvidence, QueryAnswer, StructureBeside
from modelkin_registry.claims.declared import claim_sentence

COMPARE_NOTE = "r: centred (Pearson) correlation. null: what strangers give, mean ± sd. Low-information families are never a finding."

STRUCTURE_NOTE = "Structure (never a reason for a relation), beside"


def query_page(answer: QueryAnswer, layers: Mapping[str, int], console: Console) -> Iterator[RenderableType]:
    """A query's answer. `layers` counts the query's layers by component."""
    yield from sentences(answer.explanation, answer.warnings, console)
    if not answer.relatives:
        return
    yield Text(f"Relatives among {figures.count(answer.registry['models'])} registered models", style="bold")
    yield Text()
    yield relatives_table(answer.relatives, answer.query["components"])
    yield Text(RELATIVES_NOTE, style="dim")
    first = answer.relatives[0]
    for component in first.components:
        yield from _strip(component, first.model, layers, console)
    if first.components:
        yield from legend(console.width, ascii_only=console.options.ascii_only)
    for beside in answer.structure:
        yield from _structure(beside, console)


def _structure(beside: StructureBeside, console: Console) -> Iterator[RenderableType]:
    """What lies beside the weights, apart from all evidence."""
    if beside.sentences:
        yield Text(f"\n{STRUCTURE_NOTE} {printable(beside.model)}", style="dim bold")
        for sentence in beside.sentences:
            yield _item("-", Text(printable(sentence), style="dim"), console)


def compare_page(answer: CompareAnswer, layers: Mapping[str, int], console: Console) -> Iterator[RenderableType]:
    """A comparison's answer. `layers` counts A's layers by component."""
    yield from sentences(answer.explanation, answer.warnings, console)
    a, b = printable(answer.a["source"]), printable(answer.b["source"])
    yield _sides(answer, a, b)
    for component in answer.components:
        yield Text()
        yield Text.assemble((f"{component.query} component: ", "bold"), relation_text(component.relation))
        yield Text()
        yield family_table(component, answer.controls)
        if (low := low_information_table(component, answer.controls)) is not None:
            yield Text(f"\n{LOW_INFORMATION}\n", style="dim")
            yield low
        yield from _strip(component, "B", layers, console)
    if answer.components:
        yield from legend(console.width, ascii_only=console.options.ascii_only)
        yield Text(COMPARE_NOTE, style="dim")
    if answer.structure is not None:
        yield from _structure(answer.structure, console)


def _sides(answer: CompareAnswer, a: str, b: str) -> Table:
    """The legend of the letters in the tables."""
    table = Table.grid(padding=(0, 2))
    for letter, name in (("A", a), ("B", b), *((f"C{i}", printable(c.model)) for i, c in enumerate(answer.controls, 1))):
        table.add_row(Text(letter, style="bold"), name)
    return table


def sentences(explanation: Sequence[str], warnings: Sequence[str], console: Console) -> Iterator[RenderableType]:
    """The headline, the reasons under it, and what to be careful about."""
    headline, *reasons = [printable(sentence) for sentence in explanation]
    yield Text(headline, style="bold")
    for reason in reasons:
        yield _item("-", Text(reason), console)
    for warning in warnings:
        yield _item("!", Text(printable(warning), style="yellow"), console)
    yield Text()


def _item(mark: str, text: Text, console: Console) -> Text:
    """A list item whose further lines are indented."""
    return Text(f"{mark} ") + Text("\n  ").join(text.wrap(console, max(console.width - 2, 1)))


def _strip(component: ComponentEvidence, relative: str, layers: Mapping[str, int], console: Console) -> Iterator[RenderableType]:
    if not component.families:
        return
    yield Text()
    yield Text.assemble((f"Layer by layer against {printable(relative)}", "bold"), f" ({component.query} component)")
    known = [layer + 1 for family in component.families for layer, _, _ in family.layers]
    count = max([layers.get(component.query, 0), *known])
    yield from heat_strip(component, count, console.width, ascii_only=console.options.ascii_only)


def model_page(shown: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Everything known of one registered model."""
    yield Text(printable(shown["model"]), style="bold")
    sender = f"{shown['sender']}; all that follows is its word" if shown["sender"] else ""
    facts = [("added", shown["added"]), ("from", sender), ("former names", ", ".join(shown["former_names"]))]
    yield _facts(facts)
    yield from _claims(shown["claims"])
    for claim in shown["weighed_claims"]:
        yield Text(printable(claim_sentence(claim)))
    yield from _lying_beside(shown["structure"])
    for revision in shown["revisions"]:
        yield Text()
        yield Text(f"Revision {printable(revision['name'])}", style="bold")
        yield _facts(_revision_facts(revision))
        for fingerprint in revision["fingerprints"]:
            yield Text()
            yield Text(f"Fingerprint at level {fingerprint['level']}", style="bold")
            yield _facts(_fingerprint_facts(fingerprint))


def _claims(claims: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """What is said of the model, with what was withdrawn since."""
    if not claims:
        return
    yield Text()
    yield Text("Said of it (claims are no evidence)", style="bold")
    yield _facts(
        [(claim["kind"], f"{claim['value']} ({'' if claim['current'] else 'no longer '}in {claim['source']})") for claim in claims]
    )


def _lying_beside(parts: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """Vocabulary, code and licences that lay beside the weights, and how licences changed."""
    if not parts:
        return
    yield Text()
    yield Text("Beside its weights (no evidence either)", style="bold")
    facts = []
    for part in parts:
        changed = "" if part.get("kept_words") is None else f", {figures.share(part['kept_words'])} of the words as before"
        facts.append((part["kind"], f"{part['name']}, {part['first_seen'][:10]} to {part['last_seen'][:10]}{changed}"))
    yield _facts(facts)


def _revision_facts(revision: Mapping[str, Any]) -> list[tuple[str, str]]:
    config = revision["config"]
    facts = [
        ("content", revision["content"]),
        ("added", revision["added"]),
        ("parameters", figures.count(revision["parameters"])),
        ("bytes", size(revision["bytes_total"])),
        ("config", ", ".join(f"{name} {value}" for name, value in config.items())),
    ]
    for source in revision["sources"]:
        seen = f"first seen {source['first_seen'][:10]}, last seen {source['last_seen'][:10]}"
        facts.append((f"source ({source['who']})", f"{source['origin'] or 'not known'}, {seen}"))
        facts += [("file", f"{file['name']}, {size(file['size'])}") for file in source["files"]]
    return facts


def _fingerprint_facts(fingerprint: Mapping[str, Any]) -> list[tuple[str, str]]:
    about = fingerprint["about"]
    constants: dict[str, int] = {}
    for reason in (about["constants"] or {}).values():
        constants[reason] = constants.get(reason, 0) + 1
    return [
        ("spec, key", f"{fingerprint['spec']}, {fingerprint['key']}"),
        ("size", size(fingerprint["bytes"])),
        ("coverage", f"{about['coverage']:.1%} of the bytes have a known place"),
        ("guessed places", f"{about['guessed']:.1%} of the bytes, by shapes alone" if about.get("guessed") else ""),
        ("bytes read", f"{size(about['bytes_read'])} of {size(about['bytes_total'])}"),
        ("components", ", ".join(f"{name} ({about['layers'].get(name, 0)} layers)" for name in about["components"])),
        ("types", ", ".join(f"{name} {figures.count(number)}" for name, number in about["dtypes"].items())),
        ("quantization", about["quantization"]),
        ("no known place", ", ".join(about["unplaced"])),
        ("never evidence", ", ".join(f"{number} tensors: {reason}" for reason, number in sorted(constants.items()))),
    ]


def _facts(facts: Sequence[tuple[str, str]]) -> Table:
    """Names and values side by side; those without a value are left out."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value:
            table.add_row(printable(name), printable(value))
    return table
