"""One file that holds several models (a diffusion checkpoint: denoiser, text encoders, VAE), seen as the parts of a pipeline's folder.

Which part a tensor belongs to is told by what stands before its name, by the table of `modelkin_data`; what no part claims is a part
of its own. So a single file and a folder of the same weights come to the same components.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from modelkin_data import name_tables
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import Source, Unread
from modelkin_indexer.sources.composite import CompositeSource, Part

REST = "checkpoint"  # the part of what no other claims: schedules, counters, weights under other names
FEWEST_PARTS = 2  # with one prefix around everything a file is one model
DENOISER, TEXT = "{denoiser}", "{text}"


class _Prefixed:
    """The tensors of a source under shorter names (see `Source` for the attributes)."""

    def __init__(self, whole: Source, names: Mapping[str, str]) -> None:
        """`names`: short name -> name in the whole."""
        self._whole, self._names = whole, names
        self.path, self.name = whole.path, whole.name
        self.config: Mapping[str, Any] = {}
        self.tensors: Mapping[str, TensorInfo] = {name: replace(whole.tensors[names[name]], name=name) for name in sorted(names)}
        self.files: tuple[SourceFile, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.quantization, self.metadata = whole.quantization, whole.metadata
        self.unread: Unread = ()  # the whole tells it
        self.bytes_read = 0  # the whole counts them

    def read(self, tensor: str, start: int, stop: int, out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
        return self._whole.read(self._names[tensor], start, stop, out)

    def close(self) -> None:
        """The whole is closed once, by the composite."""


class SingleFileSource(CompositeSource):
    """The parts of one file."""

    def __init__(self, whole: Source, parts: Iterable[Part]) -> None:
        self._whole = whole
        super().__init__(whole.path, whole.name, tuple(parts), whole.files)
        self.notes, self.quantization, self.unread = whole.notes, whole.quantization, whole.unread

    def _bytes_read(self) -> int:
        return self._whole.bytes_read

    def close(self) -> None:
        self._whole.close()


def parts_presented(source: Source) -> Source:
    """The source as its parts if its names are those of several models in one file, else as it is."""
    if not any(name.startswith(_prefixes()) for name in source.tensors):
        return source
    found: dict[int, dict[str, str]] = {}
    rest: dict[str, str] = {}
    for name in source.tensors:
        row, short = _part_of(name)
        if row is None:
            rest[name] = name
        else:
            found.setdefault(row, {})[short] = name
    if len(found) < FEWEST_PARTS:
        return source
    parts = [Part(name, _Prefixed(source, names), name.startswith("text_encoder")) for name, names in _named(found)]
    if rest:
        parts.append(Part(REST, _Prefixed(source, rest), False))
    return SingleFileSource(source, parts)


@cache
def _prefixes() -> tuple[str, ...]:
    """What stands before the names of any part."""
    return tuple(f"{prefix}." for rule in name_tables().parts for prefix in rule.prefixes)


def _part_of(name: str) -> tuple[int | None, str]:
    """The row of the table that claims a name, and the name without what stands before it; the longest prefix decides."""
    claims = [
        (len(prefix), -row, name[len(prefix) + 1 :])
        for row, rule in enumerate(name_tables().parts)
        for prefix in rule.prefixes
        if name.startswith(f"{prefix}.")
    ]
    if not claims:
        return None, name
    _, row, short = max(claims)
    return -row, short


def _named(found: Mapping[int, Mapping[str, str]]) -> Iterable[tuple[str, Mapping[str, str]]]:
    """Each part's name, once each: the pipeline's folder of the same part."""
    tables, texts = name_tables(), 0
    for row in sorted(found):
        part, names = tables.parts[row].part, found[row]
        if part == TEXT:
            texts += 1
            part = "text_encoder" if texts == 1 else f"text_encoder_{texts}"
        goes_down = any(name.partition(".")[0] in tables.down_and_up for name in names)
        yield part.replace(DENOISER, "unet" if goes_down else "transformer"), names
