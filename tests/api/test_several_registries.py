"""Several registries asked as one, by the command line and in Python; what takes one registry refuses several by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import modelkin
from calls import run
from modelkin.errors import RegistryError
from modelkin_cli.main import VERBS
from modelkin_registry.answers.plain import to_plain
from tiny_models import save_model, tiny_llama, tuned

BOTH = ("--registry", "a.db", "--registry", "b.db")
ASKS = {
    "query": ["child"],
    "compare": ["child", "parent"],
    "trajectory": ["parent", "child"],
    "decompose": ["child"],
    "evidence": ["child", "parent", "-o", "pair.json"],
    "verify": ["given.json"],
    "screen": ["batch", "--out", "screening"],
}
NEEDS_NONE = {"audit", "fingerprint", "formats", "key", "registry"}
ONE = {
    "add": ["child"],
    "tree": [],
    "serve": ["--port", "0"],
    "sync": ["org/tiny"],
    "work": [],
    "list": [],
    "show": ["parent"],
    "rename": ["parent", "mother"],
    "tag": ["parent", "+kept"],
    "note": ["parent", "seen"],
    "remove": ["parent", "--yes"],
    "export": ["out.modelkin-registry"],
    "import": ["out.modelkin-registry"],
    "push": ["me/mine"],
    "pull": ["me/mine"],
    "calibrate": [],
    "upgrade": [],
    "refresh": ["private.db", "given.key"],
    "doctor": [],
    "registry new": [],
    "registry backup": ["backup.db"],
    "registry restore": ["a.db"],
}


@pytest.fixture
def two(models: Path) -> Path:
    """`parent` in b.db, `stranger` in a.db, and a model of both."""
    save_model(models / "common", tiny_llama(9))
    assert run("add", "stranger", "common", registry="a.db").exit_code == 0
    assert run("add", "parent", "common", registry="b.db").exit_code == 0
    return models


def asked(*arguments: str) -> dict[str, Any]:
    said = run(*arguments, "--json", registry=None)
    assert said.exit_code == 0, said.output
    return dict(json.loads(said.stdout))


def test_a_query_tells_which_registry_has_each_relative(two: Path) -> None:
    found = asked(*BOTH, "query", "child")
    assert [(one["model"], one["relation"], one["held_by"]) for one in found["relatives"]] == [
        ("parent", "fine-tuned", [{"registry": "b.db", "model": "parent"}])
    ]
    assert found["registry"]["models"] == 3
    assert [(one["name"], one["models"]) for one in found["registry"]["registries"]] == [("a.db", 2), ("b.db", 2)]
    common = asked(*BOTH, "query", "common")["relatives"]
    assert [one["held_by"] for one in common] == [[{"registry": "a.db", "model": "common"}, {"registry": "b.db", "model": "common"}]]
    assert found == asked("query", "child", "--registry", "b.db", "--registry", "a.db")


def test_the_answer_is_that_of_one_registry_with_all(two: Path) -> None:
    assert run("add", "stranger", "common", "parent", registry="whole.db").exit_code == 0
    for source in ("child", "fake", "common"):
        whole = asked("--registry", "whole.db", "query", source, "--all")
        joined = asked(*BOTH, "query", source, "--all")
        for one in joined["relatives"]:
            one["held_by"] = []
        joined["registry"]["registries"] = []
        del joined["explanation"][1]
        assert joined == whole


def test_python_asks_the_same(two: Path) -> None:
    answer = modelkin.query("child", registry=["a.db", Path("b.db")])
    assert to_plain(answer) == asked(*BOTH, "query", "child")
    with modelkin.Registries.open("b.db", "a.db") as registries:
        assert registries.query("child") == answer
        assert len(registries) == 3
        assert "parent" in registries
        assert modelkin.query("child", registry=registries) == answer
        assert modelkin.compare("child", "parent", registry=registries).relation == "fine-tuned"
        with pytest.raises(RegistryError, match="2 registries were given"):
            modelkin.add("child", registry=registries)
    with pytest.raises(RegistryError, match="two or more"):
        modelkin.Registries.open("a.db")


def test_conditions_are_met_in_either(two: Path) -> None:
    found = asked(*BOTH, "query", "child", "--where", "name=p*")
    assert [one["model"] for one in found["relatives"]] == ["parent"]
    assert "Only models with name=p* were asked: 1 of the registry's 3." in found["warnings"]


def test_each_question_asks_all(two: Path) -> None:
    shutil.copytree("child", "batch/child")
    assert run("evidence", "child", "parent", "-o", "given.json", registry="b.db").exit_code == 0
    for verb, arguments in ASKS.items():
        said = run(*BOTH, verb, *arguments, "--json", registry=None)
        assert said.exit_code == (verb == "screen"), (verb, said.output)  # where one was flagged
    assert asked(*BOTH, "compare", "child", "parent")["relation"] == "fine-tuned"
    assert asked(*BOTH, "decompose", "child")["registry"]["models"] == 3


def test_a_batch_is_screened_beside_all_by_processes_too(two: Path) -> None:
    for number in range(3):
        save_model(two / "batch" / f"own-{number}", tiny_llama(20 + number))
    save_model(two / "batch" / "taken", tuned(tiny_llama(1), 30))
    answer = modelkin.screen("batch", out="screening", jobs=2, registry=["a.db", "b.db"])
    found = {one.submission: {finding.relative for finding in one.findings} for one in answer.results}
    assert found["taken"] == {"parent"}
    assert found["own-1"] == set()
    assert answer.models == 3


def test_every_verb_asks_several_or_refuses_them(two: Path) -> None:
    assert {verb.partition(" ")[0] for verb in (*ASKS, *ONE)} | NEEDS_NONE == set(VERBS)
    run("key", "new", "given.key", registry=None)
    before = {name: Path(name).read_bytes() for name in ("a.db", "b.db")}
    for verb, arguments in ONE.items():
        said = run(*BOTH, *verb.split(), *arguments, registry=None)
        assert (said.exit_code, "2 registries were given" in said.stderr) == (4, True), (verb, said.output)
    assert {name: Path(name).read_bytes() for name in before} == before


def test_the_one_in_trouble_is_named(two: Path) -> None:
    Path("broken.db").write_bytes(b"SQLite format 3\0" + bytes(4096))
    modelkin.key("new", "our.key")
    assert run("--key-file", "our.key", "add", "parent", registry="private.db").exit_code == 0
    for other, words in (
        ("missing.db", "no registry"),
        ("broken.db", ""),
        ("private.db", "made with key 'private-"),
        ("./a.db", "given twice"),
    ):
        said = run("--registry", "a.db", "--registry", other, "query", "child", registry=None)
        assert said.exit_code == 4
        assert f"error: {Path(other)}: " in said.stderr
        assert words in said.stderr
        assert run("--registry", "a.db", "--registry", other, "compare", "child", "parent", registry=None).exit_code == 4


def test_the_environment_names_one(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile("b.db", "b c:d.db")
    monkeypatch.setenv("MODELKIN_REGISTRY", "b c:d.db")
    assert [one["model"] for one in asked("query", "child")["relatives"]] == ["parent"]
    assert [one["model"] for one in asked("--registry", "a.db", "query", "child")["relatives"]] == []


def test_a_report_tells_them(two: Path) -> None:
    assert run(*BOTH, "query", "child", "--report", "page.md", registry=None).exit_code == 0
    assert "2 registries were asked as one (a.db, b.db): parent is in b.db." in Path("page.md").read_text().replace("\\", "")


def test_under_several_keys_and_under_a_fresh_one_the_places_are_told_too(two: Path) -> None:
    modelkin.key("new", "our.key")
    for name in ("a.db", "b.db"):
        assert run("refresh", name, "our.key", registry=name).exit_code == 0
    keys = ("--key-file", "public", "--key-file", "our.key")
    found = asked(*BOTH, *keys, "query", "child")
    part = f"b.db.{found['registry']['key']}"
    assert [(one["model"], one["held_by"]) for one in found["relatives"]] == [("parent", [{"registry": part, "model": "parent"}])]
    assert any(f"parent is in {part}." in sentence for sentence in found["explanation"])
    confirmed = asked(*BOTH, "query", "child", "--confirm")
    assert [one["held_by"] for one in confirmed["relatives"]] == [[{"registry": "b.db", "model": "parent"}]]
    assert confirmed["confirmed"][0]["found"] == "fine-tuned"
    assert sum("parent is in b.db." in sentence for sentence in confirmed["explanation"]) == 1
