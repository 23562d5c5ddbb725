"""Names and revisions: what shows kinship is a new revision and is found for ever; what does not never hides behind a name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import models
from calls import run
from modelkin_indexer.errors import NameTaken
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.registry import Registry
from modelkin_registry.search import candidates
from tiny_models import save_model, tiny_llama, tuned


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fingerprint]:
    folder = tmp_path_factory.mktemp("revisions")
    base, other = models.llama(1, layers=3), models.llama(2, layers=3)
    made = {"base": base, "tuned": models.trained_on(base, 5, 0.1), "again": models.trained_on(base, 6, 0.2), "other": other}
    return {name: models.fingerprint(folder / name, tensors) for name, tensors in made.items()} | {
        "sampled": models.fingerprint(folder / "base", base, level="probe")
    }


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(tmp_path / "r.db") as opened:
        yield opened


def nearest(registry: Registry, fingerprint: Fingerprint) -> list[tuple[str, str]]:
    return [(one.model, one.relation) for one in registry.query(fingerprint).relatives]


def test_every_revision_is_found_and_each_model_told_once(registry: Registry, found: dict[str, Fingerprint]) -> None:
    for name in ("base", "tuned", "again"):
        registry.add("m", found[name])
    first, second, _ = (registry.store.names_of([number])[number] for number in registry.store.numbers())
    assert nearest(registry, found["base"]) == [(first, "identical")]
    assert nearest(registry, found["tuned"]) == [(second, "identical")]
    assert nearest(registry, found["again"]) == [("m", "identical")]
    assert [one.model for one in registry.query(found["base"], exact=True).relatives] == [first]
    assert registry.get(first).to_bytes() == found["base"].to_bytes()
    assert registry.query(found["base"]).registry.models == 1


def test_a_content_that_comes_back_is_told_under_the_name(registry: Registry, found: dict[str, Fingerprint]) -> None:
    for name in ("base", "tuned", "base"):
        registry.add("m", found[name])
    assert nearest(registry, found["base"]) == [("m", "identical")]


def test_many_revisions_crowd_nobody_out(registry: Registry, tmp_path: Path, found: dict[str, Fingerprint]) -> None:
    registry.add("parent", found["base"])
    for seed in range(10):
        registry.add("run", models.fingerprint(tmp_path / "m", models.trained_on(models.llama(1, layers=3), 20, 0.1 + seed / 100)))
    chosen = candidates.find_candidates(registry.index, registry.get("run"), limit=4, nearest=0)
    of_models = registry.store.models_of(chosen)
    assert sorted(map([*of_models.values()].count, set(of_models.values()))) == [1, candidates.REVISIONS]


def test_unrelated_weights_do_not_take_a_name(registry: Registry, found: dict[str, Fingerprint]) -> None:
    registry.add("m", found["base"], origin="/runs/m")
    with pytest.raises(NameTaken, match=r"'m' .* from /runs/m; its weights have nothing to do with these.*--as NAME.*--replace"):
        registry.add("m", found["other"], origin="/runs/m")
    assert nearest(registry, found["base"]) == [("m", "identical")]
    assert nearest(registry, found["other"]) == []
    kept = registry.add("m", found["other"], replace=True).kept
    assert nearest(registry, found["base"]) == [(kept, "identical")]
    assert nearest(registry, found["other"]) == [("m", "identical")]
    assert registry.store.names() == ["m", kept]


def test_a_new_commit_of_a_repository_is_a_revision_whatever_it_holds(registry: Registry, found: dict[str, Fingerprint]) -> None:
    registry.add("org/m", found["base"], origin="org/m@1", who="hub")
    with pytest.raises(NameTaken):
        registry.add("org/m", found["other"], origin="/models/m")
    assert registry.add("org/m", found["other"], origin="org/m@2", who="hub").kept == ""
    assert [name.split("@")[0] for name, _ in nearest(registry, found["base"])] == ["org/m"]
    assert len(registry.show("org/m")["revisions"]) == 2


def test_a_repository_does_not_take_the_name_of_what_is_not_of_it(registry: Registry, found: dict[str, Fingerprint]) -> None:
    registry.add("org/m", found["base"], origin="/models/m")
    with pytest.raises(NameTaken):
        registry.add("org/m", found["other"], origin="org/m@1", who="hub")


def test_another_level_of_the_same_weights_is_the_same_revision(registry: Registry, found: dict[str, Fingerprint]) -> None:
    for name in ("sampled", "base", "sampled"):
        registry.add("m", found[name])
    (revision,) = registry.show("m")["revisions"]
    assert (revision["content"].split("-")[0], len(revision["fingerprints"])) == ("full", 2)


def test_the_verb(filled: Path) -> None:
    save_model(filled / "run" / "parent", tiny_llama(9))
    refused = run("add", "run/parent")
    assert (refused.exit_code, "`--replace`" in refused.stderr) == (4, True)
    assert run("query", "parent", "--fail-on", "descent").exit_code == 1
    replaced = run("add", "run/parent", "--replace")
    assert replaced.exit_code == 0
    kept = replaced.stderr.split("is now '")[1].split("'")[0]
    assert run("query", "parent", "-q").stdout.split() == [kept]
    save_model(filled / "later" / "parent", tuned(tiny_llama(9), 3))
    assert run("add", "later/parent").exit_code == 0
    save_model(filled / "first", tiny_llama(9))
    older = run("query", "first", "-q").stdout.split()[0]
    assert older.startswith("parent@")
    assert run("show", older).exit_code == 0
    assert run("compare", "first", older).exit_code == 0
    assert run("remove", older, "--yes", "-q").stdout.split() == [older]
    assert run("query", "first", "-q").stdout.split() == ["parent"]
