"""Tensors that torch.distributed wrote in pieces into safetensors files (`HuggingFaceStorageWriter(save_distributed=True)`), joined.

    shard-00002-model-00001-of-00001.safetensors     __metadata__: DCP_SHARDING_INFO = {"name": {"saved_offsets": [11, 0]}}

How large a whole tensor is stands nowhere: it reaches as far as its pieces do.
https://github.com/pytorch/pytorch/blob/main/torch/distributed/checkpoint/hf_storage.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from msgspec import Struct

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.safetensors.header import Stored
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin, Plain, Presented
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, MAX_CONFIG, read_config
from modelkin_indexer.sources.stored.pieces import MAX_AXES, Joined, Piece, make_up

SAID, OFFSETS = "DCP_SHARDING_INFO", "saved_offsets"
NUMBERED = re.compile(r"shard-(\d{5})-")  # how the writer's files begin, counted from 1, one or more a process
Places = Mapping[str, tuple[int, ...]]


class Shard(Struct, frozen=True):
    """One open file. `tensors` and `metadata` hold what its header says; `header_bytes` what reading that cost."""

    path: Path
    descriptor: int
    size: int
    tensors: Mapping[str, Stored]
    metadata: Mapping[str, str]

    @property
    def header_bytes(self) -> int:
        return self.size - sum(stored.info.nbytes for stored in self.tensors.values())


def places_of(shards: Sequence[Shard]) -> list[Places] | None:
    """Of each file where its tensors begin in the whole ones; None where all files hold whole tensors. Raises DamagedFile."""
    if not any(SAID in shard.metadata for shard in shards):
        return None
    places: list[Places] = [_places(shard) for shard in shards]
    names = [name for shard in shards for name in shard.tensors]
    in_pieces = len(set(names)) < len(names) or any(any(at) for said in places for at in said.values())
    return places if in_pieces or any(NUMBERED.match(shard.path.name) for shard in shards) else None


def _places(shard: Shard) -> dict[str, tuple[int, ...]]:
    """Offset of each tensor of a file, 0 of those that it says nothing of."""
    text = shard.metadata.get(SAID, "{}")
    try:
        said = json.loads(text) if len(text) <= MAX_CONFIG else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise DamagedFile(f"has no sound {SAID} in its metadata", path=shard.path, remedy=FETCH_AGAIN)
    return {name: _offsets(said.get(name), stored, shard) for name, stored in shard.tensors.items()}


def _offsets(said: Any, stored: Stored, shard: Shard) -> tuple[int, ...]:
    rank = len(stored.info.shape)
    offsets = said.get(OFFSETS) if isinstance(said, dict) else [0] * rank
    if not isinstance(offsets, list) or len(offsets) != rank or not all(type(n) is int and 0 <= n < 1 << 40 for n in offsets):
        problem = f"has a piece that begins nowhere ({SAID} says {str(said)[:60]!r} of shape {list(stored.info.shape)[:9]})"
        raise DamagedFile(problem, path=shard.path, tensor=stored.info.name[:200], remedy=FETCH_AGAIN)
    return tuple(offsets)


def joined(weights: Weights, shards: Sequence[Shard], places: Sequence[Places], opened: ExitStack) -> DecodedSource:
    """The files as one model; `opened` closes them. Raises SourceError where pieces do not make up a tensor, or files are missing."""
    told = _notes(shards)
    pieces: dict[str, list[tuple[Shard, Stored, tuple[int, ...]]]] = {}
    for shard, said in zip(shards, places, strict=True):
        for name, stored in shard.tensors.items():
            if stored.info.elements:
                pieces.setdefault(name, []).append((shard, stored, said[name]))
    presented = {name: _whole(name, found) for name, found in pieces.items()}
    config, notes = read_config(shards[0].path.parent)
    metadata = {key: value for shard in shards for key, value in shard.metadata.items() if key != SAID}
    origin = Origin(
        weights.path,
        weights.name,
        tuple(SourceFile(shard.path.name, shard.size) for shard in shards),
        config,
        (*weights.notes, told, *notes),
        header_bytes=sum(shard.header_bytes for shard in shards),
        metadata=metadata,
    )
    return DecodedSource(origin, presented, opened.pop_all().close)


def _whole(name: str, found: Sequence[tuple[Shard, Stored, tuple[int, ...]]]) -> Presented:
    """A tensor of all its pieces."""
    path, dtype, rank = found[0][0].path, found[0][1].info.dtype, len(found[0][1].info.shape)
    if len(found) == 1 and not any(found[0][2]):
        return Presented(found[0][1].info, Plain(found[0][0].descriptor, path, name, found[0][1].start))
    if dtype not in BITS or rank > MAX_AXES:
        problem = f"lies in {len(found)} pieces of type {dtype} with {rank} axes, which this version does not join"
        raise UnsupportedFormat(problem, path=path, tensor=name[:200], remedy="Save it consolidated (enable_consolidation=True).")
    if any(stored.info.dtype != dtype or len(stored.info.shape) != rank for _, stored, _ in found):
        _fail(found, name, "lies in pieces of several types or numbers of axes")
    ends = [tuple(low + n for low, n in zip(at, stored.info.shape, strict=True)) for _, stored, at in found]
    shape = tuple(max(end[axis] for end in ends) for axis in range(rank))
    boxes = [Piece(at, stored.info.shape, Plain(shard.descriptor, shard.path, name, stored.start)) for shard, stored, at in found]
    if not make_up(boxes, shape):
        _fail(found, name, f"lies in {len(found)} pieces that do not make up its shape {list(shape)}")
    info = TensorInfo(name, dtype, shape, prod(shape) * BITS[dtype] // 8)
    return Presented(info, Joined(dtype, shape, tuple(boxes)))


def _fail(found: Sequence[tuple[Shard, Stored, tuple[int, ...]]], name: str, problem: str) -> NoReturn:
    remedy = "Name the folder with the files of all processes, or fetch those that are missing."
    raise DamagedFile(problem, path=found[0][0].path, tensor=name[:200], remedy=remedy)


def _notes(shards: Sequence[Shard]) -> str:
    """What a person should know. Raises DamagedFile if files are missing as far as numbers tell; the last one's absence would not show."""
    numbers = {int(match[1]) for shard in shards if (match := NUMBERED.match(shard.path.name)) is not None}
    lacking = [number for number in range(1, max(numbers, default=0) + 1) if number not in numbers][:9]
    if lacking:
        problem = f"is one of {max(numbers)} files or more, of which number {', '.join(map(str, lacking))} is missing"
        remedy = "Name the folder with the files of all processes, or fetch those that are missing."
        raise DamagedFile(problem, path=shards[-1].path, remedy=remedy)
    held = f"{len(shards)} files hold" if len(shards) > 1 else "The file holds"
    return f"{held} the tensors in pieces, as several processes save them; nothing in them says whether there are more such files."
