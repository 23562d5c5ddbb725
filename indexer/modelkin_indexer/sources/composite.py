"""Several models as one source: a diffusers pipeline, a sentence-transformers model with layers of its own, a checkpoint of several models.

Each subfolder with weights is a part with its own config; its tensors are called `part/tensor`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.errors import DamagedFile, SourceNotFound
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, is_folder, read_small

PIPELINE, MODULES = "model_index.json", "modules.json"
SEPARATOR = "/"  # between a part's name and a tensor's
TRANSFORMERS = "transformers"
MAX_INDEX = 1 << 20
MAX_PARTS = 64


class Part(Struct, frozen=True):
    """One model of several. `own_components`: it tells its components itself; else it is one, named after the part."""

    name: str
    source: Source
    own_components: bool


class CompositeSource:
    """Several models as one (see `Source` for the attributes)."""

    def __init__(self, path: Path, name: str, parts: Sequence[Part], files: Sequence[SourceFile] = (), kind: str = "") -> None:
        """Takes over the parts' sources. `files` belong to no part; `kind` is what the whole calls itself."""
        self.path, self.name, self.parts = path, name, tuple(parts)
        self._sources = {part.name: part.source for part in parts}
        tensors = {_joined(part.name, name): info for part in parts for name, info in part.source.tensors.items()}
        self.tensors: Mapping[str, TensorInfo] = {name: replace(tensors[name], name=name) for name in sorted(tensors)}
        self.config: Mapping[str, Any] = {"architectures": [kind]} if kind else {}
        of_parts = (replace(file, name=_joined(part.name, file.name)) for part in parts for file in part.source.files)
        self.files = (*of_parts, *files)
        self.notes = tuple(f"{part.name}: {note}" for part in parts for note in part.source.notes)
        kinds = sorted({part.source.quantization for part in parts} - {""})
        self.quantization = ", ".join(kinds)
        self.metadata: Mapping[str, str] = {}
        self.unread = tuple((f"{part.name}: {what}", size) for part in parts for what, size in part.source.unread)
        self.bytes_read = self._bytes_read()

    def read(self, tensor: str, start: int, stop: int, out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
        """Bytes of a part's tensor: see `Source.read`."""
        part, _, name = tensor.partition(SEPARATOR)
        data = self._sources[part].read(name, start, stop, out)
        self.bytes_read = self._bytes_read()
        return data

    def _bytes_read(self) -> int:
        return sum(part.source.bytes_read for part in self.parts)

    def close(self) -> None:
        for part in self.parts:
            part.source.close()


def open_parts(folder: Path, name: str, open_one: Callable[[Path], Source]) -> CompositeSource | None:
    """The parts of a folder that is a composite of at least two models; None if it is one model.

    `name` is what to call the whole; `open_one` opens a part's folder.

    Raises:
        SourceError: the index or a part is damaged, or a part points out of the folder.
    """
    index = next((folder / name for name in (PIPELINE, MODULES) if (folder / name).is_file()), None)
    if index is None:
        return None
    listed = _pipeline(index) if index.name == PIPELINE else _modules(index)
    parts: list[Part] = []
    try:
        for part, place, library in listed:
            source = _opened(place, open_one) if place == folder or (place.exists() and is_folder(place)) else None
            if source is not None:
                parts.append(Part(part, source, library == TRANSFORMERS))
        if len(parts) > 1 or (parts and index.name == PIPELINE):
            return CompositeSource(folder, name, parts, [SourceFile(index.name, index.stat().st_size)], _kind(index))
    except BaseException:
        _close(parts)
        raise
    _close(parts)
    return None


def _opened(place: Path, open_one: Callable[[Path], Source]) -> Source | None:
    """A part, None for one without weights (tokenizers, schedulers, pooling)."""
    try:
        return open_one(place)
    except SourceNotFound:
        return None


def _close(parts: Sequence[Part]) -> None:
    for part in parts:
        part.source.close()


def _pipeline(index: Path) -> list[tuple[str, Path, str]]:
    """Name, folder and library of each part of a pipeline, in the order of their names."""
    content = _parsed(index, dict)
    found = []
    for name, value in sorted(content.items()):
        if not name.startswith("_") and isinstance(value, list) and len(value) == 2 and all(isinstance(word, str) for word in value):
            found.append((name, _inside(index, name), value[0]))
    return _few(found, index)


def _modules(index: Path) -> list[tuple[str, Path, str]]:
    """The modules of a sentence-transformers model; the first is usually the folder itself."""
    found = []
    for number, module in enumerate(_parsed(index, list)):
        if not isinstance(module, dict) or not isinstance(module.get("path"), str):
            raise DamagedFile("does not list modules with paths", path=index, remedy=FETCH_AGAIN)
        kind = str(module.get("type", "")).rpartition(".")[2]
        place = index.parent if module["path"] in ("", ".") else _inside(index, module["path"])
        found.append((f"{number}_{kind}"[:64].replace(SEPARATOR, "_"), place, TRANSFORMERS if kind == "Transformer" else ""))
    return _few(found, index)


def _few(found: list[tuple[str, Path, str]], index: Path) -> list[tuple[str, Path, str]]:
    if len(found) > MAX_PARTS:
        raise DamagedFile(f"lists {len(found)} parts", path=index, remedy=FETCH_AGAIN)
    return found


def _inside(index: Path, name: str) -> Path:
    """A subfolder beside the index, by its plain name; not through a link out of the folder."""
    place = index.parent / name
    outside = place.exists() and not place.resolve().is_relative_to(index.parent.resolve())
    if name in ("", ".", "..") or any(mark in name for mark in "/\\\0") or outside:
        problem = f"names the part {name[:200]!r}, which is no subfolder of the model's folder"
        raise DamagedFile(problem, path=index, remedy="Do not trust this model; get it from its publisher.")
    return place


def _kind(index: Path) -> str:
    kind = _parsed(index, dict).get("_class_name") if index.name == PIPELINE else "SentenceTransformer"
    return kind[:100] if isinstance(kind, str) else ""


def _parsed(index: Path, kind: type[Any]) -> Any:
    try:
        content = json.loads(read_small(index, MAX_INDEX).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"is not sound JSON ({error})", path=index, remedy=FETCH_AGAIN) from error
    if not isinstance(content, kind):
        raise DamagedFile("is not what such a file holds", path=index, remedy=FETCH_AGAIN)
    return content


def _joined(part: str, name: str) -> str:
    return f"{part}{SEPARATOR}{name}"
