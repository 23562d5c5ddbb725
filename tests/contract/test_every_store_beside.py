"""What every store must do, whatever engine is behind it: what is said of models, the Hub's journal, search rows, order."""

from __future__ import annotations

import numpy as np
import pytest

from modelkin_indexer.results.beside import SHINGLE, Claim, SourceFile, StructurePart
from modelkin_registry.answers.upkeep import OwnBackground
from modelkin_registry.store.protocol import Store
from modelkin_registry.store.records import Queued
from modelkin_registry.store.rows import encode
from registry_helpers import record, rows, units

# what is said of models


def test_claims_are_kept_and_the_last_reading_of_a_file_holds(store: Store) -> None:
    first, second = Claim("license", "mit", "README"), Claim("license", "apache", "README")
    model = store.put(record(claims=(first, Claim("tag", "x", "config.json")))).model_id
    store.claims.note_now(model, [second])
    assert [(one["value"], one["current"]) for one in store.claims.of_model(model)] == [("apache", True), ("mit", False), ("x", True)]
    assert store.claims.current() == {"m": [second, Claim("tag", "x", "config.json")]}
    store.rename("m", "n")
    store.put(record("theirs", sender="their file"))
    assert store.claims.aliases() == ({"m": "n", "n": "n"}, {"theirs": "theirs"})
    assert store.claims.aliases(["hei", "m"]) == ({"m": "n"}, {"theirs": "theirs"})
    assert store.claims.aliases(["nobody", "' OR 1=1 --"]) == ({}, {})
    assert store.senders() == {"theirs": "their file"}


def test_a_clock_that_goes_back_changes_no_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = "2035-01-01T00:00:00.000000+00:00"
    with monkeypatch.context() as wrong:
        wrong.setattr("modelkin_registry.store.times.now", lambda: clock)
        part = StructurePart("licence", "LICENSE", "1", b"old")
        store.put(record(content="c", origin="/old", claims=(Claim("license", "old", "README"),), structure=(part,)))
    part = StructurePart("licence", "LICENSE", "2", b"new")
    model = store.put(record(content="c", origin="/new", claims=(Claim("license", "new", "README"),), structure=(part,))).model_id
    assert store.get("m").origin == "/new"
    assert [one["value"] for one in store.claims.of_model(model) if one["current"]] == ["new"]
    assert [one.data for one in store.structure.of_model(model)] == [b"new"]
    later = store.put(record(content="d"))
    assert store.numbers(current=True) == [later.revision]


def test_structure_is_kept_over_time(store: Store) -> None:
    shingles = np.array([(1, 1), (2, 1), (3, 2)], SHINGLE)
    old = StructurePart("licence", "LICENSE", "1", b"one two three four")
    new = StructurePart("licence", "LICENSE", "2", b"one two three five")
    code = StructurePart("code", "a.py", "3", shingles.tobytes())
    model = store.put(record("m", content="1", structure=(old,))).model_id
    store.put(record("m", content="1", structure=(new, code)))
    other = store.put(record("n", structure=(StructurePart("code", "b.py", "4", shingles[:2].tobytes()),))).model_id
    assert store.structure.of_model(model) == [code, new]
    assert [(one.kind, one.digest) for one in store.structure.kept(model)] == [("code", "3"), ("licence", "1"), ("licence", "2")]
    assert [part.get("kept_words") for part in store.show("m")["structure"]] == [None, None, 0.5]
    assert store.structure.elsewhere(shingles["hash"], model).tolist() == [1, 1, 0]
    assert store.structure.elsewhere(shingles["hash"], other).tolist() == [1, 1, 1]


def test_backgrounds_replace_each_other(store: Store) -> None:
    assert (store.backgrounds.told(), store.backgrounds.used()) == (None, {})
    wide, narrow = OwnBackground("probe", "mlp", 0.2, 0.1, 45, 10, True), OwnBackground("gram", "mlp", 0.05, 0.1, 45, 10, False)
    for _ in range(2):
        with store.batch():
            store.backgrounds.replace([wide, narrow], 10)
    told = store.backgrounds.told()
    assert told is not None
    assert (told.measured_for, told.used, told.models) == (2, 1, 10)
    assert store.backgrounds.used() == {("mlp", "probe"): 0.2}
    store.backgrounds.replace([], 10)
    assert store.backgrounds.told() is None


# files and the Hub


def test_models_of_files_are_those_that_were_read_here(store: Store) -> None:
    files = (SourceFile("model.safetensors", 20, "sha256:1"),)
    store.put(record("theirs", files=files, sender="their file"))
    mine = store.put(record("mine", files=files))
    assert store.models_of_files(files) == [mine.revision]
    assert store.models_of_files((SourceFile("model.safetensors", 20),)) == store.models_of_files(()) == []


def queued(repo: str, revision: str = "1", modified: str = "2026-01-01", level: str = "full") -> Queued:
    return Queued(repo, f"id of {repo}", revision, modified, level)


def test_the_queue_of_the_hub(store: Store) -> None:
    hub = store.hub
    assert hub.newest("all") == ""
    hub.note_newest("all", "2026-01-02")
    assert hub.newest("all") == "2026-01-02"
    listed = [queued("org/b", modified="2026-01-02"), queued("org/a", modified="2026-01-02"), queued("org/c")]
    assert hub.enqueue(listed, "all") == 3
    assert hub.enqueue(listed, "all") == 0
    assert [one.repo for one in hub.waiting("all", batch=1)] == ["org/c", "org/a", "org/b"]
    model = store.put(record("org/a", content="1")).model_id
    hub.note("org/a", "done", model=model, content="bytes", size=7)
    hub.note("org/b", "failed", reason="down", passing=True)
    assert hub.count("all") == {"done": 1, "failed": 1, "waiting": 1}
    seen = (queued("org/a"), queued("org/a", revision="2"), queued("org/c"), queued("org/d"))
    assert [hub.is_news(one) for one in seen] == [False, True, True, True]
    assert hub.try_again("all", every=False) == 1
    assert hub.try_again("all", every=True) == 0
    newest = store.put(record("org/a", content="2")).revision
    assert hub.revisions_of("bytes") == [(newest, "org/a")]
    assert hub.revisions_of("") == []


def test_a_repository_that_was_renamed_or_is_gone(store: Store) -> None:
    hub = store.hub
    hub.enqueue([queued("org/a")], "all")
    hub.note("org/a", "done", model=store.put(record("org/a")).model_id, content="bytes")
    moved = Queued("org/new", "id of org/a", "1", "2026-01-01", "full")
    assert hub.former_name("id of org/a", "org/new") == "org/a"
    hub.rename("org/a", moved, "all")
    states = {entry.repo: (entry.state, entry.reason) for entry in hub.entries()}
    assert states == {"org/a": ("renamed", "org/new"), "org/new": ("done", "")}
    assert hub.unseen_since("all", "2020") == ["org/new"]
    hub.see(["org/new"])
    assert hub.unseen_since("all", "2020") == []


# search rows, order, the change log


def test_vectors_come_by_revision_and_component(store: Store) -> None:
    for seed in range(3):
        store.put(record(f"m{seed}"), rows(seed))
    assert store.vectors.kinds() == {"layer/mlp": 24, "sum/mlp": 24}
    (batch,) = store.vectors.batches("sum/mlp", 24)
    names = store.vectors.component_names()[batch.components]
    assert list(zip(batch.revisions.tolist(), names.tolist(), strict=True)) == [(n, c) for n in (1, 2, 3) for c in ("text", "vision")]
    wanted = [part for seed in range(3) for part in map(encode, rows(seed)) if part.kind == "sum/mlp"]
    assert np.array_equal(batch.data, np.concatenate([part.data for part in wanted]))
    (layers,) = store.vectors.batches("layer/mlp", 24, since=2)
    assert (layers.revisions.tolist(), layers.layers.tolist()) == ([3, 3, 3], [0, 1, 2])


def test_search_rows_are_made_anew_for_the_fingerprint_that_stands(store: Store) -> None:
    number = store.put(record(), rows(1)).revision
    standing = store.get("m").fingerprint
    before = store.generation()
    store.repair_vectors(number, standing, rows(2))
    assert units(2, 1).astype("<f2").tobytes() in {one.data for one in store.vectors.of(number)}
    assert store.changed(before) == [number]
    store.repair_vectors(number, standing + 1, rows(3))
    assert store.generation() == before + 1
    assert units(3, 1).astype("<f2").tobytes() not in {one.data for one in store.vectors.of(number)}


def test_everything_comes_in_a_fixed_order(store: Store) -> None:
    for name in ("b", "c", "a"):
        store.put(record(name), rows(1))
    store.rename("c", "d")
    assert store.names() == [line.model for line in store.listed()] == ["a", "b", "d"]
    assert store.numbers() == sorted(store.stored(reversed(store.numbers()))) == [1, 2, 3]
    changes = [(change.seq, change.what, change.revision) for change in store.changes()]
    assert changes == [(1, "put", 1), (2, "put", 2), (3, "put", 3), (4, "rename", None)]
    assert store.changed(0) == [1, 2, 3]
    kept = [(one.revision, one.name, one.searched) for one in store.inspection.fingerprints()]
    assert kept == [(1, "b", True), (2, "d", True), (3, "a", True)]
