"""Flax models: `flax_model.msgpack`, nested names with arrays as extensions, one file or shards.

https://github.com/google/flax/blob/main/flax/serialization.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.kernels import Laid, laid, shown, spelt, width_of
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.safetensors.header import read_index
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin, Presented
from modelkin_indexer.sources.stored.extents import Extent, OpenFiles, Parts
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, read_config
from modelkin_indexer.sources.stored.msgpack import Raw, Walker

SUFFIXES = (".msgpack",)
ARRAY = 1  # the extension type of arrays; 2 and 3 are single numbers
CHUNKED = "__msgpack_chunked_array__"  # marks an array in several, which msgpack could not hold in one
NOT_MODEL = ("opt_state", "optimizer", "ema_params", "optimizer_state")
COUNTERS = ("step", "rng", "key")  # of a training state, where they are numbers: modules of attention are called `key` too
PARAMS = ("params", "model", "target")  # where a training state keeps its weights
STATS = "batch_stats"
MAX_AXES = 32
SAVE_AGAIN = "Save the parameters alone with flax.serialization.to_bytes, or as safetensors."
DTYPES = {
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"},
    **{"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8"},
    "bool": "BOOL",
}


@dataclass(frozen=True)
class _Array:
    """An array: its parts one after the other are its bytes in C order."""

    path: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]
    parts: tuple[Extent, ...]


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
        arrays: list[_Array] = []
        header = 0
        for path in paths:
            walker = Walker(files.descriptor(number := files.open(path)), files.sizes[number], path)
            value = walker.value()
            if walker.at != files.sizes[number]:
                walker.fail("goes on after its end")
            arrays += _arrays(_params(value), (), walker, number, path)
            header += walker.header_bytes
        unread: Counter[str] = Counter()
        presented = _presented(arrays, files, paths[0], unread)
        if not presented:
            raise UnsupportedFormat("holds no arrays of Flax", path=paths[0], remedy=SAVE_AGAIN)
        config, notes = read_config(paths[0].parent)
        origin = Origin(
            weights.path,
            weights.name,
            tuple(SourceFile(path.name, size) for path, size in zip(files.paths, files.sizes, strict=True)),
            config,
            (*weights.notes, *notes),
            header_bytes=header,
            unread=tuple(sorted(unread.items())),
        )
        return DecodedSource(origin, presented, opened.pop_all().close)


def _params(value: Any) -> Any:
    """The weights: the value itself, or what a training state keeps under a usual word."""
    while isinstance(value, dict):
        word = next((word for word in PARAMS if isinstance(value.get(word), dict)), None)
        state = {key for key, part in value.items() if key in NOT_MODEL or (key in COUNTERS and not isinstance(part, dict))}
        if word is None or not all(key in (word, STATS) or key in state for key in value):
            return {key: part for key, part in value.items() if key not in state}
        if STATS in value:
            return _joined(value[word], value[STATS])
        value = value[word]
    return value


def _joined(one: Any, two: Any) -> Any:
    """Two nested dictionaries as one."""
    if not (isinstance(one, dict) and isinstance(two, dict)):
        return one
    return {**two, **{key: _joined(part, two[key]) if key in two else part for key, part in one.items()}}


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
                    "is msgpack, but not as Flax writes it (spaCy's models are such files)", path=path, remedy=SAVE_AGAIN
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


def _presented(arrays: list[_Array], files: OpenFiles, path: Path, unread: Counter[str]) -> dict[str, Presented]:
    """The tensors by name."""
    width = width_of(Counter(array.shape[0] for array in arrays if array.path[-1:] == ("scale",) and len(array.shape) == 1))
    is_out_first = _outputs_first(arrays)
    found: dict[str, Presented] = {}
    for array in arrays:
        front, leaf = array.path[:-1], array.path[-1] if array.path else "array"
        leaf = {"mean": "running_mean", "var": "running_var"}.get(leaf, leaf)
        name = spelt(front, leaf)
        if array.dtype not in BITS:
            unread[f"Flax, {array.dtype}"] += sum(part.length for part in array.parts)
            continue
        if not array.shape or 0 in array.shape:
            continue  # a counter, or nothing
        if name in found:
            raise DamagedFile("is there twice", path=path, tensor=name, remedy=FETCH_AGAIN)
        lies = laid("/".join(front).lower(), leaf, array.shape, width)
        if is_out_first and len(array.shape) == 2:
            lies = Laid(array.shape)
        found[name] = shown(name, array.dtype, array.shape, lies, Parts(name, array.parts, files), path)
    return found


def _outputs_first(arrays: list[_Array]) -> bool:
    """Whether kernels are stored [out, in] for all their name, as GPT-2's are: told by biases, which are as long as there are outputs."""
    biases = {array.path[:-1]: array.shape for array in arrays if array.path[-1:] == ("bias",)}
    votes = 0
    for array in arrays:
        if array.path[-1:] == ("kernel",) and len(array.shape) == 2 and array.shape[0] != array.shape[1]:
            bias = biases.get(array.path[:-1])
            votes += (bias == array.shape[:1]) - (bias == array.shape[1:])
    return votes > 0
