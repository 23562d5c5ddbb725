"""What a caller asks for, who is told of progress, and what a source came to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelkin_indexer.results.beside import Claim, SourceFile, StructurePart
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.spec import Key

Begin = Callable[[str, int], Callable[[int], None]]  # (name, bytes to read) -> what is told of bytes done
Say = Callable[[str], None]  # is told, in words, what is no data

_LOG = logging.getLogger("modelkin")
_LOG.addHandler(logging.NullHandler())  # without a handler of the caller's, nothing is printed


def _unwatched(_name: str, _total: int) -> Callable[[int], None]:
    return lambda _done: None


def _noted(words: str) -> None:
    _LOG.info("%s", words)


def _logged(error: Exception) -> None:
    _LOG.error("%s", error, exc_info=error)


@dataclass(frozen=True)
class Listener:
    """Who is told what is no data. By default the log of the name `modelkin` has the words, and nobody watches the progress.

    begin     a source is begun: its name and bytes; returns what is told of bytes done
    say       notes that a reader may do without
    announce  what must be known before it is done: that a name leaves this machine
    fault     an error that nobody foresaw, and that the call survived
    """

    begin: Begin = _unwatched
    say: Say = _noted
    announce: Say = _noted
    fault: Callable[[Exception], None] = _logged


@dataclass(frozen=True)
class HowToRead:
    """How sources become fingerprints. `level` None means the default, and leaves a written fingerprint as it is.

    `base` is the model that the changes of an adapter are added to; `offline` forbids to ask the Hub.
    """

    key: Key
    level: str | None = None
    threads: int | None = None
    file: str | None = None
    base: Path | None = None
    offline: bool = False


@dataclass(frozen=True)
class ExactWishes:
    """What a call asks of an exact comparison: its journal, and whether every layer is held against every other."""

    resume: Path | None = None
    all_layers: bool = False


@dataclass(frozen=True)
class Reading:
    """A source that was read. `name` is what it calls itself; `origin` and `files` say where from.

    `claims` are what its folder says, `structure` what lies there beside the weights; `remote` whether the Hub sent it.
    """

    name: str
    fingerprint: Fingerprint
    origin: str
    files: tuple[SourceFile, ...] = ()
    notes: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    structure: tuple[StructurePart, ...] = ()
    remote: bool = False
