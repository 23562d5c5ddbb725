"""A family tree as DOT (for Graphviz) and as an SVG picture. Every name is escaped: names are strangers' words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from xml.etree import ElementTree

from modelkin_cli.pages.text import printable
from modelkin_cli.pages.trees.layout import Row, rows
from modelkin_cli.pages.trees.page import edge_words
from modelkin_registry.answers.tree import TreeAnswer, TreeEdge

ROW, INDENT, MARGIN = 44, 36, 16  # pixels
LETTER = 7.2  # width of a letter of the font below, on average
STYLES = {"descent": "solid", "merge": "bold", "part": "dashed", "shared start": "dotted"}
DASHES = {"part": "6 4", "shared start": "2 4"}
COLOURS = {"descent": "#333333", "merge": "#7a3fa0", "part": "#1f6f9f", "shared start": "#999999"}
LONGEST = 80  # letters of a name that are drawn; the title has all of it


def dot(answer: TreeAnswer) -> str:
    """The forest as a Graphviz digraph; edges of unknown direction have no arrow head."""
    lines = [
        "digraph modelkin {",
        "  rankdir=LR;",
        '  node [shape=box, fontname="sans-serif"];',
        '  edge [fontname="sans-serif", fontsize=10];',
    ]
    lines += [f"  {_quoted(model.model)};" for model in answer.models]
    lines += [f"  {_quoted(name)};" for name in answer.alone]
    for edge in answer.edges:
        head = "" if edge.direction == "hint" else ", dir=none"
        lines.append(
            f"  {_quoted(edge.parent)} -> {_quoted(edge.child)} [label={_quoted(edge_words(edge))}, style={STYLES[edge.kind]}{head}];"
        )
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    """A DOT string: its only special characters are the quote and the backslash, and line ends are escaped before."""
    shown = printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{shown}"'


def svg(answer: TreeAnswer) -> str:
    """The forest as a picture: one model a row, lines to what it hangs on, curves to further parents."""
    placed = rows(answer)
    at = {row.model.model: number for number, row in enumerate(placed)}
    width = max((MARGIN * 2 + INDENT * row.depth + LETTER * max(map(len, _words(row))) for row in placed), default=2 * MARGIN) + MARGIN
    height = 2 * MARGIN + ROW * max(len(placed), 1)
    size = {"viewBox": f"0 0 {width:.0f} {height}", "width": f"{width:.0f}", "height": str(height)}
    picture = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "font-family": "sans-serif", "font-size": "13", **size})
    ElementTree.SubElement(picture, "title").text = "Family tree. Directions are hints."
    picture.append(_arrow())
    for row in placed:
        for edge in ([row.edge] if row.edge else []) + list(row.further):
            if edge.parent in at:
                picture.append(_line(edge, placed[at[edge.parent]], at[edge.parent], row, at[row.model.model], straight=edge is row.edge))
    for number, row in enumerate(placed):
        picture.extend(_texts(row, number))
    return ElementTree.tostring(picture, encoding="unicode") + "\n"


def _words(row: Row) -> tuple[str, str]:
    name = printable(row.model.model)
    copies = f" (= {len(row.model.copies)} more)" if row.model.copies else ""
    below = edge_words(row.edge) if row.edge else ""
    return (name if len(name) <= LONGEST else name[: LONGEST - 3] + "...") + copies, below


def _place(row: Row, number: int) -> tuple[float, float]:
    return MARGIN + INDENT * row.depth, MARGIN + ROW * number + ROW / 2


def _texts(row: Row, number: int) -> Iterator[ElementTree.Element]:
    x, y = _place(row, number)
    name, below = _words(row)
    yield _element("circle", None, cx=x, cy=y, r=4)
    text = _element("text", name, x=x + 10, y=y + 1)
    ElementTree.SubElement(text, "title").text = printable("; ".join(filter(None, (row.model.model, row.model.said, *row.model.copies))))
    yield text
    yield _element("text", below, x=x + 10, y=y + 15, fill="#666666", font_size=10)


def _line(edge: TreeEdge, above: Row, upper: int, row: Row, number: int, *, straight: bool) -> ElementTree.Element:
    (x, y), (to_x, to_y) = _place(above, upper), _place(row, number)
    bend = f"M {x} {y} V {to_y} H {to_x - 6}" if straight else f"M {x} {y} C {x - 30} {(y + to_y) / 2} {to_x - 40} {to_y} {to_x - 6} {to_y}"
    more = {"stroke_dasharray": DASHES[edge.kind]} if edge.kind in DASHES else {}
    if edge.direction == "hint":
        more["marker_end"] = "url(#arrow)"
    drawn = _element("path", None, d=bend, fill="none", stroke=COLOURS[edge.kind], **more)
    reasons = "; ".join(edge.reasons) or "direction unknown"
    ElementTree.SubElement(drawn, "title").text = printable(f"{edge.parent} - {edge.child}: {edge_words(edge)}; {reasons}")
    return drawn


def _arrow() -> ElementTree.Element:
    marker = _element("marker", None, id="arrow", viewBox="0 0 8 8", refX=7, refY=4, markerWidth=7, markerHeight=7, orient="auto")
    marker.append(_element("path", None, d="M 0 0 L 8 4 L 0 8 z"))
    return marker


def _element(tag: str, words: str | None, **attributes: object) -> ElementTree.Element:
    """An element; the library escapes what stands in it."""
    found = ElementTree.Element(tag, {name.replace("_", "-"): str(value) for name, value in attributes.items()})
    found.text = words
    return found


def names(answer: TreeAnswer) -> Sequence[str]:
    """The models shown, for --quiet."""
    shown: Iterable[str] = (model.model for model in answer.models)
    return [*shown, *answer.alone]
