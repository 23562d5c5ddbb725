"""What an import says is its sender's word: whatever it says, nothing that was here before is displaced, dated, renamed or given a name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import models
from calls import run
from modelkin_indexer.results.beside import Claim, SourceFile
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.registry import Registry
from modelkin_registry.sharing.shared_files import MODELS
from shared_archives import rewritten

FILES = (SourceFile("model.safetensors", 5, "sha256:1"),)
OLD, AHEAD = "1999-01-01T00:00:00.000000+00:00", "2099-01-01T00:00:00.000000+00:00"
LOCAL = ("org/m", "base", "child")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fingerprint]:
    folder = tmp_path_factory.mktemp("poison")
    base = models.llama(1, layers=2)
    made = {
        "base": base,
        "child": models.trained_on(base, 5, 0.1),
        "hub": models.llama(2, layers=2),
        "newer": models.trained_on(models.llama(2, layers=2), 6, 0.1),
        "stranger": models.llama(3, layers=2),
        "copy": models.trained_on(base, 7, 0.05),
    }
    return {name: models.fingerprint(folder / name, tensors) for name, tensors in made.items()}


@pytest.fixture
def here(tmp_path: Path, found: dict[str, Fingerprint]) -> Iterator[Registry]:
    with Registry.open(tmp_path / "here.db") as registry:
        registry.add("org/m", found["hub"], origin="org/m@1", who="hub", files=FILES, claims=[Claim("license", "mit", "README.md")])
        registry.add("base", found["base"], origin="/models/base")
        registry.add("child", found["child"], origin="/models/child", claims=[Claim("base_model", "base", "README.md")])
        yield registry


def archive(folder: Path, given: list[tuple[str, Fingerprint]], change: Callable[[dict[str, Any]], None]) -> Path:
    """An export whose lines of models were changed by its author."""
    for left in folder.glob("there.db*"):
        left.unlink()
    with Registry.open(folder / "there.db") as there:
        for name, fingerprint in given:
            there.add(name, fingerprint, origin="/elsewhere", files=FILES, claims=[Claim("license", "none", "README.md")])
        (folder / "sent").unlink(missing_ok=True)
        there.export(folder / "sent")

    def forge(entries: dict[str, bytes]) -> None:
        lines = [json.loads(line) for line in entries[MODELS].splitlines()]
        for line in lines:
            change(line)
        entries[MODELS] = b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    rewritten(folder / "sent", forge)
    return folder / "sent"


def dated(at: str) -> Callable[[dict[str, Any]], None]:
    """All times of a model set to one."""

    def change(value: Any) -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                if name in ("added", "first_seen", "last_seen"):
                    value[name] = at
                change(item)
        elif isinstance(value, list):
            for item in value:
                change(item)

    return change


def said(registry: Registry) -> dict[str, Any]:
    """Everything that is told of what was here."""
    store = registry.store
    numbers = [store.get(name).revision for name in LOCAL]
    return {
        "shown": {name: registry.show(name) for name in LOCAL},
        "listed": [line for line in registry.list() if not line.sender],
        "meant": store.claims.aliases()[0],
        "names": store.names_of(numbers),
        "of files": store.models_of_files(FILES),
        "claims": {name: claims for name, claims in store.claims.current().items() if name in LOCAL},
    }


def as_hub(model: dict[str, Any]) -> None:
    for revision in model["revisions"]:
        for source in revision["sources"]:
            source["who"], source["origin"] = "hub", "org/m@2"


def test_a_hub_origin_and_a_newer_date_displace_nothing(here: Registry, tmp_path: Path, found: dict[str, Fingerprint]) -> None:
    before = said(here)
    for at in (OLD, AHEAD):
        sent = archive(tmp_path, [("org/m", found["newer"])], lambda model, at=at: (dated(at)(model), as_hub(model)))  # type: ignore[misc]
        here.take_in(sent, sender=f"sent {at[:4]}")
    assert said(here) == before
    assert here.store.get("org/m").blob == found["hub"].to_bytes()
    assert here.query(found["hub"]).relatives[0].model == "org/m"
    assert here.add("org/m", found["newer"], origin="org/m@2", who="hub").name == "org/m"
    assert here.store.get("org/m").sender == ""


def test_what_dates_itself_back_is_no_parent(here: Registry, tmp_path: Path, found: dict[str, Fingerprint]) -> None:
    before = said(here)

    def change(model: dict[str, Any]) -> None:
        dated(OLD)(model)
        model["former_names"] = ["base", "child", "their/base", "org/m"]

    (taken,) = here.take_in(archive(tmp_path, [("their/copy", found["copy"])], change))[0]
    assert said(here) == before
    assert here.store.find("their/base") is None
    assert here.show(taken.name)["added"] > here.show("child")["added"]
    assert {(claim["kind"], claim["value"]) for claim in here.show(taken.name)["claims"]} >= {("former_name", "their/base")}
    edges = here.tree().edges
    assert not [edge for edge in edges if edge.parent == taken.name and edge.direction != "unknown"]


def test_files_that_an_import_names_are_not_believed(here: Registry, tmp_path: Path, found: dict[str, Fingerprint]) -> None:
    """Else its author could have other weights taken for those of a file."""
    here.remove("org/m")
    here.take_in(archive(tmp_path, [("x", found["stranger"])], lambda _: None))
    assert here.store.models_of_files(FILES) == []


def test_a_name_that_was_imported_is_given_to_what_is_read_here(here: Registry, tmp_path: Path, found: dict[str, Fingerprint]) -> None:
    here.take_in(archive(tmp_path, [("new", found["stranger"])], lambda _: None))
    kept = here.add("new", found["newer"]).kept
    assert kept.startswith("new#")
    assert (here.store.get("new").sender, here.store.get(kept).sender) == ("", "sent")
    assert [one.model for one in here.query(found["stranger"]).relatives] == [kept]


def test_claims_mean_what_was_read_here_first(here: Registry, tmp_path: Path, found: dict[str, Fingerprint]) -> None:
    asked = [Claim("base_model", "somebody/base", "README.md")]
    before = here.query(found["copy"], claims=asked).claims
    here.take_in(archive(tmp_path, [("somebody/base", found["stranger"])], lambda _: None))
    assert here.query(found["copy"], claims=asked).claims == before
    assert before[0].model == "base"


def test_where_a_model_came_from_is_shown(filled: Path) -> None:
    assert run("export", "sent").exit_code == 0
    assert run("import", "sent", registry="other.db").exit_code == 0
    assert "parent (from sent)" in run("list", registry="other.db").output
    assert "sent; all that follows is its word" in run("show", "parent", registry="other.db").output
    answer = json.loads(run("query", "parent", "--json", registry="other.db").stdout)
    assert "parent: from sent; its name and all that is said of it are its sender's word." in answer["warnings"]
    assert answer["relatives"][0]["source"].startswith("from sent: ")


NAMES = st.sampled_from([*LOCAL, "org/m@12345678", "other", "base#1", "BASE"])
TIMES = st.sampled_from([OLD, AHEAD, "2026-01-01T00:00:00.000000+00:00"])


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_no_poison_moves_what_is_here(here: Registry, tmp_path: Path, found: dict[str, Fingerprint], data: st.DataObject) -> None:
    """Fifty authors, each with names, dates, origins, former names and claims of their choice."""
    before = said(here)

    def change(model: dict[str, Any]) -> None:
        dated(data.draw(TIMES))(model)
        model["former_names"] = data.draw(st.lists(NAMES, max_size=3, unique=True))
        for revision in model["revisions"]:
            for source in revision["sources"]:
                source["who"] = data.draw(st.sampled_from(["hub", "local", "", "tester"]))
                source["origin"] = data.draw(st.sampled_from(["org/m@1", "org/m@2", "/models/base", ""]))
        model["claims"] = [
            {"kind": kind, "value": data.draw(NAMES), "source": "README.md", "first_seen": OLD, "last_seen": data.draw(TIMES)}
            for kind in data.draw(st.lists(st.sampled_from(["base_model", "license", "hub_status"]), max_size=3, unique=True))
        ]

    weights = data.draw(st.lists(st.sampled_from(sorted(found)), min_size=1, max_size=2, unique=True))
    given_names = data.draw(st.lists(NAMES, min_size=len(weights), max_size=len(weights), unique=True))
    sent = archive(tmp_path, [(name, found[one]) for name, one in zip(given_names, weights, strict=True)], change)
    here.take_in(sent, sender=data.draw(st.sampled_from(["a", "b"])))
    assert said(here) == before
    assert {finding.state for finding in here.examine()} == {"ok"}
