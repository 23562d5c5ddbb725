"""spaCy's pipelines: a folder with `config.cfg`, and for each component a file `model` in msgpack, as thinc writes it.

    config.cfg  meta.json  ner/model  tagger/model  vocab/vectors

Weights of another library inside a component (PyTorch's, in trained transformers) are counted and named.
https://github.com/explosion/thinc/blob/main/thinc/model.py (to_dict)
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.numpy_file import array_in
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin, Presented
from modelkin_indexer.sources.stored.extents import Extent, OpenFiles, Parts
from modelkin_indexer.sources.stored.files import MAX_CONFIG, PICK, read_exact
from modelkin_indexer.sources.stored.msgpack import Raw, Walker

PIPELINE = re.compile(r"^pipeline = (\[.*\])\s*$", re.MULTILINE)
MOST_COMPONENTS = 100
MODEL, VECTORS = "model", "vocab/vectors"
SMALLEST_TABLE = 256  # bytes of vectors of none: a header
# Of a node of thinc: maxout's W is [outputs, pieces, inputs], a softmax's and a linear's [outputs, inputs], E a table, G gains.
LEAVES = {"W": "weight", "E": "weight", "G": "weight", "b": "bias"}
DTYPES = {"<f4": "F32", "<f8": "F64", "<f2": "F16", "<i4": "I32", "<i8": "I64", "|u1": "U8", "|i1": "I8", "<u4": "U32", "<u8": "U64"}
MAX_AXES = 32
MAX_KEY = 16  # bytes of a key of an array's description
FORM = "Save the pipeline with nlp.to_disk, or name one of spaCy's."


def open_weights(weights: Weights) -> DecodedSource:
    """Open the pipeline whose `config.cfg` is given.

    Raises:
        SourceError: a file is missing or damaged, or no component has weights.
    """
    if len(weights.files) != 1:
        raise UnsupportedFormat("is made of several configs", path=weights.path, remedy=f"A pipeline has one; {PICK}")
    path, files = weights.files[0], OpenFiles()
    with ExitStack() as opened:
        opened.callback(files.close)
        size = files.sizes[files.open(path)]
        presented: dict[str, Presented] = {}
        unread: Counter[str] = Counter()
        header = size
        for component in _pipeline(files, size, path):
            file = path.parent / component / MODEL
            if not file.exists():
                continue  # rules alone
            walker = Walker(files.descriptor(number := files.open(file)), files.sizes[number], file)
            presented |= dict(_tensors(component, walker.value(), walker, number, files, unread))
            if walker.at != files.sizes[number]:
                walker.fail("goes on after its end")
            header += walker.header_bytes
        vectors = path.parent / VECTORS
        if _is_beside(vectors, path) and vectors.stat().st_size > SMALLEST_TABLE:
            number = files.open(vectors)
            shown, read = array_in("vocab.vectors.weight", files.descriptor(number), files.sizes[number], vectors)
            presented[shown.info.name], header = shown, header + read
        if not presented:
            what = f" ({', '.join(sorted(unread))})" if unread else ""
            raise UnsupportedFormat(f"is a pipeline without weights that are read{what}", path=path, remedy=FORM)
        sizes = zip(files.paths, files.sizes, strict=True)
        origin = Origin(
            weights.path,
            weights.name,
            tuple(SourceFile(one.relative_to(path.parent).as_posix(), size) for one, size in sizes),
            {},
            weights.notes,
            header_bytes=header,
            unread=tuple(sorted(unread.items())),
        )
        return DecodedSource(origin, presented, opened.pop_all().close)


def _pipeline(files: OpenFiles, size: int, path: Path) -> Iterator[str]:
    """The components that the config names and that have a folder here."""
    text = bytes(read_exact(files.descriptor(0), 0, min(size, MAX_CONFIG), path)).decode("utf-8", "replace")
    found = PIPELINE.search(text)
    try:
        names = json.loads(found[1]) if found is not None else None
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > MOST_COMPONENTS:
        raise DamagedFile("is no config of spaCy's: it names no pipeline", path=path, remedy=FORM)
    for name in dict.fromkeys(names):
        plain = name not in ("", ".", "..") and name.isprintable() and not any(mark in name for mark in "/\\")
        if plain and _is_beside(path.parent / name / MODEL, path):
            yield name


def _is_beside(file: Path, config: Path) -> bool:
    """Whether a file lies in a folder that is really below the config's."""
    return file.exists() and Path(os.path.realpath(file.parent)).is_relative_to(os.path.realpath(config.parent))


def _tensors(
    component: str, value: Any, walker: Walker, number: int, files: OpenFiles, unread: Counter[str]
) -> Iterator[tuple[str, Presented]]:
    """The parameters of a component, node by node."""
    nodes, params, shims = (value.get(key) if isinstance(value, dict) else None for key in ("nodes", "params", "shims"))
    if not isinstance(nodes, list) or not isinstance(params, list) or len(nodes) != len(params):
        walker.fail("is no model of thinc's")
    for shim in shims if isinstance(shims, list) else ():
        inside = shim if isinstance(shim, list) else [shim]
        if length := sum(one.length for one in inside if isinstance(one, Raw)):
            unread["spaCy, weights of another library"] += length
    for at, (node, held) in enumerate(zip(nodes, params, strict=True)):
        if not isinstance(held, dict):
            walker.fail("is no model of thinc's")
        for key, array in held.items():
            if array is None:
                continue
            kind = str(node.get("name", "node") if isinstance(node, dict) else "node")[:40].replace(".", "_")
            name = "".join(letter if letter.isprintable() else "?" for letter in f"{component}.{at}.{kind}.{LEAVES.get(str(key), key)}")
            shown = _array(name, array, walker, number, files, unread)
            if shown is not None:
                yield name, shown


def _array(name: str, array: Any, walker: Walker, number: int, files: OpenFiles, unread: Counter[str]) -> Presented | None:
    """One array as msgpack-numpy describes it; None of one that is not read, which is counted."""
    said = {_key(key, number, files): value for key, value in array.items()} if isinstance(array, dict) else {}
    kind, shape, data = said.get("type"), said.get("shape"), said.get("data")
    sizes = tuple(shape) if isinstance(shape, list) and all(type(n) is int and 0 <= n < 1 << 40 for n in shape) else (-1,)
    if not isinstance(data, Raw) or not isinstance(kind, str) or len(sizes) > MAX_AXES or -1 in sizes:
        walker.fail(f"describes {name[:200]!r} in no way that thinc does")
    dtype = DTYPES.get(kind, "")
    if not dtype:
        unread[f"spaCy, numbers of type {kind[:10]}"] += data.length
        return None
    if prod(sizes) * BITS[dtype] // 8 != data.length:
        walker.fail(f"has {data.length:,} bytes for {name[:200]!r} of shape {list(sizes)[:9]} and type {dtype}")
    if not sizes or 0 in sizes:
        return None
    joined = sizes if len(sizes) < 3 or not name.endswith(".weight") else (prod(sizes[:-1]), sizes[-1])  # the pieces of an output are rows
    extent = Extent(number, data.start, data.length)
    return Presented(TensorInfo(name, dtype, joined, data.length), Parts(name, (extent,), files))


def _key(key: Any, number: int, files: OpenFiles) -> str:
    """A key, which msgpack-numpy writes as bytes."""
    if isinstance(key, Raw):
        return files.read(Extent(number, key.start, min(key.length, MAX_KEY)), "a key").decode("utf-8", "replace")
    return str(key)
