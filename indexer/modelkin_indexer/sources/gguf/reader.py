"""GGUF weights, one file or its splits: dequantised block by block, and as they were before llama.cpp's converter changed them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from math import prod
from pathlib import Path

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType
from msgspec import Struct

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.gguf.blocks import is_decoded, shown, stored_bytes
from modelkin_indexer.sources.gguf.header import Entry, Header, read_header
from modelkin_indexer.sources.gguf.names import Restored, Restoring, config
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin, Presented
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, PICK, open_regular
from modelkin_indexer.sources.stored.shards import NAMED

MAX_EXPERTS = 65_536  # a stack of more is no stack of experts
FILE_TYPE, SPLITS = "general.file_type", "split.count"


class _File(Struct, frozen=True):
    path: Path
    descriptor: int
    size: int
    header: Header


def open_weights(weights: Weights) -> DecodedSource:
    """The file, or all splits, of one model.

    Raises:
        SourceError: a file is missing, damaged or not to be read, or a tensor is of a type that is not decoded.
    """
    with ExitStack() as opened:
        files = [_open(path, opened) for path in weights.files]
        metadata = files[0].header.metadata
        _check_places(files)
        every = [(file, entry) for file in files for entry in file.header.entries]
        entries = [(file, entry) for file, entry in every if 0 not in entry.shape]
        empty = [entry.name for _, entry in every if 0 in entry.shape]
        told = (f"Tensors without a number are left out: {', '.join(empty[:NAMED])}.",) if empty else ()
        restoring = Restoring({entry.name: entry.shape for _, entry in entries}, metadata)
        presented: dict[str, Presented] = {}
        for file, entry in entries:
            for shown in _presented(file, entry, restoring.restored(entry.name)):
                if shown.info.name in presented:
                    raise DamagedFile("is there twice", path=file.path, tensor=shown.info.name, remedy=FETCH_AGAIN)
                presented[shown.info.name] = shown
        origin = Origin(
            weights.path,
            weights.name,
            tuple(SourceFile(file.path.name, file.size) for file in files),
            config(metadata),
            weights.notes + _split_notes(files) + told,
            _quantization(files),
            sum(file.header.header_bytes for file in files),
        )
        return DecodedSource(origin, presented, opened.pop_all().close)


def _open(path: Path, opened: ExitStack) -> _File:
    descriptor = open_regular(path)
    opened.callback(os.close, descriptor)
    size = os.fstat(descriptor).st_size
    return _File(path, descriptor, size, read_header(descriptor, size, path))


def _split_notes(files: list[_File]) -> tuple[str, ...]:
    count = files[0].header.metadata.get(SPLITS, 1)
    if isinstance(count, int) and count > len(files):
        return (f"{files[0].path.name} is one of {count} splits; only it is read. To read the model, name its folder, and do not {PICK}",)
    return ()


def _quantization(files: list[_File]) -> str:
    """By the type of most quantised numbers, or the recipe that the file names; "" where there are none."""
    numbers: dict[str, int] = {}
    for file in files:
        for entry in file.header.entries:
            kind = GGMLQuantizationType(entry.kind).name
            if kind not in BITS:
                numbers[kind] = numbers.get(kind, 0) + prod(entry.shape)
    if not numbers:
        return ""
    stated = files[0].header.metadata.get(FILE_TYPE)
    recipes = {int(recipe): recipe.name for recipe in LlamaFileType}
    recipe = recipes.get(stated, "") if type(stated) is int else ""
    word = recipe.removeprefix("MOSTLY_")
    return f"GGUF {word if word[:1] in 'IQTMN' and word else max(numbers, key=lambda kind: (numbers[kind], kind))}"


def _kind(file: _File, entry: Entry) -> GGMLQuantizationType:
    """The type of a tensor, with sizes that fit. Raises UnsupportedFormat, DamagedFile."""
    try:
        kind = GGMLQuantizationType(entry.kind)
    except ValueError:
        kind = None
    if kind is None or not (kind.name in BITS or is_decoded(kind)):
        word = f"unknown type {entry.kind}" if kind is None else f"type {kind.name}"
        remedy = "Get the model in another form; this library does not decode the type."
        raise UnsupportedFormat(f"has the {word}", path=file.path, tensor=entry.name, remedy=remedy)
    if 0 not in entry.shape and entry.shape[-1] % GGML_QUANT_SIZES[kind][0]:
        problem = f"has rows of {entry.shape[-1]:,} numbers, no multiple of the {GGML_QUANT_SIZES[kind][0]} in a block of {kind.name}"
        raise DamagedFile(problem, path=file.path, tensor=entry.name, remedy=FETCH_AGAIN)
    return kind


def _check_places(files: list[_File]) -> None:
    """All tensors are of types that are decoded, within their file, and do not overlap."""
    for file in files:
        reached, before = file.header.header_bytes, "the header"
        for entry in sorted(file.header.entries, key=lambda entry: (entry.start, entry.name)):
            stop = entry.start + stored_bytes(_kind(file, entry), prod(entry.shape))
            if stop > file.size:
                problem = f"ends {stop - file.size:,} bytes past the end of the file ({file.size:,} bytes)"
                raise DamagedFile(problem, path=file.path, tensor=entry.name, remedy=f"The file is cut short. {FETCH_AGAIN}")
            if entry.start < reached:
                raise DamagedFile(f"overlaps with {before}", path=file.path, tensor=entry.name, remedy=FETCH_AGAIN)
            reached, before = stop, f"tensor {entry.name!r}"


def _presented(file: _File, entry: Entry, restored: Restored) -> Iterator[Presented]:
    """The tensors that a stored one holds: itself, or one an expert."""
    kind = _kind(file, entry)
    if "#" not in restored.name:
        yield shown(file.descriptor, file.path, kind, restored, entry.shape, entry.start)
        return
    count, shape = entry.shape[0], entry.shape[1:]
    if not shape or count > MAX_EXPERTS:
        raise DamagedFile(f"is no stack of experts (shape {entry.shape})", path=file.path, tensor=entry.name, remedy=FETCH_AGAIN)
    for expert in range(count):
        name = restored.name.replace("#", str(expert))
        start = entry.start + expert * stored_bytes(kind, prod(shape))
        yield shown(file.descriptor, file.path, kind, Restored(name), shape, start)
