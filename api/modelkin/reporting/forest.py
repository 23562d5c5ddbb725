"""A family tree as rows for a page, and as a picture: every model once, below the one that it hangs on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree

from msgspec import Struct

from modelkin.reporting.figures import correlation
from modelkin.reporting.sentences import Sentences
from modelkin.reporting.texts import Texts, shown
from modelkin_registry.answers.tree import TreeAnswer, TreeEdge, TreeModel

KINDS = ("descent", "merge", "part", "shared start")  # a model hangs on the first of its edges in this order
DASHES = {"part": "6 4", "shared start": "2 4"}
ROW, INDENT, MARGIN, LETTER = 44, 32, 14, 7.2  # pixels; the width of a letter on average
LONGEST = 56  # letters of a name that are drawn; the list below the picture has all of it


class Branch(Struct, frozen=True):
    """A model, what it hangs on with, and what hangs on it. `relation`, `why`: the edge in words, "" of a root."""

    model: TreeModel
    depth: int
    edge: TreeEdge | None
    relation: str
    why: str
    further: tuple[str, ...]
    below: tuple[Branch, ...]


def branches(answer: TreeAnswer, say: Texts) -> list[Branch]:
    """The roots, with all that hangs on them."""
    models = {model.model: model for model in answer.models}
    edges: dict[str, list[TreeEdge]] = defaultdict(list)
    for edge in sorted(answer.edges, key=lambda one: (KINDS.index(one.kind), -(one.weight or 0.0), one.distance, one.parent)):
        edges[edge.child].append(edge)
    below: dict[str, list[str]] = defaultdict(list)
    for child, found in edges.items():
        if found[0].kind != "shared start":
            below[found[0].parent].append(child)
    hung = {child for children in below.values() for child in children}
    seen: set[str] = set()
    order = [*(name for name in models if name not in hung), *models]  # the second round reaches models that hang on each other
    return [_branch(name, 0, models, edges, below, seen, say) for name in order if name not in seen]


def _branch(
    name: str,
    depth: int,
    models: Mapping[str, TreeModel],
    edges: Mapping[str, list[TreeEdge]],
    below: Mapping[str, list[str]],
    seen: set[str],
    say: Texts,
) -> Branch:
    seen.add(name)
    found = edges.get(name, [])
    first = found[0] if depth else None
    further = tuple(say("text", "further", parent=one.parent, relation=_relation(one, say)) for one in found if one is not first)
    hanging = []
    for child in sorted(below.get(name, ())):
        if child in models and child not in seen:
            hanging.append(_branch(child, depth + 1, models, edges, below, seen, say))
    relation, why = ("", "") if first is None else (_relation(first, say), _why(first, say))
    return Branch(models[name], depth, first, relation, why, further, tuple(hanging))


def _relation(edge: TreeEdge, say: Texts) -> str:
    """`fine-tuned, r 0.996`, with the share of a merge and the parts of what is no whole."""
    words = ", ".join(say.known("relation", name) for name in (edge.relation, *edge.also))
    words += f", {say('column', 'weight')} {edge.weight:.2f}" if edge.weight is not None else ""
    words += f", r {correlation(edge.r)}" if edge.r is not None else ""
    return words + (f" ({', '.join(edge.families)})" if edge.kind == "part" else "")


def _why(edge: TreeEdge, say: Texts) -> str:
    if edge.direction == "hint":
        told = Sentences(say, (edge.parent, edge.child))
        return say("text", "hint", reasons="; ".join(one.text for one in told.all(edge.reasons)))
    return say("text", "direction-unknown")


def tree_picture(roots: list[Branch], say: Texts) -> str:
    """One model a row, indented under the one that it hangs on; "" of no models."""
    rows = list(_rows(roots))
    if not rows:
        return ""
    width = max(MARGIN * 3 + INDENT * row.depth + LETTER * max(len(_name(row)), len(row.relation) * 0.9) for row, _ in rows)
    size = {"viewBox": f"0 0 {width:.0f} {ROW * len(rows)}", "width": f"{width:.0f}", "height": str(ROW * len(rows))}
    title = say("text", "tree-title")
    font = {"font-family": "system-ui, 'Noto Sans', 'Noto Sans CJK KR', sans-serif", "font-size": "13"}
    picture = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "aria-label": title, **size, **font})
    ElementTree.SubElement(picture, "title").text = title
    for at, (row, above) in enumerate(rows):
        x, y = MARGIN + INDENT * row.depth, ROW * at + ROW / 2
        if above is not None and row.edge is not None:
            bend = f"M {x - INDENT} {ROW * above + ROW / 2} V {y} H {x - 6}"
            dashes = {"stroke-dasharray": DASHES[row.edge.kind]} if row.edge.kind in DASHES else {}
            ElementTree.SubElement(picture, "path", {"d": bend, "fill": "none", "stroke": "#595959", **dashes})
            if row.edge.direction == "hint":
                ElementTree.SubElement(picture, "path", {"d": f"M {x - 12} {y - 4} L {x - 5} {y} L {x - 12} {y + 4} z", "fill": "#595959"})
        ElementTree.SubElement(picture, "circle", {"cx": str(x), "cy": str(y), "r": "4", "fill": "#08306b"})
        ElementTree.SubElement(picture, "text", {"x": str(x + 10), "y": str(y + 1), "fill": "#1a1a1a"}).text = _name(row)
        below = {"x": str(x + 10), "y": str(y + 16), "fill": "#595959", "font-size": "11"}
        ElementTree.SubElement(picture, "text", below).text = row.relation
    return ElementTree.tostring(picture, encoding="unicode")


def _name(row: Branch) -> str:
    name = shown(row.model.model)
    copies = f" (= {len(row.model.copies)})" if row.model.copies else ""
    return (name if len(name) <= LONGEST else name[: LONGEST - 1] + "…") + copies


def _rows(roots: list[Branch]) -> Iterator[tuple[Branch, int | None]]:
    """Every branch in the order of the picture, with the row of the one above it."""
    waiting: list[tuple[Branch, int | None]] = [(root, None) for root in reversed(roots)]
    at = 0
    while waiting:
        row, above = waiting.pop()
        yield row, above
        waiting += [(child, at) for child in reversed(row.below)]
        at += 1
