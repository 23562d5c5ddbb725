"""The command line as people and scripts use it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from click.testing import CliRunner, Result

import modelkin_data.starter
from modelkin_cli.commands import remove
from modelkin_cli.main import VERBS, cli
from modelkin_registry.registry import Registry
from tiny_models import save_model, tiny_llama, tuned, with_norms_of

ROOT = Path(__file__).resolve().parent.parent
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


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own user data folder and no settings from outside; it runs in its own folder."""
    home = tmp_path / "home"
    monkeypatch.setattr(platformdirs, "user_data_dir", lambda *_, **__: str(home))
    for name in ("MODELKIN_REGISTRY", "MODELKIN_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """`parent`, its fine-tune `child`, a `stranger`, and `fake`: a stranger that wears the parent's norm gains."""
    parent, stranger = tiny_llama(1), tiny_llama(2)
    made = {"parent": parent, "child": tuned(parent, 3), "stranger": stranger, "fake": with_norms_of(tiny_llama(4), parent)}
    for name, tensors in made.items():
        save_model(tmp_path / name, tensors)
    return tmp_path


@pytest.fixture
def filled(models: Path) -> Path:
    """The models, with `parent` and `stranger` in r.db."""
    assert run("add", "parent", "stranger").exit_code == 0
    return models


def run(*arguments: str, registry: str | None = "r.db", width: int = 80, **more: Any) -> Result:
    """One call in this process."""
    before = ["--registry", registry] if registry else []
    return CliRunner().invoke(cli, [*before, *arguments], env={"COLUMNS": str(width)}, **more)


def process(*arguments: str, cwd: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """One call as a process of its own."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, env=environment(), check=False, **more)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "modelkin_cli", "--registry", "r.db", *arguments]


def environment() -> dict[str, str]:
    paths = os.pathsep.join(str(ROOT / part) for part in ("indexer", "registry", "cli", "data"))
    return {**os.environ, "PYTHONPATH": paths, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}


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
    assert "Hub" in json.loads(result.stdout)["reason"]
    save_model(models / "org" / "name", tiny_llama(5))
    assert run("add", "org/name").exit_code == 0


def test_interrupted_adding_keeps_what_was_acknowledged(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelkin_cli import adding

    read = adding.read_source

    def interrupted(source: str, *rest: Any) -> Any:
        if source == "stranger":
            raise KeyboardInterrupt
        return read(source, *rest)

    monkeypatch.setattr(adding, "read_source", interrupted)
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
    assert flat.startswith("child is consistent with a fine-tune of parent")
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
    assert not re.search(r"(?<!\d)9\d ?%|100 ?%", result.stdout)
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
    assert result.stdout == ""


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


def test_a_raw_cosine_never_stands_without_that_of_strangers(models: Path) -> None:
    out = run("compare", "fake", "stranger", "--control", "parent", registry=None, width=100).stdout
    table = out.split("low-information: says nothing of the other weights")[1].split("Layer by layer")[0]
    assert re.search(r"norm .* 0\.99\d \(strangers 0\.99\d\)", table)
    assert "A-C1" in table


# the other verbs


def test_list_show_rename_remove(filled: Path) -> None:
    listed = json.loads(run("list", "--json").stdout)
    assert [model["model"] for model in listed["models"]] == ["parent", "stranger"]
    assert run("rename", "parent", "mother").exit_code == 0
    shown = json.loads(run("show", "parent", "--json").stdout)
    assert (shown["contract"], shown["model"], shown["former_names"]) == (1, "mother", ["parent"])
    assert "former names" in run("show", "mother").stdout
    assert run("remove", "mother", "nobody", "--yes").exit_code == 4
    assert run("list", "-q").stdout.split() == ["mother", "stranger"]
    assert run("remove", "mother", "parent", "stranger", "--yes", "-q").stdout.split() == ["mother", "stranger"]
    assert run("list", "-q").stdout == ""
    assert run("rename", "mother", "x").exit_code == 4


def test_remove_asks_a_person_and_nobody_else(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unanswered = run("remove", "parent")
    assert unanswered.exit_code == 2
    assert "--yes" in unanswered.stderr
    monkeypatch.setattr(remove, "somebody_is_there", lambda: True)
    assert run("remove", "parent", input="n\n").exit_code == 0
    assert run("list", "-q").stdout.split() == ["parent", "stranger"]
    assert run("remove", "parent", input="y\n").exit_code == 0
    assert run("list", "-q").stdout.split() == ["stranger"]


def test_doctor_looks_mends_and_says_so(filled: Path) -> None:
    assert json.loads(run("doctor", "--json").stdout)["clean"] is True
    with Registry.open("r.db") as registry, registry.store.batch():
        registry.store.database.conn.execute(
            "UPDATE vector SET data = zeroblob(length(data)) WHERE kind LIKE 'family/%' OR kind NOT LIKE '%/%'"
        )
    looked = run("doctor", "--check", "--json")
    assert looked.exit_code == 4
    assert json.loads(looked.stdout)["clean"] is False
    mended = run("doctor")
    assert mended.exit_code == 0
    assert "repaired" in mended.stdout
    assert run("doctor", "--check").exit_code == 0


# which registry


def test_a_registry_that_is_not_there_is_made_by_add_only(models: Path) -> None:
    for call in (["query", "child"], ["list"], ["show", "x"], ["doctor"], ["rename", "a", "b"], ["remove", "a", "--yes"]):
        result = run(*call, registry="none.db")
        assert result.exit_code == 4, call
        assert "modelkin add" in result.stderr
    assert not (models / "none.db").exists()


def test_the_registry_may_be_named_before_or_after_the_verb_or_in_the_environment(models: Path) -> None:
    assert run("add", "parent", "--registry", "after.db", registry="before.db").exit_code == 0
    assert not (models / "before.db").exists()
    listed = CliRunner().invoke(cli, ["list", "-q"], env={"MODELKIN_REGISTRY": "after.db"})
    assert listed.stdout.split() == ["parent"]


@pytest.fixture
def starter(models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A packaged starter registry that holds `parent`."""
    assert run("add", "parent", registry="starter.db").exit_code == 0
    monkeypatch.setattr(modelkin_data.starter, "path", lambda: models / "starter.db")
    return models / "starter.db"


@pytest.mark.parametrize("call", [["query", "child", "-q"], ["list", "-q"], ["show", "parent", "-q"], ["compare", "child", "parent", "-q"]])
def test_a_new_users_registry_begins_with_the_starter(starter: Path, own_folder: Path, call: list[str]) -> None:
    (starter.parent / "parent").rename(starter.parent / "moved")
    result = run(*call, registry=None)
    assert result.exit_code == 0
    assert result.stdout.split() in (["parent"], ["fine-tuned"])
    assert [path.name for path in own_folder.iterdir() if path.is_file()] == ["registry.db"]


def test_the_starter_is_announced_once_and_added_to(starter: Path, own_folder: Path) -> None:
    first = run("add", "stranger", registry=None)
    assert "begun with the models that come with modelkin" in first.stderr
    assert run("list", "-q", registry=None).stdout.split() == ["parent", "stranger"]
    assert run("list", registry="r.db").exit_code == 4
    assert "begun" not in run("list", registry=None).stderr


def test_without_the_starter(starter: Path, own_folder: Path) -> None:
    assert run("query", "child", "--no-starter", registry=None).exit_code == 4
    assert run("add", "stranger", "--no-starter", registry=None).exit_code == 0
    assert run("list", "-q", registry=None).stdout.split() == ["stranger"]


def test_a_package_without_a_starter_begins_empty(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelkin_data.starter, "path", lambda: None)
    result = run("query", "child", registry=None)
    assert result.exit_code == 0
    assert "modelkin add" in result.stderr


def test_a_private_key_is_used_and_never_shown(models: Path, own_folder: Path) -> None:
    secret = "ab" * 32
    (models / "key").write_text(secret + "\n")
    (models / "raw").write_bytes(bytes.fromhex(secret))
    result = run("add", "parent", "--json", "--key-file", "key")
    assert result.exit_code == 0
    key = json.loads(result.stdout)["key"]
    assert key.startswith("private-")
    assert run("query", "child", "--key-file", "raw", "-q").stdout.split() == ["parent"]
    assert run("query", "child").exit_code == 4
    everything = result.output + run("show", "parent", "--key-file", "key", "--json").output
    assert secret[:8] not in everything.replace(key, "")


@pytest.mark.parametrize("content", [b"", b"abc", b"zz" * 32, b"\xff" * 31])
def test_a_file_that_holds_no_key_is_a_usage_error(models: Path, content: bytes) -> None:
    (models / "key").write_bytes(content)
    result = run("add", "parent", "--key-file", "key")
    assert result.exit_code == 2
    assert not isinstance(result.exception, UnicodeDecodeError)
    assert run("list", "--key-file", "nothing").exit_code == 2


# printing


HOSTILE = ["[red]x[/red]", "[/]", "a[bold]", "\x1b[31mred", "\u202ename", ":smile:"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_printed_as_they_are_and_steer_nothing(models: Path, name: str) -> None:
    shown = name.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    (models / name).parent.mkdir(exist_ok=True)
    (models / "child").rename(models / name)
    (models / "parent").rename(models / "p")
    stored = name if name.isprintable() else "plain"
    assert run("add", "p", "--as", stored).exit_code == 0
    for call in (["query", name], ["compare", name, "p"], ["compare", "p", name, "--control", "stranger"]):
        result = run(*call, width=200)
        assert result.exit_code == 0
        assert shown in result.stdout
        assert "\x1b" not in result.output
        assert "\u202e" not in result.output
    assert stored in run("list", width=200).stdout
    assert stored in run("show", stored, width=200).stdout
    assert "\x1b" not in run("add", name + "-missing").output


def test_piped_output_has_no_colours_and_closed_pipes_are_silent(filled: Path) -> None:
    done = process("query", "child", cwd=filled)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 80
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command("query", "child"), cwd=filled, env=environment(), **pipes) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 141


def test_a_terminal_without_unicode_gets_an_answer_too(filled: Path) -> None:
    done = subprocess.run(
        command("query", "child"), capture_output=True, cwd=filled, env=environment() | {"PYTHONIOENCODING": "ascii"}, check=False
    )
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert b"#########" in done.stdout


def test_errors_are_lines_and_no_traceback(filled: Path) -> None:
    (filled / "broken.db").write_bytes(b"not a registry at all" * 100)
    done = process("list", "--registry", "broken.db", cwd=filled)
    assert done.returncode == 4
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) <= 2
    assert done.stderr.startswith("error: broken.db")
    assert process("nonsense", cwd=filled).returncode == 2


# help


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example_and_the_words_of_the_table(verb: str) -> None:
    command = cli.get_command(None, verb)  # type: ignore[arg-type]
    assert command is not None
    assert command.short_help == VERBS[verb]
    text = run(verb, "--help", registry=None).stdout
    assert "Example:" in text
    assert f"modelkin {verb} " in text or f"modelkin {verb}\n" in text


def test_the_page_of_the_command_line_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import make_cli_page

    assert make_cli_page.PAGE.read_text(encoding="utf-8") == make_cli_page.page(), "run `python docs/make_cli_page.py`"
