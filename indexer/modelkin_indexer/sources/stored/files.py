"""Opening files that may be hostile: only regular ones, never through a link out of the model, never more bytes than asked."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelkin_indexer.errors import DamagedFile, SourceError, SourceNotFound, UnsupportedFormat

# Above this a config.json is no config: the largest public ones (21,000 class names, both ways) stay under 3 MB. Parsed JSON takes
# up to 24 times its text, so this also bounds memory to 200 MB.
MAX_CONFIG = 8_000_000
CONFIG = "config.json"
# Where there is none: what Meta and Mistral put beside consolidated files, and LitGPT beside its own; their words and config.json's.
PARAMETERS = ("params.json", "model_config.yaml")
SETTINGS = {
    "hidden_size": ("dim", "n_embd"),
    "num_hidden_layers": ("n_layers", "n_layer"),
    "num_attention_heads": ("n_heads", "n_head"),
    "num_key_value_heads": ("n_kv_heads", "n_query_groups"),
    "head_dim": ("head_dim", "head_size"),
    "intermediate_size": ("hidden_dim", "intermediate_size"),
    "vocab_size": ("vocab_size", "padded_vocab_size"),
}
NUMBER = re.compile(r"^([a-z_]+): (\d{1,9})$", re.MULTILINE)  # a line of YAML that sets a whole number
CACHE_PREFIX = "models--"  # a repository's folder in the Hugging Face cache: models--org--name/{blobs,snapshots,refs}

PICK = "pass `--file NAME` to read one file only."
Bring = Callable[[Path, int, memoryview], None]  # (file, first byte, what to fill)
FETCH_AGAIN = "Download or export the file again."
CHECK_ACCESS = "Check that the file is readable and not in use by a download."
_BROUGHT: dict[Path, Bring] = {}  # real folders whose files have only names and sizes here, with what brings their bytes


@contextmanager
def bytes_from(folder: Path, bring: Bring) -> Iterator[None]:
    """While the block runs, the bytes of the files in `folder` (its real path) come from `bring`. Several threads may call that at once."""
    _BROUGHT[folder] = bring
    try:
        yield
    finally:
        del _BROUGHT[folder]


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder rather than a file. Raises SourceNotFound if it is nothing."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceNotFound("no such file or folder", path=path, remedy="Check the path.") from error
    except (OSError, ValueError) as error:
        raise SourceNotFound(f"cannot be looked at ({error})", path=path, remedy=CHECK_ACCESS) from error


def open_regular(path: Path) -> int:
    """A descriptor for a regular file that is not reached through a link out of its folder.

    Never blocks: pipes and devices are refused before they are opened.

    Raises:
        SourceNotFound: there is no such file, or it may not be opened.
        UnsupportedFormat: not a regular file, or a link out of the model.
    """
    try:
        real = _real(path)
        if not stat.S_ISREG(real.lstat().st_mode):
            problem = f"is {_kind(real.lstat().st_mode)}, not a regular file"
            raise UnsupportedFormat(problem, path=path, remedy="Name a weights file or its folder.")
        return _open(real, path)
    except FileNotFoundError as error:
        raise SourceNotFound("no such file", path=path, remedy="Check the path, or download the model completely.") from error
    except (OSError, ValueError) as error:
        raise SourceNotFound(f"cannot be opened ({error})", path=path, remedy=CHECK_ACCESS) from error


def _open(real: Path, path: Path) -> int:
    """Open without following a link put there since the check, and look again at what was opened."""
    descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnsupportedFormat("changed into something that is not a regular file", path=path, remedy=FETCH_AGAIN)
    return descriptor


def read_exact(descriptor: int, start: int, length: int, path: Path) -> bytearray:
    """Bytes [start, start + length) of a file. Raises DamagedFile if it ends before."""
    data = bytearray(length)
    fill(descriptor, start, memoryview(data), path)
    return data


def fill(descriptor: int, start: int, buffer: memoryview, path: Path, tensor: str | None = None) -> None:
    """Fill `buffer` from the file's byte `start` on, however short the single reads are. Raises DamagedFile if the file ends before."""
    for folder, bring in tuple(_BROUGHT.items()):
        if path.is_relative_to(folder):
            return bring(path, start, buffer)
    done = 0
    while done < len(buffer):
        try:
            count = os.preadv(descriptor, [buffer[done:]], start + done)
        except OSError as error:
            problem = f"cannot be read at byte {start + done} ({error})"
            raise DamagedFile(problem, path=path, tensor=tensor, remedy="Check the disk, then try again.") from error
        if count == 0:
            problem = f"file ends at byte {start + done}, it shrank while it was read"
            raise DamagedFile(problem, path=path, tensor=tensor, remedy=CHECK_ACCESS)
        done += count
    return None


def read_small(path: Path, limit: int) -> bytearray:
    """The whole of a file of at most `limit` bytes. Raises SourceError."""
    descriptor = open_regular(path)
    try:
        size = os.fstat(descriptor).st_size
        if size > limit:
            raise UnsupportedFormat(f"has {size:,} bytes, more than the {limit:,} that such a file may have", path=path, remedy=FETCH_AGAIN)
        return read_exact(descriptor, 0, size, path)
    finally:
        os.close(descriptor)


def read_start(path: Path, limit: int) -> bytearray:
    """The first `limit` bytes of a file, or all of a shorter one. Raises SourceError."""
    descriptor = open_regular(path)
    try:
        return read_exact(descriptor, 0, min(os.fstat(descriptor).st_size, limit), path)
    finally:
        os.close(descriptor)


def read_config(folder: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The parsed config.json of a folder and notes about it. A missing one is {}, a broken one {} with a note: it never stops indexing.

    Where there is none, the same of a library's own file of settings, in config.json's words.
    """
    path = folder / CONFIG
    if not os.path.lexists(path):
        return _settings(folder)
    try:
        config = json.loads(read_small(path, MAX_CONFIG).decode("utf-8"))
        json.dumps(config, ensure_ascii=False).encode("utf-8")  # lone surrogates could not be stored or printed later
    except SourceError as error:
        return {}, (f"config.json left out: {error}",)
    except (ValueError, RecursionError) as error:
        return {}, (f"config.json left out: {path} is not sound JSON ({_brief(error)}).",)
    if not isinstance(config, dict):
        return {}, (f"config.json left out: {path} is not a JSON object.",)
    return config, ()


def _settings(folder: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Whole numbers of the first other file of settings that is there."""
    path = next((folder / name for name in PARAMETERS if os.path.lexists(folder / name)), None)
    if path is None:
        return {}, ()
    try:
        text = read_small(path, MAX_CONFIG).decode("utf-8")
        stated = json.loads(text) if path.suffix == ".json" else {name: int(number) for name, number in NUMBER.findall(text)}
    except (SourceError, ValueError, RecursionError) as error:
        return {}, (f"{path.name} left out: {_brief(error)}",)
    if not isinstance(stated, dict):
        return {}, (f"{path.name} left out: it is not a JSON object.",)
    found = {word: next((stated[name] for name in names if type(stated.get(name)) is int), None) for word, names in SETTINGS.items()}
    return {word: number for word, number in found.items() if number is not None}, ()


def cache_folder(folder: Path) -> Path | None:
    """The `models--org--name` folder whose snapshot this real folder is or lies in, if it has the layout of the Hugging Face cache."""
    for parent in folder.parents:
        if parent.name.startswith(CACHE_PREFIX) and folder.relative_to(parent).parts[0] == "snapshots":
            return parent
    return None


def _real(path: Path) -> Path:
    """Where a file really is. Links within the model's real folder, or within one repository of the Hugging Face cache, are followed."""
    folder = Path(os.path.realpath(path.parent, strict=True))
    if path.name not in ("", os.pardir) and not stat.S_ISLNK((folder / path.name).lstat().st_mode):
        return folder / path.name
    real = Path(os.path.realpath(path, strict=True))
    if real.is_relative_to(folder):
        return real
    cache = cache_folder(folder)
    if cache is not None and real.is_relative_to(cache):
        return real
    remedy = "Name the file it points to, if you trust it."
    raise UnsupportedFormat("is a link to a file outside the model's folder", path=path, remedy=remedy)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"


def _brief(error: BaseException) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
