"""ExecuTorch: tensors by name out of `.ptd`, and constants that a program (`.pte`) keeps as PyTorch does. Nothing of it is run.

What a program has handed to a delegate (XNNPACK, Core ML, QNN, ...) is packed in that one's own order: it is counted, and named.
https://github.com/pytorch/executorch/blob/main/schema/program.fbs, extension/flat_tensor/serialize/flat_tensor.fbs
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import Path

from flatbuffers.table import Table
from msgspec import Struct

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import BITS
from modelkin_indexer.sources import flat_tables as flat
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin, Presented
from modelkin_indexer.sources.stored.extents import Extent, OpenFiles, Parts
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, PICK, read_config
from modelkin_indexer.sources.stored.strided import Strided

DTYPES = {
    **{0: "U8", 1: "I8", 2: "I16", 3: "I32", 4: "I64", 5: "F16", 6: "F32", 7: "F64", 11: "BOOL", 15: "BF16", 23: "F8_E5M2"},
    **{24: "F8_E4M3", 27: "U16", 28: "U32", 29: "U64"},
}
FLOATS = ("F64", "F32", "F16", "BF16")
TENSORS, PROGRAM = b"FT01", b"ET"  # how the two kinds are marked
MAX_THINGS = 500_000  # of a kind, as in the other containers
MAX_AXES = 32
SMALL = 64  # bytes of whole numbers that are no weight
EXPORTED_FROM = "Take the safetensors or PyTorch file that the program was exported from."
# Fields of the tables: 4 is the first.
PLANS, BUFFERS, INLINE, SEGMENTS, CONSTANTS, NAMED = 6, 8, 10, 12, 14, 18  # of a program
VALUES, DELEGATES = 8, 18  # of a plan
KIND, VALUE, TENSOR = 4, 6, 5  # of a value, and the number of tensors among them
TYPE, SIZES, ORDER, BUFFER, ALLOCATED, MORE = 4, 8, 10, 14, 16, 22  # of a tensor
LAID_SIZES, LAID_ORDER = 6, 8  # of a tensor's layout
FIRST, SECOND, THIRD = 4, 6, 8


class _Stored(Struct, frozen=True):
    """A tensor of these bytes; `order`: its axes from the outermost in memory to the innermost."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    extent: Extent


def open_weights(weights: Weights) -> DecodedSource:
    """Open one file.

    Raises:
        SourceError: it is missing or damaged, or all its weights are packed for a delegate.
    """
    if len(weights.files) != 1:
        raise UnsupportedFormat("is made of several files", path=weights.path, remedy=f"Name the one with the weights; {PICK}")
    path, files = weights.files[0], OpenFiles()
    try:
        size = files.sizes[number := files.open(path)]
        if not size:
            raise DamagedFile("is empty", path=path, remedy=FETCH_AGAIN)
        with mmap.mmap(files.descriptor(number), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
            reader = _Reader(files, path, size)
            try:
                stored = list(reader.tensors(data))
            except flat.NONSENSE as error:
                raise DamagedFile(f"is no sound flatbuffer ({error})", path=path, remedy=FETCH_AGAIN) from error
            finally:
                reader.forget()
        if not stored:
            what = ", ".join(sorted(reader.unread)) or "none of its own, they are in a .ptd file"
            raise UnsupportedFormat(f"holds no weights that can be read ({what})", path=path, remedy=EXPORTED_FROM)
        config, notes = read_config(path.parent)
        origin = Origin(
            weights.path,
            weights.name,
            (SourceFile(path.name, size),),
            config,
            (*weights.notes, *notes),
            header_bytes=max(0, size - sum(one.extent.length for one in stored)),
            unread=tuple(sorted(reader.unread.items())),
        )
        return DecodedSource(origin, {one.name: _presented(one, files) for one in stored}, files.close)
    except BaseException:
        files.close()
        raise


class _Reader:
    """Walks the tables of one file."""

    def __init__(self, files: OpenFiles, path: Path, size: int) -> None:
        self._files, self._path, self._size = files, path, size
        self._taken: dict[str, _Stored] = {}
        self._segments: list[tuple[int, int]] = []
        self.unread: Counter[str] = Counter()

    def forget(self) -> None:
        """Nothing of the mapped file is kept."""
        self._segments = []

    def tensors(self, data: memoryview) -> Iterator[_Stored]:
        """All tensors. Raises SourceError, and what flatbuffers does on nonsense."""
        mark = bytes(data[4:8])
        if mark == TENSORS:
            base = int.from_bytes(data[32:40], "little") if bytes(data[8:12]) == b"FH01" else 0
            top = flat.root(data)
            self._segments = [self._segment(one, base) for one in flat.tables(top, SECOND, MAX_THINGS)]
            yield from self._named(flat.tables(top, THIRD, MAX_THINGS))
        elif mark[:2] == PROGRAM:
            base = int.from_bytes(data[24:32], "little") if bytes(data[8:10]) == b"eh" else 0
            top = flat.root(data)
            self._segments = [self._segment(one, base) for one in flat.tables(top, SEGMENTS, MAX_THINGS)]
            yield from self._program(top)
        else:
            raise DamagedFile("has neither the mark of a program nor that of tensors", path=self._path, remedy=FETCH_AGAIN)

    def _segment(self, table: Table, base: int) -> tuple[int, int]:
        start, size = base + flat.number(table, FIRST, "Q"), flat.number(table, SECOND, "Q")
        self._files.extent(0, start, size, "a segment")
        return start, size

    def _named(self, found: Iterator[Table]) -> Iterator[_Stored]:
        """Tensors of a .ptd file; what has no layout is packed by somebody."""
        for table in found:
            name, layout = flat.text(table, FIRST), flat.inside(table, THIRD)
            start, size = self._segments[flat.number(table, SECOND, "I")]
            if layout is None:
                self.unread["ExecuTorch, bytes of a delegate"] += size
                continue
            sizes = flat.numbers(layout, LAID_SIZES, "i", MAX_AXES)
            order = flat.numbers(layout, LAID_ORDER, "B", MAX_AXES)
            yield from self._tensor(name, flat.number(layout, TYPE, "b"), sizes, order, start, size)

    def _program(self, top: Table) -> Iterator[_Stored]:
        """The constants of all plans, and what the delegates have."""
        constants = flat.inside(top, CONSTANTS)
        places = flat.numbers(constants, SECOND, "Q", MAX_THINGS) if constants is not None else ()
        held = self._segments[flat.number(constants, FIRST, "I")] if constants is not None and places else (0, 0)
        buffers = [flat.bytes_at(one, FIRST) for one in flat.tables(top, BUFFERS, MAX_THINGS)]
        inline = [flat.bytes_at(one, FIRST) for one in flat.tables(top, INLINE, MAX_THINGS)]
        delegates: Counter[str] = Counter()
        seen = set[int]()
        for plan in flat.tables(top, PLANS, MAX_THINGS):
            for value in flat.tables(plan, VALUES, MAX_THINGS):
                tensor = flat.inside(value, VALUE) if flat.number(value, KIND, "B") == TENSOR else None
                number = flat.number(tensor, BUFFER, "I") if tensor is not None else 0
                if tensor is None or not number or number in seen or tensor.Offset(ALLOCATED):
                    continue
                more = flat.inside(tensor, MORE)
                if more is not None and flat.number(more, THIRD, "b"):
                    continue  # its numbers are in a .ptd file
                seen.add(number)
                sizes = flat.numbers(tensor, SIZES, "i", MAX_AXES)
                order = flat.numbers(tensor, ORDER, "B", MAX_AXES)
                name = (flat.text(more, SECOND) if more is not None else "") or f"constant_{number}"
                kind = flat.number(tensor, TYPE, "b")
                length = prod(sizes) * BITS.get(DTYPES.get(kind, "U8"), 8) // 8
                if places:
                    yield from self._tensor(name, kind, sizes, order, held[0] + places[number], length)
                else:
                    yield from self._tensor(name, kind, sizes, order, buffers[number][0], min(length, buffers[number][1]))
            for delegate in flat.tables(plan, DELEGATES, MAX_THINGS):
                where = flat.inside(delegate, SECOND)
                if where is not None:
                    at = flat.number(where, SECOND, "I")
                    delegates[flat.text(delegate, FIRST)[:60]] += (self._segments if flat.number(where, FIRST, "b") else inline)[at][1]
        if delegates:
            outside = {flat.number(one, SECOND, "I") for one in flat.tables(top, NAMED, MAX_THINGS)}
            delegates[next(iter(delegates))] += sum(self._segments[at][1] for at in outside)
        for name, size in delegates.items():
            self.unread[f"ExecuTorch, packed for {name}"] += size

    def _tensor(self, name: str, kind: int, sizes: tuple[int, ...], order: tuple[int, ...], start: int, size: int) -> Iterator[_Stored]:
        dtype = DTYPES.get(kind, "")
        order = order or tuple(range(len(sizes)))
        length = prod(sizes) * BITS.get(dtype, 8) // 8
        if any(n < 0 for n in sizes) or sorted(order) != list(range(len(sizes))) or length > size:
            problem = f"has {size:,} bytes for the shape {list(sizes)[:9]} and type {dtype or kind}"
            raise DamagedFile(problem, path=self._path, tensor=name[:200], remedy=FETCH_AGAIN)
        if dtype not in FLOATS:
            if length > SMALL and len(sizes) > 1:
                self.unread[f"ExecuTorch, {dtype or f'type {kind}'}"] += length
            return
        if not sizes or 0 in sizes:
            return  # a single number, or none
        if name in self._taken:
            raise DamagedFile("is there twice", path=self._path, tensor=name[:200], remedy=FETCH_AGAIN)
        self._taken[name] = _Stored(name, dtype, sizes, order, self._files.extent(0, start, length, name))
        yield self._taken[name]


def _presented(one: _Stored, files: OpenFiles) -> Presented:
    parts = Parts(one.name, (one.extent,), files)
    info = TensorInfo(one.name, one.dtype, one.shape, one.extent.length)
    if one.order == tuple(range(len(one.shape))):
        return Presented(info, parts)
    steps, step = [0] * len(one.shape), 1
    for axis in reversed(one.order):
        steps[axis], step = step, step * one.shape[axis]
    vector = Presented(TensorInfo(one.name, one.dtype, (prod(one.shape),), one.extent.length), parts)
    return Presented(info, Strided(vector, files.paths[0], 0, one.shape, tuple(steps)))
