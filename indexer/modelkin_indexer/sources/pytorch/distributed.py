"""Checkpoints of torch.distributed: `.metadata` tells which file holds which piece of each tensor, every piece saved as torch.save does.

The pickles are read by the machine that runs nothing; a piece is opened when some of it is asked for.
https://docs.pytorch.org/docs/stable/distributed.checkpoint.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from math import prod
from typing import Any, NoReturn

from msgspec import Struct, field

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.pytorch.inert_pickle import Call, Global, Numbered, read_pickle
from modelkin_indexer.sources.pytorch.reader import MAX_PICKLE, open_zip, presented_of
from modelkin_indexer.sources.pytorch.values import DTYPES, is_allowed
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import Bytes, DecodedSource, Decoder, Origin, Presented
from modelkin_indexer.sources.stored.extents import OpenFiles
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, read_config
from modelkin_indexer.sources.stored.pieces import MAX_AXES, Joined, Piece, make_up
from modelkin_indexer.sources.stored.zip_files import BoundedFile

METADATA = ".metadata"
MODULE = "torch.distributed.checkpoint."
NAMES = ("metadata.", "filesystem.", "planner.", "default_planner.", "stateful.")
NOT_MODEL = re.compile(r"(?:optim|opt_|lr_scheduler|scheduler|train_state|dataloader|rng|ema\.|step$)", re.IGNORECASE)
MAX_PIECES = 1_000_000
SAVE_AGAIN = "Turn it into one file: python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER model.pt"
Shape = tuple[int, ...]


def open_weights(weights: Weights) -> DecodedSource:
    """All files of the checkpoint in a folder.

    Raises:
        SourceError: a file is missing or damaged, would run code, or tensors are stored in a way that is not read.
    """
    folder, files = weights.files[0].parent, OpenFiles()
    with ExitStack() as opened:
        opened.callback(files.close)
        metadata = files.open(folder / METADATA)
        reader = _Metadata(files, metadata)
        presented, notes = reader.presented()
        config, config_notes = read_config(folder)
        sizes = sorted(zip(files.paths, files.sizes, strict=True), key=lambda one: (one[0].name == METADATA, one[0].name))
        origin = Origin(
            weights.path,
            weights.name,
            tuple(SourceFile(path.name, size) for path, size in sizes),
            config,
            (*weights.notes, *notes, *config_notes),
            header_bytes=files.sizes[metadata],
        )
        return DecodedSource(origin, presented, opened.pop_all().close)


class _Metadata:
    """What `.metadata` says."""

    def __init__(self, files: OpenFiles, number: int) -> None:
        self._files, self._path = files, files.paths[number]
        size = files.sizes[number]
        if size > MAX_PICKLE:
            raise UnsupportedFormat(f"has {size:,} bytes, more than {MAX_PICKLE:,}", path=self._path, remedy=SAVE_AGAIN)
        value = read_pickle(BoundedFile(files.descriptor(number), 0, size, self._path), self._path, _is_allowed)
        self._state = _fields(value, "Metadata")

    def presented(self) -> tuple[dict[str, Presented], tuple[str, ...]]:
        """The tensors by name, and notes. Raises SourceError."""
        tensors = self._state.get("state_dict_metadata")
        places = dict(self._places())
        found: dict[str, Presented] = {}
        left_out = 0
        for name, said in tensors.items() if isinstance(tensors, dict) else ():
            if not (isinstance(said, Call) and said.function == f"{MODULE}metadata.TensorStorageMetadata"):
                continue  # plain values of a training
            if NOT_MODEL.match(str(name)):
                left_out += 1
                continue
            shown = self._tensor(str(name), said, places)
            if shown is not None:
                found[str(name)] = shown
        note = f"{left_out} tensors of the optimizer and other parts of a training are left out."
        return found, (note,) if left_out else ()

    def _places(self) -> Iterator[tuple[tuple[str, Shape], tuple[int, int, int]]]:
        """(tensor, where the piece begins) -> file and bytes."""
        stored = self._state.get("storage_data")
        for count, (key, said) in enumerate(stored.items() if isinstance(stored, dict) else ()):
            index = _fields(key.key if isinstance(key, Numbered) else None, "MetadataIndex")
            info = _fields(said, "_StorageInfo")
            name, start, length = info.get("relative_path"), info.get("offset"), info.get("length")
            if count > MAX_PIECES or not isinstance(name, str) or not isinstance(start, int) or not isinstance(length, int):
                self._fail("has a piece that is nowhere")
            if info.get("transform_descriptors"):
                raise UnsupportedFormat("has pieces that were transformed", path=self._path, remedy=SAVE_AGAIN)
            offset = _sizes(index.get("offset"))
            if offset is None and index.get("offset") is not None:
                self._fail("has a piece that begins nowhere")
            if "/" in name or "\\" in name or name in ("", ".", ".."):
                raise UnsupportedFormat(f"leads to another folder ({name[:100]!r})", path=self._path, remedy=SAVE_AGAIN)
            if offset is None:
                continue  # a plain value of a training
            file = self._files.open(self._path.with_name(name))
            extent = self._files.extent(file, start, length, str(index.get("fqn")))
            yield (str(index.get("fqn")), offset), (extent.file, extent.start, extent.start + extent.length)

    def _tensor(self, name: str, said: Call, places: dict[tuple[str, Shape], tuple[int, int, int]]) -> Presented | None:
        """A tensor of all its pieces; None of one without numbers."""
        fields = _fields(said, "TensorStorageMetadata")
        state = getattr(fields.get("properties"), "state", None)
        kind = state[0].name.rpartition(".")[2] if isinstance(state, tuple) and state and isinstance(state[0], Global) else ""
        dtype, shape = DTYPES.get(kind), _sizes(fields.get("size"))
        if dtype is None:
            problem = f"holds numbers of the kind {kind!r}, which this version does not decode"
            raise UnsupportedFormat(problem, path=self._path, tensor=name[:200], remedy=SAVE_AGAIN)
        if shape is None:
            self._fail(f"has {name[:200]!r} without a shape")
        if 0 in shape:
            return None
        pieces = []
        chunks = fields.get("chunks")
        for chunk in chunks if isinstance(chunks, list) else ():
            parts = _fields(chunk, "ChunkStorageMetadata")
            offsets, sizes = _sizes(parts.get("offsets")), _sizes(parts.get("sizes"))
            place = places.get((name, offsets)) if offsets is not None else None
            if offsets is None or sizes is None or place is None or not len(offsets) == len(sizes) == len(shape):
                self._fail(f"lacks a piece of {name[:200]!r}")
            if any(low + n > whole for low, n, whole in zip(offsets, sizes, shape, strict=True)):
                self._fail(f"has a piece of {name[:200]!r} that leaves it")
            if 0 not in sizes:
                pieces.append(Piece(offsets, sizes, _Saved(name, dtype, sizes, place, self._files)))
        if not make_up(pieces, shape):
            self._fail(f"has pieces of {name[:200]!r} that do not make it up")
        info = TensorInfo(name, dtype, shape or (1,), prod(shape) * BITS[dtype] // 8)
        return Presented(info, Joined(dtype, shape or (1,), tuple(pieces)))

    def _fail(self, problem: str) -> NoReturn:
        raise DamagedFile(problem, path=self._path, remedy=FETCH_AGAIN)


class _Saved(Struct, frozen=True):
    """Decodes a piece that torch.save wrote, opened when some of it is asked for (see `Decoder`)."""

    tensor: str
    dtype: str
    shape: Shape
    place: tuple[int, int, int]
    files: OpenFiles
    block_bytes: int = 1
    _opened: list[Decoder] = field(default_factory=list)

    def decode(self, start: int, out: Bytes) -> int:
        if not self._opened:
            number, _, stop = self.place
            path = self.files.paths[number]
            # The archive's directory is found from its end.
            file = open_zip(path, self.files.descriptor(number), stop, alone=True)
            stored = file.found.tensors.get("")
            if stored is None or stored.dtype != self.dtype or stored.shape != self.shape:
                problem = "has a piece that is not what .metadata says"
                raise DamagedFile(problem, path=path, tensor=self.tensor[:200], remedy=FETCH_AGAIN)
            self._opened.append(presented_of(file, "", stored).decoder)
        return self._opened[0].decode(start, out)


def _fields(value: Any, kind: str) -> dict[str, Any]:
    """What a record of torch.distributed's holds; {} of anything else."""
    is_one = isinstance(value, Call) and value.function.startswith(MODULE) and value.function.endswith(f".{kind}")
    return value.state if is_one and isinstance(value.state, dict) else {}


def _sizes(value: Any) -> Shape | None:
    """A torch.Size."""
    arguments = value.arguments if isinstance(value, Call) and value.function == "torch.Size" else ()
    sizes = arguments[0] if isinstance(arguments, tuple) and arguments else None
    if not isinstance(sizes, (tuple, list)) or len(sizes) > MAX_AXES:
        return None
    return tuple(sizes) if all(type(n) is int and 0 <= n < 1 << 40 for n in sizes) else None


def _is_allowed(name: str) -> bool:
    own = name.startswith(MODULE) and name.removeprefix(MODULE).startswith(NAMES)
    return own or is_allowed(name) or name in ("torch.serialization._get_layout", "pathlib.PosixPath")
