"""Results of benchmarks are written in one way, which tells how each was made."""

from __future__ import annotations

import ast
import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks.common import results
from benchmarks.common.in_parts import InParts, Unfinished
from benchmarks.house.rooms import ROOT

SCRIPTS = sorted(path for path in (ROOT / "benchmarks").rglob("*.py") if path.parent.name != "common" and path.name != "__init__.py")


def calls(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {func.id if isinstance(func, ast.Name) else func.attr for func in found if isinstance(func, (ast.Name, ast.Attribute))}


def test_a_result_comes_back_and_says_how_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks" / "speed" / "speed.py"), "--work", "/home/somebody/work", "--repeat", "3"])
    for given in ({"pairs": 3, "by": {"a": None}}, [1, {"b": 2}]):
        written = results.write_result("name", given, packages=["pytest", "no-such-package"])
        assert results.read_result("name") == given
        made = json.loads(written.read_text())[results.MADE]
        assert made["script"] == "benchmarks/speed/speed.py"
        assert made["arguments"] == ["--work", "work", "--repeat", "3"]  # and no folder of this machine
        assert {"python", "modelkin", "numpy", "faiss-cpu", "pytest"} <= set(made["versions"])
        assert made["machine"]["cores"] == os.cpu_count()
        assert len(made["load"]) == 3
        assert str(Path.home()) not in json.dumps(made)
    assert results.write_page("name", ".md", "x").read_text() == "x"
    assert results.write_result("name", {}, out=tmp_path / "elsewhere.json").name == "elsewhere.json"


def test_a_long_benchmark_goes_on_where_it_ended(tmp_path: Path) -> None:
    measured: list[str] = []

    def measure(case: str) -> int:
        measured.append(case)
        return len(measured)

    with pytest.raises(Unfinished, match="0 of 3 cases"):
        InParts(tmp_path / "parts", minutes=1e-9).each("abc", measure)
    assert InParts(tmp_path / "parts").each("ab", measure) == {"a": 1, "b": 2}
    later = InParts(tmp_path / "parts")
    assert later.each("abc", measure) == {"a": 1, "b": 2, "c": 3}
    assert measured == ["a", "b", "c"]
    assert later.commits() == [str(results.commit())]
    later.finished()
    assert InParts(tmp_path / "parts").each("a", measure) == {"a": 4}


def test_a_commit_is_told_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert results.commit() is None or len(results.commit() or "") >= 7
    monkeypatch.setattr(results, "ROOT", tmp_path)
    assert results.commit() is None


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_write_results_in_this_way_only(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert '"results"' not in text, "results lie where benchmarks/common/results.py says"
    if "Writes results/" in text:
        assert "write_result" in calls(script)
