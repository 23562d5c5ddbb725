"""Questions about some of the registered models: `query --where`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import modelkin
from calls import run
from modelkin.errors import WrongFilter
from tiny_models import save_model, tiny_llama


def asked(*arguments: str) -> dict[str, Any]:
    said = run("query", "child", "--json", *arguments)
    assert said.exit_code == 0, said.output
    return dict(json.loads(said.stdout))


def test_only_models_that_meet_the_conditions_are_asked(filled: Path) -> None:
    assert [one["model"] for one in asked()["relatives"]] == ["parent"]
    found = asked("--where", "name=par*")
    assert [one["model"] for one in found["relatives"]] == ["parent"]
    assert found["registry"]["models"] == 1
    assert "Only models with name=par* were asked: 1 of the registry's 2." in found["warnings"]
    found = asked("--where", "name=str*", "--where", "parameters>1")
    assert found["relatives"] == []
    assert "Only models with name=str*, parameters>1 were asked: 1 of the registry's 2." in found["warnings"]
    assert asked("--where", "tag=none")["registry"]["models"] == 0
    assert [one["model"] for one in asked("--where", "name!=stranger", "--exact", "--all")["relatives"]] == ["parent"]


def test_a_condition_that_is_none_is_told_before_anything_is_read(filled: Path) -> None:
    said = run("query", "nothing there", "--where", "colour=red", "--json")
    assert (said.exit_code, json.loads(said.stdout)["error"]["kind"]) == (2, "WrongFilter")
    with pytest.raises(WrongFilter):
        modelkin.query("child", where=["colour=red"], registry="r.db")


def test_python_asks_the_same(filled: Path) -> None:
    answer = modelkin.query("child", where=["name=stranger"], registry="r.db")
    assert answer.relatives == ()
    assert modelkin.query("child", where=["name=parent"], registry="r.db").relatives[0].model == "parent"


def test_it_is_said_where_too_few_strangers_are_asked_to_judge_by(filled: Path) -> None:
    few = "Of the models asked none are unrelated and comparable"
    assert any(one.startswith(few) for one in asked("--where", "name=parent")["warnings"])
    assert any("asked 1 is unrelated" in one for one in asked("--where", "name!=nobody")["warnings"])
    assert not any("unrelated and comparable" in one for one in asked()["warnings"])
    assert not any(
        "unrelated and comparable" in one for one in asked("--where", "name=stranger")["warnings"]
    )  # no evidence, nothing to judge
    for number in range(8):
        save_model(filled / f"own-{number}", tiny_llama(40 + number))
        assert run("add", f"own-{number}").exit_code == 0
    assert not any("unrelated and comparable" in one for one in asked("--where", "name!=nobody")["warnings"])
