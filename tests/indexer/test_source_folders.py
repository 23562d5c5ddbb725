"""Finding the weights of a model: folders, shards, names, and links that lead elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.numpy
import torch

from modelkin_indexer.errors import DamagedFile, SourceError, SourceNotFound, UnsupportedFormat
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.sources.register import OTHER_SUFFIXES

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
OPEN_FILES = Path("/proc/self/fd")
REVISION = "0123abcd"


def save(path: Path, *names: str) -> Path:
    """A sound file with these tensors, each [2, 3]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file({name: np.full((2, 3), number, np.float32) for number, name in enumerate(names)}, path)
    return path


def index(folder: Path, weight_map: Any, **more: Any) -> Path:
    path = folder / INDEX
    path.write_text(json.dumps({"metadata": {"total_size": 48}, "weight_map": weight_map, **more}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny").mkdir()
    return tmp_path / "tiny"


@pytest.fixture
def sharded(folder: Path) -> Path:
    save(folder / FIRST, "a", "b")
    save(folder / SECOND, "c")
    index(folder, {"a": FIRST, "b": FIRST, "c": SECOND})
    return folder


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """A snapshot in the layout of the Hugging Face cache: links from the snapshot into the repository's blobs."""
    repository = tmp_path / "hub" / "models--org--tiny"
    save(repository / "blobs" / "f00d", "a")
    snapshot = repository / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to("../../blobs/f00d")
    return snapshot


def test_one_file_by_its_path_or_its_folder(folder: Path) -> None:
    path = save(folder / "model.safetensors", "a")
    for given in (path, folder):
        source = open_source(given)
        assert (source.path, source.name, list(source.tensors), source.notes) == (given, "tiny", ["a"], ())
        assert [(file.name, file.size) for file in source.files] == [("model.safetensors", path.stat().st_size)]


def test_a_telling_file_name_names_the_model(folder: Path) -> None:
    assert open_source(save(folder / "llama-1b.safetensors", "a")).name == "llama-1b"
    assert open_source(folder).name == "tiny"
    assert open_source(folder, "llama-1b.safetensors").name == "llama-1b"


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "consolidated.safetensors", "whatever.safetensors"])
def test_any_single_file(name: str, folder: Path) -> None:
    save(folder / name, "a")
    assert list(open_source(folder).tensors) == ["a"]


def test_the_main_file_goes_before_others(folder: Path) -> None:
    save(folder / "model.safetensors", "main")
    save(folder / "adapter_model.safetensors", "adapter")
    save(folder / "consolidated.safetensors", "other")
    assert list(open_source(folder).tensors) == ["main"]
    assert list(open_source(folder, "adapter_model.safetensors").tensors) == ["adapter"]


def test_the_index_goes_before_the_main_file(sharded: Path) -> None:
    save(sharded / "model.safetensors", "main")
    source = open_source(sharded)
    assert list(source.tensors) == ["a", "b", "c"]
    assert [note.split(". ")[0] for note in source.notes] == [f"{INDEX} is read, and left out: model.safetensors"]
    assert list(open_source(sharded, "model.safetensors").tensors) == ["main"]


def test_the_main_file_goes_before_shards_without_an_index(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    save(sharded / "model.safetensors", "main")
    source = open_source(sharded)
    assert list(source.tensors) == ["main"]
    assert source.notes[0].startswith("model.safetensors is read, and left out: model-00001-of-00002.safetensors.")


def test_shards_by_index(sharded: Path) -> None:
    for given, file in ((sharded, None), (sharded / INDEX, None), (sharded, INDEX)):
        source = open_source(given, file)
        assert (source.name, list(source.tensors), len(source.files), source.notes) == ("tiny", ["a", "b", "c"], 2, ())
        assert source.read("b", 0, 4).view(np.float32).tolist() == [1.0]
        assert source.bytes_read == sum(file.size for file in source.files) - 3 * 24 + 4


def test_shards_by_their_names(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    assert list(open_source(sharded).tensors) == ["a", "b", "c"]
    assert list(open_source(sharded, SECOND).tensors) == ["c"]
    (sharded / SECOND).unlink()
    source = open_source(sharded)
    assert list(source.tensors) == ["a", "b"]
    assert source.notes == ("Only 1 of 2 shards are here (number 2 missing): they are read as the part that they are.",)
    assert fingerprint_source(source).about.shards == (1, 2)


def test_several_models_in_one_folder(folder: Path) -> None:
    save(folder / "one.safetensors", "a")
    save(folder / "two.safetensors", "a")
    with pytest.raises(UnsupportedFormat, match=r"one.safetensors, two.safetensors.*--file"):
        open_source(folder)
    save(folder / "three-00001-of-00001.safetensors", "a")
    with pytest.raises(UnsupportedFormat, match="--file"):
        open_source(folder)


def test_what_lies_in_subfolders_is_told_as_left_out(folder: Path) -> None:
    save(folder / "model.safetensors", "a")
    assert open_source(folder).notes == ()
    for name in ("onnx", "empty", ".cache"):
        (folder / name).mkdir()
    save(folder / "onnx" / "model.safetensors", "b")
    save(folder / ".cache" / "model.safetensors", "b")
    (told,) = open_source(folder).notes
    assert told.startswith("model.safetensors is read, and left out: onnx/model.safetensors.")
    assert list(open_source(folder, "onnx/model.safetensors").tensors) == ["b"]


def test_two_sharded_models_in_one_folder(sharded: Path) -> None:
    shutil.copy(sharded / INDEX, sharded / "other.safetensors.index.json")
    source = open_source(sharded)
    assert len(source.files) == 2
    assert source.notes[0].startswith(f"{INDEX} is read, and left out: other.safetensors.index.json")
    (sharded / INDEX).rename(sharded / "third.safetensors.index.json")
    for shard in (FIRST, SECOND):
        (sharded / shard).rename(sharded / shard.replace("model", "third"))
    with pytest.raises(UnsupportedFormat, match=r"other.safetensors.index.json, third.safetensors.index.json.*--file"):
        open_source(sharded)


def test_the_form_with_most_bits_goes_first(folder: Path) -> None:
    save(folder / "tiny.fp16.safetensors", "a")
    save(folder / "tiny-Q8_0.safetensors", "a", "b")
    source = open_source(folder)
    assert list(source.tensors) == ["a", "b"]
    assert "left out: tiny.fp16.safetensors." in source.notes[0]


def test_shards_of_a_variant(folder: Path) -> None:
    for number, tensor in enumerate("ab", start=1):
        save(folder / f"model-0000{number}-of-00002.fp16.safetensors", tensor)
    source = open_source(folder)
    assert (list(source.tensors), source.notes) == (["a", "b"], ())


def test_what_training_leaves_is_no_model(folder: Path) -> None:
    save(folder / "tiny.safetensors", "a")
    save(folder / "optimizer.safetensors", "b")
    assert list(open_source(folder).tensors) == ["a"]
    assert open_source(folder).notes == ()
    assert list(open_source(folder, "optimizer.safetensors").tensors) == ["b"]


def test_tensors_that_the_index_leaves_out_are_read(sharded: Path) -> None:
    index(sharded, {"a": FIRST, "c": SECOND})
    source = open_source(sharded)
    assert list(source.tensors) == ["a", "b", "c"]
    assert "leaves out 1 tensors" in source.notes[0]


def test_of_one_tensor_in_two_shards_the_index_decides(sharded: Path) -> None:
    safetensors.numpy.save_file({"a": np.full((2, 3), 7, np.float32), "c": np.zeros((2, 3), np.float32)}, sharded / SECOND)
    source = open_source(sharded)
    assert source.read("a", 0, 4).view(np.float32).tolist() == [0.0]
    assert source.notes == ("1 tensors stand in several files; the index decides which are read.",)
    index(sharded, {"a": SECOND, "b": FIRST, "c": SECOND})
    assert open_source(sharded).read("a", 0, 4).view(np.float32).tolist() == [7.0]
    (sharded / INDEX).unlink()
    with pytest.raises(DamagedFile, match=f"{SECOND}: tensor 'a': is also in {FIRST}, with other bytes"):
        open_source(sharded)


def test_one_tensor_in_two_shards_with_equal_bytes(sharded: Path) -> None:
    save(sharded / SECOND, "a", "c")
    (sharded / INDEX).unlink()
    source = open_source(sharded)
    assert (list(source.tensors), source.notes) == (
        ["a", "b", "c"],
        ("1 tensors stand in two files with equal bytes; they are read once.",),
    )


def test_an_index_that_names_too_much_or_another_file(sharded: Path) -> None:
    index(sharded, {"a": SECOND, "b": FIRST, "c": SECOND, "d": SECOND})
    source = open_source(sharded)
    assert list(source.tensors) == ["a", "b", "c"]
    assert source.notes[0].startswith("1 tensors are in another file than the index says")
    assert source.notes[1] == "The index names 1 tensors that no file holds (d); they are left out."


def test_an_index_of_other_files_gives_way_to_complete_shards(sharded: Path) -> None:
    index(sharded, {"a": "model-00001-of-00003.safetensors", "z": "model-00003-of-00003.safetensors"})
    source = open_source(sharded)
    assert list(source.tensors) == ["a", "b", "c"]
    assert "names files that are not there" in source.notes[0]
    (sharded / SECOND).unlink()
    with pytest.raises(SourceNotFound, match="00003"):
        open_source(sharded)


@pytest.mark.parametrize(("first", "count"), [(0, 2), (0, 1)])
def test_shards_may_be_counted_from_0(first: int, count: int, folder: Path) -> None:
    for number, tensor in enumerate("ab", first):
        save(folder / f"model-{number:05d}-of-{count:05d}.safetensors", tensor)
    assert list(open_source(folder).tensors) == ["a", "b"]


BAD_SHARDS = [
    "../outside.safetensors",
    "/etc/passwd",
    "/outside.safetensors",
    "sub/x.safetensors",
    "..\\x.safetensors",
    "..",
    "",
    ".safetensors",
    "x.bin",
    "x\0.safetensors",
]


@pytest.mark.parametrize("shard", BAD_SHARDS)
def test_an_index_cannot_lead_out_of_the_folder(shard: str, sharded: Path) -> None:
    save(sharded.parent / "outside.safetensors", "a")
    index(sharded, {"a": shard})
    with pytest.raises(DamagedFile, match=f"{INDEX}: tensor 'a': is said to be in"):
        open_source(sharded)


BAD_INDEXES = {
    "empty": "",
    "list": "[]",
    "no map": "{}",
    "empty map": '{"weight_map": {}}',
    "map is a list": '{"weight_map": []}',
    "shard is a number": '{"weight_map": {"a": 1}}',
    "tensor twice": f'{{"weight_map": {{"a": "{FIRST}", "a": "{FIRST}"}}}}',
    "map twice": f'{{"weight_map": {{"a": "{FIRST}"}}, "weight_map": {{"a": "{FIRST}"}}}}',
    "nested": '{"metadata": ' + "[" * 5000 + "]" * 5000 + "}",
    "cut short": '{"weight_map": {"a": "mod',
}


def test_an_index_whose_tensors_are_mostly_nowhere(sharded: Path) -> None:
    index(sharded, {"a": FIRST, "x": FIRST, "y": SECOND})
    with pytest.raises(DamagedFile, match="2 of the 3 tensors that the index names"):
        open_source(sharded)


@pytest.mark.parametrize("case", BAD_INDEXES)
def test_damaged_indexes(case: str, sharded: Path) -> None:
    (sharded / INDEX).write_text(BAD_INDEXES[case])
    with pytest.raises(DamagedFile, match=INDEX):
        open_source(sharded)


def test_a_missing_shard(sharded: Path) -> None:
    (sharded / SECOND).unlink()
    with pytest.raises(SourceNotFound, match=SECOND):
        open_source(sharded)


def test_a_huge_index_is_not_read(sharded: Path) -> None:
    os.truncate(sharded / INDEX, 10**12)
    with pytest.raises(UnsupportedFormat, match="1,000,000,000,000 bytes"):
        open_source(sharded)


@pytest.mark.parametrize("suffix", OTHER_SUFFIXES)
def test_other_containers_are_named(suffix: str, folder: Path) -> None:
    (folder / f"weights{suffix}").write_bytes(b"x")
    with pytest.raises(UnsupportedFormat, match=rf"weights\{suffix} .*This version reads safetensors"):
        open_source(folder)
    with pytest.raises(UnsupportedFormat, match=rf"is a \{suffix} file"):
        open_source(folder / f"weights{suffix}")


def test_weights_one_level_down(folder: Path) -> None:
    save(folder / "fp16" / "model.safetensors", "a")
    (folder / "logs").mkdir()
    source = open_source(folder)
    assert (source.name, source.path, list(source.tensors)) == ("tiny", folder, ["a"])
    assert source.notes == ("The weights lie one level down, in fp16/.",)
    save(folder / "fp32" / "x.safetensors", "a", "b")
    with pytest.raises(SourceNotFound, match=r"2 of its subfolders have \(fp16/model.safetensors, fp32/x.safetensors\).*--file fp16/model"):
        open_source(folder)
    assert list(open_source(folder, "fp32/x.safetensors").tensors) == ["a", "b"]
    for file in (
        "fp32/../x.safetensors",
        "../tiny/fp32/x.safetensors",
        "/fp32/x.safetensors",
        "fp32/a/x.safetensors",
        "fp32\\x.safetensors",
    ):
        with pytest.raises(SourceNotFound):
            open_source(folder, file)


def test_subfolders_out_of_the_folder_are_not_looked_into(folder: Path) -> None:
    save(folder.parent / "elsewhere" / "model.safetensors", "a")
    (folder / "link").symlink_to("../elsewhere")
    for file in (None, "link/model.safetensors"):
        with pytest.raises(SourceNotFound):
            open_source(folder, file)


def test_nothing_there(folder: Path) -> None:
    for given in (folder, folder / "x", folder / "x.safetensors"):
        with pytest.raises(SourceNotFound, match="tiny"):
            open_source(given)
    for file in ("x.safetensors", "../x", "..", ".", "", "nul\0byte", "long" * 1000):
        with pytest.raises(SourceNotFound, match="tiny"):
            open_source(folder, file)
    for name in ("nul\0byte", "long" * 1000):
        with pytest.raises(SourceNotFound):
            open_source(folder / name)


def test_a_file_in_a_file(folder: Path) -> None:
    path = save(folder / "model.safetensors", "a")
    with pytest.raises(SourceNotFound, match="--file"):
        open_source(path, "model.safetensors")
    with pytest.raises(SourceNotFound):
        open_source(path / "model.safetensors")


def test_config_is_read_and_a_broken_one_noted(folder: Path) -> None:
    save(folder / "model.safetensors", "a")
    (folder / "config.json").write_text('{"model_type": "llama", "time_step_limit": [0.0, Infinity]}')
    assert open_source(folder).config["model_type"] == "llama"
    for broken in ("{", "[]", '"\\ud800"', '{"x": "\\ud800"}', "\udcff", "[" * 100_000, "1" * 5000):
        (folder / "config.json").write_bytes(broken.encode("utf-8", "surrogateescape"))
        source = open_source(folder)
        assert source.config == {}
        assert "config.json" in source.notes[0]


def test_a_config_that_is_no_file_is_noted(folder: Path) -> None:
    save(folder / "model.safetensors", "a")
    save(folder.parent / "outside.json", "a")
    os.mkfifo(folder / "config.json")
    assert "pipe" in open_source(folder).notes[0]
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(folder.parent / "outside.json")
    assert "link" in open_source(folder).notes[0]
    (folder / "config.json").unlink()
    (folder / "config.json").touch()
    os.truncate(folder / "config.json", 10**12)
    assert "bytes" in open_source(folder).notes[0]


def test_links_within_the_folder(folder: Path) -> None:
    save(folder / "data" / "weights", "a")
    (folder / "model.safetensors").symlink_to("data/weights")
    assert list(open_source(folder).tensors) == ["a"]
    (folder.parent / "alias").symlink_to(folder)
    assert open_source(folder.parent / "alias").name == "tiny"


def test_links_out_of_the_folder(folder: Path) -> None:
    outside = save(folder.parent / "outside.safetensors", "a")
    link = folder / "model.safetensors"
    link.symlink_to(outside)
    for given in (folder, link):
        with pytest.raises(UnsupportedFormat, match=r"model.safetensors: is a link to a file outside"):
            open_source(given)
    link.unlink()
    link.symlink_to("../outside.safetensors")
    with pytest.raises(UnsupportedFormat, match="outside"):
        open_source(folder)


def test_links_to_nothing_or_to_themselves(folder: Path) -> None:
    link = folder / "model.safetensors"
    for target in ("nothing", "model.safetensors"):
        link.symlink_to(target)
        for given in (folder, link):
            with pytest.raises(SourceNotFound, match=r"model.safetensors"):
                open_source(given)
        link.unlink()


def test_the_cache_of_the_hub(cached: Path) -> None:
    for given in (cached, cached / "model.safetensors"):
        source = open_source(given)
        assert (source.name, list(source.tensors)) == ("org/tiny", ["a"])


def test_the_cache_of_another_repository_is_outside(cached: Path) -> None:
    other = save(cached.parents[2] / "models--org--other" / "blobs" / "beef", "a")
    (cached / "model.safetensors").unlink()
    (cached / "model.safetensors").symlink_to(other)
    with pytest.raises(UnsupportedFormat, match="outside"):
        open_source(cached)


def test_pipes_folders_and_devices_are_refused_at_once(folder: Path) -> None:
    path = folder / "model.safetensors"
    os.mkfifo(path)
    with pytest.raises(UnsupportedFormat, match="pipe"):
        open_source(folder)
    path.unlink()
    path.mkdir()
    with pytest.raises(UnsupportedFormat, match="folder"):
        open_source(folder)
    with pytest.raises(UnsupportedFormat, match="device"):
        open_source(Path("/dev/zero"))


def test_a_pipe_put_there_after_the_check_does_not_block(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(folder / "model.safetensors", "a")
    opened = os.open

    def swapped(name: Path, flags: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return opened(name, flags)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(UnsupportedFormat, match="changed into"):
        open_source(path)


def test_a_failed_open_leaves_no_file_open(sharded: Path) -> None:
    before = len(list(OPEN_FILES.iterdir()))
    (sharded / SECOND).write_bytes(b"short")
    with pytest.raises(SourceError):
        open_source(sharded)
    index(sharded, {"a": FIRST, "x": FIRST, "y": FIRST})
    with pytest.raises(SourceError):
        open_source(sharded)
    assert len(list(OPEN_FILES.iterdir())) == before


@pytest.mark.parametrize("name", ["model", "rnet.lz4", "weights.joblib"])
def test_a_file_of_no_kind_that_is_known_is_refused_as_such(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x04\x22\x4d\x18" + bytes(200))
    with pytest.raises(UnsupportedFormat, match=r"is a file of no kind that is known here\. This version reads safetensors"):
        open_source(tmp_path / name)


def test_a_pointer_of_git_lfs_is_told_from_the_file(tmp_path: Path) -> None:
    for name in ("model.safetensors", "pytorch_model.bin", "m.gguf"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 9\n")
        with pytest.raises(UnsupportedFormat, match="git lfs pull"):
            open_source(tmp_path / name)


MUCH = np.random.default_rng(0).bytes(1 << 21)


def as_text(path: Path) -> None:
    safetensors.numpy.save_file({"a": np.ones(64, np.float32)}, path / "model.safetensors", metadata={"log": MUCH.hex()})


def as_entry(path: Path) -> None:
    torch.save({"a": torch.ones(64)}, path / "pytorch_model.bin")
    with zipfile.ZipFile(path / "pytorch_model.bin", "a") as archive:
        archive.writestr("pytorch_model/data/99", MUCH)


def as_bytes(path: Path) -> None:
    torch.save({"a": torch.ones(64), "log": MUCH}, path / "pytorch_model.bin")


def as_list(path: Path) -> None:
    writer = gguf.GGUFWriter(path / "model.gguf", "llama")
    writer.add_array("log", [float(value) for value in np.frombuffer(MUCH, np.uint8)[: 1 << 19]])
    writer.add_tensor("a", np.ones(64, np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()


@pytest.mark.parametrize("hide", [as_text, as_entry, as_bytes, as_list])
def test_much_beside_the_tensors_is_told(tmp_path: Path, hide: Callable[[Path], None]) -> None:
    """Weights could be kept there in any form."""
    hide(tmp_path)
    with closing(open_source(tmp_path)) as source:
        size = sum(file.size for file in source.files)
        assert [note for note in source.notes if note.startswith("Not read as weights: ") and f" of {size:,} bytes (100%)" in note]


def test_what_every_file_has_beside_its_tensors_is_not_told(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1 << 19)}, tmp_path / "pytorch_model.bin")
    with closing(open_source(tmp_path)) as source:
        assert source.notes == ()
