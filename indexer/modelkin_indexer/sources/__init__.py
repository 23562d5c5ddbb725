"""Containers of weights. `open_source` finds out what a path holds and opens it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from modelkin_indexer.errors import SourceNotFound, UnsupportedFormat
from modelkin_indexer.sources.base import BITS, Source, SourceFile
from modelkin_indexer.sources.files import CACHE_PREFIX, CHECK_ACCESS, cache_folder, is_folder
from modelkin_indexer.sources.headers import SUFFIX
from modelkin_indexer.sources.safetensors import PICK, SafetensorsSource, open_file, open_index

__all__ = ["BITS", "Source", "SourceFile", "open_source"]

INDEX_SUFFIX = SUFFIX + ".index.json"
MAIN_FILE = "model" + SUFFIX
# Other containers of weights, recognised only to say what was found.
OTHER_SUFFIXES = (
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".ggml",
    ".onnx",
    ".h5",
    ".msgpack",
    ".npz",
    ".pkl",
    ".tflite",
    ".keras",
    ".nemo",
)
# File names that say nothing of the model; its folder's name is taken instead.
PLAIN_STEMS = ("model", "adapter_model", "consolidated", "diffusion_pytorch_model", "pytorch_model")
SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5,6})-of-(?P<count>\d{5,6})\.safetensors")
CONVERT = "This version reads safetensors; convert the weights, or download the safetensors form."


def open_source(path: Path, file: str | None = None) -> Source:
    """Open the weights at `path`: a safetensors file, a shard index, or a folder with one model.

    In a folder an index is preferred, then model.safetensors, then the only *.safetensors; `file` picks one file by its plain name.

    Raises:
        SourceNotFound: nothing there, or no weights in it.
        DamagedFile: a file contradicts itself.
        UnsupportedFormat: weights of another kind, or several models in one folder.
    """
    if not is_folder(path):
        if file is not None:
            raise SourceNotFound(f"is a file, so {file!r} cannot be in it", path=path, remedy="Leave --file out, or name the folder.")
        return _open_one(path, path)
    if file is not None:
        if file in ("", "..") or Path(file).name != file:
            raise SourceNotFound(f"{file!r} is not the plain name of a file in it", path=path, remedy="Name the subfolder as the source.")
        return _open_one(path, path / file)
    return _open_folder(path)


def _folder_name(folder: Path) -> str:
    """What to call the model in a folder: `org/name` in a Hugging Face cache, else the real folder's name."""
    real = Path(os.path.realpath(folder))
    cache = cache_folder(real)
    return cache.name.removeprefix(CACHE_PREFIX).replace("--", "/") if cache else real.name


def _file_name(path: Path) -> str:
    """What to call the model in a file: the file's stem, or the folder's name where that stem says nothing."""
    stem = path.name.removesuffix(INDEX_SUFFIX).removesuffix(SUFFIX)
    return _folder_name(path.parent) if stem in PLAIN_STEMS else stem


def _open_one(path: Path, chosen: Path) -> SafetensorsSource:
    """One file; `path` is what the user gave."""
    if chosen.name.endswith(INDEX_SUFFIX):
        return open_index(path, chosen, _file_name(chosen))
    if chosen.suffix in OTHER_SUFFIXES:
        raise UnsupportedFormat(f"is a {chosen.suffix} file", path=chosen, remedy=CONVERT)
    return open_file(chosen, _file_name(chosen))


def _open_folder(path: Path) -> SafetensorsSource:
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        raise SourceNotFound(f"cannot be listed ({error})", path=path, remedy=CHECK_ACCESS) from error
    index = _chosen(path, [name for name in names if name.endswith(INDEX_SUFFIX)], MAIN_FILE + ".index.json", "shard indexes")
    if index is not None:
        return open_index(path, path / index, _folder_name(path))
    files = [name for name in names if name.endswith(SUFFIX)]
    if shards := _shard_set(path, files):
        return SafetensorsSource(path, _folder_name(path), [path / name for name in shards])
    weights = _chosen(path, files, MAIN_FILE, "safetensors files")
    if weights is None:
        raise _no_weights(path, names)
    return SafetensorsSource(path, _folder_name(path), [path / weights])


def _chosen(path: Path, names: list[str], main: str, what: str) -> str | None:
    """`main` if it is there, else the only name, else None. Raises UnsupportedFormat where there is a choice to make."""
    if main in names:
        return main
    if len(names) > 1:
        listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        problem = f"has {len(names)} {what} that may be different models ({listed})"
        raise UnsupportedFormat(problem, path=path, remedy=f"To read one of them, {PICK}")
    return names[0] if names else None


def _shard_set(path: Path, files: list[str]) -> list[str]:
    """The files if their names say that they are the shards of one model; empty where they do not, or where model.safetensors is there.

    Raises:
        SourceNotFound: some shards are missing.
    """
    found = [SHARD.fullmatch(name) for name in files]
    shards = [match for match in found if match]
    if not shards or len(shards) < len(files) or len({(match["stem"], match["count"]) for match in shards}) > 1:
        return []
    there, count = {int(match["number"]) for match in shards}, int(shards[0]["count"])
    missing = sorted(set(range(1, count + 1)) - there)
    if missing or len(there) != count:
        raise SourceNotFound(f"has {len(there)} of {count} shards; number {missing[:5]} missing", path=path, remedy="Download the rest.")
    return files


def _no_weights(path: Path, names: list[str]) -> SourceNotFound | UnsupportedFormat:
    others = [name for name in names if Path(name).suffix in OTHER_SUFFIXES]
    if others:
        return UnsupportedFormat(f"has no safetensors file but {others[0]} ({len(others)} such files)", path=path, remedy=CONVERT)
    return SourceNotFound("has no weights in it", path=path, remedy="Name a folder or file with safetensors weights.")
