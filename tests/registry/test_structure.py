"""Structure beside the weights: shown, told apart from evidence, and never a reason for anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls import run
from modelkin_indexer.beside.code import TOKENS, WINDOW, shingles
from modelkin_indexer.beside.structure import structure_of
from modelkin_indexer.beside.vocabulary import KEPT, vocabulary_sketch
from modelkin_indexer.results.beside import StructurePart
from modelkin_registry.store.words import kept_words
from modelkin_registry.structure.comparison import Structure, compare_structure

CODE = "\n".join(
    f"def layer_{i}(self, states):\n    y{i} = states.view({i}) + self.norm_{i}(states) * {i}\n    return y{i}" for i in range(30)
)
OTHER = "\n".join(
    f"class Thing{i}(dict):\n    for key in range({i}):\n        print(key, file=None)\n    x{i}: int = [1, 2]" for i in range(30)
)


def none_elsewhere(hashes: Any) -> Any:
    return np.zeros(len(hashes), np.int64)


def code(name: str, text: str) -> StructurePart:
    return StructurePart("code", name, "", shingles(text).tobytes())


def beside(a: list[StructurePart], b: list[StructurePart], **more: Any) -> Any:
    return compare_structure(Structure({}, a), Structure({}, b), "b", more.get("elsewhere", none_elsewhere))


def test_renamed_and_reformatted_code_is_the_same() -> None:
    changed = (
        CODE.replace("layer_", "my_layer_").replace("    ", "  ").replace("return", "# a comment\n  return").replace("states", "my_states")
    )
    assert set(shingles(changed)["hash"]) == set(shingles(CODE)["hash"])
    assert not set(shingles(OTHER)["hash"]) & set(shingles(CODE)["hash"])


def test_docstrings_and_strings_do_not_count() -> None:
    assert np.array_equal(shingles(CODE)["hash"], shingles('"""About."""\n' + CODE)["hash"])


@given(st.text(max_size=300))
def test_any_text_can_be_split(text: str) -> None:
    assert shingles(text).ndim == 1


def test_a_copied_passage_is_found_with_its_lines() -> None:
    lines = CODE.splitlines()
    part = "\n".join(lines[30:60])
    found = beside([code("a.py", OTHER + "\n" + part)], [code("b.py", CODE)])
    assert 0.1 < found.code < 0.9
    passage = found.passages[0]
    assert (passage.file, passage.relative_file) == ("a.py", "b.py")
    begin = len(OTHER.splitlines())
    assert begin < passage.lines[0] < passage.lines[1] <= begin + 30
    assert passage.relative_lines[0] - passage.lines[0] == 30 - begin
    assert TOKENS + WINDOW < 60


def test_code_that_many_have_is_told_as_common() -> None:
    found = beside([code("a.py", CODE)], [code("b.py", CODE)], elsewhere=lambda hashes: np.full(len(hashes), 2))
    assert (found.code, found.code_elsewhere) == (1.0, 1.0)
    assert "in other registered models too" in found.sentences[0]


@pytest.mark.parametrize(("size", "shared"), [(100, 50), (40_000, 20_000), (40_000, 0)])
def test_the_overlap_of_vocabularies(tmp_path: Path, size: int, shared: int) -> None:
    parts = []
    for number, start in enumerate((0, size - shared)):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps({"model": {"vocab": {f"token {i}": i for i in range(start, start + size)}}}))
        parts.append(StructurePart("vocabulary", "tokenizer.json", "", vocabulary_sketch(path)))
        assert len(parts[-1].data) == 8 * (1 + min(size, KEPT))
    overlap = beside(parts[:1], parts[1:]).vocabulary_overlap
    true = shared / (2 * size - shared)
    assert overlap == pytest.approx(true, abs=1e-4 if size <= KEPT else 4 * (true * (1 - true) / KEPT) ** 0.5)


def test_vocabularies_in_their_files(tmp_path: Path) -> None:
    """A list with scores, a plain map and a list of lines are the same vocabulary; what is none is left out."""
    folders = {
        "tokenizer.json": json.dumps({"model": {"vocab": [["a", -1.0], ["b", -2.0]]}}),
        "vocab.json": json.dumps({"a": 0, "b": 1}),
        "vocab.txt": "a\nb\n",
    }
    found = set()
    for name, text in folders.items():
        place = tmp_path / name.replace(".", "")
        place.mkdir()
        (place / name).write_text(text)
        found |= {part.data for part in structure_of(place)}
        (place / name).write_text("{" if name.endswith("json") else "")
        assert structure_of(place) == ()
    assert len(found) == 1


def test_licences_are_held_word_by_word() -> None:
    old, new = "You may use this freely for any purpose.", "You may use this freely for any purpose  except war."
    assert kept_words(old, old.upper()) == 1
    assert 0.5 < kept_words(old, new) < 1
    texts = [[StructurePart("licence", "LICENSE", "", text.encode())] for text in (old, new, "Nothing in common here")]
    assert [beside(texts[0], other).licence for other in texts] == ["same", "changed", "different"]
    assert beside(texts[0], []).licence is None


def add_structure(folder: Path, licence: str) -> None:
    (folder / "modeling_mine.py").write_text(CODE)
    (folder / "LICENSE").write_text(licence)
    (folder / "vocab.json").write_text(json.dumps({f"t{i}": i for i in range(300)}))


def test_structure_stands_beside_the_answer_and_changes_nothing_of_it(filled: Path) -> None:
    before = json.loads(run("query", "fake", "--all", "--json").output)
    for name in ("parent", "stranger", "fake"):
        add_structure(filled / name, "Use it for any purpose you like, as long as you like.")
    assert run("add", "parent", "stranger").exit_code == 0
    after = json.loads(run("query", "fake", "--all", "--json").output)
    assert after["relatives"] == before["relatives"]
    found = {one["model"]: one for one in after["structure"]}
    assert (found["parent"]["code"], found["parent"]["vocabulary_overlap"], found["parent"]["licence"]) == (1.0, 1.0, "same")
    words = " ".join(run("query", "fake", "--all", width=200).output.split())
    assert "Structure (never a reason for a relation), beside parent" in words
    compared = json.loads(run("compare", "fake", "parent", "--json").output)
    assert compared["relation"] not in ("identical", "fine-tuned")
    assert compared["structure"]["code"] == 1.0
    assert "Structure (never a reason" in run("compare", "fake", "stranger", width=200).output


def test_a_licence_that_changed_is_told_with_how_much_stayed(filled: Path) -> None:
    for text in ("You may do what you like with this model.", "You may do what you like with this model, except sell it."):
        (filled / "parent" / "LICENSE").write_text(text)
        assert run("add", "parent").exit_code == 0
    licences = [part for part in json.loads(run("show", "parent", "--json").output)["structure"] if part["kind"] == "licence"]
    assert [part["kept_words"] is None for part in licences] == [True, False]
    assert "of the words as before" in run("show", "parent", width=200).output


def test_structure_is_shared_with_a_registry(filled: Path) -> None:
    add_structure(filled / "parent", "Free.")
    assert run("add", "parent").exit_code == 0
    assert run("export", "shared").exit_code == 0
    assert run("import", "shared", registry="other.db").exit_code == 0
    kinds = [
        [part["kind"] for part in json.loads(run("show", "parent", "--json", registry=r).output)["structure"]] for r in ("r.db", "other.db")
    ]
    assert kinds == [["code", "licence", "vocabulary"]] * 2
    assert json.loads(run("import", "shared", "--json", registry="other.db").stdout)["unchanged"] == 2
