"""Recipes: a list of repositories, each with its revision, level and bytes, that becomes a registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy

import modelkin
from calls import ROOT, run
from hub_server import Hub, serving
from modelkin.taking.recipes import RECIPES, Entry, Recipe, parsed_recipe, read_recipe
from modelkin_indexer.errors import WrongLine
from modelkin_registry.store.opening import open_store
from tiny_models import tiny_llama

HEAD = "# modelkin recipe 1: mine\n"
FULL_UP_TO = 6.5e9  # bytes of weights, as the shipped list says of itself


@pytest.fixture
def hub(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with three models, one of them gated, which this process and its children take for the real one."""
    import huggingface_hub.constants

    with serving(Hub()) as hub:
        monkeypatch.delenv("MODELKIN_OFFLINE")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for number, name in enumerate(("org/one", "org/two", "org/closed")):
            hub.put(name, {"model.safetensors": safetensors.numpy.save(tiny_llama(number))}, gated=name == "org/closed")
        yield hub


def recipe(*lines: str, head: str = HEAD) -> str:
    Path("mine.recipe").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    return "mine.recipe"


def sync(*arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """What is told of each repository."""
    done = run("sync", *arguments, "--rate", "1000", "--json", registry="r.db")
    assert done.exit_code == code, done.output
    return {line["repo"]: line for line in map(json.loads, done.stdout.splitlines())}


def statuses(told: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {repo: line["status"] for repo, line in told.items()}


def levels() -> dict[str, str]:
    with open_store(Path("r.db").resolve(), create=False) as store:
        return {name: store.get(name).level for name in ("org/one", "org/two") if name in store}


THREE = ("org/one main full ~1M # the first", "", "org/two main probe ~20k", "org/closed main full ~1M")


def test_a_recipe_becomes_a_registry_and_what_is_gated_is_told(hub: Hub) -> None:
    told = sync("--recipe", recipe(*THREE))
    assert statuses(told) == {"org/one": "added", "org/two": "added", "org/closed": "failed"}
    assert "access is gated" in told["org/closed"]["reason"]
    assert levels() == {"org/one": "full", "org/two": "probe"}
    assert sync("--recipe", "mine.recipe") == {}
    hub.repos["org/closed"].gated = False
    assert statuses(sync("--recipe", "mine.recipe", "--retry")) == {"org/closed": "added"}
    assert {line["state"] for line in map(json.loads, run("sync", "--journal", "--json", registry="r.db").stdout.splitlines())} == {"done"}


def test_a_pinned_commit_is_read_and_the_newest_is_not(hub: Hub) -> None:
    commit = hub.repos["org/one"].commit
    told = sync("--recipe", recipe(f"org/one {commit} full 1", "org/two 0000000000000000000000000000000000000000 full 1"))
    assert statuses(told) == {"org/one": "added", "org/two": "failed"}
    assert "revision" in told["org/two"]["reason"]
    with open_store(Path("r.db").resolve(), create=False) as store:
        assert store.get("org/one").origin == f"org/one@{commit}"


def test_it_goes_on_where_it_ended_and_a_level_of_the_call_holds(hub: Hub) -> None:
    recipe(*THREE[:3])
    assert len(sync("--recipe", "mine.recipe", "--limit", "1")) == 1
    assert len(sync("--recipe", "mine.recipe", "--level", "probe")) == 1
    assert levels() == {"org/one": "full", "org/two": "probe"}
    assert sync("--recipe", "mine.recipe", "--level", "probe") == {}
    assert statuses(sync("--recipe", "mine.recipe", "--level", "full")) == {"org/two": "added"}


def test_workers_read_each_at_its_level(hub: Hub) -> None:
    assert set(statuses(sync("--recipe", recipe(*THREE), "--enqueue")).values()) == {"waiting"}
    assert levels() == {}
    done = modelkin.work(rate=1000, keep_free=0, registry="r.db").results
    assert {one.repo: one.status for one in done} == {"org/one": "added", "org/two": "added", "org/closed": "failed"}
    assert levels() == {"org/one": "full", "org/two": "probe"}


def test_a_dry_run_tells_the_bytes_as_the_hub_or_as_the_recipe_has_them(hub: Hub) -> None:
    recipe(*THREE[:3])
    told = sync("--recipe", "mine.recipe", "--dry-run")
    assert told["org/one"]["bytes"] == len(hub.repos["org/one"].files["model.safetensors"])
    assert 0 < told["org/two"]["bytes"] <= told["org/one"]["bytes"]  # tiny: level probe reads it whole too
    before = hub.requests.total()
    told = sync("--recipe", "mine.recipe", "--dry-run", "--offline")
    assert {repo: line["bytes"] for repo, line in told.items()} == {"org/one": 1_000_000, "org/two": 20_000}
    assert {line["reason"] for line in told.values()} == {"about so many bytes, by the recipe; the Hub was not asked"}
    assert set(sync("--recipe", "mine.recipe", "--dry-run", "--offline", "--max-bytes", "50000")) == {"org/two"}
    other = sync("--recipe", "mine.recipe", "--dry-run", "--offline", "--level", "full")["org/two"]
    assert (other["bytes"], other["reason"]) == (0, "the recipe has no bytes of this level; the Hub was not asked")
    assert hub.requests.total() == before
    done = run("sync", "--recipe", "mine.recipe", "--dry-run", "--offline", registry="r.db")
    assert "2 wanted; 1,020,000 bytes would be read." in done.stderr
    assert levels() == {}


def test_pinning_writes_commits_and_bytes_of_now(hub: Hub) -> None:
    told = sync("--recipe", recipe(*THREE, "org/nobody main full ~5M"), "--pin", "pinned.recipe")
    assert statuses(told) == {"org/one": "pinned", "org/two": "pinned", "org/closed": "pinned", "org/nobody": "failed"}
    found = read_recipe("pinned.recipe").by_repo
    one, two = hub.repos["org/one"], hub.repos["org/two"]
    assert found["org/one"] == Entry("org/one", one.commit, "full", len(one.files["model.safetensors"]), False)
    assert (found["org/two"].revision, found["org/two"].level, found["org/two"].is_about) == (two.commit, "probe", False)
    assert found["org/closed"].revision == hub.repos["org/closed"].commit
    assert found["org/nobody"] == Entry("org/nobody", "main", "full", 5_000_000, True)
    hub.put("org/one", {"model.safetensors": safetensors.numpy.save(tiny_llama(9))})
    assert levels() == {}
    assert statuses(sync("--recipe", "pinned.recipe"))["org/one"] == "failed"  # the Hub of the tests keeps one commit of each
    assert [path.name for path in Path().glob(".*unfinished*")] == []


def test_nothing_but_a_recipe_is_written_over(hub: Hub) -> None:
    modelkin.new_registry("mine.db")
    before = Path("mine.db").read_bytes()
    assert "is there and no recipe" in run("sync", "--recipe", recipe(THREE[0]), "--pin", "mine.db").stderr
    assert Path("mine.db").read_bytes() == before
    for _ in range(2):
        assert statuses(sync("--recipe", recipe(THREE[0]), "--pin", "pinned.recipe")) == {"org/one": "pinned"}


def test_what_is_read_is_no_more_than_a_pinned_recipe_said(hub: Hub) -> None:
    sync("--recipe", recipe(*THREE[:3]), "--pin", "pinned.recipe")
    told = sync("--recipe", "pinned.recipe")
    said = read_recipe("pinned.recipe").by_repo
    assert {repo: line["bytes"] for repo, line in told.items()} == {repo: said[repo].bytes for repo in told}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "a recipe begins with"),
        ("org/one main full 1\n", 1, "a recipe begins with"),
        ("# modelkin recipe 2: mine\norg/one main full 1\n", 1, "a recipe begins with"),
        ("# modelkin recipe 1: a b\norg/one main full 1\n", 1, "a recipe begins with"),
        (HEAD, 1, "names no repository"),
        (HEAD + "\n# only words\n", 3, "names no repository"),
        (HEAD + "org/one main full\n", 2, "3 words, and there are four"),
        (HEAD + "org/one main full 1 2\n", 2, "5 words, and there are four"),
        (HEAD + "\norg/one main full 1\norg/one main probe 1\n", 4, "stands twice"),
        (HEAD + "one main full 1\n", 2, "is no repository"),
        (HEAD + "org/one@main main full 1\n", 2, "is no repository"),
        (HEAD + f"org/{'a' * 300_000} main full 1\n", 2, r"a{189}\.\.\.' is no repository"),
        (HEAD + "org/one ../main full 1\n", 2, "is no revision"),
        (HEAD + "org/one main whole 1\n", 2, "is no level: probe or full"),
        (HEAD + "org/one main full ~1GB\n", 2, "are no bytes"),
        (HEAD + "org/one main full 1.5\n", 2, "are no bytes"),
        (HEAD + "org/one main full -1\n", 2, "are no bytes"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(WrongLine, match=words) as told:
        parsed_recipe(text, "mine.recipe")
    assert (told.value.path, told.value.line) == ("mine.recipe", line)


def test_a_call_that_means_two_things_is_refused(own_folder: Path) -> None:
    recipe(*THREE)
    calls = (["org/other", "--recipe", "mine.recipe"], ["--recipe", "mine.recipe", "--author", "org"], ["org/one", "--pin", "x"])
    for arguments in (*calls, ["--recipe", "mine.recipe", "--pin", "x", "--limit", "3"]):
        assert run("sync", *arguments, registry="r.db").exit_code == 2
    twice = ({"recipe": "mine.recipe", "author": "org"}, {"pin": "x", "author": "org"}, {"recipe": "mine.recipe", "pin": "x", "limit": 3})
    for wishes in twice:
        with pytest.raises(ValueError, match="recipe"):
            modelkin.sync(registry="r.db", **wishes)
    assert "line 1" in run("sync", "--recipe", "nowhere.recipe", registry="r.db").stderr
    Path("wrong.recipe").write_text(HEAD + "org/one main whole 1\n", encoding="utf-8")
    done = run("sync", "--recipe", "wrong.recipe", registry="r.db")
    assert (done.exit_code, "wrong.recipe, line 2" in done.stderr) == (2, True)


def test_a_recipe_comes_back_as_it_was_written() -> None:
    sizes = ((0, True), (999, True), (999_600, True), (15_200_000_000, True), (1_500_000_000_000, True), (548_105_171, False))
    entries = tuple(Entry(f"org/m{number}", "main", "full", *size) for number, size in enumerate(sizes))
    found = parsed_recipe(Recipe("mine", entries).text(), "mine.recipe")
    for before, after in zip(entries, found.entries, strict=True):
        assert (before.repo, before.is_about) == (after.repo, after.is_about)
        assert after.bytes == before.bytes if not before.is_about else abs(after.bytes - before.bytes) <= 0.005 * before.bytes


@pytest.mark.parametrize("name", RECIPES)
def test_the_shipped_recipes_can_be_read_and_promise_nothing_that_is_not_known(name: str) -> None:
    found = read_recipe(name)
    assert found.name == name
    assert len(found.entries) >= 300
    assert len({repo.casefold() for repo in found.ids}) == len(found.ids)
    assert len({repo.partition("/")[0] for repo in found.ids}) >= 40  # makers
    for entry in found.entries:
        assert entry.is_about == (entry.revision == "main")  # exact bytes are those of a commit
        assert 0 < entry.bytes <= FULL_UP_TO
        assert entry.level == "full" or entry.bytes < 1e9


def test_the_page_counts_what_the_shipped_recipe_has() -> None:
    entries = read_recipe("bases").entries
    page = " ".join((ROOT / "docs" / "recipes.md").read_text(encoding="utf-8").split())
    whole, rows = ([entry.bytes for entry in entries if entry.level == level] for level in ("full", "probe"))
    assert f"{len(entries)} widely used" in page
    assert f"about {sum(whole) / 1e9:.0f} GB for the {len(whole)} models at level full" in page
    assert f"{sum(rows) / 1e9:.0f} GB for the other {len(rows)}" in page
