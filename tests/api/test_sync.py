"""Taking in a Hub: what is new or changed, once, whatever is broken there and wherever it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
from msgspec import to_builtins

from calls import ROOT, run
from hub_server import Hub, serving
from modelkin_registry.registry import Registry
from modelkin_registry.store.sqlite.store import SqliteStore
from tiny_models import tiny_llama, tuned

CONFIG = json.dumps({"model_type": "llama", "num_hidden_layers": 3, "hidden_size": 48, "num_attention_heads": 4}).encode()


def files(seed: int, readme: str = "", **more: bytes) -> dict[str, bytes]:
    """A repository's files: a tiny model, its config and README."""
    weights = safetensors.numpy.save(tiny_llama(seed))
    return {"model.safetensors": weights, "config.json": CONFIG, "README.md": f"---\nlicense: mit\n{readme}---\n".encode(), **more}


@pytest.fixture
def hub(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with three models, which this process and its children take for the real one."""
    import huggingface_hub.constants

    with serving(Hub()) as hub:
        monkeypatch.delenv("MODELKIN_OFFLINE")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        monkeypatch.setattr("modelkin_indexer.hub.client.FIRST_WAIT", 0.001)
        hub.put("org/one", files(1), tags=["text-generation", "base_model:finetune:org/zero"], downloads=10)
        hub.put("org/two", files(2), tags=["text-generation"], downloads=200)
        hub.put("other/three", files(3), downloads=30)
        yield hub


def sync(*arguments: str, registry: str = "r.db", code: int = 0) -> list[dict[str, Any]]:
    """The lines of one call."""
    done = run("sync", *arguments, "--rate", "1000", "--json", registry=registry)
    assert done.exit_code == code, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def outcome(lines: list[dict[str, Any]]) -> dict[str, str]:
    return {line["repo"]: line["status"] for line in lines}


def everything(path: str = "r.db") -> dict[str, Any]:
    """What a registry holds, without times and numbers."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            skipped = ("id", "model", "revision", "fingerprint", "added", "first_seen", "last_seen")
            return {name: plain(item) for name, item in value.items() if name not in skipped}
        return [plain(item) for item in value] if isinstance(value, list) else value

    with SqliteStore.open(Path(path), create=False) as store:
        models = {name: plain(store.show(name)) for name in store.names()}
        journal = [
            {k: v for k, v in to_builtins(entry).items() if k not in ("noted", "seen", "tries", "model", "bytes")}
            for entry in store.hub.entries()
        ]
        return {"models": models, "journal": journal, "ids": store.numbers()}


def test_what_is_there_is_taken_in_once(hub: Hub) -> None:
    assert outcome(sync("--author", "org")) == {"org/one": "added", "org/two": "added"}
    first = dict(hub.requests)
    assert first == {"list": 1, "describe": 2, "file": 6, "range": 2}
    assert sync("--author", "org") == []
    assert hub.requests - hub.requests.__class__(first) == {"list": 1}
    shown = json.loads(run("show", "org/one", "--json").stdout)
    assert shown["revisions"][0]["sources"][0]["origin"] == f"org/one@{hub.repos['org/one'].commit}"
    claims = {(claim["kind"], claim["value"]) for claim in shown["claims"]}
    assert {("license", "mit"), ("base_model", "org/zero"), ("base_model_relation", "finetune")} <= claims


def test_a_change_is_read_and_a_word_changed_is_not(hub: Hub) -> None:
    sync("--author", "org")
    hub.put("org/one", files(11))
    hub.put("org/two", files(2, "base_model: org/one\n"))
    before = hub.requests["file"]
    lines = sync("--author", "org")
    assert outcome(lines) == {"org/one": "added", "org/two": "unchanged"}
    assert hub.requests["file"] == before + 3 + 2
    with Registry.open("r.db") as registry:
        assert len(registry.show("org/one")["revisions"]) == 2
        assert any(c["kind"] == "base_model" and c["source"] == "README.md" for c in registry.show("org/two")["claims"])


def test_the_same_weights_elsewhere_are_not_read_again(hub: Hub) -> None:
    sync("--author", "org")
    hub.put("third/copy", files(1, "tags: [copy]\n"))
    lines = sync("--author", "third")
    assert outcome(lines) == {"third/copy": "added"}
    assert lines[0]["bytes"] < len(hub.repos["third/copy"].files["model.safetensors"])
    with Registry.open("r.db") as registry:
        assert registry.store.get("third/copy").content == registry.store.get("org/one").content


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--task", "text-generation"], {"org/one", "org/two"}),
        (["--min-downloads", "30"], {"org/two", "other/three"}),
        (["--author", "org", "--min-downloads", "30"], {"org/two"}),
        (["other/three"], {"other/three"}),
        (["--ids-from", "ids.txt"], {"org/one", "other/three"}),
    ],
)
def test_filters(hub: Hub, tmp_path: Path, arguments: list[str], wanted: set[str]) -> None:
    (tmp_path / "ids.txt").write_text("# some\norg/one\n\nother/three\n")
    assert set(outcome(sync(*arguments))) == wanted
    assert sync(*arguments) == []


def test_broken_repositories_are_noted_and_pass_by(hub: Hub) -> None:
    hub.put("org/gone", files(4), broken=404)
    hub.put("org/gated", files(5), gated=True)
    hub.put("org/cut", files(6), broken="cut")
    hub.put("org/other", files(7), broken="other")
    hub.put("org/no weights", {"README.md": b"x"})
    hub.put("org/no-weights", {"README.md": b"x"})
    hub.put("org/bad", files(8) | {"model.safetensors": b"\xff" * 100})
    hub.put("org/escape", files(9) | {"../../escape.json": b"{}"})
    hub.put("org/names", files(10) | {"config.json/config.json": b"{}", ".": b""})
    hub.put("org/many", files(13) | {f"{number}.json": b"{}" for number in range(100)} | {"adapter.json": bytes(9_000_000)})
    lines = sync("--author", "org", "--workers", "2")
    assert {repo for repo, status in outcome(lines).items() if status == "added"} == {"org/one", "org/two", "org/escape", "org/many"}
    reasons = {line["repo"]: line["reason"] for line in lines if line["status"] == "failed"}
    assert set(reasons) == {"org/gone", "org/gated", "org/cut", "org/other", "org/no weights", "org/no-weights", "org/bad", "org/names"}
    assert "gated" in reasons["org/gated"]
    assert "no weights" in reasons["org/no-weights"]
    assert {line["repo"]: line["bytes"] for line in lines}["org/many"] < 9_000_000
    assert hub.requests["file"] < 150
    journal = {line["repo"]: line for line in map(json.loads, run("sync", "--journal", "--json").stdout.splitlines())}
    assert {repo: entry["reason"] for repo, entry in journal.items() if entry["state"] == "failed"} == reasons
    again = sync("--author", "org")
    assert set(outcome(again)) == {"org/cut", "org/other"}
    hub.repos["org/cut"].broken, hub.repos["org/gated"].gated = 0, False
    retried = outcome(sync("--author", "org", "--retry"))
    assert (retried["org/cut"], retried["org/gated"], retried["org/bad"]) == ("added", "added", "failed")


def test_a_busy_hub_is_waited_for(hub: Hub) -> None:
    hub.busy = 3
    assert outcome(sync("--author", "org")) == {"org/one": "added", "org/two": "added"}


def test_renamed_and_removed_repositories_leave_no_hole(hub: Hub) -> None:
    sync("--author", "org")
    hub.rename("org/one", "org/uno")
    del hub.repos["org/two"]
    assert sync("--author", "org") == []
    before = hub.requests["file"]
    assert outcome(sync("--author", "org", "--relist")) == {"org/uno": "renamed", "org/two": "gone"}
    assert hub.requests["file"] == before
    with Registry.open("r.db") as registry:
        assert registry.show("org/one")["model"] == "org/uno"
        assert registry.store.names() == ["org/two", "org/uno"]
        assert hub_status(registry) == [True]
        states = {entry.repo: entry.state for entry in registry.store.hub.entries()}
    assert states == {"org/one": "renamed", "org/uno": "done", "org/two": "gone"}
    assert sync("--author", "org", "--relist") == []
    hub.put("org/uno", files(12))
    hub.put("org/two", files(2))
    assert outcome(sync("--author", "org")) == {"org/uno": "added", "org/two": "unchanged"}
    with Registry.open("r.db") as registry:
        assert hub_status(registry) == [False]


def hub_status(registry: Registry) -> list[bool]:
    """Whether what is said of a removed repository holds."""
    return [claim["current"] for claim in registry.show("org/two")["claims"] if claim["kind"] == "hub_status"]


def test_a_renamed_repository_is_found_by_its_former_name(hub: Hub) -> None:
    sync("org/one")
    hub.rename("org/one", "org/uno")
    assert outcome(sync("org/one")) == {"org/uno": "renamed"}
    del hub.repos["org/uno"]
    hub.moved.clear()
    assert outcome(sync("org/nothing")) == {"org/nothing": "failed"}


def test_a_dry_run_says_the_bytes_and_writes_nothing(hub: Hub) -> None:
    sync("org/one")
    before = everything()
    lines = sync("--author", "org", "--dry-run")
    assert outcome(lines) == {"org/two": "wanted"}
    assert lines[0]["bytes"] == sum(map(len, files(2).values()))
    assert everything() == before
    assert hub.requests["file"] == 3


def test_a_hub_that_is_down_stops_the_run_and_uses_up_nothing(hub: Hub) -> None:
    for number in range(25):
        hub.put(f"big/m{number:02}", {"README.md": b"", "model.safetensors": b"x"}, broken=503)
    done = run("sync", "--author", "big", "--rate", "1000", "--json")
    assert done.exit_code == 3
    assert "20 times in a row" in done.output
    with SqliteStore.open(Path("r.db"), create=False) as store:
        assert store.hub.count('{"author": "big"}') == {"failed": 19, "waiting": 6}
    hub.down = True
    done = run("sync", "--author", "org", "--rate", "1000")
    assert done.exit_code == 3
    assert "503" in done.output


def test_nothing_is_asked_where_the_network_is_forbidden(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    done = run("sync", "--author", "org")
    assert done.exit_code == 3
    assert "HF_HUB_OFFLINE" in done.output
    assert not hub.requests


def test_two_syncs_of_a_registry_do_not_run_at_once(hub: Hub) -> None:
    sync("org/one")
    with SqliteStore.open(Path("r.db")) as store, store.alone("syncing"):
        done = run("sync", "--author", "org")
    assert done.exit_code == 4
    assert "another sync" in done.output
    assert outcome(sync("--author", "org")) == {"org/two": "added"}


def test_level_limit_and_bounds(hub: Hub) -> None:
    assert outcome(sync("--author", "org", "--level", "probe", "--limit", "1")) == {"org/one": "added"}
    assert outcome(sync("--author", "org", "--level", "probe")) == {"org/two": "added"}
    lines = sync("--author", "org", "--max-bytes", "100", "--level", "probe")
    assert lines == []
    assert sync("other/three", "--max-bytes", "100")[0]["status"] == "failed"
    assert sync("other/three", "--max-bytes", "100") == []
    assert sync("other/three")[0]["status"] == "added"
    assert outcome(sync("org/one", "--level", "full")) == {"org/one": "added"}
    assert run("sync", registry="r.db").exit_code == 2


def test_killed_at_any_moment_it_ends_as_if_undisturbed(hub: Hub, tmp_path: Path) -> None:
    """The process is killed so often that it dies in different steps; the last run is left alone."""
    for number in range(12):
        hub.put(f"many/m{number:02}", files(100 + number % 9, f"tags: [n{number}]\n"))
    hub.delay = 0.02
    assert len(sync("--author", "many", registry="undisturbed.db")) == 12
    paths = os.pathsep.join(str(ROOT / part) for part in ("indexer", "registry", "api", "cli", "data"))
    environment = {**os.environ, "PYTHONPATH": paths, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    options = ["--author", "many", "--rate", "1000", "--json", "--no-starter"]
    call = [sys.executable, "-m", "modelkin_cli", "--registry", "r.db", "sync", *options]
    for wait in (0.9, 1.2, 1.3, 1.4):
        process = subprocess.Popen(call, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert everything("r.db") == everything("undisturbed.db")
    assert not list(tmp_path.glob(".r.db.sync-*"))
    with Registry.open(tmp_path / "r.db") as registry:
        assert {finding.state for finding in registry.examine()} == {"ok"}


def test_relatives_are_found_in_what_was_synced(hub: Hub) -> None:
    hub.put("org/tuned", {"model.safetensors": safetensors.numpy.save(tuned(tiny_llama(1), 5)), "config.json": CONFIG})
    sync("--author", "org")
    with Registry.open("r.db") as registry:
        assert "org/one" in [relative.model for relative in registry.query(registry.get("org/tuned")).relatives]


def test_a_registry_is_shared_as_a_dataset(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    sync("--author", "org")
    refused = run("push", "me/registry")
    assert refused.exit_code == 3
    assert "Log in" in refused.output
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    pushed = json.loads(run("push", "me/registry", "--json").stdout)
    assert pushed["models"] == 2
    pulled = json.loads(run("pull", "me/registry", "--json", registry="other.db").stdout)
    assert (pulled["added"], pulled["digest"]) == (2, pushed["digest"])
    assert run("list", "-q", registry="other.db").stdout == run("list", "-q").stdout
    hub.datasets["me/registry"]["registry.modelkin-registry"] = b"PK something else"
    damaged = run("pull", "me/registry", registry="other.db")
    assert damaged.exit_code == 3
    assert "damaged" in damaged.output
    assert run("pull", "me/nothing", registry="other.db").exit_code == 3
