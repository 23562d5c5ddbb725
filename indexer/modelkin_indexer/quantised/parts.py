"""What a scheme works with: the stored tensors of a source by module, their rows or columns, and what it makes of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.places import TensorInfo, View
from modelkin_indexer.quantised.packing import Bytes, Floats
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored import values

Words = npt.NDArray[Any]
Rows = Callable[[int, int], Floats]
FETCH_COMPLETE = "Download or export the model again, with all its tensors and its config.json."
HELD_BYTES = 64 << 20  # of a matrix that is read whole: one of 4-bit codes of 11,008 x 4,096 numbers has 22 MB
HELD_SHARE = 64  # parts of the columns, one of which is enough for that: level probe asks for a few
PADDING = 16  # words
MAX_SMALL = 1 << 16  # bytes of a side tensor that is read whole while opening: descriptions, code books


class Plain(Struct, frozen=True):
    """A plain tensor as it comes out of stored ones.

    `rows(start, stop)` gives rows of the tensor flattened to [all axes but the last, last axis]. `kind` says in words how it is stored;
    `uses` are the stored tensors that it takes the place of. `fill(start, stop, out)`, where a scheme has it, is `rows` into `out`.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    uses: tuple[str, ...]
    rows: Rows
    fill: Callable[[int, int, Floats], None] | None = None


class Undecoded(Struct, frozen=True):
    """Stored tensors of a scheme that is known but not decoded. `kind` says in words how they are stored."""

    kind: str
    uses: tuple[str, ...]


Found = Plain | Undecoded


class Parts:
    """A source's stored tensors, for schemes; those that an earlier scheme has taken are not among them."""

    def __init__(self, source: Source, taken: Collection[str] = ()) -> None:
        self.source = source
        self._kept = threading.local()
        self.tensors: Mapping[str, TensorInfo] = {name: info for name, info in source.tensors.items() if name not in taken}

    @cached_property
    def stated(self) -> Mapping[str, Any]:
        """The quantization_config that comes with the model, {} where there is none."""
        sections = (self.source.config, self.source.config.get("text_config"))
        found = (section.get("quantization_config") for section in sections if isinstance(section, Mapping))
        return next((stated for stated in found if isinstance(stated, Mapping)), {})

    @cached_property
    def method(self) -> str:
        """`quant_method` in small letters, "" where none is stated."""
        return str(self.stated.get("quant_method", "")).lower()

    @cached_property
    def metadata(self) -> Mapping[str, str]:
        """Text that the container keeps beside its tensors."""
        return self.source.metadata

    @cached_property
    def modules(self) -> Mapping[str, Mapping[str, TensorInfo]]:
        """Module -> last part of the name -> tensor."""
        found: dict[str, dict[str, TensorInfo]] = {}
        for name, info in self.tensors.items():
            module, _, last = name.rpartition(".")
            found.setdefault(module, {})[last] = info
        return found

    def group_size(self, columns: int, name: str) -> int | None:
        """The stated numbers in a group, all columns for -1 and null; None where nothing is stated. Raises DamagedFile for nonsense."""
        if "group_size" not in self.stated:
            return None
        size = self.stated["group_size"]
        if size is None or size == -1:
            return columns
        if not isinstance(size, int) or isinstance(size, bool) or size <= 0:
            raise self.damaged(name, f"config.json says that it is quantised in groups of {size!r}")
        return size

    def need(self, name: str, by: str) -> TensorInfo:
        """A tensor that another cannot be decoded without. Raises DamagedFile."""
        if name not in self.tensors:
            raise self.damaged(by, f"is quantised, but {name!r}, which is needed to decode it, is missing")
        return self.tensors[name]

    def damaged(self, name: str, problem: str) -> DamagedFile:
        return DamagedFile(problem, path=self.source.path, tensor=name, remedy=FETCH_COMPLETE)

    def unsupported(self, name: str, problem: str) -> UnsupportedFormat:
        remedy = "Give the weights in another quantisation, or not quantised."
        return UnsupportedFormat(problem, path=self.source.path, tensor=name, remedy=remedy)

    def rows(self, name: str, start: int, stop: int, out: Floats | None = None) -> Floats:
        """Rows of a stored tensor flattened to [all axes but the last, last axis], in `out` (contiguous, of that shape) if given."""
        return values.read_rows(self.source, _flat(self.tensors[name]), start, stop, out)

    def columns(self, name: str, start: int, stop: int) -> Floats:
        """Columns of a stored matrix, each as a row."""
        turned = self.turned(name, start, stop)
        return values.decode(self.tensors[name].dtype, turned.view(np.uint8).reshape(-1)).reshape(turned.shape)

    def raw_rows(self, name: str, start: int, stop: int) -> Bytes:
        """As `rows`, undecoded: [stop - start, bytes of a row]."""
        return values.read_stored(self.source, _flat(self.tensors[name]), start, stop).reshape(stop - start, -1)

    def raw_columns(self, name: str, start: int, stop: int) -> Bytes:
        """As `columns`, undecoded: [stop - start, bytes of a column]."""
        return values.read_stored(self.source, _turned(self.tensors[name]), start, stop).reshape(stop - start, -1)

    def turned(self, name: str, start: int, stop: int) -> Words:
        """Columns [start, stop) of a stored matrix, each as a row, undecoded: unsigned words [stop - start, rows].

        Columns are scattered all over a matrix. One of which more than a little is asked for is read whole, and kept while this thread asks
        for tensors of the same module.
        """
        info, module = self.tensors[name], name.rpartition(".")[0]
        rows, columns = info.shape
        word = f"<u{values.bits(info.dtype) // 8}"
        kept: dict[str, Words] = self._kept.words if getattr(self._kept, "module", None) == module else {}
        if name not in kept:
            if info.nbytes > HELD_BYTES or (stop - start) * HELD_SHARE < columns:
                return self.raw_columns(name, start, stop).view(word)
            padded = np.empty((rows, columns + PADDING), word)  # rows a power of two apart would meet in one place of a cache
            padded[:, :columns] = self.source.read(name, 0, info.nbytes).view(word).reshape(rows, columns)
            kept[name] = np.ascontiguousarray(padded[:, :columns].T)
            self._kept.module, self._kept.words = module, kept
        return kept[name][start:stop]

    def span(self, name: str, start: int, stop: int) -> Floats:
        """Numbers [start, stop) of a stored tensor in C order."""
        return values.decode(self.tensors[name].dtype, self.raw_span(name, start, stop))

    def raw_span(self, name: str, start: int, stop: int) -> Bytes:
        """As `span`, undecoded."""
        width = values.bits(self.tensors[name].dtype) // 8
        return self.source.read(name, start * width, stop * width)

    def raw_bytes(self, name: str, start: int, stop: int) -> Bytes:
        """Bytes [start, stop) of a stored tensor, whatever its type."""
        return self.source.read(name, start, stop)

    def small(self, name: str) -> Bytes:
        """All bytes of a side tensor that is small by its nature. Raises DamagedFile where it is not."""
        size = self.tensors[name].nbytes
        if size > MAX_SMALL:
            raise self.damaged(name, f"has {size:,} bytes, more than such a side tensor can have ({MAX_SMALL:,})")
        return self.source.read(name, 0, size)

    def number(self, name: str) -> float:
        """The only number of a tensor. Raises DamagedFile where it has more."""
        if self.tensors[name].elements != 1:
            raise self.damaged(name, f"should hold one number, but has shape {list(self.tensors[name].shape)}")
        return float(self.span(name, 0, 1)[0])

    def integers(self, name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """All numbers of a tensor of whole numbers."""
        info = self.tensors[name]
        if info.dtype not in INTEGERS:
            raise self.damaged(name, f"should hold whole numbers, but has dtype {info.dtype}")
        return self.source.read(name, 0, info.nbytes).view(INTEGERS[info.dtype]).astype(np.int64)


INTEGERS = {"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8}


def _flat(info: TensorInfo) -> View:
    columns = info.shape[-1] if info.shape else 1
    return View(info.name, 0, (prod(info.shape[:-1]), columns), (columns, 1))


def _turned(info: TensorInfo) -> View:
    rows, columns = info.shape
    return View(info.name, 0, (columns, rows), (1, columns))
