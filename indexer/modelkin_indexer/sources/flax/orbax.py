"""Checkpoints of Orbax, and T5X's before it: arrays of Zarr, in an OCDBT database or each in a folder of its own.

    manifest.ocdbt  _METADATA  d/...  ocdbt.process_0/d/...          _METADATA  params.mlp.wi.kernel/.zarray  params.mlp.wi.kernel/0.0

https://orbax.readthedocs.io/en/latest/guides/checkpoint/checkpoint_format.html
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from msgspec import Struct

from modelkin_indexer.errors import DamagedFile, SourceError, UnsupportedFormat
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.sources.flax.array import Array
from modelkin_indexer.sources.flax.arrays import params, presented
from modelkin_indexer.sources.flax.compressed import Lies, Streams
from modelkin_indexer.sources.flax.ocdbt import MANIFEST_MARK, SAVE_AGAIN, Database
from modelkin_indexer.sources.flax.zarr import SECOND, THIRD, Described, decoder, described
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, MAX_CONFIG, read_config, read_small, read_start

METADATA = "_METADATA"
WRAPPERS = ("value", "raw_value")  # how modules of nnx call what each holds
MAX_FOLDERS = 200_000  # of arrays
Values = Callable[[str], Lies | None]


class _Store(Struct, frozen=True):
    """The descriptions of arrays by name, what finds the value of a key, and how many bytes an array takes."""

    arrays: Mapping[str, Lies]
    value: Values
    size: Callable[[str], int]
    files: tuple[SourceFile, ...]
    header_bytes: int


def open_weights(weights: Weights) -> DecodedSource:
    """The checkpoint in the folder of a file of it: the manifest, `_METADATA` or an array's description.

    Raises:
        SourceError: a file is missing or damaged, or arrays are packed in a way that is not read.
    """
    path = weights.files[0]
    folder = path.parent.parent if path.name in (SECOND, THIRD) else path.parent
    store = _database(path) if read_start(path, len(MANIFEST_MARK)) == MANIFEST_MARK else _folders(folder, path)
    names, streams = _names(folder), Streams()
    unread: Counter[str] = Counter()
    with ExitStack() as opened:
        opened.callback(streams.close)
        arrays = list(_arrays(store, names, streams, unread, path))
        shown = presented(arrays, path, unread)
        if not shown:
            what = f" (weights that are not read: {', '.join(sorted(unread)[:5])})" if unread else ""
            raise UnsupportedFormat(f"holds no arrays of Flax{what}", path=path, remedy=SAVE_AGAIN)
        config, notes = read_config(folder)
        origin = Origin(
            weights.path,
            weights.name,
            store.files,
            config,
            (*weights.notes, *notes),
            header_bytes=store.header_bytes,
            unread=tuple(sorted(unread.items())),
        )
        return DecodedSource(origin, shown, opened.pop_all().close)


def _database(manifest: Path) -> _Store:
    database = Database(manifest)
    arrays = {}
    for key, lies in database.values.items():
        name, _, leaf = key.rpartition("/")
        if leaf in (SECOND, THIRD):
            arrays[name] = lies
    files = [SourceFile(path.relative_to(manifest.parent).as_posix(), path.stat().st_size) for path in sorted(database.files)]
    sizes = Counter[str]()
    for key, lies in database.values.items():
        sizes[key.partition("/")[0]] += lies.length
    listed = (SourceFile(manifest.name, manifest.stat().st_size), *files)
    return _Store(arrays, database.values.get, lambda name: sizes[name], listed, database.header_bytes)


def _folders(folder: Path, path: Path) -> _Store:
    """Each array in a folder of its own, which may lie deeper."""
    root = folder.resolve()
    found: dict[str, Lies] = {}
    for count, inside in enumerate(sorted(folder.iterdir())):
        if count > MAX_FOLDERS:
            raise UnsupportedFormat("has too many folders", path=path, remedy=SAVE_AGAIN)
        said = next((one for name in (SECOND, THIRD) if (one := inside / name).is_file()), None)
        if said is not None and inside.resolve().is_relative_to(root):
            found[inside.name] = Lies(said, 0, said.stat().st_size)

    def value(key: str) -> Lies | None:
        chunk = folder / key
        there = chunk.is_file() and chunk.parent.resolve().is_relative_to(root)
        return Lies(chunk, 0, chunk.stat().st_size) if there else None

    def size(name: str) -> int:
        return sum(one.stat().st_size for one in (folder / name).rglob("*") if one.is_file())

    files = (SourceFile(path.relative_to(folder).as_posix(), path.stat().st_size),)
    return _Store(found, value, size, files, sum(lies.length for lies in found.values()))


def _names(folder: Path) -> dict[str, tuple[str, ...]]:
    """The parts of each array's name, as _METADATA lists them: a part may hold a dot."""
    try:
        said = json.loads(read_small(folder / METADATA, MAX_CONFIG).decode("utf-8"))
        keys = [[str(part["key"]) for part in one["key_metadata"]] for one in said["tree_metadata"].values()]
    except (SourceError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return {".".join(key): tuple(key) for key in keys}


def _arrays(store: _Store, names: Mapping[str, tuple[str, ...]], streams: Streams, unread: Counter[str], path: Path) -> Iterator[Array]:
    """The arrays that are weights, by the names that lead to them."""
    tree: dict[str, Any] = {}
    for name in sorted(store.arrays):
        at = tree
        *front, leaf = _plain(names.get(name) or tuple(name.split(".")))
        for part in front:
            at = at.setdefault(part, {})
            if not isinstance(at, dict):
                raise DamagedFile("is an array and a module of others", path=path, tensor=name[:200], remedy=FETCH_AGAIN)
        if leaf in at:
            raise DamagedFile("is there twice", path=path, tensor=name[:200], remedy=FETCH_AGAIN)
        at[leaf] = name
    for parts, name in _leaves(params(tree), ()):
        array = described(name, store.arrays[name].read(), store.arrays[name].path)
        if isinstance(array, str):
            unread[array] += store.size(name)
            continue
        if 0 in array.shape:
            continue
        yield Array(parts, array.dtype, array.shape, array.nbytes, _decoder(name, array, store, streams, path))


def _decoder(name: str, array: Described, store: _Store, streams: Streams, path: Path) -> Any:
    return decoder(name, array, lambda key: store.value(f"{name}/{key}"), streams, path)


def _plain(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Names that can be shown, without what nnx puts around each value."""
    shown = tuple("".join(letter if letter.isprintable() else "?" for letter in part) for part in parts)
    return shown[:-1] if len(shown) > 1 and shown[-1] in WRAPPERS else shown


def _leaves(tree: Any, front: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, part in tree.items():
        if isinstance(part, dict):
            yield from _leaves(part, (*front, key))
        else:
            yield (*front, key), part
