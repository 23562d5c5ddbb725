"""The verbs on a registry in PostgreSQL: the same answers as on a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import modelkin
from calls import run
from postgres import Server


def told(*arguments: str, registry: str) -> Any:
    done = run(*arguments, "--json", registry=registry)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout if arguments[0] != "add" else done.stdout.splitlines()[-1])


def without_place(answer: Any) -> str:
    """An answer as text, without times and the registry's name."""
    if isinstance(answer, dict):
        passing = {"seconds", "added", "updated", "first_seen", "last_seen", "registry", "made", "noted"}
        return json.dumps({name: without_place(value) for name, value in answer.items() if name not in passing})
    return json.dumps([*map(without_place, answer)] if isinstance(answer, list) else answer)


def test_verbs_answer_as_on_a_file(filled: Path, postgres: Server) -> None:
    there = str(postgres.address())
    assert told("add", "parent", "stranger", registry=there)["status"] == "added"
    for call in (["query", "child"], ["list"], ["show", "parent"], ["tree"], ["compare", "child", "parent"], ["calibrate"]):
        assert without_place(told(*call, registry=there)) == without_place(told(*call, registry="r.db")), call
    assert told("rename", "parent", "mother", registry=there)["model"] == "mother"
    assert told("query", "child", registry=there)["relatives"][0]["model"] == "mother"
    assert told("doctor", registry=there) == {**told("doctor", registry="r.db"), "registry": there}
    assert told("export", "shared.modelkin-registry", registry=there)["models"] == 2
    assert told("remove", "stranger", "--yes", registry=there)["removed"] == ["stranger"]
    assert told("import", "shared.modelkin-registry", registry=there)["added"] == 1
    assert f"2 models in {there}" in run("list", registry=there).stderr


def test_a_registry_is_copied_there_and_back(filled: Path, postgres: Server) -> None:
    there = str(postgres.address())
    copied = told("registry", "copy", "r.db", there, registry="unused.db")
    assert (copied["source"], copied["registry"], copied["models"]) == ("r.db", there, 2)
    assert told("registry", "copy", there, "back.db", registry="unused.db")["table_rows"] == copied["table_rows"]
    for call in (["show", "parent"], ["query", "child"]):
        assert without_place(told(*call, registry="back.db")) == without_place(told(*call, registry="r.db"))
    again = run("registry", "copy", "r.db", there)
    assert again.exit_code == 4
    assert "is not empty, and nothing is written over" in again.stderr


def test_a_second_key_has_a_schema_of_its_own(filled: Path, postgres: Server) -> None:
    there = str(postgres.address())
    modelkin.key("new", "our.key")
    told("add", "parent", registry=there)
    assert run("refresh", there, "our.key", registry=there).exit_code == 0
    private = told("query", "child", "--key-file", "our.key", registry=there)
    assert (private["registry"]["key"], private["relatives"][0]["model"]) == (modelkin.key("show", "our.key").key, "parent")
    with modelkin.Registry.open(there) as registry:
        assert (str(registry.place), len(registry)) == (there, 1)


def test_screening_opens_it_again_in_its_workers(filled: Path, postgres: Server) -> None:
    there = str(postgres.address())
    told("add", "parent", "stranger", registry=there)
    Path("batch.csv").write_text("name,source\nchild,child\nfake,fake\n", encoding="utf-8")
    modelkin.screen("batch.csv", out="screened", jobs=2, registry=there)
    lines = Path("screened").glob("*.jsonl")
    assert any("parent" in path.read_text(encoding="utf-8") for path in lines)


@pytest.mark.parametrize("place", ["postgresql://me:hidden@localhost/models", "postgresql://localhost/models?password=hidden"])
def test_a_password_is_refused_and_not_told(filled: Path, place: str) -> None:
    said = run("list", registry=place)
    assert said.exit_code == 4
    assert "holds a password" in said.stderr
    assert "hidden" not in said.output


def test_without_a_server_it_says_so(filled: Path) -> None:
    pytest.importorskip("psycopg")
    said = run("list", "--json", registry="postgresql:///models?host=/nowhere")
    assert said.exit_code == 4
    assert "no connection. Check that the server runs" in json.loads(said.stdout)["error"]["message"]
