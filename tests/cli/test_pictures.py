"""The heat strip and the figures beside it."""

from __future__ import annotations

import re

import pytest

from modelkin.words import size
from modelkin_cli.pages import figures
from modelkin_cli.pages.pictures import SCALE, heat_strip, legend, step_of
from modelkin_registry.answers.evidence import ComponentEvidence, FamilyEvidence
from modelkin_registry.answers.plain import to_plain
from modelkin_registry.evidence.nulls import SMALLEST_P


def family(name: str, layers: range, r: float = 0.99, informative: bool = True) -> FamilyEvidence:
    return FamilyEvidence(
        name, "probe", r, 0.0, 0.02, 49.0, 1e-30, len(layers), 100, informative, True, layers=tuple((layer, layer, r) for layer in layers)
    )


def component(layers: int) -> ComponentEvidence:
    found = (family("attention", range(layers)), family("embedding", range(0)), family("norm", range(layers), informative=False))
    return ComponentEvidence("text", "text", "fine-tuned", 1.0, (), found)


def rows(lines: list[str], name: str) -> list[str]:
    return [line for line in lines if line.startswith(name)]


@pytest.mark.parametrize("width", [40, 56, 80, 120, 300])
@pytest.mark.parametrize("layers", [0, 1, 3, 5, 32, 48, 94, 200])
def test_no_line_is_wider_than_the_terminal_and_every_layer_is_there_once(layers: int, width: int) -> None:
    lines = [line.plain for line in heat_strip(component(layers), layers, width)]
    assert max(map(len, lines)) <= width
    marks = sum(line.count("█") for line in rows(lines, "attention"))
    assert marks in (layers, 2 * layers, 3 * layers)
    assert len(rows(lines, "attention")) == len(rows(lines, "norm")) >= 1
    assert all(len(line.plain) <= width for line in legend(width))


def test_the_ruler_numbers_the_column_below() -> None:
    faint = tuple((layer, layer, 0.0 if layer in (15, 40) else 0.99) for layer in range(60))
    found = FamilyEvidence("mlp", "probe", 0.9, 0.0, 0.02, 9.0, 1e-9, 60, 1, True, True, layers=faint)
    lines = [line.plain for line in heat_strip(ComponentEvidence("text", "text", "fine-tuned", 1.0, (), (found,)), 60, 80)]
    ruler, row = lines[0], lines[1]
    for layer in (15, 40):
        assert row[ruler.index(str(layer))] == "·"


def test_layers_without_a_counterpart_are_blank() -> None:
    found = ComponentEvidence("text", "text", "transplanted", 0.5, (), (family("mlp", range(1, 2)),))
    (row,) = rows([line.plain for line in heat_strip(found, 3, 80)], "mlp")
    assert re.fullmatch(r"mlp +0\.990 {5}███ {3}", row)


def test_low_information_has_marks_of_its_own() -> None:
    lines = [line.plain for line in heat_strip(component(4), 4, 80)]
    (norm,) = rows(lines, "norm")
    assert "(0.990)" in norm
    assert not set(norm) & {step.mark for step in SCALE}
    assert next(n for n, line in enumerate(lines) if "low-information" in line) < lines.index(norm)


def test_every_mark_is_told_apart_without_colour() -> None:
    for marks in ([step.mark for step in SCALE], [step.ascii_mark for step in SCALE]):
        assert len(set(marks)) == len(SCALE)
    assert all(step.ascii_mark.isascii() for step in SCALE)
    assert [step_of(r).least for r in (1.0, 0.7, 0.69, -1.0)] == [0.95, 0.7, 0.4, -2.0]


def test_figures_are_never_more_certain_than_they_are() -> None:
    assert [figures.correlation(r) for r in (1.0, 0.9996, 0.9812, -0.0001, None)] == ["1.000", "0.999", "0.981", "0.000", "-"]
    assert [figures.share(part) for part in (0.0, 0.001, 0.972, 0.999, 1.0)] == ["0 %", "1 %", "97 %", "99 %", "100 %"]
    assert [figures.probability(p) for p in (SMALLEST_P, 2.3e-12, 0.4, 1.0, None)] == ["<1e-30", "2e-12", "0.4", "1", "-"]
    assert [size(number) for number in (12, 37_011, 4_386_240, None)] == ["12 B", "37.0 kB", "4.4 MB", "-"]


def test_what_is_no_number_becomes_null() -> None:
    answer = to_plain({"a": float("nan"), "b": (float("-inf"), 1.5), "c": family("mlp", range(1))})
    assert answer["a"] is None
    assert answer["b"] == [None, 1.5]
    assert answer["c"]["layers"] == [[0, 0, 0.99]]


@pytest.mark.parametrize("width", [12, 20, 30, 39])
@pytest.mark.parametrize("layers", [0, 1, 32, 94])
def test_a_narrow_strip_has_its_marks_below_the_figures(layers: int, width: int) -> None:
    lines = [line.plain for line in heat_strip(component(layers), layers, width)]
    assert max(map(len, lines)) <= width
    assert sum(line.count("█") for line in lines) == layers
    assert "(outside the layers)" in " ".join(lines)
