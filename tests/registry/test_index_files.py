"""The vector index on disk: damage is found, mended, and never changes an answer."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelkin_registry.search import index as vectors
from modelkin_registry.search import index_files
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.search.index_files import MANIFEST, locked
from modelkin_registry.search.ranking import Hits
from modelkin_registry.store.sqlite.store import SqliteStore
from registry_helpers import record, rows, units

KINDS = ("sum/mlp", "layer/mlp")
MODELS = 12


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with SqliteStore.open(path) as opened:
        for number in range(MODELS):
            opened.put(record(f"m{number}"), rows(number))
        yield opened


def root(path: Path) -> Path:
    return Path(f"{path}.index")


def same(first: Hits, second: Hits) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("revisions", "components", "layers", "scores"))


def answers_exactly(index: VectorIndex, k: int = 7) -> bool:
    queries = np.concatenate([units(3, 1), units(999, 2)])
    return all(same(index.search(kind, queries, k), index.search_exact(kind, queries, k)) for kind in KINDS)


# damage


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    replacement = file.with_suffix(".new")  # a mapped file must not be changed in place
    replacement.write_bytes(content)
    replacement.replace(file)


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """As somebody writes it who has the digest fit."""
    return manifest | {"digest": index_files._digest({name: told for name, told in manifest.items() if name != "digest"})}


def change_manifest(**changes: Any) -> Callable[[Path], None]:
    def change(index_root: Path) -> None:
        manifest = json.loads((index_root / MANIFEST).read_text())
        (index_root / MANIFEST).write_text(json.dumps(sealed(manifest | changes)))

    return change


def change_segment(**changes: Any) -> Callable[[Path], None]:
    def change(index_root: Path) -> None:
        manifest = json.loads((index_root / MANIFEST).read_text())
        (segment,) = manifest["segments"]
        (index_root / MANIFEST).write_text(json.dumps(sealed(manifest | {"segments": [segment | changes]})))

    return change


def edit_segment(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """By hand: its digest no longer fits."""

    def change(index_root: Path) -> None:
        manifest = json.loads((index_root / MANIFEST).read_text())
        edit(manifest["segments"][0])
        (index_root / MANIFEST).write_text(json.dumps(manifest))

    return change


def files(index_root: Path, ending: str) -> list[Path]:
    return sorted(index_root.glob(f"*/*{ending}"))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit in the vectors": lambda index_root: [flip_a_bit(file) for file in files(index_root, ".faiss")],
    "a flipped bit in the labels": lambda index_root: flip_a_bit(files(index_root, ".npy")[0]),
    "a truncated file": lambda index_root: os.truncate(files(index_root, ".faiss")[0], 50),
    "a missing file": lambda index_root: files(index_root, ".faiss")[0].unlink(),
    "a missing generation": lambda index_root: shutil.rmtree(files(index_root, ".npy")[0].parent),
    "an unreadable manifest": lambda index_root: (index_root / MANIFEST).write_text('{"format": 1, "kinds"'),
    "a manifest of something else": lambda index_root: (index_root / MANIFEST).write_text("[]"),
    "another version": change_manifest(format=99),
    "another registry": change_manifest(registry="somebody's"),
    "a generation of the future": change_segment(generation=MODELS + 5),
    "another past": change_segment(at="2020-01-01T00:00:00.000000+00:00"),
    "a way out of the folder": change_segment(folder="../elsewhere"),
    "a file of another kind": change_segment(kinds={"sum/mlp": {"stem": "0", "dims": 24, "rows": 1, "digests": {"/../x": ""}}}),
    "changes left out": change_segment(after=3),
    "a manifest of brackets": lambda index_root: (index_root / MANIFEST).write_text("[" * 100_000),
    "the folder above": change_segment(folder=".."),
    "a name that no system takes": change_segment(folder="1-a\0"),
    "a number that is none": change_segment(generation="12"),
    "a number beyond all": change_segment(generation=10**30),
    "less than no revisions": change_segment(revisions=-5),
    "components without names": change_segment(components=[["text"], "vision"]),
    "fewer components than the rows have": change_segment(components=["text"]),
    "a kind left out": edit_segment(lambda segment: segment["kinds"].pop("sum/mlp")),
    "other names of the components": edit_segment(lambda segment: segment["components"].reverse()),
    "kinds in each other's place": edit_segment(
        lambda segment: segment["kinds"].update(zip(KINDS, [segment["kinds"][kind] for kind in reversed(KINDS)], strict=True))
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_mended(
    path: Path, store: SqliteStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(vectors, "TAIL_REVISIONS", 5)
    VectorIndex.open(store)
    assert VectorIndex(store).check() == []
    DAMAGES[damage](root(path))
    assert VectorIndex(store).check() != []
    with caplog.at_level(logging.WARNING):
        index = VectorIndex.open(store)
        assert answers_exactly(index)
    assert "built anew" in caplog.text
    assert index.generation == MODELS
    assert index.check() == []


def test_damage_that_cannot_be_mended_is_done_without(path: Path, store: SqliteStore) -> None:
    VectorIndex.open(store).rebuild()
    flip_a_bit(files(root(path), ".faiss")[0])
    with locked(root(path), 0):
        assert answers_exactly(VectorIndex.open(store))


def test_rows_that_are_not_the_registry_s_are_found(store: SqliteStore) -> None:
    """A sound file with wrong content: rows were lost from the table behind the index's back."""
    index = VectorIndex.open(store)
    index.rebuild()
    store.connection.execute("DELETE FROM vector WHERE revision = 3 AND kind = 'sum/mlp'")
    assert [problem for problem in index.check() if "sum/mlp" in problem]


def test_what_killed_builders_left_is_swept(path: Path, store: SqliteStore) -> None:
    index = VectorIndex.open(store)
    index.rebuild()
    (root(path) / "7-dead").mkdir()
    (root(path) / "7-dead" / "0.faiss").write_bytes(b"half")
    (root(path) / "7-dead.json").write_text("{")
    index.rebuild()
    assert len([entry for entry in root(path).iterdir() if not entry.name.startswith("lock")]) == 2
