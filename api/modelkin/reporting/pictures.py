"""Pictures of a pair of models as SVG: layers by families, the layer map, and the pair among strangers.

Each is a whole SVG file by itself too: colours are attributes, so that no style sheet is needed, and what they tell stands in digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

from modelkin.reporting import figures
from modelkin.reporting.texts import Texts, shown
from modelkin_registry.answers.evidence import ComponentEvidence, FamilyEvidence

LABEL, CELL, ROW, END = 110, 38, 26, 250  # pixels: names, a layer, a row, and what stands behind the rows
BAND = 16  # layers side by side; more go on below
MARGIN, LETTERS = 8, 12
INK, FAINT, LINE = "#1a1a1a", "#595959", "#767676"
LOWEST, HIGHEST = -0.4, 1.0  # of the axis of r; what lies beyond stands at its end
HILL = 24  # pixels that a null's hill is high at most
AXIS = 420  # pixels of the axis of r


class Step(NamedTuple):
    """A step of the scale of r: from where, its name in the texts, its colour and that of the digits on it."""

    least: float
    name: str
    fill: str
    ink: str


# The steps of the heat strip in the terminal: 0.2 is about what chance gives a single layer, 0.95 and 0.4 part light from heavy changes.
SCALE = (
    Step(0.95, "0.95", "#08306b", "#ffffff"),
    Step(0.7, "0.7", "#2171b5", "#ffffff"),
    Step(0.4, "0.4", "#9ecae1", INK),
    Step(0.2, "0.2", "#deebf7", INK),
    Step(-2.0, "below", "#ffffff", INK),
)
LOW_FILL = "#eeeeee"  # of low-information cells: one grey, so that a row cannot be quoted as evidence


def heat_map(component: ComponentEvidence, layers: int, names: tuple[str, str], say: Texts) -> str:
    """Families down, layers of the query across, r in every cell; low-information families apart, in grey."""
    informative = [f for f in component.families if f.informative and f.r is not None]
    low = [f for f in component.families if not f.informative and f.r is not None]
    known = [layer + 1 for f in component.families for layer, _, _ in f.layers]
    count = max([layers, *known, 0])
    bands = [range(at, min(at + BAND, count)) for at in range(0, count, BAND)] or [range(0)]
    height = sum(ROW * (1 + len(informative) + (1 + len(low) if low else 0)) + MARGIN for _ in bands) + MARGIN
    width = LABEL + CELL * max((len(band) for band in bands), default=0) + END
    picture = _svg(width, height, say("text", "heat-title", subject=names[0], model=names[1], component=component.query))
    y = MARGIN
    for band in bands:
        for at, layer in enumerate(band):
            _text(picture, LABEL + CELL * at + CELL / 2, y + 16, str(layer), anchor="middle", fill=FAINT)
        y += ROW
        for family in informative:
            _heat_row(picture, family, band, y, say, faded=False)
            y += ROW
        if low:
            _text(picture, 0, y + 17, say("text", "heat-low"), fill=FAINT, style="italic")
            y += ROW
            for family in low:
                _heat_row(picture, family, band, y, say, faded=True)
                y += ROW
        y += MARGIN
    return _written(picture)


def _heat_row(picture: ElementTree.Element, family: FamilyEvidence, band: range, y: float, say: Texts, *, faded: bool) -> None:
    found: dict[int, tuple[float, int]] = {}
    for layer, other, r in family.layers:
        found[layer] = max((r, other), found.get(layer, (-2.0, -1)))
    _text(
        picture, LABEL - 8, y + 17, shown(family.family), anchor="end", fill=FAINT if faded else INK, style="italic" if faded else "normal"
    )
    if not family.layers and len(band):
        _text(picture, LABEL + 4, y + 17, f"({say('text', 'outside')})", fill=FAINT)
    for at, layer in enumerate(band if family.layers else ()):
        cell = ElementTree.SubElement(picture, "g")
        x = LABEL + CELL * at
        if layer not in found:
            ElementTree.SubElement(cell, "title").text = say("text", "cell-none", family=family.family, layer=layer)
            _rect(cell, x, y, "none", dashed=True)
            _text(cell, x + CELL / 2, y + 17, figures.NOTHING, anchor="middle", fill=FAINT)
            continue
        r, other = found[layer]
        step = next(one for one in SCALE if r >= one.least)
        words = {"family": family.family, "layer": layer, "other": other, "r": figures.correlation(r)}
        ElementTree.SubElement(cell, "title").text = say("text", "cell", **words)
        _rect(cell, x, y, LOW_FILL if faded else step.fill)
        digits = figures.correlation(r, 2).replace("0.", ".", 1)
        _text(cell, x + CELL / 2, y + 17, digits, anchor="middle", fill=INK if faded else step.ink, size=11)
    end = LABEL + CELL * max(len(band), 0) + 10
    told = f"({figures.correlation(family.r)})" if faded else f"r {figures.correlation(family.r)}"
    _text(picture, end, y + 17, f"{told}   {say('column', 'null').partition(' (')[0]} {figures.null(family)}", fill=FAINT if faded else INK)


def layer_map(component: ComponentEvidence, layers: tuple[int, int], names: tuple[str, str], say: Texts) -> str:
    """The query's layers above, the relative's below, a line from each to its counterpart; "" where none has one."""
    pairs = component.layer_map
    if not pairs:
        return ""
    above, below = (max([count, *(pair[side] + 1 for pair in pairs)]) for side, count in enumerate(layers))
    cell = max(12.0, min(36.0, 640 / max(above, below)))
    step = max(1, math.ceil(22 / cell))  # so that numbers do not run into each other
    width, height = MARGIN * 2 + cell * max(above, below), 132
    title = say("text", "map-title", subject=names[0], model=names[1], component=component.query)
    picture = _svg(width, height, title)
    for ours, theirs in pairs:
        x, to = MARGIN + cell * (ours + 0.5), MARGIN + cell * (theirs + 0.5)
        colour = "#2171b5" if ours == theirs else "#a63603"
        line = ElementTree.SubElement(picture, "line", _attributes(x1=x, y1=40, x2=to, y2=92, stroke=colour, stroke_width=2))
        ElementTree.SubElement(line, "title").text = f"{ours} – {theirs}"
    met = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    for side, (count, y) in enumerate(((above, 24), (below, 92))):
        for layer in range(count):
            fill = "#deebf7" if layer in met[side] else "none"
            x = MARGIN + cell * layer
            attributes = _attributes(x=x + 1, y=y, width=cell - 2, height=16, fill=fill, stroke=LINE)
            ElementTree.SubElement(picture, "rect", attributes)
            if layer % step == 0:
                _text(picture, x + cell / 2, y - 5 if side == 0 else y + 30, str(layer), anchor="middle", fill=INK, size=11)
    return _written(picture)


def among_strangers(component: ComponentEvidence, others: Mapping[str, Sequence[float]], names: tuple[str, str], say: Texts) -> str:
    """Each informative family's r on the hill of what strangers give; `others` are further models' r, by family. "" without any null."""
    told = [f for f in component.families if f.informative and f.r is not None and f.null_mean is not None and f.null_sd]
    if not told:
        return ""
    row = HILL + 18
    width, height = LABEL + AXIS + END, row * len(told) + 34
    picture = _svg(width, height, say("text", "strangers-title", subject=names[0], model=names[1], component=component.query))
    for at, family in enumerate(told):
        ground = row * at + row - 4
        words = {"family": family.family, "r": figures.correlation(family.r), "null": figures.null(family)}
        group = ElementTree.SubElement(picture, "g")
        ElementTree.SubElement(group, "title").text = say("text", "strangers-row", **words)
        _text(group, LABEL - 8, ground, shown(family.family), anchor="end", fill=INK)
        ElementTree.SubElement(group, "path", {"d": _hill(family, ground), "fill": "#bdbdbd", "stroke": LINE})
        ends = _attributes(x1=LABEL, y1=ground, x2=LABEL + AXIS, y2=ground, stroke=LINE)
        ElementTree.SubElement(group, "line", ends)
        for r in others.get(family.family, ()):
            ElementTree.SubElement(group, "circle", _attributes(cx=_at(r), cy=ground - 6, r=4, fill="none", stroke=INK))
        x = _at(family.r or 0.0)
        mark = _attributes(x1=x, y1=ground - HILL - 4, x2=x, y2=ground + 3, stroke="#a63603", stroke_width=3)
        ElementTree.SubElement(group, "line", mark)
        told_words = f"r {words['r']}   {say('column', 'null').partition(' (')[0]} {words['null']}"
        _text(group, LABEL + AXIS + 12, ground, told_words, fill=INK)
    for tick in (-0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        _text(picture, _at(tick), height - 8, f"{tick:.1f}".replace("-", "−"), anchor="middle", fill=FAINT, size=11)
    return _written(picture)


def _hill(family: FamilyEvidence, ground: float) -> str:
    """The outline of a null: a normal curve about its mean, four spreads to either side."""
    mean, sd = family.null_mean or 0.0, family.null_sd or 1.0
    points = [mean + sd * step / 8 for step in range(-32, 33)]
    curve = " ".join(f"L {_at(r):.1f} {ground - HILL * math.exp(-(((r - mean) / sd) ** 2) / 2):.1f}" for r in points)
    return f"M {_at(points[0]):.1f} {ground} {curve} L {_at(points[-1]):.1f} {ground} Z"


def _at(r: float) -> float:
    return LABEL + AXIS * (min(max(r, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST)


def _svg(width: float, height: float, title: str) -> ElementTree.Element:
    """An empty picture with its title, which is what a screen reader says of it."""
    size = {"viewBox": f"0 0 {width:.0f} {height:.0f}", "width": f"{width:.0f}", "height": f"{height:.0f}"}
    font = {"font-family": "system-ui, 'Noto Sans', 'Noto Sans CJK KR', sans-serif", "font-size": str(LETTERS)}
    picture = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "aria-label": title, **size, **font})
    ElementTree.SubElement(picture, "title").text = title
    return picture


def _text(parent: ElementTree.Element, x: float, y: float, words: str, **more: Any) -> None:
    style, size, anchor = more.pop("style", "normal"), more.pop("size", LETTERS), more.pop("anchor", "start")
    attributes = _attributes(x=x, y=y, text_anchor=anchor, font_size=size, font_style=style, **more)
    ElementTree.SubElement(parent, "text", attributes | {"xml:space": "preserve"}).text = words


def _rect(parent: ElementTree.Element, x: float, y: float, fill: str, *, dashed: bool = False) -> None:
    more = {"stroke_dasharray": "2 3"} if dashed else {}
    ElementTree.SubElement(parent, "rect", _attributes(x=x + 1, y=y + 1, width=CELL - 2, height=ROW - 2, fill=fill, stroke=LINE, **more))


def _attributes(**values: Any) -> dict[str, str]:
    return {name.replace("_", "-"): f"{value:.1f}" if isinstance(value, float) else str(value) for name, value in values.items()}


def _written(picture: ElementTree.Element) -> str:
    return ElementTree.tostring(picture, encoding="unicode")
