"""Safetensors of torch.distributed, whose files hold pieces of tensors: written by its own writer, and as several processes write them."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import HuggingFaceStorageWriter

from modelkin_indexer.errors import DamagedFile, SourceError
from modelkin_indexer.opening import open_source
from reading import read

RNG = np.random.default_rng(11)
WHOLE = {
    "model.embed_tokens.weight": RNG.standard_normal((21, 8), np.float32),
    "model.layers.0.mlp.up_proj.weight": RNG.standard_normal((7, 5, 3), np.float32),
    "model.norm.weight": RNG.standard_normal(8).astype(np.float32),
}
Cut = dict[str, list[tuple[int, ...]]]  # name -> where its pieces begin, one for each file


def piece(name: str, file: int, cut: Cut) -> Any:
    """From where a piece begins to where the next one along that axis does."""
    whole, begins = WHOLE[name], cut[name]
    ends = [min((at[axis] for at in begins if at[axis] > begins[file][axis]), default=whole.shape[axis]) for axis in range(whole.ndim)]
    return np.ascontiguousarray(whole[tuple(slice(low, high) for low, high in zip(begins[file], ends, strict=True))])


def saved(folder: Path, cut: Cut, said: dict[str, Any] | None = None) -> Path:
    """As `HuggingFaceStorageWriter(save_distributed=True)` writes them."""
    folder.mkdir()
    for file in range(max(len(begins) for begins in cut.values())):
        names = [name for name, begins in cut.items() if file < len(begins)]
        info = {name: {"saved_offsets": list(cut[name][file])} for name in names} | (said or {})
        metadata = {"DCP_SHARDING_INFO": json.dumps(info), "DCP_VERSION": "1.0", "format": "pt"}
        safetensors.numpy.save_file(
            {name: piece(name, file, cut) for name in names}, folder / f"shard-{file + 1:05}-model-00001-of-00001.safetensors", metadata
        )
    return folder


CUTS: dict[str, Cut] = {
    "rows": {name: [(0,) * array.ndim, (3,) + (0,) * (array.ndim - 1)] for name, array in WHOLE.items()},
    "other axes": {
        "model.embed_tokens.weight": [(0, 0), (0, 5)],
        "model.layers.0.mlp.up_proj.weight": [(0, 0, 0), (0, 2, 0), (0, 4, 0)],
        "model.norm.weight": [(0,)],
    },
    "both": {"model.embed_tokens.weight": [(0, 0), (0, 3), (11, 0), (11, 3)]},
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_pieces_are_joined_to_whole_tensors(cut: Cut, tmp_path: Path) -> None:
    found = read(saved(tmp_path / "model", cut))
    assert found.keys() == cut.keys()
    assert all(np.array_equal(found[name], WHOLE[name]) for name in cut)


def test_rows_and_parts_of_rows_are_read_alone(tmp_path: Path) -> None:
    name = "model.embed_tokens.weight"
    with closing(open_source(saved(tmp_path / "model", CUTS["other axes"]))) as source:
        before = source.bytes_read
        assert np.array_equal(source.read(name, 64, 96).view(np.float32), WHOLE[name][2])
        assert source.bytes_read - before == 32
        assert np.array_equal(source.read(name, 76, 132).view(np.float32), WHOLE[name].reshape(-1)[19:33])


@pytest.mark.parametrize("distributed", [False, True])
def test_the_librarys_own_files(distributed: bool, tmp_path: Path) -> None:
    state = {name: torch.from_numpy(array) for name, array in WHOLE.items()} | {"steps": torch.tensor(3.0)}
    with pytest.warns(UserWarning, match="torch.distributed"):
        dcp.save(state, storage_writer=HuggingFaceStorageWriter(str(tmp_path / "model"), save_distributed=distributed), no_dist=True)
    found = read(tmp_path / "model")
    assert all(np.array_equal(found[name], array) for name, array in WHOLE.items())


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", CUTS["other axes"])
    (folder / "shard-00002-model-00001-of-00001.safetensors").unlink()
    with pytest.raises(DamagedFile, match="number 2 is missing"):
        open_source(folder)
    with pytest.raises(SourceError, match="number 1, 2 is missing"):
        open_source(folder / "shard-00003-model-00001-of-00001.safetensors")


def test_that_the_last_may_be_missing_is_told(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", CUTS["rows"])
    (folder / "shard-00002-model-00001-of-00001.safetensors").unlink()
    with closing(open_source(folder)) as source:
        assert any("nothing in them says whether there are more" in note for note in source.notes)


@pytest.mark.parametrize("said", [[0], [0, 1, 0], [-3, 0], [True, 0], [2**60, 0], "x", [0, 0], [2, 0], [4, 0], None])
def test_pieces_that_do_not_fit_are_refused(said: Any, tmp_path: Path) -> None:
    name = "model.embed_tokens.weight"
    folder = saved(tmp_path / "model", {name: CUTS["rows"][name]})
    second = folder / "shard-00002-model-00001-of-00001.safetensors"
    info = json.dumps({name: {"saved_offsets": said}})
    safetensors.numpy.save_file({name: piece(name, 1, CUTS["rows"])}, second, {"DCP_SHARDING_INFO": info})
    with pytest.raises(DamagedFile, match=r"begins nowhere|do not make up"):
        open_source(folder)


@pytest.mark.parametrize("said", ["[]", "{", "[" * 100_000, '"text"'])
def test_words_that_are_none_are_refused(said: str, tmp_path: Path) -> None:
    safetensors.numpy.save_file({"a.weight": np.ones((4, 4), np.float32)}, tmp_path / "model.safetensors", {"DCP_SHARDING_INFO": said})
    with pytest.raises(DamagedFile, match="DCP_SHARDING_INFO"):
        open_source(tmp_path / "model.safetensors")
