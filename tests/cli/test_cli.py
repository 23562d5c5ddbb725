"""The command line around the answers: the other verbs, which registry is used, what is printed, help."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import modelkin_data.starter
from calls import ROOT, command, environment, process, run
from modelkin_cli.commands import remove
from modelkin_cli.main import VERBS, cli
from modelkin_registry.registry import Registry

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
        registry.store.connection.execute(
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
