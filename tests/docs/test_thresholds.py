"""Every named number of the code says what it decides, and the page of them is current."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def script() -> ModuleType:
    found = importlib.util.spec_from_file_location("make_thresholds_page", ROOT / "docs" / "make_thresholds_page.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


PAGE = script()
FOUND = list(PAGE.thresholds())


@pytest.mark.parametrize("folder", PAGE.FOLDERS)
def test_each_number_of_a_folder_has_a_comment(folder: str) -> None:
    mine = [one for one in FOUND if str(one.path).startswith(folder)]
    assert len(mine) > 5
    assert [f"{one.path}:{one.line} {one.name} = {one.value}" for one in mine if not one.words] == []


def test_the_page_is_current() -> None:
    assert PAGE.PAGE.read_text(encoding="utf-8") == PAGE.page(), "run `python docs/make_thresholds_page.py`"


def test_numbers_and_comments_are_seen_in_every_form() -> None:
    lines = ["# above both", "A = 1", "B = 2 << 3", "C, D = 0.1, -5  # of two", "E = (", "    0.5  # inside", ")", "F = (1, 2.5)  # some"]
    lines += ["G = 'no'", "h = 3", "I = A", "", "J = 7"]
    text = "\n".join(lines)
    found = {one.name: one.words for node in ast.parse(text).body for one in PAGE._of(node, ROOT / "x.py", lines)}
    assert found == {"A": "above both", "B": "above both", "C": "of two", "D": "of two", "E": "inside", "F": "some", "J": ""}
