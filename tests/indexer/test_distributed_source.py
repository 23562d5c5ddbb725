"""Checkpoints of torch.distributed: written by the library in one process, and with pieces as several processes write them."""

from __future__ import annotations

import io
import pickle
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.checkpoint import metadata as dcp
from torch.distributed.checkpoint.filesystem import _StorageInfo

from benchmarks.hostile.written import distributed_files
from modelkin_indexer.errors import DamagedFile, SourceError, UnsupportedFormat
from modelkin_indexer.opening import open_source
from reading import read

RNG = np.random.default_rng(10)


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape, np.float32)


def save(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def sharded(folder: Path, name: str, whole: Any, corners: list[tuple[tuple[int, ...], tuple[int, ...]]], **told: Any) -> Path:
    """A checkpoint of one tensor whose pieces lie in a file each."""
    files, storage, chunks = {}, {}, []
    for number, (offsets, shape) in enumerate(corners):
        stream = io.BytesIO()
        piece = whole[tuple(slice(at, at + n) for at, n in zip(offsets, shape, strict=True))]
        torch.save(torch.from_numpy(np.ascontiguousarray(piece)), stream)
        files[f"__{number}_0.distcp"] = bytes(7) + stream.getvalue()
        chunks.append(dcp.ChunkStorageMetadata(torch.Size(offsets), torch.Size(shape)))
        index = dcp.MetadataIndex(name, torch.Size(offsets), number)
        storage[index] = _StorageInfo(f"__{number}_0.distcp", 7, len(stream.getvalue()), **told)
    said = dcp.TensorStorageMetadata(dcp.TensorProperties(dtype=torch.float32), torch.Size(whole.shape), chunks)
    files[".metadata"] = pickle.dumps(dcp.Metadata({name: said, "step": dcp.BytesStorageMetadata()}, storage_data=storage))
    return save(folder, files)


def test_the_folder_is_one_model(tmp_path: Path) -> None:
    weights = {"model.layers.0.fc.weight": floats(30, 20), "model.norm.weight": floats(20), "optimizer.state.fc": floats(30, 20)}
    save(tmp_path, distributed_files(weights))
    found = read(tmp_path)
    assert set(found) == {"model.layers.0.fc.weight", "model.norm.weight"}
    assert all(np.array_equal(array, weights[name]) for name, array in found.items())
    with closing(open_source(tmp_path)) as source:
        assert [file.name for file in source.files] == ["__0_0.distcp", ".metadata"]
        assert any("optimizer" in note for note in source.notes)


@pytest.mark.parametrize(
    "corners",
    [
        [((0, 0), (16, 20)), ((16, 0), (14, 20))],
        [((0, 0), (30, 7)), ((0, 7), (30, 13))],
        [((0, 0), (16, 7)), ((0, 7), (16, 13)), ((16, 0), (14, 20))],
    ],
)
def test_pieces_are_put_together(corners: list[tuple[tuple[int, ...], tuple[int, ...]]], tmp_path: Path) -> None:
    whole = floats(30, 20)
    path = sharded(tmp_path / "c", "fc.weight", whole, corners)
    assert np.array_equal(read(path)["fc.weight"], whole)
    with closing(open_source(path)) as source:
        assert source.read("fc.weight", 1100, 1500).tobytes() == whole.tobytes()[1100:1500]


def test_pieces_that_lack_something_overlap_or_leave_the_tensor(tmp_path: Path) -> None:
    whole = floats(30, 20)
    for number, corners in enumerate([[((0, 0), (16, 20))], [((0, 0), (16, 20)), ((15, 0), (14, 20))]]):
        with pytest.raises(DamagedFile, match="do not make it up"):
            open_source(sharded(tmp_path / str(number), "fc.weight", whole, corners))


def test_pieces_that_were_transformed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="were transformed"):
        open_source(sharded(tmp_path / "c", "a", floats(4, 4), [((0, 0), (4, 4))], transform_descriptors=["zstd"]))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = sharded(tmp_path / "c", "a", floats(4, 4), [((0, 0), (2, 4)), ((2, 0), (2, 4))])
    (path / "__1_0.distcp").unlink()
    with pytest.raises(SourceError, match="__1_0"):
        open_source(path)
    (path / ".metadata").unlink()
    with pytest.raises(SourceError, match=r"\.metadata"):
        open_source(path)
