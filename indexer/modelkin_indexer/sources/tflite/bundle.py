"""Bundles that hold TFLite models: LiteRT-LM's (`.litertlm`), and MediaPipe's tasks (`.task`, a zip archive of stored files).

The names of tensors begin with what their model is called where there are several.
https://github.com/google-ai-edge/LiteRT-LM/blob/main/schema/core/litertlm_header_schema.fbs
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.sources import flat_tables as flat
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import DecodedSource
from modelkin_indexer.sources.stored.extents import OpenFiles
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, PICK, read_exact
from modelkin_indexer.sources.stored.zip_files import read_members
from modelkin_indexer.sources.tflite.reader import Section, opened

MARK = b"LITERTLM"
VERSION = 1  # the first of three numbers, which changes where readers have to
HEADER, HEADER_END = 32, 24  # where the description begins, and where its end is told
MAX_HEADER = 4_000_000  # bytes of it: of a few sections and what is said of each
MAX_SECTIONS = 1000
MODEL, OUTSIDE = 3, 7  # kinds of sections: a model of TFLite's, and weights of one that lie outside of it
TYPE = "model_type"  # the key under which a section says what its model is for
TFLITE = b"TFL3"
# Fields of the tables, as places in their lists of fields.
SECTIONS, OBJECTS, ITEMS, BEGIN, END, KIND, KEY, VALUE = 6, 4, 4, 6, 8, 10, 4, 8
OTHERWISE = "Take the publisher's TFLite file, or the weights that it was made of."


def open_weights(weights: Weights) -> DecodedSource:
    """Open the models of one bundle.

    Raises:
        SourceError: it is missing or damaged, or holds no model that is read.
    """
    if len(weights.files) != 1:
        raise UnsupportedFormat("is made of shards", path=weights.path, remedy=f"Bundles are one file; {PICK}")
    path, files = weights.files[0], OpenFiles()
    try:
        size = files.sizes[number := files.open(path)]
        unread: Counter[str] = Counter()
        starts = bytes(read_exact(files.descriptor(number), 0, min(8, size), path))
        found = list(_sections(files, size, path, unread) if starts == MARK else _members(files, size, path, unread))
        if not found:
            what = f" ({', '.join(sorted(unread))})" if unread else ""
            raise UnsupportedFormat(f"holds no model of TFLite's that is read{what}", path=path, remedy=OTHERWISE)
        if len(found) == 1:
            found = [Section(found[0].start, found[0].length)]
        notes = (f"It holds {len(found)} models: {', '.join(one.called.strip('.') for one in found)}.",) if len(found) > 1 else ()
        return opened(weights, files, found, notes, unread)
    except BaseException:
        files.close()
        raise


def _sections(files: OpenFiles, size: int, path: Path, unread: Counter[str]) -> Iterator[Section]:
    """The models of LiteRT-LM's."""
    head = bytes(read_exact(files.descriptor(0), 0, min(HEADER, size), path))
    version, end = int.from_bytes(head[8:12], "little"), int.from_bytes(head[HEADER_END:HEADER], "little")
    if version != VERSION:
        raise UnsupportedFormat(f"is of LiteRT-LM's version {version}", path=path, remedy=OTHERWISE)
    if not HEADER + 8 <= end <= size or end - HEADER > MAX_HEADER:
        raise DamagedFile(f"says that its description ends at byte {end:,}", path=path, remedy=FETCH_AGAIN)
    data = bytes(read_exact(files.descriptor(0), HEADER, end - HEADER, path))
    taken: Counter[str] = Counter()
    try:
        for start, stop, kind, name in _described(data):
            if start > stop or stop > size or (start < end and start < stop):
                raise DamagedFile(f"has a section at bytes [{start:,}, {stop:,}), where none can be", path=path, remedy=FETCH_AGAIN)
            if kind == OUTSIDE:
                unread["LiteRT-LM, weights outside of their model"] += stop - start
            elif kind == MODEL:
                taken[name] += 1
                yield Section(start, stop - start, f"{name}{taken[name] if taken[name] > 1 else ''}.")
    except flat.NONSENSE as error:
        raise DamagedFile(f"has no sound description of its sections ({error})", path=path, remedy=FETCH_AGAIN) from error


def _described(data: bytes) -> Iterator[tuple[int, int, int, str]]:
    """Begin, end, kind and name of each section. Raises what flatbuffers does on nonsense."""
    held = flat.inside(flat.root(data), SECTIONS)
    for section in flat.tables(held, OBJECTS, MAX_SECTIONS) if held is not None else ():
        name = "model"
        for item in flat.tables(section, ITEMS, MAX_SECTIONS):
            value = flat.inside(item, VALUE)
            if flat.text(item, KEY) == TYPE and value is not None:
                name = flat.text(value, KEY).removeprefix("tf_lite_") or name
        begin, end = (flat.number(section, field, "Q") for field in (BEGIN, END))
        yield begin, end, flat.number(section, KIND, "B"), "".join(letter if letter.isalnum() else "_" for letter in name[:100])


def _members(files: OpenFiles, size: int, path: Path, unread: Counter[str]) -> Iterator[Section]:
    """The models of a task's archive."""
    taken: Counter[str] = Counter()
    for name, member in sorted(read_members(files.descriptor(0), size, path).items()):
        stem = name.rpartition("/")[2].removesuffix(".tflite")
        if not member.plain:
            if name.endswith(".tflite") or "TF_LITE" in name:
                unread["tasks of MediaPipe's, packed models"] += member.size
            continue
        starts = bytes(read_exact(files.descriptor(0), member.start, min(8, member.size), path))
        if starts[4:8] == TFLITE:
            called = "".join(letter if letter.isalnum() else "_" for letter in stem.lower().removeprefix("tf_lite_")[:100])
            taken[called] += 1
            yield Section(member.start, member.size, f"{called}{taken[called] if taken[called] > 1 else ''}.")
