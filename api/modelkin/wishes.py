"""What a caller asks for, how it is told of progress, and what a source came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelkin_indexer.results.beside import Claim, SourceFile, StructurePart
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.spec import Key

Begin = Callable[[str, int], Callable[[int], None]]  # (name, bytes to read) -> what is told of bytes done
Say = Callable[[str], None]  # is told, in words, what is no data


@dataclass(frozen=True)
class HowToRead:
    """How sources become fingerprints. `level` None means the default, and leaves a written fingerprint as it is.

    `base` is the model that the changes of an adapter are added to.
    """

    key: Key
    level: str | None = None
    threads: int | None = None
    file: str | None = None
    base: Path | None = None


@dataclass(frozen=True)
class ExactWishes:
    """What a call asks of an exact comparison: its journal, and whether every layer is held against every other."""

    resume: Path | None = None
    all_layers: bool = False


@dataclass(frozen=True)
class Reading:
    """A source that was read. `name` is what it calls itself; `origin` and `files` say where from.

    `claims` are what its folder says, `structure` what lies there beside the weights.
    """

    name: str
    fingerprint: Fingerprint
    origin: str
    files: tuple[SourceFile, ...] = ()
    notes: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    structure: tuple[StructurePart, ...] = ()
