"""Everything known of one registered model, as people read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from modelkin.words import size
from modelkin_cli.pages import figures
from modelkin_cli.pages.sheets import Sheet
from modelkin_cli.pages.text import printable
from modelkin_registry.claims.declared import claim_sentence

if TYPE_CHECKING:
    from modelkin_registry.answers.upkeep import Shown


def model_page(shown: Shown) -> Iterator[RenderableType]:
    """Everything known of one registered model."""
    yield Text(printable(shown.model), style="bold")
    sender = f"{shown.sender}; all that follows is its word" if shown.sender else ""
    facts = [("added", shown.added), ("from", sender), ("former names", ", ".join(shown.former_names))]
    facts += [("tags", " ".join(shown.tags)), ("note", shown.note)]
    yield _facts(facts)
    yield from _claims(shown.claims)
    for claim in shown.weighed_claims:
        yield Text(printable(claim_sentence(claim)))
    yield from _lying_beside(shown.structure)
    for revision in shown.revisions:
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
    table = Sheet.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value:
            table.add_row(printable(name), printable(value))
    return table
