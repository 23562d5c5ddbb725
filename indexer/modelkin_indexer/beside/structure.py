"""The structure of a model's folder: its vocabulary, code and licence, each bounded, and what cannot be read left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

from modelkin_indexer.beside.code import shingles
from modelkin_indexer.beside.vocabulary import vocabulary_sketch
from modelkin_indexer.errors import SourceError
from modelkin_indexer.results.beside import StructurePart
from modelkin_indexer.sources.stored.files import is_folder, read_small

VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt")  # the first that is there is the vocabulary
LICENCES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE", "LICENCE.md", "LICENCE.txt", "COPYING", "USE_POLICY.md")
MAX_CODE, MAX_LICENCE = 1 << 19, 1 << 18  # bytes of one file
MAX_FILES = 32  # of code in one folder
Read = Callable[[Path], bytes]


def structure_of(folder: Path) -> tuple[StructurePart, ...]:
    """What of a folder's structure can be read; nothing of a single file."""
    try:
        return tuple(_parts(folder)) if is_folder(folder) else ()
    except (SourceError, OSError):
        return ()


def is_structure(name: str) -> bool:
    """Whether a file of that name is looked at."""
    return name in VOCABULARIES or name in LICENCES or name.endswith(".py")


def vocabulary_in(folder: Path) -> Path | None:
    """The file that holds a folder's vocabulary."""
    return next((folder / name for name in VOCABULARIES if (folder / name).is_file()), None)


def _parts(folder: Path) -> Iterator[StructurePart]:
    names = sorted(entry.name for entry in folder.iterdir())
    yield from _read(folder, [name for name in VOCABULARIES if name in names][:1], "vocabulary", vocabulary_sketch)
    yield from _read(folder, [name for name in names if name.endswith(".py")][:MAX_FILES], "code", _code)
    yield from _read(folder, [name for name in LICENCES if name in names], "licence", _licence)


def _read(folder: Path, names: list[str], kind: str, read: Read) -> Iterator[StructurePart]:
    for name in names:
        try:
            data = read(folder / name)
        except (SourceError, OSError, ValueError, RecursionError, MemoryError):
            continue
        if data:
            yield StructurePart(kind, name, blake2b(data, digest_size=16).hexdigest(), data)


def _code(path: Path) -> bytes:
    return shingles(read_small(path, MAX_CODE).decode("utf-8", "replace")).tobytes()


def _licence(path: Path) -> bytes:
    return read_small(path, MAX_LICENCE).decode("utf-8", "replace").strip().encode("utf-8", "replace")
