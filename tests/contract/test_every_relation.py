"""Every row of the table of relations is whole: a sentence, a rank, and a test that shows the relation."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from modelkin_registry.answers import relations
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.relations import DESCENT_RANK, RELATIONS, TABLE, Row, has_evidence, is_descent
from modelkin_registry.explanation.relatives import headline

ROOT = Path(__file__).parents[2]
FORBIDDEN = ("theft", "stolen", "stole", "plagiar", "copied from", "proves")
every_relation = pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])


def relative(name: str) -> Relative:
    return Relative("the-relative", name, (), 0.5, 1e-9, ())


@every_relation
def test_it_has_a_sentence_that_says_no_more_than_weights_can(row: Row) -> None:
    sentence = headline("The query", relative(row.name))
    assert sentence.startswith("The query ")
    assert "the-relative" in sentence
    assert sentence.endswith(".")
    assert not any(word in sentence.lower() for word in FORBIDDEN)
    assert ("of its comparable weights carry" in sentence or row.part) == row.descent
    if row.descent and not row.copy:
        assert "consistent with" in row.sentence


@every_relation
def test_its_columns_fit_together(row: Row) -> None:
    assert row.descent == (row.rank >= DESCENT_RANK)
    assert not row.descent or row.shows == "matrices"
    assert row.descent or not (row.copy or row.changed or row.part)
    assert is_descent(relative(row.name)) == row.descent
    assert has_evidence(relative(row.name)) == (row.shows != "nothing")


@every_relation
def test_a_test_shows_it(row: Row) -> None:
    path, name = row.example.split("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    (found,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    words = {node.value for node in ast.walk(found) if isinstance(node, ast.Constant)}  # its decorators among them
    assert row.name in words


def test_names_are_unique_and_derived_sets_know_no_others() -> None:
    assert len(RELATIONS) == len(TABLE)
    for derived in (relations.DESCENT_FREE, relations.COPIES, relations.CHANGED, relations.PARTIAL, relations.BLIND):
        assert set(derived) < set(RELATIONS)
