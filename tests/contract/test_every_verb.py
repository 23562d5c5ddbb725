"""What holds of every verb: its cases come from the command line's own table, so that a new one cannot be left out."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import pytest
import safetensors.numpy

import modelkin
from benchmarks.house.rooms import ROOT
from calls import run
from hub_server import Hub, serving
from modelkin.serving import running
from modelkin_cli.main import VERBS, cli
from modelkin_registry.answers.plain import CONTRACT, Plain
from signatures import signature_of
from tiny_models import tiny_llama

# A call of each verb on `parent` and `stranger` registered in r.db, `child` beside them, and a Hub with org/tiny.
CALLS = {
    "add": ["child", "parent"],
    "query": ["child"],
    "compare": ["child", "parent"],
    "tree": [],
    "trajectory": ["parent", "child"],
    "decompose": ["child"],
    "evidence": ["child", "parent", "-o", "pair.json"],
    "verify": ["given.json"],
    "audit": ["child"],
    "screen": ["batch.csv", "--out", "screening"],
    "serve": ["--port", "0"],
    "sync": ["org/tiny"],
    "work": [],
    "list": [],
    "show": ["parent"],
    "rename": ["parent", "mother"],
    "tag": ["parent", "+kept", "-old"],
    "note": ["parent", "seen"],
    "remove": ["stranger", "--yes"],
    "fingerprint": ["child", "-o", "child.modelkin"],
    "export": ["out.modelkin-registry"],
    "import": ["given.modelkin-registry"],
    "push": ["me/mine"],
    "pull": ["me/mine"],
    "calibrate": [],
    "doctor": [],
    "upgrade": [],
    "registry new": ["private.db"],
    "registry copy": ["r.db", "copy.db"],
    "registry backup": ["backup.db"],
    "registry restore": ["given.db", "--registry", "restored.db"],
    "key": ["new", "mine.key"],
    "formats": [],
    "refresh": ["private.db", "given.key"],
}
BATCH = ("add", "screen", "serve", "sync", "work", "upgrade", "refresh")  # one object a line; of an upgrade none where nothing is old
CALLBACK = 25  # lines of a callback at most, its docstring aside: it parses, calls one function, prints
SCREEN = {"as_json", "quiet", "debug", "fail_on"}  # options that say what people see
# What a script has instead of an option: another argument of the function, a field of its answer, or a function of its own.
REPORT = {"report_file": "report", "language": "report"}
INSTEAD = {
    "query": REPORT,
    "compare": REPORT,
    "trajectory": REPORT,
    "decompose": {"recipe": "recipe", **REPORT},
    "list": {"columns": "models"},
    "remove": {"yes": "sure"},
    "screen": {"show_policy": "policy", **REPORT},
    "sync": {"ids_from": "ids", "journal": "journal"},
    "tree": {"as_dot": "edges", "picture": "edges", **REPORT},
}
ALONE = ("fingerprint", "compare", "evidence", "key", "audit", "formats", "registry new")  # which need no registry
NAMES = {
    "import": "import_",
    "registry new": "new_registry",
    "registry copy": "copy_registry",
    "registry backup": "backup",
    "registry restore": "restore",
}  # in Python, where that of the command line is taken
NAMED = ("registry copy", "registry restore")  # whose arguments say which registries


def leaves() -> Iterator[str]:
    """Every verb; of one that has verbs of its own, those."""
    for verb in VERBS:
        command = cli.get_command(click.Context(cli), verb)
        yield from (f"{verb} {name}" for name in command.commands) if isinstance(command, click.Group) else (verb,)


every_verb = pytest.mark.parametrize("verb", [*leaves()])


@pytest.fixture
def ready(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    import huggingface_hub.constants

    assert run("export", "given.modelkin-registry").exit_code == 0
    assert run("registry", "backup", "given.db").exit_code == 0
    modelkin.key("new", "given.key")
    Path("batch.csv").write_text("name,source,base\nchild,child,parent\n", encoding="utf-8")
    modelkin.evidence("child", "parent", "given.json")
    monkeypatch.setattr(running, "until_stopped", lambda app, listening: None)  # nobody is there to stop it
    with serving(Hub()) as hub:
        monkeypatch.delenv("MODELKIN_OFFLINE")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_mine")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)  # for processes of their own
        hub.put("org/tiny", {"model.safetensors": safetensors.numpy.save(tiny_llama(7))})
        assert run("push", "me/mine").exit_code == 0
        assert run("sync", "org/tiny", "--enqueue").exit_code == 0
        yield filled


def function_of(verb: str) -> Any:
    return getattr(modelkin, NAMES.get(verb, verb))


def arguments_of(function: Any) -> dict[str, Any]:
    """Every argument of a function with its default, those in the options that it takes among them."""
    found: dict[str, Any] = {}
    for name, parameter in signature_of(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            found |= dict.fromkeys(get_type_hints(get_args(parameter.annotation)[0]), parameter.empty)
        else:
            found[name] = parameter.default
    return found


def command_of(verb: str) -> click.Command:
    found: click.Command = cli
    for word in verb.split():
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), word) or pytest.fail(f"no command {verb}")
    return found


def test_every_verb_has_a_call() -> None:
    assert set(CALLS) == set(leaves())


@every_verb
def test_it_answers_in_three_forms(ready: Path, verb: str) -> None:
    said = run(*verb.split(), *CALLS[verb], "--json")
    assert said.exit_code == 0, said.output
    lines = said.stdout.splitlines() if verb in BATCH else [said.stdout]
    assert lines or verb == "upgrade"
    for line in lines:
        answer = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert next(iter(answer.items())) == ("contract", CONTRACT)
    for file in ("child.modelkin", "out.modelkin-registry", "copy.db", "backup.db", "restored.db"):
        Path(file).unlink(missing_ok=True)


@every_verb
@pytest.mark.parametrize("form", [[], ["--quiet"]], ids=["people", "quiet"])
def test_it_answers_people_and_pipes(ready: Path, verb: str, form: list[str]) -> None:
    said = run(*verb.split(), *CALLS[verb], *form)
    assert said.exit_code == 0, said.output
    assert "\x1b" not in said.output
    assert "Traceback" not in said.output
    if form and verb != "trajectory":  # whose name is a verdict in words
        assert all(len(line.split()) == 1 for line in said.stdout.splitlines())


@every_verb
def test_its_errors_have_one_form(ready: Path, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    def crash(*_: object, **__: object) -> None:
        raise ArithmeticError("nobody foresaw this")

    name = NAMES.get(verb, verb)
    monkeypatch.setattr(modelkin, name, crash, raising=False)
    said = run(*verb.split(), *CALLS[verb], "--json")
    assert said.exit_code == 5
    assert json.loads(said.stdout)["error"]["kind"] == "ArithmeticError"
    assert len(said.stderr.splitlines()) <= 2
    wrong = run(*verb.split(), *CALLS[verb], "--no-such-option", "--json")
    assert wrong.exit_code == 2
    assert json.loads(wrong.stdout)["error"]["code"] == 2


@every_verb
def test_without_a_registry_it_makes_one_or_says_so(models: Path, verb: str) -> None:
    call = {"registry copy": ["gone.db", "copy.db"], "registry restore": ["gone.db"]}.get(verb, CALLS[verb])
    said = run(*verb.split(), *call, "--json", registry="none.db")
    if verb == "add" or verb in ALONE:  # the first makes it, the others need none
        assert said.exit_code == 0
    else:
        assert said.exit_code in (3, 4)  # 3 where the Hub or a file is asked for first
        assert json.loads(said.stdout.splitlines()[-1])["error"]["message"]
    assert Path("none.db").exists() == (verb in ("add", "import", "sync"))


@every_verb
def test_it_is_the_same_in_python(ready: Path, verb: str) -> None:
    """The options of the command are arguments of the function, under the same names; results are answers."""
    named = {str(option.name) for option in command_of(verb).params if isinstance(option, click.Option)} - SCREEN
    arguments, instead = set(arguments_of(function_of(verb))), INSTEAD.get(verb, {})
    answer = signature_of(function_of(verb)).return_annotation
    assert issubclass(answer, Plain)
    assert named - arguments == set(instead)
    assert set(instead.values()) <= arguments | set(answer.__struct_fields__) | set(modelkin.__all__)


@every_verb
def test_it_is_a_method_of_an_open_registry(verb: str) -> None:
    if verb in NAMED or (verb in ALONE and verb not in ("compare", "evidence")):
        return
    method = getattr(modelkin.Registry, NAMES.get(verb, verb))
    function, own = arguments_of(function_of(verb)), arguments_of(method)
    assert function.keys() - own.keys() <= {"registry", "key_file", "offline", "listener", "starter"}
    assert own.keys() - function.keys() == {"self"}
    assert {name: own[name] for name in own.keys() & function.keys()} == {name: function[name] for name in own.keys() & function.keys()}


@every_verb
def test_its_callback_parses_calls_one_function_and_prints(verb: str) -> None:
    module = inspect.getmodule(command_of(verb).callback)
    assert module is not None
    tree = ast.parse(inspect.getsource(module))
    (callback,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "command"]
    first, last = callback.body[1], callback.body[-1]
    assert (last.end_lineno or 0) - first.lineno < CALLBACK
    asked = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "modelkin"
    }
    assert asked - {"open"} <= {NAMES.get(verb, verb), *INSTEAD.get(verb, {}).values()}
    assert asked


@every_verb
def test_its_help_has_an_example_that_is_its_own(verb: str) -> None:
    command = command_of(verb)
    text = run(*verb.split(), "--help", registry=None).stdout
    assert command.short_help == VERBS.get(verb, command.short_help)
    assert f"  modelkin {verb}" in text
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert f"## modelkin {verb}\n" in page
