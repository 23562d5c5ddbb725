"""Answers over a fixed set of real files stay what they were. `WRITE_SNAPSHOTS=1 python -m pytest tests/house` writes them anew."""

from __future__ import annotations

import json
import math
import os
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from calls import run

DATA = Path(__file__).resolve().parent.parent / "data"
REAL = DATA / "real"
SNAPSHOTS = DATA / "snapshots"
AKIKI, FRACAST, SILERO = (str(REAL / name) for name in ("akiki", "fracast", "silero"))
INT8 = str(REAL / "fracast" / "model.int8.safetensors")
CALLS = {
    "add": ("add", AKIKI, SILERO, FRACAST + "/model.safetensors", "--json"),
    "query-full": ("query", INT8, "--json"),
    "query-probe": ("query", AKIKI, "--level", "probe", "--json"),
    "query-all": ("query", SILERO, "--all", "--json"),
    "compare": ("compare", AKIKI, SILERO, "--control", INT8, "--json"),
    "compare-exact": ("compare", INT8, FRACAST + "/model.safetensors", "--exact", "--json"),
    "decompose": ("decompose", AKIKI, "--json"),
    "tree": ("tree", "--json"),
}
PASSING = {"seconds", "at", "digest"}  # what a clock, a library or another build tells
TOLERANCE = 2e-3  # correlations; sketches of level full may differ in the last bits of half precision between machines


def answers(folder: Path) -> dict[str, Any]:
    """Every call's JSON, without what passes and with this tree's folder named `TREE`."""
    found = {}
    for name, call in CALLS.items():
        with chdir(folder):
            done = run(*call)
        assert done.exit_code in (0, 3), f"{name}: {done.stderr}"
        said = done.stdout.replace(str(REAL), "TREE")
        found[name] = lasting([json.loads(line) for line in said.splitlines()] if name == "add" else json.loads(said))
    return found


def lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: lasting(item) for name, item in value.items() if name not in PASSING}
    return [lasting(item) for item in value] if isinstance(value, list) else value


def differences(was: Any, now: Any, where: str = "") -> list[str]:
    """Where two answers differ, numbers within the tolerance aside."""
    if isinstance(was, dict) and isinstance(now, dict):
        apart = [f"{where}.{name}: {'gone' if name in was else 'new'}" for name in sorted(set(was) ^ set(now))]
        return apart + [line for name in was if name in now for line in differences(was[name], now[name], f"{where}.{name}")]
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        return [line for row, pair in enumerate(zip(was, now, strict=True)) for line in differences(*pair, f"{where}[{row}]")]
    if isinstance(was, float) and isinstance(now, float):
        if "p_value" in where:
            was, now = math.log10(max(was, 1e-300)), math.log10(max(now, 1e-300))
            return [] if math.isclose(was, now, rel_tol=0.05, abs_tol=0.05) else [f"{where}: 1e{was:.2f} -> 1e{now:.2f}"]
        return [] if math.isclose(was, now, rel_tol=TOLERANCE * 10, abs_tol=TOLERANCE) else [f"{where}: {was} -> {now}"]
    return [] if was == now else [f"{where}: {was!r} -> {now!r}"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return answers(tmp_path_factory.mktemp("snapshots"))


@pytest.mark.parametrize("name", CALLS)
def test_answers_are_what_they_were(found: dict[str, Any], name: str) -> None:
    if os.environ.get("WRITE_SNAPSHOTS"):
        (SNAPSHOTS / f"{name}.json").write_text(json.dumps(found[name], indent=1, sort_keys=True) + "\n", encoding="utf-8")
    was = json.loads((SNAPSHOTS / f"{name}.json").read_text(encoding="utf-8"))
    assert differences(was, found[name]) == []


def test_a_difference_is_seen() -> None:
    assert differences({"a": [1.0, "x"]}, {"a": [1.1, "y"], "b": 0}) == [".b: new", ".a[0]: 1.0 -> 1.1", ".a[1]: 'x' -> 'y'"]
    assert differences({"p_value": 1e-30}, {"p_value": 1e-20}) != []
