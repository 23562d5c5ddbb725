"""A view through its template: HTML that needs nothing from outside and runs nothing, or Markdown with its pictures beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from modelkin.made import Made
from modelkin.reporting import figures, pictures
from modelkin.reporting.texts import Texts, shown
from modelkin.reporting.view import Picture, View
from modelkin_indexer.spec import PUBLIC
from modelkin_registry.answers.claims import WeighedClaim
from modelkin_registry.answers.parts import Counterpart

MARKS = re.compile(r"([\\`*_{}\[\]<|~&$])")  # what Markdown or HTML in it could read as more than letters
COMMAND = re.compile(r"`([^`]+)`")
AT_LINE_START = re.compile(r"^(\s*)([-.#>+=]|\d+[.)])")


def html_page(view: View, subject: str, say: Texts) -> str:
    """The page as one HTML file."""
    style = (files("modelkin.reporting") / "templates" / "page.css").read_text(encoding="utf-8")
    return environment().get_template("page.html.j2").render(style=style, **_given(view, subject, say))


def html_sections(view: View, subject: str, say: Texts, address: Callable[[str], str]) -> tuple[str, str]:
    """What such a page has between its head and its foot: the answer, and what weights never show with how it was made.

    `address`: where a registered model has a page of its own.
    """
    given = _given(view, subject, say) | {"address": address}
    found = environment()
    return found.get_template("sections.html.j2").render(**given), found.get_template("coda.html.j2").render(**given)


def markdown_page(view: View, subject: str, say: Texts, names: Mapping[str, str]) -> str:
    """The page as Markdown. `names`: the file of each picture, as a link has it."""
    text = _environment("modelkin.reporting", autoescape=False).get_template("page.md.j2").render(files=names, **_given(view, subject, say))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def pictures_of(view: View) -> list[Picture]:
    """All pictures of a page."""
    found = [one for each in view.sections.get("evidence", ()) for c in each["components"] for one in c["pictures"].values() if one]
    tree = view.sections.get("tree")
    return found + ([tree["picture"]] if tree is not None and tree["picture"].svg else [])


def environment(*packages: str) -> Environment:
    """What makes HTML of templates: those of pages to hand on, and those of further packages. Whatever they are given is escaped."""
    return _environment("modelkin.reporting", *packages, autoescape=True)


@cache
def _environment(*packages: str, autoescape: bool) -> Environment:
    folders = [files(package) / "templates" for package in packages]
    sources = {file.name: file.read_text(encoding="utf-8") for folder in folders for file in folder.iterdir() if file.name.endswith(".j2")}
    found = Environment(loader=DictLoader(sources), autoescape=autoescape, undefined=StrictUndefined, trim_blocks=False)  # noqa: S701
    found.filters |= {
        "shown": shown,
        "pieces": pieces,
        "md": markdown,
        "columns": _columns,
        "tensor": _tensor,
        "flat": _flat,
        "claim": _claim,
    }
    found.filters["relative"] = _relative
    return found


def pieces(value: Any) -> list[tuple[str, bool]]:
    """A sentence for a terminal in pieces, each with whether it stood between backticks, as commands do."""
    return [(piece, bool(number % 2)) for number, piece in enumerate(COMMAND.split(shown(value))) if piece]


def markdown(value: Any) -> str:
    """A text in Markdown that stands for itself alone: marks of both languages have a backslash before them."""
    text = MARKS.sub(r"\\\1", shown(value))
    return AT_LINE_START.sub(r"\1\\\2", text)


def _given(view: View, subject: str, say: Texts) -> dict[str, Any]:
    made: Made = view.sections["made"]
    sections = {**dict.fromkeys(SECTIONS), **view.sections}
    page = View(view.title, view.headline, view.verdict, view.findings, view.warnings, view.ways, sections)
    told = {"made": _made(made, say), "inputs": _inputs(made, say)}
    return {"view": page, "say": say, "subject": subject, "scale": pictures.SCALE, "address": None, **told}


SECTIONS = (
    "compared",
    "relatives",
    "evidence",
    "controls",
    "exact",
    "merge",
    "trajectory",
    "tree",
    "claims",
    "beside",
    "screening",
    "made",
)


def _made(made: Made, say: Texts) -> list[tuple[str, str]]:
    """The rows of how it was made."""
    about_key = say("text", "key-public" if made.key == PUBLIC else "key-private")
    absent = say("text", "no-registry") if made.models is None else say("text", "registry-too-large", count=made.models)
    return [
        ("tool", f"modelkin {made.modelkin}"),
        ("spec", made.spec),
        ("key", f"{made.key}. {about_key}"),
        ("registry", made.registry or absent),
        *([] if made.models is None else [("models", figures.count(made.models))]),
        ("at", made.at),
        ("software", ", ".join(f"{name} {number}" for name, number in made.software.items())),
    ]


def _inputs(made: Made, say: Texts) -> list[tuple[str, ...]]:
    """A row a file; of an input without any, its name alone."""
    rows: list[tuple[str, ...]] = []
    for one in made.inputs:
        told = (one.name, say("role", one.role), one.revision or figures.NOTHING)
        rows += [(*told, f.name, figures.count(f.bytes), f.sha256 or figures.NOTHING) for f in one.files]
        rows += [] if one.files else [(*told, figures.NOTHING, figures.NOTHING, figures.NOTHING)]
    return rows


def _columns(row: Mapping[str, str]) -> Sequence[str]:
    return list(row.values())


def _tensor(row: Counterpart) -> Sequence[str]:
    return [
        row.query,
        row.relative or figures.NOTHING,
        row.found or figures.NOTHING,
        figures.correlation(row.r),
        figures.count(row.parameters),
    ]


def _flat(row: tuple[str, Sequence[str], str]) -> Sequence[str]:
    return [row[0] or "=", *row[1], row[2]]


def _claim(claim: WeighedClaim) -> Sequence[str]:
    return [f"{claim.kind}: {claim.value}", claim.model or figures.NOTHING, claim.source, claim.verdict]


def _relative(row: Mapping[str, Any]) -> Sequence[str]:
    return [row["model"], row["relation"], row["compared"], row["shared"], row["p"], ", ".join(row["families"])]
