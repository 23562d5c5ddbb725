"""Whatever goes wrong: one line on stderr, the contract's object with --json, and an exit code that means what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calls import environment, process, run
from modelkin.errors import problem_of
from modelkin.taking import adding
from modelkin_indexer.aligned import channel_maps
from modelkin_indexer.errors import DamagedFile
from tiny_models import save_model, tiny_llama

FIELDS = {"code", "kind", "message", "path", "tensor", "remedy"}
UNFORESEEN = [
    ValueError("x"), np.linalg.LinAlgError("SVD did not converge"), MemoryError(), RecursionError("deep"), EOFError("end"), KeyError("k"),
    AssertionError(), ZeroDivisionError("two\nlines"), StopIteration(), ImportError("no module"),
]  # fmt: skip


def told(stdout: str) -> dict[str, Any]:
    """The error of a call with --json: the last line, and nothing else with it for verbs that print one object."""
    found = json.loads(stdout.splitlines()[-1])
    assert found["contract"] == 1
    assert set(found["error"]) == FIELDS
    error: dict[str, Any] = found["error"]
    return error


@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
def test_what_nobody_foresaw_is_a_fault_of_ours(filled: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def crash(*_: Any) -> None:
        raise error

    monkeypatch.setattr("modelkin.keeping.listing.listing", crash)
    done = run("list", width=400)
    assert done.exit_code == 5
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    told_so = run("list", "--json")
    assert told(told_so.stdout)["code"] == told_so.exit_code == 5
    assert told(told_so.stdout)["kind"] == type(error).__name__
    for call in (["list", "--debug"], ["--debug", "list"]):
        loud = run(*call)
        assert "Traceback" in loud.stderr
        assert "in crash" in loud.stderr
        assert loud.exit_code == 5


@pytest.mark.parametrize(
    ("call", "code", "kind"),
    [
        (["query", "nothing"], 3, "SourceNotFound"),
        (["query", "org/name"], 3, "Offline"),
        (["query", "bad"], 3, "DamagedFile"),
        (["compare", "child", "nobody"], 3, "SourceNotFound"),
        (["list", "--registry", "none.db"], 4, "RegistryError"),
        (["show", "nobody"], 4, "UnknownModel"),
        (["list", "--key-file", "nothing"], 2, "UnusableKey"),
        (["query"], 2, "UsageError"),
        (["query", "child", "--nonsense"], 2, "UsageError"),
        (["query", "child", "--fail-on", "nonsense"], 2, "UsageError"),
        (["nonsense"], 2, "UsageError"),
        (["tree", "--depth", "2"], 2, "UsageError"),
    ],
)
def test_every_error_is_json_where_json_was_asked_for(filled: Path, call: list[str], code: int, kind: str) -> None:
    (filled / "bad").mkdir()
    (filled / "bad" / "model.safetensors").write_bytes(b"\xff" * 64)
    done = run(*call, "--json")
    assert done.exit_code == code
    error = told(done.stdout)
    assert (error["code"], error["kind"]) == (code, kind)
    assert error["message"]
    assert done.stderr.strip()
    assert run(*call).stdout == ""


def test_an_error_says_file_tensor_and_remedy() -> None:
    problem = problem_of(DamagedFile("ends early", path="a.gguf", tensor="w", remedy="Download it again."))
    assert (problem.path, problem.tensor, problem.message, problem.remedy) == ("a.gguf", "w", "ends early", "Download it again.")
    assert str(problem) == "a.gguf: tensor 'w': ends early. Download it again."
    missing = problem_of(FileNotFoundError(2, "No such file or directory", "x"))
    assert (missing.code, str(missing)) == (3, "x: No such file or directory")


def test_a_crash_on_one_source_does_not_stop_the_batch(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = adding.reading_of

    def crashing(source: str, *rest: Any) -> Any:
        if source == "stranger":
            raise np.linalg.LinAlgError("SVD did not converge")
        return read(source, *rest)

    monkeypatch.setattr(adding, "reading_of", crashing)
    done = run("add", "parent", "stranger", "child", "--json", "--debug")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["status"] for line in lines] == ["added", "failed", "added"]
    assert "LinAlgError" in lines[1]["reason"]
    assert "in crashing" in done.stderr
    assert done.exit_code == 5


@pytest.mark.parametrize("level", ["probe", "full"])
def test_aligning_what_holds_no_numbers_is_refused_by_name(models: Path, level: str) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        tensors = tiny_llama(seed)
        table = tensors["model.embed_tokens.weight"].copy()
        table[len(table) // 2 + 3, 1] = np.nan
        save_model(models / name, tensors | {"model.embed_tokens.weight": table})
    done = run("compare", "a", "b", "--align", "--level", level, "--json", "--fail-on", "descent")
    assert done.exit_code == 3
    error = told(done.stdout)
    assert (error["kind"], error["tensor"]) == ("UnusableValues", "model.embed_tokens.weight")


def test_aligning_goes_on_where_the_quick_decomposition_gives_up(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sure = json.loads(run("compare", "child", "parent", "--align", "--json").stdout)

    def gives_up(*_: object, **__: object) -> None:
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(np.linalg, "svd", gives_up)
    answer = json.loads(run("compare", "child", "parent", "--align", "--json").stdout)
    assert [f["finding"] for f in answer["aligned"]["families"]] == [f["finding"] for f in sure["aligned"]["families"]]
    huge = np.full((8, 8), 1e300)
    huge[0, 0] = -1e300
    monkeypatch.undo()
    assert np.isfinite(channel_maps.polar(huge)).all()


# Ctrl-C

INTERRUPTS_AT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
sys.argv = ["modelkin", "--registry", "r.db", *{arguments!r}]
from modelkin_cli.start import main
sys.exit(main())
"""


@pytest.mark.parametrize("module", ["modelkin_cli.main", "click", "numpy", "numpy._core.multiarray", "sqlite3", "rich.console", "scipy"])
def test_ctrl_c_while_something_is_imported_prints_no_traceback(filled: Path, module: str) -> None:
    code = INTERRUPTS_AT.format(
        module=module, arguments=["compare", "child", "parent", "--exact"] if module == "scipy" else ["query", "child"]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=filled, env=environment(), check=False)
    assert done.stderr.splitlines()[-1:] == ["Interrupted."]
    assert "Traceback" not in done.stderr
    assert done.returncode == 130


def test_an_interrupted_call_says_so_in_json(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("modelkin.keeping.listing.listing", interrupt)
    done = run("list", "--json")
    assert done.exit_code == told(done.stdout)["code"] == 130
    assert done.stderr == "Interrupted.\n"


def test_a_real_process_ends_with_the_code(filled: Path) -> None:
    done = process("query", "nothing", "--json", cwd=filled)
    assert done.returncode == told(done.stdout)["code"] == 3
