"""Flax models: `flax_model.msgpack`, nested names with arrays as extensions, one file or shards.

https://github.com/google/flax/blob/main/flax/serialization.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any

from msgspec import Struct

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.flax.array import Array
from modelkin_indexer.sources.flax.arrays import DTYPES, MAX_AXES, params, presented
from modelkin_indexer.sources.kernels import spelt
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.safetensors.header import read_index
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin
from modelkin_indexer.sources.stored.extents import Extent, OpenFiles, Parts
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, read_config
from modelkin_indexer.sources.stored.msgpack import Raw, Walker

SUFFIXES = (".msgpack",)
ARRAY = 1  # the extension type of arrays; 2 and 3 are single numbers
CHUNKED = "__msgpack_chunked_array__"  # marks an array in several, which msgpack could not hold in one
SAVE_AGAIN = "Save the parameters alone with flax.serialization.to_bytes, or as safetensors."
WHOLE_OR_AGAIN = "A component of spaCy is read in its pipeline: give the folder with config.cfg. " + SAVE_AGAIN


class _Array(Struct, frozen=True):
    """An array: its parts one after the other are its bytes in C order."""

    path: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]
    parts: tuple[Extent, ...]

    @property
    def nbytes(self) -> int:
        return sum(part.length for part in self.parts)


def open_weights(weights: Weights) -> DecodedSource:
    """The file, or all shards.

    Raises:
        SourceError: a file is missing or damaged, or holds no arrays of Flax.
    """
    paths = weights.files
    if weights.index is not None:
        paths = tuple(weights.index.parent / name for name in sorted(set(read_index(weights.index, SUFFIXES).values())))
    files = OpenFiles()
    with ExitStack() as opened:
        opened.callback(files.close)
        arrays: list[Array] = []
        header = 0
        for path in paths:
            walker = Walker(files.descriptor(number := files.open(path)), files.sizes[number], path)
            value = walker.value()
            if walker.at != files.sizes[number]:
                walker.fail("goes on after its end")
            found = _arrays(params(value), (), walker, number, path)
            arrays += [Array(one.path, one.dtype, one.shape, one.nbytes, Parts(spelt(one.path, ""), one.parts, files)) for one in found]
            header += walker.header_bytes
        unread: Counter[str] = Counter()
        shown = presented(arrays, paths[0], unread)
        if not shown:
            raise UnsupportedFormat("holds no arrays of Flax", path=paths[0], remedy=SAVE_AGAIN)
        config, notes = read_config(paths[0].parent)
        origin = Origin(
            weights.path,
            weights.name,
            files.described(),
            config,
            (*weights.notes, *notes),
            header_bytes=header,
            unread=tuple(sorted(unread.items())),
        )
        return DecodedSource(origin, shown, opened.pop_all().close)


def _arrays(value: Any, name: tuple[str, ...], walker: Walker, number: int, path: Path) -> Iterator[_Array]:
    """All arrays below a value, with the names that lead to them."""
    if isinstance(value, Raw) and value.kind == ARRAY:
        yield _array(value, name, walker, number)
    elif isinstance(value, dict) and value.get(CHUNKED):
        yield _chunked(value, name, walker, number, path)
    elif isinstance(value, (dict, list)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            if not isinstance(key, (str, int)):
                raise UnsupportedFormat(
                    "is msgpack, but not as Flax writes it (spaCy's models are such files)", path=path, remedy=WHOLE_OR_AGAIN
                )
            yield from _arrays(part, (*name, "".join(letter if letter.isprintable() else "?" for letter in str(key))), walker, number, path)


def _array(raw: Raw, name: tuple[str, ...], walker: Walker, number: int) -> _Array:
    inside = walker.inside(raw)
    found = inside.value()
    if not (isinstance(found, list) and len(found) == 3 and inside.at == raw.start + raw.length):
        inside.fail(f"describes {'.'.join(name)[:200]!r} in no way that Flax does")
    shape, kind, data = found
    sizes = list(shape) if isinstance(shape, list) else [-1]
    if len(sizes) > MAX_AXES or not all(type(n) is int and 0 <= n < 1 << 40 for n in sizes):
        inside.fail(f"has {'.'.join(name)[:200]!r} of the impossible shape {sizes[:9]}")
    if not isinstance(data, Raw) or not isinstance(kind, str):
        inside.fail(f"describes {'.'.join(name)[:200]!r} in no way that Flax does")
    dtype = DTYPES.get(kind, kind[:20])
    if dtype in BITS and prod(sizes) * BITS[dtype] // 8 != data.length:
        inside.fail(f"has {data.length:,} bytes for {'.'.join(name)[:200]!r} of shape {sizes} and type {dtype}")
    return _Array(name, dtype, tuple(sizes), (Extent(number, data.start, data.length),))


def _chunked(value: dict[Any, Any], name: tuple[str, ...], walker: Walker, number: int, path: Path) -> _Array:
    """An array in several: the chunks follow each other."""
    chunks, shape = value.get("chunks"), value.get("shape")
    found = list(_arrays(chunks, name, walker, number, path)) if isinstance(chunks, dict) else []
    sizes = list(shape.values()) if isinstance(shape, dict) else shape if isinstance(shape, list) else [-1]
    sizes = [n if type(n) is int and 0 <= n < 1 << 40 else -1 for n in sizes]
    kinds = {array.dtype for array in found}
    if len(kinds) != 1 or len(sizes) > MAX_AXES or -1 in sizes or prod(sizes) != sum(prod(array.shape) for array in found):
        raise DamagedFile("has chunks that do not fit", path=path, tensor=".".join(name)[:200], remedy=FETCH_AGAIN)
    return _Array(name, kinds.pop(), tuple(sizes), tuple(part for array in found for part in array.parts))
