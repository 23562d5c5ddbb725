"""add, query and compare as people and scripts use them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from calls import command, environment, run
from modelkin.taking import adding
from tiny_models import save_model, tiny_llama

CONTRACT = {
    "add": "contract source model status reason level spec key parameters coverage unplaced components bytes_total bytes_read "
    "fingerprint_bytes seconds",
    "query": "contract query registry relatives merge explanation warnings",
    "query.query": "source level parameters coverage components",
    "query.registry": "models spec key",
    "relative": "model relation also shared p_value components",
    "component": "query relative relation shared layer_map families",
    "family": "family channel r null_mean null_sd z p_value places parameters informative inherited raw_cosine raw_cosine_floor",
    "compare": "contract a b relation also shared p_value components controls exact explanation warnings",
    "control": "model a_c b_c",
}


def fields(of: str) -> set[str]:
    return set(CONTRACT[of].split())


# add


def test_add_prints_one_object_a_line_with_all_fields(models: Path) -> None:
    result = run("add", "parent", "missing", "stranger", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["status"] for line in lines] == ["added", "failed", "added"]
    assert all(set(line) >= fields("add") for line in lines)
    assert lines[1]["parameters"] is None
    assert "missing" in lines[1]["reason"]
    assert lines[0]["fingerprint_bytes"] > 1000
    assert lines[0]["seconds"] > 0
    assert result.exit_code == 3
    assert result.stderr == ""


def test_adding_again_is_unchanged_and_a_name_can_be_given(models: Path) -> None:
    assert run("add", "parent", "--as", "Mother").exit_code == 0
    again = json.loads(run("add", "parent", "--as", "Mother", "--json").stdout)
    assert (again["model"], again["status"]) == ("Mother", "unchanged")


def test_a_bad_file_is_reported_and_nothing_of_it_is_stored(models: Path) -> None:
    (models / "bad").mkdir()
    (models / "bad" / "model.safetensors").write_bytes(b"\xff" * 64)
    result = run("add", "bad", "parent")
    assert result.exit_code == 3
    assert "error: bad" in result.stderr
    assert "1 added, 1 failed" in result.stderr
    assert run("list", "-q").stdout.split() == ["parent"]


def test_two_sources_of_one_name_do_not_become_one_model(models: Path) -> None:
    save_model(models / "other" / "parent", tiny_llama(9))
    result = run("add", "parent", "other/parent", "--json")
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert (first["status"], second["status"]) == ("added", "failed")
    assert "--as" in second["reason"]
    assert run("compare", "parent", "parent", "-q").stdout.split() == ["identical"]


def test_a_name_that_cannot_be_stored_is_registry_trouble(models: Path) -> None:
    assert run("add", "parent", "--as", "a\nb").exit_code == 4


def test_as_with_several_sources_is_a_usage_error(models: Path) -> None:
    assert run("add", "parent", "child", "--as", "x").exit_code == 2


def test_a_hub_id_is_told_apart_from_a_path(models: Path) -> None:
    result = run("add", "org/name", "--json")
    assert result.exit_code == 3
    assert "MODELKIN_OFFLINE" in json.loads(result.stdout)["reason"]
    save_model(models / "org" / "name", tiny_llama(5))
    assert run("add", "org/name").exit_code == 0


def test_interrupted_adding_keeps_what_was_acknowledged(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = adding.reading_of

    def interrupted(source: str, *rest: Any) -> Any:
        if source == "stranger":
            raise KeyboardInterrupt
        return read(source, *rest)

    monkeypatch.setattr(adding, "reading_of", interrupted)
    result = run("add", "parent", "stranger", "child")
    assert result.exit_code == 130
    assert "Interrupted; 1 model was stored." in result.stderr
    assert run("list", "-q").stdout.split() == ["parent"]


def test_a_signal_ends_a_real_process_with_130(models: Path) -> None:
    sources = ["parent"] * 2000
    with subprocess.Popen(
        command("add", *sources, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=models, env=environment()
    ) as running:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["status"] == "added"
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors.strip() == "Interrupted; 1 model was stored."


# query


def test_query_prints_the_contract_and_no_number_that_is_not_json(filled: Path) -> None:
    result = run("query", "child", "--json", "--all")
    answer = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert result.exit_code == 0
    assert set(answer) >= fields("query")
    assert set(answer["query"]) >= fields("query.query")
    assert set(answer["registry"]) >= fields("query.registry")
    first, second = answer["relatives"]
    assert (first["model"], second["model"]) == ("parent", "stranger")
    assert set(first) >= fields("relative")
    assert set(first["components"][0]) >= fields("component")
    assert first["components"][0]["layer_map"] == [[0, 0], [1, 1], [2, 2]]
    families = {family["family"]: family for family in first["components"][0]["families"]}
    assert all(set(family) >= fields("family") for family in families.values())
    assert families["norm"]["informative"] is False
    assert families["attention"]["inherited"] is True


def test_the_answer_for_people_starts_with_the_finding(filled: Path) -> None:
    result = run("query", "child")
    flat = " ".join(result.stdout.split())
    assert flat.startswith("child is consistent with the weights of parent")
    assert "Relatives among 2 registered models" in flat
    assert "Layer by layer against parent" in flat
    assert result.stderr == ""


def test_norms_alone_cannot_be_read_as_a_finding(filled: Path) -> None:
    """The parent's norm gains on a stranger: their figure stands in brackets, below the rule, without the marks of evidence."""
    result = run("query", "fake")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("No relative by descent")
    assert "norms only" in result.stdout
    rule = next(number for number, line in enumerate(lines) if line.startswith("── low-information"))
    norm = next(number for number, line in enumerate(lines) if line.startswith("norm "))
    assert norm > rule
    assert re.search(r"\(1\.000\) =+$", lines[norm])
    assert not re.search(r"(?<!\d)9\d ?%|100 ?%", result.stdout.split("at most 100", 1)[-1])
    table = result.stdout.split("Relatives among")[1].split("Layer by layer")[0]
    assert "norm=" not in table


def test_a_fingerprint_file_answers_like_its_weights(filled: Path) -> None:
    assert run("fingerprint", "child", "-o", "child.modelkin").exit_code == 0
    from_file, from_weights = (json.loads(run("query", source, "--json").stdout) for source in ("child.modelkin", "child"))
    assert from_file["relatives"] == from_weights["relatives"]
    assert run("query", "child.modelkin", "--level", "probe").exit_code == 3
    assert run("fingerprint", "child", "-o", "child.txt").exit_code == 2
    assert run("fingerprint", "child", "-o", "nowhere/child.modelkin").exit_code == 2


def test_a_registered_name_is_no_source_but_gets_a_hint(filled: Path) -> None:
    (filled / "parent").rename(filled / "moved")
    result = run("query", "parent", "--json")
    assert result.exit_code == 3
    assert "compare parent" in result.stderr
    assert "compare parent" in json.loads(result.stdout)["error"]["remedy"]


def test_the_level_is_said(filled: Path) -> None:
    answer = json.loads(run("query", "child", "--level", "probe", "--json").stdout)
    assert answer["query"]["level"] == "probe"
    assert answer["relatives"][0]["model"] == "parent"


@pytest.mark.parametrize(("relation", "code"), [("descent", 1), ("fine-tuned", 1), ("identical", 0), ("merged", 0)])
def test_fail_on(filled: Path, relation: str, code: int) -> None:
    result = run("query", "child", "--fail-on", relation, "--json")
    assert result.exit_code == code
    assert json.loads(result.stdout)["relatives"]
    assert run("compare", "child", "parent", "--fail-on", relation, "-q").exit_code == code


def test_strangers_do_not_violate_descent(filled: Path) -> None:
    assert run("query", "fake", "--all", "--fail-on", "descent", "-q").exit_code == 0
    assert run("query", "fake", "--fail-on", "nonsense").exit_code == 2


# compare


def test_comparing_two_sources_needs_no_registry(models: Path, own_folder: Path) -> None:
    result = run("compare", "child", "parent", "--control", "stranger", "--json", registry=None)
    answer = json.loads(result.stdout)
    assert answer["relation"] == "fine-tuned"
    assert set(answer) >= fields("compare")
    assert [set(control) for control in answer["controls"]] == [fields("control")]
    assert not own_folder.exists()


def test_sources_and_names_can_be_mixed(filled: Path) -> None:
    (filled / "stranger").rename(filled / "moved")
    assert json.loads(run("compare", "child", "stranger", "--json").stdout)["relation"] == "unrelated"
    missing = run("compare", "child", "nobody")
    assert missing.exit_code == 3
    assert "modelkin list" in missing.stderr


@pytest.mark.parametrize("call", [("query", "child"), ("compare", "child", "parent")])
def test_tensors_are_listed_with_their_counterparts(filled: Path, call: tuple[str, ...]) -> None:
    plain, listed = (json.loads(run(*call, *more, "--json").stdout) for more in ((), ("--tensors",)))
    if call[0] == "query":
        plain, listed = plain["relatives"][0], listed["relatives"][0]
    assert plain["counterparts"].pop("tensors") is None
    rows = listed["counterparts"].pop("tensors")
    assert plain["counterparts"] == listed["counterparts"]
    assert len(rows) == sum(listed["counterparts"][way] for way in ("digest", "sketch", "shape", "name", "none")) > 0
    assert set(rows[0]) == {"query", "relative", "found", "r", "channel", "parameters"}
    page = run(*call, "--tensors").stdout
    assert "Tensors of child and their counterparts in parent" in page
    assert "text.0.attention.q" in page
    assert "Tensors of child" not in run(*call).stdout


def test_a_raw_cosine_never_stands_without_that_of_strangers(models: Path) -> None:
    out = run("compare", "fake", "stranger", "--control", "parent", registry=None, width=100).stdout
    table = out.split("low-information: says nothing of the other weights")[1].split("Layer by layer")[0]
    assert re.search(r"norm .* 0\.99\d \(strangers 0\.99\d\)", table)
    assert "A-C1" in table
