"""Checkpoints of Orbax, written byte by byte (benchmarks/formats/containers_reference.py holds checkpoints of Orbax itself)."""

from __future__ import annotations

import json
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.hostile.checkpoints import chunked, described, ocdbt_files, zarr_values
from modelkin_indexer.errors import DamagedFile, SourceError, UnsupportedFormat
from modelkin_indexer.opening import open_source
from modelkin_indexer.sources.flax.compressed import MOST_OPEN
from reading import read

OPEN_FILES = Path("/proc/self/fd")
RNG = np.random.default_rng(12)
ARRAYS = {
    "params.layers_0.up.kernel": RNG.standard_normal((12, 7), np.float32),
    "params.layers_0.up.bias": RNG.standard_normal(12, np.float32),
    "params.embed.embedding": RNG.standard_normal((30, 16), np.float32),
}


def save(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def is_whole(found: dict[str, Any]) -> bool:
    """Every array as it was: those of two axes were stored turned."""
    expected = {"layers.0.up.weight": 0, "layers.0.up.bias": 1, "embed.weight": 2}
    arrays = list(ARRAYS.values())
    names = {name: arrays[at].T if name == "embed.weight" else arrays[at] for name, at in expected.items()}
    return found.keys() == names.keys() and all(np.array_equal(found[name], array) for name, array in names.items())


@pytest.mark.parametrize("packed", [False, True])
def test_arrays_of_a_database(packed: bool, tmp_path: Path) -> None:
    assert is_whole(read(save(tmp_path / "model", ocdbt_files(zarr_values(ARRAYS, packed)))))


@pytest.mark.parametrize("packed", [False, True])
def test_arrays_in_folders(packed: bool, tmp_path: Path) -> None:
    said = {"tree_metadata": {name: {"key_metadata": [{"key": part, "key_type": 2} for part in name.split(".")]} for name in ARRAYS}}
    files = {"_METADATA": json.dumps(said).encode(), **zarr_values(ARRAYS, packed)}
    assert is_whole(read(save(tmp_path / "model", files)))
    (tmp_path / "model" / "_METADATA").unlink()
    assert is_whole(read(tmp_path / "model"))


@pytest.mark.parametrize("way", ["5/state", "checkpoint_1/default", "run/5/params"])
def test_checkpoints_of_a_step(way: str, tmp_path: Path) -> None:
    save(tmp_path / "model" / way, ocdbt_files(zarr_values(ARRAYS)))
    assert is_whole(read(tmp_path / "model"))


def test_of_several_steps_one_has_to_be_named(tmp_path: Path) -> None:
    for step in ("5", "10"):
        save(tmp_path / "model" / step / "default", ocdbt_files(zarr_values(ARRAYS)))
    with pytest.raises(UnsupportedFormat, match=r"2 checkpoints of Orbax's \(10/default, 5/default\)\. Name one"):
        open_source(tmp_path / "model")


def test_of_a_steps_parts_the_model_is_read(tmp_path: Path) -> None:
    save(tmp_path / "model" / "params", ocdbt_files(zarr_values(ARRAYS)))
    save(tmp_path / "model" / "opt_state", ocdbt_files(zarr_values({"mu.layers_0.up.kernel": ARRAYS["params.layers_0.up.kernel"]})))
    assert is_whole(read(tmp_path / "model"))


def test_a_checkpoint_of_many_files_keeps_few_open_and_none_when_closed(tmp_path: Path) -> None:
    many = {f"params.layers_{n}.up.kernel": RNG.standard_normal((12, 7), np.float32) for n in range(2 * MOST_OPEN)}
    folder = save(tmp_path / "model", zarr_values(many))
    before = len(list(OPEN_FILES.iterdir()))
    with closing(open_source(folder)) as source:
        for name, info in source.tensors.items():
            source.read(name, 0, info.nbytes)
        assert 1 <= len(list(OPEN_FILES.iterdir())) - before <= MOST_OPEN
    assert len(list(OPEN_FILES.iterdir())) == before


def test_an_optimizers_state_is_no_weight(tmp_path: Path) -> None:
    more = {"opt_state.0.mu.layers_0.up.kernel": ARRAYS["params.layers_0.up.kernel"], "step": np.float32(3).reshape(())}
    found = read(save(tmp_path / "model", ocdbt_files(zarr_values({**ARRAYS, **more}))))
    assert set(found) == {"layers.0.up.weight", "layers.0.up.bias", "embed.weight"}


def test_zarr_3_and_its_shards(tmp_path: Path) -> None:
    array = RNG.standard_normal((10, 6), np.float32)
    inner = {
        "chunk_shape": [2, 3],
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "index_codecs": [{"name": "bytes"}],
    }
    said = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [10, 6],
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 6]}},
        "chunk_key_encoding": {"name": "default"},
        "codecs": [{"name": "sharding_indexed", "configuration": inner}],
        "fill_value": 0.0,
    }
    found = {"params.up.kernel/zarr.json": json.dumps(said).encode()}
    for place, shard in chunked(array, (4, 6)).items():
        parts = [part.tobytes() for part in chunked(shard, (2, 3)).values()]
        index = b"".join(struct.pack("<QQ", at * 24, 24) for at in range(len(parts)))
        found[f"params.up.kernel/c/{place.replace('.', '/')}"] = b"".join(parts) + index
    for name, files in (("folders", {"_METADATA": b'{"tree_metadata": {}}', **found}), ("database", ocdbt_files(found))):
        assert np.array_equal(read(save(tmp_path / name, files))["up.weight"], array.T)


def test_modules_of_nnx_hold_values(tmp_path: Path) -> None:
    arrays = {"params.up.kernel.value": ARRAYS["params.layers_0.up.kernel"]}
    assert set(read(save(tmp_path / "model", ocdbt_files(zarr_values(arrays))))) == {"up.weight"}


def test_what_is_packed_otherwise_is_told_with_its_bytes(tmp_path: Path) -> None:
    lies = {"params.embed.embedding": {"compressor": {"id": "blosc"}}}
    with closing(open_source(save(tmp_path / "model", ocdbt_files(zarr_values(ARRAYS, lies=lies))))) as source:
        ((kind, count),) = source.unread
        assert kind == "Zarr, blosc"
        assert count > ARRAYS["params.embed.embedding"].nbytes
        assert "embed.weight" not in source.tensors


def test_zstd_needs_the_extra_or_is_read(tmp_path: Path) -> None:
    zarr = zarr_values(ARRAYS, lies={name: {"compressor": {"id": "zstd", "level": 1}} for name in ARRAYS})
    folder = tmp_path / "model"
    try:
        import zstandard
    except ImportError:
        save(folder, ocdbt_files(zarr))
        with pytest.raises(UnsupportedFormat, match=r"zstd, .* pip install 'modelkin\[orbax\]'"):
            read(folder)
    else:
        packed = {key: data if key.endswith(".zarray") else zstandard.compress(data) for key, data in zarr.items()}
        assert is_whole(read(save(folder, ocdbt_files(packed))))


@pytest.mark.parametrize("name", ["../0123", "/etc/passwd", "d/../../0123", "d//0123", ""])
def test_paths_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="leads to another folder"):
        open_source(save(tmp_path / "model", ocdbt_files(zarr_values(ARRAYS), name=name)))


def test_a_link_to_another_folder_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", ocdbt_files(zarr_values(ARRAYS)))
    (folder / "d").rename(tmp_path / "elsewhere")
    (folder / "d").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsupportedFormat, match="leads to another folder"):
        open_source(folder)


@pytest.mark.parametrize(
    "lies", [{"shape": [7, 13]}, {"chunks": [0, 6]}, {"chunks": [4]}, {"chunks": [1, 1]}, {"shape": [-7, 12]}, {"dtype": "<f8"}]
)
def test_descriptions_that_do_not_fit_are_refused(lies: dict[str, Any], tmp_path: Path) -> None:
    files = ocdbt_files(zarr_values(ARRAYS, lies={"params.layers_0.up.kernel": lies}))
    with pytest.raises(SourceError, match="model"):
        read(save(tmp_path / "model", files))


def test_a_missing_chunk_is_told(tmp_path: Path) -> None:
    found = zarr_values(ARRAYS)
    del found["params.embed.embedding/1.0"]
    with pytest.raises(DamagedFile, match=r"lacks the chunk 1\.0"):
        open_source(save(tmp_path / "model", ocdbt_files(found)))


def test_a_description_of_many_chunks_costs_nothing(tmp_path: Path) -> None:
    files = {
        "_METADATA": b'{"tree_metadata": {}}',
        "a.kernel/.zarray": described(np.ones((2, 2), np.float32), shape=[2**39, 2**39], chunks=[1, 1]),
    }
    with pytest.raises(UnsupportedFormat, match="too many chunks"):
        open_source(save(tmp_path / "model", files))
