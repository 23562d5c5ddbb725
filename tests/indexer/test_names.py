"""Names to places by the tables. `anatomy_names.txt` holds models of many architectures, and what each of their tensors is."""

from __future__ import annotations

import json
import re
from math import prod
from pathlib import Path
from random import Random
from typing import Any

import pytest

from modelkin_data import name_tables, parse_rules
from modelkin_indexer.anatomy.names import Naming, _endings, _pattern
from modelkin_indexer.anatomy.reading import read_anatomy
from modelkin_indexer.anatomy.splits import split_name
from modelkin_indexer.places import COMPONENTS, FAMILIES, TensorInfo


def infos(shapes: dict[str, tuple[int, ...]]) -> dict[str, TensorInfo]:
    return {name: TensorInfo(name, "F32", shape, 4 * prod(shape)) for name, shape in shapes.items()}


def sections() -> list[Any]:
    texts = (Path(__file__).parents[1] / "data" / "anatomy_names.txt").read_text(encoding="utf-8").strip().split("\n\n")
    parsed = [text.split("\n") for text in texts]
    return [pytest.param(json.loads(config), [line.split() for line in lines], id=title[2:]) for title, config, *lines in parsed]


def shapes_of(lines: list[list[str]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(int(axis) for axis in shape.split("x")) for name, shape, _ in lines}


@pytest.mark.parametrize(("config", "lines"), sections())
def test_architectures(config: dict[str, Any], lines: list[list[str]]) -> None:
    anatomy = read_anatomy(infos(shapes_of(lines)), config)
    found: dict[str, set[str]] = {name: {"constant"} for name in anatomy.constants}
    for piece in anatomy.pieces:
        for view in piece.views:
            place = piece.place
            found.setdefault(view.tensor, set()).add(f"{place.component}/{place.layer}/{place.family}/{place.role}")
    assert found == {name: set(places.split(",")) for name, _, places in lines}
    assert anatomy.unplaced == ()
    assert {(piece.place.component in COMPONENTS, piece.place.family in FAMILIES) for piece in anatomy.pieces} == {(True, True)}


def test_every_rule_is_used_by_some_architecture() -> None:
    used = set()
    for section in sections():
        config, lines = section.values
        splits = [split_name(name) for name, _, _ in lines]
        naming = Naming(splits, shapes_of(lines), config.get("model_type", ""))
        used |= {naming.meaning(split).rule for split in splits}
    assert [rule for rule in name_tables().rules if rule not in used] == []


def test_tables_refuse_unknown_and_missing_keys() -> None:
    rule = {"name": "a", "family": "mlp", "role": "up"}
    assert len(parse_rules("mlp", {"scope": "layer", "rules": [rule]})) == 1
    with pytest.raises(ValueError, match="table mlp: unknown key 'rol'"):
        parse_rules("mlp", {"scope": "layer", "rules": [rule | {"rol": "up"}]})
    with pytest.raises(ValueError, match="table mlp: unknown key 'scopes'"):
        parse_rules("mlp", {"scope": "layer", "scopes": "layer", "rules": [rule]})
    with pytest.raises(ValueError, match="lacks a key"):
        parse_rules("mlp", {"scope": "layer", "rules": [{"name": "a", "family": "mlp"}]})


def test_tables_speak_of_known_components_and_families_only() -> None:
    tables = name_tables()
    assert {rule.component for rule in tables.components} < set(COMPONENTS)
    assert {rule.family for rule in tables.rules} <= set(FAMILIES)
    assert {rule.layout for rule in tables.rules} == {"", "conv1d", "grouped"}


def sampled(pattern: Any, random: Random) -> str:
    """A text that a regular expression of words, groups and alternatives fits."""
    text = ""
    for kind, arguments in pattern:
        if str(kind) == "LITERAL":
            text += chr(arguments)
        else:
            text += sampled(random.choice(arguments[1]) if str(kind) == "BRANCH" else arguments[3], random)
    return text


def test_a_name_that_is_passed_over_uncompiled_fits_nothing() -> None:
    tables, random = name_tables(), Random(0)
    told = [(rule, endings) for rule in tables.rules if (endings := _endings(rule.name)) is not None]
    assert len(told) > len(tables.rules) / 2
    for rule, endings in told:
        pattern = _pattern(rule.name, rule.scope)
        body = pattern.pattern.removeprefix(r"(?:(?P<prefix>.*?)\.)??")
        for _ in range(30):
            name = sampled(re._parser.parse(body), random)  # type: ignore[attr-defined]
            assert pattern.fullmatch(name)
            assert name.endswith(endings), rule.name


@pytest.mark.parametrize("name", ["a|", "(a|)b", "a.({attention})", r"a.(\d+)", "norms?", "[ab]_proj"])
def test_names_that_do_not_tell_how_they_end(name: str) -> None:
    assert _endings(name) is None
