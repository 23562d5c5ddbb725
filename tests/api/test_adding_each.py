"""`add --each`: every model of a folder, or of a repository on the Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import modelkin
from calls import run
from hub_server import Hub, serving
from tiny_models import save_model, tiny_llama


def several(folder: Path) -> Path:
    """Two models, one of them in two forms, and what training leaves."""
    folder.mkdir()
    for stem, seed in (("one", 1), ("two", 2), ("two.fp16", 2)):
        weights = tiny_llama(seed)
        half = {name: array.astype(np.float16) for name, array in weights.items()}
        save_model(folder / stem, half if stem.endswith("fp16") else weights)
        (folder / stem / "model.safetensors").rename(folder / f"{stem}.safetensors")
    (folder / "optimizer.bin").write_bytes(b"none")
    return folder


def test_every_model_of_a_folder_is_taken_once(tmp_path: Path) -> None:
    folder = several(tmp_path / "several")
    answer = modelkin.add(folder, every=True, registry=tmp_path / "r.db", starter=False)
    assert [(one.model, one.status) for one in answer.results] == [("one", "added"), ("two", "added")]
    assert [Path(one.source).name for one in answer.results] == ["one.safetensors", "two.safetensors"]
    said = modelkin.add(folder, registry=tmp_path / "r.db", starter=False)
    assert "--file" in (said.results[0].reason or "")


def test_models_one_level_down(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        save_model(tmp_path / "zoo" / name, tiny_llama(seed))
    answer = modelkin.add(tmp_path / "zoo", every=True, registry=tmp_path / "r.db", starter=False)
    assert [(one.model, one.status) for one in answer.results] == [("a", "added"), ("b", "added")]
    one = modelkin.add(tmp_path / "zoo", file="b/model.safetensors", name="c", registry=tmp_path / "other.db", starter=False)
    assert one.results[0].status == "added"


def test_one_that_is_damaged_stops_no_other(tmp_path: Path) -> None:
    folder = several(tmp_path / "several")
    (folder / "one.safetensors").write_bytes(b"broken")
    answer = modelkin.add(folder, every=True, registry=tmp_path / "r.db", starter=False)
    assert [one.status for one in answer.results] == ["failed", "added"]
    assert answer.exit_code == 3


def test_a_folder_with_one_model_is_one_model(tmp_path: Path) -> None:
    save_model(tmp_path / "model", tiny_llama(1))
    answer = modelkin.add(tmp_path / "model", every=True, registry=tmp_path / "r.db", starter=False)
    assert [(one.model, one.source) for one in answer.results] == [("model", str(tmp_path / "model"))]


def test_the_option_and_a_name_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names one model"):
        modelkin.add(tmp_path, every=True, name="a", registry=tmp_path / "r.db", starter=False)
    said = run("add", str(several(tmp_path / "several")), "--each", "--as", "a", registry=str(tmp_path / "r.db"))
    assert said.exit_code == 2
    said = run("add", str(tmp_path / "several"), "--each", "--no-starter", "--json", registry=str(tmp_path / "r.db"))
    assert said.exit_code == 0
    assert len(said.stdout.splitlines()) == 2


@pytest.fixture
def hub(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import huggingface_hub.constants

    with serving(Hub()) as hub:
        monkeypatch.delenv("MODELKIN_OFFLINE")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        yield hub


def stored(seed: int, dtype: str = "float32") -> bytes:
    return safetensors.numpy.save({name: array.astype(dtype) for name, array in tiny_llama(seed).items()})


def test_every_model_of_a_repository_is_taken_once(hub: Hub, tmp_path: Path) -> None:
    files = {"one.safetensors": stored(1), "two.safetensors": stored(2), "two.fp16.safetensors": stored(2, "float16")}
    hub.put("org/several", {**files, "optimizer.bin": b"none"})
    hub.put("org/below", {"a/model.safetensors": stored(3), "b/x.safetensors": stored(4)})
    hub.put("org/single", {"model.safetensors": stored(5)})
    answer = modelkin.add("org/several", "org/below", "hf://org/single", every=True, registry=tmp_path / "r.db", starter=False)
    expected = ["org/several/one", "org/several/two", "org/below/a", "org/below/b/x", "org/single"]
    assert [(one.model, one.status) for one in answer.results] == [(name, "added") for name in expected]
    assert answer.results[0].source == "org/several/one.safetensors"
    for name, seed in zip(expected, range(1, 6), strict=True):
        found = modelkin.query(save_model(tmp_path / f"copy {seed}", tiny_llama(seed)), registry=tmp_path / "r.db", level="probe")
        assert found.relatives[0].model == name
    again = modelkin.add("org/several", every=True, registry=tmp_path / "r.db", starter=False)
    assert [one.status for one in again.results] == ["unchanged", "unchanged"]


def read_again(folder: Path, **options: Any) -> dict[str, str]:
    """What becomes of the models of `r.db` in the folder when they are read again under another key."""
    modelkin.key("new", folder / "our.key")
    answer = modelkin.refresh(folder / "private.db", folder / "our.key", registry=folder / "r.db", **options)
    return {one.model: one.status for one in answer.results}


def test_models_of_a_repository_are_found_there_again(hub: Hub, tmp_path: Path) -> None:
    hub.put("org/several", {"one.safetensors": stored(1), "two.safetensors": stored(2)})
    hub.put("org/below", {"a/model.safetensors": stored(3), "b/x.safetensors": stored(4)})
    modelkin.add("org/several", "org/below", every=True, registry=tmp_path / "r.db", starter=False)
    assert set(read_again(tmp_path).values()) == {"left"}
    found = modelkin.refresh(tmp_path / "private.db", tmp_path / "our.key", registry=tmp_path / "r.db", hub=True)
    assert {one.model: one.status for one in found.results} == dict.fromkeys(
        ["org/below/a", "org/below/b/x", "org/several/one", "org/several/two"], "renewed"
    )
    copy = save_model(tmp_path / "copy", tiny_llama(2))
    answer = modelkin.query(copy, registry=tmp_path / "private.db", key_file=tmp_path / "our.key", level="probe")
    assert answer.relatives[0].model == "org/several/two"


def test_models_of_a_folder_are_found_there_again(tmp_path: Path) -> None:
    folder = several(tmp_path / "several")
    modelkin.add(folder, every=True, registry=tmp_path / "r.db", starter=False)
    (folder / "one.safetensors").rename(folder / "other.safetensors")
    (folder / "two.safetensors").write_bytes(b"broken")
    assert read_again(tmp_path) == {"one": "renewed", "two": "left"}


def test_shards_and_what_the_hub_refuses(hub: Hub, tmp_path: Path) -> None:
    tensors = sorted(tiny_llama(1).items())
    shards = {f"big-{place:05}-of-00002.safetensors": dict(tensors[place - 1 :: 2]) for place in (1, 2)}
    index = json.dumps({"weight_map": {name: file for file, held in shards.items() for name in held}}).encode()
    files = {file: safetensors.numpy.save(held) for file, held in shards.items()}
    hub.put("org/sharded", {**files, "big.safetensors.index.json": index, "small.safetensors": stored(2)})
    answer = modelkin.add("org/sharded", "org/absent", every=True, registry=tmp_path / "r.db", starter=False)
    assert [(one.model, one.status) for one in answer.results] == [
        ("org/sharded/big", "added"),
        ("org/sharded/small", "added"),
        ("org/absent", "failed"),
    ]
    assert answer.results[0].parameters == answer.results[1].parameters


def test_offline_no_request_is_made(hub: Hub, tmp_path: Path) -> None:
    hub.put("org/several", {"one.safetensors": stored(1), "two.safetensors": stored(2)})
    answer = modelkin.add("hf://org/several", every=True, registry=tmp_path / "r.db", starter=False, offline=True)
    assert [one.status for one in answer.results] == ["failed"]
    assert not hub.requests
