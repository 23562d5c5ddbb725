"""Answers in terminals of any width: every word and figure of the wide answer is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from calls import run
from modelkin_cli.pages.sheets import Sheet, new_table

CALLS = {
    "query": ["query", "child", "--all"],
    "compare": ["compare", "child", "parent", "--control", "stranger"],
    "exact": ["compare", "child", "parent", "--exact"],
    "list": ["list"],
    "show": ["show", "parent"],
    "tree": ["tree"],
    "tree around": ["tree", "parent"],
    "decompose": ["decompose", "child"],
    "doctor": ["doctor"],
    "calibrate": ["calibrate"],
}
MARKS = re.compile(r"[^\w.%<>-]+")


def letters(text: str) -> str:
    """The letters and figures of an answer in order, whatever the lines."""
    return MARKS.sub("", text)


def words(text: str) -> set[str]:
    return {word.strip(".,:;()") for word in text.split() if re.search(r"\w", word)}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_narrow_terminal_gets_the_whole_answer(filled: Path, call: list[str]) -> None:
    assert run("add", "child", "--as", "grandchild").exit_code == 0
    wide = run(*call, width=200)
    assert wide.exit_code == 0
    for width in (1, 30, 47):
        narrow = run(*call, width=width)
        assert narrow.exit_code == 0
        assert max(map(len, narrow.stdout.splitlines())) <= max(width, 12)
        there = letters(narrow.stdout)
        missing = {word for word in words(wide.stdout) if letters(word) not in there} - {"detail"}  # the heading of a column without cells
        assert {word for word in missing if not re.fullmatch(r"[\d-]+", word)} == set()  # nor are there numbers above stacked strips


@pytest.mark.parametrize("columns", ["0", "00", "", "x", "-5"])
@pytest.mark.parametrize("call", [["query", "child"], ["list"]], ids=["query", "list"])
def test_a_width_that_says_nothing_is_80(filled: Path, call: list[str], columns: str) -> None:
    assert run(*call, width=columns).stdout == run(*call, width=80).stdout  # type: ignore[arg-type]


def test_json_does_not_depend_on_the_width(filled: Path) -> None:
    assert json.loads(run("list", "--json", width=1).stdout) == json.loads(run("list", "--json").stdout)


def test_a_table_that_does_not_fit_is_a_list() -> None:
    table = new_table("model", "p", right=("p",))
    table.add_row("a-very-long-name", "1e-30")
    table.add_row("b", "0.4")

    def shown(width: int) -> list[str]:
        console = Console(width=width, record=True, file=None, force_terminal=False)
        with console.capture() as captured:
            console.print(table)
        return [line.rstrip() for line in captured.get().splitlines()]

    assert isinstance(table, Sheet)
    assert shown(40)[0].split() == ["model", "p"]
    assert shown(14) == ["model:", "a-very-long-na", "me", "p: 1e-30", "", "model: b", "p: 0.4"]
