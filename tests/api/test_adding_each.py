"""`add --each`: every model of a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import modelkin
from calls import run
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
