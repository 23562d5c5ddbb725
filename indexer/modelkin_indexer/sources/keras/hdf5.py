"""HDF5 files that a stranger wrote: their groups, and arrays of plain numbers with where they lie.

Own reader of what h5py writes unless told otherwise (superblocks 0 to 3, both object headers, symbol tables, contiguous, compact and
chunked arrays, gzip and shuffle): the HDF5 library itself runs in circles on some damaged files, and opens other files by name.
Nothing outside the file is opened here, and no part of it is read twice on the way down.
https://docs.hdfgroup.org/hdf5/latest/_f_m_t3.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import NoReturn

from msgspec import Struct, field

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.keras.messages import Chunks, Described, Layout, Link, Message, NotRead, attribute, described, headers, link
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, read_exact

SAVE_AGAIN = "Save the weights again with save_weights, or as safetensors."
SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_NODES = 500_000  # groups and arrays; the largest public models have 20,000
MAX_DEPTH = 64  # groups in groups; modules of real models reach 20
MAX_AXES = 8
MAX_BLOCK = 1 << 20  # bytes of an object header, a heap of names or a node of a tree; real ones have at most 64 KB
MAX_CHUNKS = 1_000_000  # of all arrays of a file
MAX_CHUNK = 16_000_000  # bytes of a compressed chunk, which is decoded whole; h5py makes chunks of 1 MB at most
MAX_ACROSS = 64_000_000  # bytes of the rows that share chunks, which are decoded together
NOWHERE = (1 << 64) - 1
SYMBOLS, CHUNK_TREE = 0, 1  # kinds of trees


class Array(Struct, frozen=True):
    """One array of numbers. `start`: its first byte in the file; None where `chunks` hold it."""

    dtype: str
    shape: tuple[int, ...]
    start: int | None
    chunks: Chunks | None = None

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * BITS[self.dtype] // 8


class Group(Struct):
    """A group: its arrays and groups by name, and texts among its attributes."""

    arrays: dict[str, Array] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    def walk(self, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Group]]:
        """This group and all below, each with its path."""
        yield path, self
        for name, group in self.groups.items():
            yield from group.walk((*path, name))


class Hdf5:
    """An HDF5 file in bytes [start, stop) of an open file."""

    def __init__(self, descriptor: int, start: int, stop: int, path: Path) -> None:
        self._descriptor, self._start, self._size, self._path = descriptor, start, stop - start, path
        self._seen: set[int] = set()
        self._chunks = 0
        self.header_bytes = 0

    def tree(self) -> Group:
        """All groups. Raises SourceError: no sound HDF5 file, or one of a kind that is not read."""
        head = self._read(0, min(96, self._size))
        if head[:8] != SIGNATURE or len(head) < 48:
            self._fail("does not begin as HDF5 files do")
        version = head[8]
        sizes, base, end, root = (13, 24, 40, 64) if version < 2 else (9, 12, 28, 36)
        if version == 1:
            base, end, root = base + 4, end + 4, root + 4
        if version > 3 or head[sizes : sizes + 2] != b"\x08\x08" or _number(head, base) != 0:
            self._refuse(f"is HDF5 of a kind that is not read (superblock {version})")
        if _number(head, end) > self._size:
            self._fail(f"ends at byte {self._size:,}, but says it has {_number(head, end):,}")
        found = self._object(_number(head, root), 0, "/")
        if not isinstance(found, Group):
            self._fail("has no groups")
        return found

    def _object(self, address: int, depth: int, name: str) -> Group | Array | None:
        """What an address holds: a group, an array of numbers, or None."""
        if depth > MAX_DEPTH or len(self._seen) > MAX_NODES:
            self._fail("has groups too deep or too many")
        try:
            messages = list(headers(self._read, self._once(address), self._once))
            if any(message.kind == Message.LAYOUT for message in messages):
                return self._array(described(messages), name)
            return self._group(messages, depth, name)
        except NotRead as error:
            self._refuse(f"has {name[:200]!r} {error}")
        except (IndexError, ValueError) as error:
            self._fail(f"has {name[:200]!r} with an unsound header ({error})")

    def _group(self, messages: list[Message], depth: int, name: str) -> Group:
        found = Group(texts={key: text for message in messages if (pair := attribute(message, self._held)) for key, text in (pair,)})
        links = [link(message.data) for message in messages if message.kind == Message.LINK]
        for message in messages:
            if message.kind == Message.SYMBOLS:
                tree, heap = (self._once(_number(message.data, at)) for at in (0, 8))
                links += self._symbols(tree, self._heap(heap), 0)
            elif message.kind == Message.LINK_INFO and message.dense_links:
                raise NotRead("with its links in a form that only newer HDF5 writes")
        for one in links:
            if one.name in found.arrays or one.name in found.groups:
                self._fail(f"has {one.name[:200]!r} twice")
            if one.leads_out:
                raise NotRead(f"with a link to another file ({one.name[:200]!r})")
            if one.address is None or one.address in self._seen:
                continue  # another name of what is in the file
            item = self._object(one.address, depth + 1, one.name)
            if isinstance(item, Group):
                found.groups[one.name] = item
            elif item is not None:
                found.arrays[one.name] = item
        return found

    def _symbols(self, address: int, heap: bytes, depth: int) -> Iterator[Link]:
        """The links that a tree of symbol tables holds."""
        for _, child, level in self._nodes(address, SYMBOLS, 8, depth):
            if level:
                yield from self._symbols(self._once(child), heap, depth + 1)
                continue
            head = self._read(self._once(child), 8)
            if head[:4] != b"SNOD":
                self._fail("has a symbol table that is none")
            count = int.from_bytes(head[6:8], "little")
            entries = self._read(child + 8, 40 * count)
            for at in range(0, 40 * count, 40):
                text = heap[_number(entries, at) :].partition(b"\0")[0].decode("utf-8", "replace")
                is_soft = entries[at + 16] == 2
                yield Link(text, None if is_soft else _number(entries, at + 8))

    def _nodes(self, address: int, kind: int, key_bytes: int, depth: int) -> Iterator[tuple[bytes, int, int]]:
        """The keys, children and level of one node of a tree."""
        head = self._read(address, 24)
        if head[:4] != b"TREE" or head[4] != kind or depth > MAX_DEPTH:
            self._fail("has a tree that is none")
        count = int.from_bytes(head[6:8], "little")
        step = key_bytes + 8
        entries = self._read(address + 24, count * step)
        for at in range(0, count * step, step):
            yield entries[at : at + key_bytes], _number(entries, at + key_bytes), head[5]

    def _heap(self, address: int) -> bytes:
        """The names of a group."""
        head = self._read(address, 32)
        if head[:4] != b"HEAP":
            self._fail("has a heap of names that is none")
        return self._read(_number(head, 24), _number(head, 8))

    def _held(self, address: int, index: int) -> bytes:
        """An object of a heap that attributes share; b"" if it is not there."""
        head = self._read(address, 16)
        size = _number(head, 8)
        if head[:4] != b"GCOL" or not 16 <= size <= MAX_BLOCK:
            self._fail("has a heap of texts that is none")
        data, at = self._read(address, size), 16
        while at + 16 <= size:
            length = _number(data, at + 8)
            if int.from_bytes(data[at : at + 2], "little") == index:
                return data[at + 16 : at + 16 + length]
            at += 16 + -(-length // 8) * 8
        return b""

    def _array(self, found: Described, name: str) -> Array | None:
        """An array of numbers; None of one that holds something else, or nothing."""
        if found.outside:
            raise NotRead("with its numbers in other files")
        if found.dtype is None or found.shape is None or not found.shape or found.layout is None:
            return None
        if len(found.shape) > MAX_AXES or not all(0 <= n < 1 << 40 for n in found.shape):
            self._fail(f"has {name[:200]!r} of the impossible shape {list(found.shape)}")
        word = found.dtype
        if word == "U16" and any(attribute(message, self._held) == ("dtype", "bfloat16") for message in found.attributes):
            word = "BF16"
        wanted, layout = prod(found.shape) * BITS[word] // 8, found.layout
        if layout.chunk:
            return Array(word, found.shape, None, self._chunked(found, word, layout, name))
        if layout.nbytes != wanted or layout.address is None or layout.address + wanted > self._size:
            if not wanted or layout.address == NOWHERE:
                return None
            self._fail(f"has {layout.nbytes:,} bytes for {name[:200]!r}, but {wanted:,} by its shape {list(found.shape)}")
        return Array(word, found.shape, self._start + layout.address)

    def _chunked(self, found: Described, word: str, layout: Layout, name: str) -> Chunks:
        """Where the chunks of an array lie; all have to be there."""
        shape, width = found.shape or (), BITS[word] // 8
        chunk = layout.chunk[:-1]
        if len(chunk) != len(shape) or not all(chunk) or layout.chunk[-1] != width:
            self._fail(f"has chunks of {list(layout.chunk)} for {name[:200]!r}")
        if prod(chunk) * width > MAX_CHUNK or max(1, prod(shape[1:])) * chunk[0] * width > MAX_ACROSS:
            raise NotRead("cut into chunks that are too large")
        wanted = prod(-(-n // some) for n, some in zip(shape, chunk, strict=True))
        self._chunks += wanted
        if self._chunks > MAX_CHUNKS:
            raise NotRead("cut into too many chunks")
        where: dict[tuple[int, ...], tuple[int, int]] = {}
        if wanted and layout.address is not None:
            self._chunk_places(self._once(layout.address), len(shape), where, 0)
        if len(where) != wanted or any(n % some for at in where for n, some in zip(at, chunk, strict=True)):
            self._fail(f"lacks some numbers of {name[:200]!r}")
        return Chunks(self._start, chunk, where, found.filters)

    def _chunk_places(self, address: int, axes: int, where: dict[tuple[int, ...], tuple[int, int]], depth: int) -> None:
        for key, child, level in self._nodes(address, CHUNK_TREE, 8 + 8 * (axes + 1), depth):
            if level:
                self._chunk_places(self._once(child), axes, where, depth + 1)
                continue
            size, mask = int.from_bytes(key[:4], "little"), int.from_bytes(key[4:8], "little")
            if mask or child + size > self._size or len(where) > MAX_CHUNKS:
                self._fail("has chunks that are not there")
            where[tuple(_number(key, 8 + 8 * axis) for axis in range(axes))] = (child, size)

    def _once(self, address: int) -> int:
        """An address that was not met before."""
        if address in self._seen or len(self._seen) > 4 * MAX_NODES:
            self._fail("leads in circles")
        self._seen.add(address)
        return address

    def _read(self, address: int, length: int) -> bytes:
        if length > MAX_BLOCK or address < 0 or address + length > self._size:
            self._fail(f"names bytes [{address:,}, {address + length:,}), which it does not have")
        self.header_bytes += length
        return bytes(read_exact(self._descriptor, self._start + address, length, self._path))

    def _fail(self, problem: str) -> NoReturn:
        raise DamagedFile(problem, path=self._path, remedy=FETCH_AGAIN)

    def _refuse(self, problem: str) -> NoReturn:
        raise UnsupportedFormat(problem, path=self._path, remedy=SAVE_AGAIN)


def _number(data: bytes, at: int) -> int:
    if at + 8 > len(data):
        raise IndexError("ends early")
    return int.from_bytes(data[at : at + 8], "little")
