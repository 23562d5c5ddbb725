"""What a caller asks for, who is told of progress, and what a source came to."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypedDict

from msgspec import Struct

from modelkin.settings import Settings
from modelkin_indexer.results.beside import Claim, SourceFile, StructurePart
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.spec import Key

Begin = Callable[[str, int], Callable[[int], None]]  # (name, bytes to read) -> what is told of bytes done
Say = Callable[[str], None]  # is told, in words, what is no data

HOST, PORT = "127.0.0.1", 8017  # where a registry is served unless told otherwise
RATE = 20.0  # units a second from one address: a page is one, a question QUESTION of them (serving)
TIME_LIMIT = 3600.0  # seconds for one submission of a batch: terabytes at a disk's speed, so what takes longer hangs

_LOG = logging.getLogger("modelkin")
_LOG.addHandler(logging.NullHandler())  # without a handler of the caller's, nothing is printed


def _unwatched(_name: str, _total: int) -> Callable[[int], None]:
    return lambda _done: None


def _noted(words: str) -> None:
    _LOG.info("%s", words)


def _logged(error: Exception) -> None:
    _LOG.error("%s", error, exc_info=error)


class Listener(Struct, frozen=True):
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


class OpenRegistry:
    """What a call takes of an open registry: `modelkin.Registry`, which takes a tenth of a second to import."""

    settings: Settings
    listener: Listener


SILENT = Listener()


class HowToRead(Struct, frozen=True):
    """How sources become fingerprints. `level` None means the default, and leaves a written fingerprint as it is.

    `base` is the model that the changes of an adapter are added to; `offline` forbids to ask the Hub; `strict` refuses damaged tensors.
    """

    key: Key
    level: str | None = None
    threads: int | None = None
    file: str | None = None
    base: Path | None = None
    offline: bool = False
    strict: bool = False


class Options(TypedDict, total=False):
    """How sources are read, as options of a call.

    level         "probe" (a few rows of each matrix) or "full" (every byte once); by default full, of a Hub id probe
    threads       threads; the result does not depend on them
    file          which file of a folder is read, where it holds several models
    adapter_base  the base of an adapter: the sum is looked at
    strict        refuse a model with damaged tensors (NaN, infinite numbers), which else are left out and told
    """

    level: Literal["probe", "full"] | None
    threads: int | None
    file: str | None
    adapter_base: str | os.PathLike[str] | None
    strict: bool


def how_to_read(key: Key, options: Options, offline: bool = False) -> HowToRead:
    """A call's options with its key. Raises ValueError for a level that there is none of."""
    level, base = options.get("level"), options.get("adapter_base")
    if level not in (None, "probe", "full"):
        raise ValueError(f"level {level!r}: it is 'probe' or 'full'")
    adapter = None if base is None else Path(base)
    return HowToRead(key, level, options.get("threads"), options.get("file"), adapter, offline, options.get("strict", False))


class SyncOptions(TypedDict, total=False):
    """Which repositories a sync is about, and how it works.

    recipe                 those of a list, by its name ("bases" comes with modelkin) or its file: see `modelkin.taking.recipes`
    pin                    ask the Hub for the recipe's commits and bytes, write it there with these, and do nothing else
    author, task, library  only those of this person or organisation, task, library or tag
    min_downloads          only those with so many
    max_bytes              leave out those of which more would be read
    limit                  do so many at most; the others wait for the next call
    relist                 list all, not only what changed since the last call, and find removed and renamed ones
    retry                  try all again that failed, not only those whose failure may pass
    enqueue                put them into the queue of `work`, and read none of them now
    dry_run                say what would be read, with its bytes, and do nothing
    workers, rate          repositories read at once (4); requests a second at most (10)
    level                  "probe" or "full" (the default)
    strict                 refuse models with damaged tensors
    """

    recipe: str | os.PathLike[str] | None
    pin: str | os.PathLike[str] | None
    author: str | None
    task: str | None
    library: str | None
    min_downloads: int
    max_bytes: int | None
    limit: int | None
    relist: bool
    retry: bool
    enqueue: bool
    dry_run: bool
    workers: int
    rate: float
    level: Literal["probe", "full"] | None
    strict: bool


class WorkOptions(TypedDict, total=False):
    """How `work` takes jobs from the queue that `sync` fills with `enqueue`.

    jobs       processes (1), each of which reads one repository at a time
    ray        begin these on the machines of the Ray cluster at this address ("auto": the one of this machine)
    rate       requests a second at most to the Hub, of all of them together (10)
    lease      seconds after which a job is another worker's, if the one that has it falls silent (120)
    max_bytes  set aside those of which more would be read
    keep_free  bytes that stay free on the disk where they are read: below, no job is taken (1 GiB)
    memory     bytes of data of each process at most; a repository that needs more is set aside
    stay       wait for more when the queue is empty, until interrupted
    strict     refuse models with damaged tensors
    """

    jobs: int
    ray: str | None
    rate: float
    lease: float
    max_bytes: int | None
    keep_free: int
    memory: int | None
    stay: bool
    strict: bool


class ListOptions(TypedDict, total=False):
    """Which of the registered models are listed, and how.

    where    conditions that all have to hold: `family=llama`, `name=acme/*`, `parameters>1B`, `tag!=old` (see the page on upkeep)
    since    only models that came, or got a new revision, on this date or later
    sort     name (the default), author, family, level, parameters, bytes, coverage, revisions, added, updated
    reverse  the other way round: texts go from A, numbers and dates from the largest
    limit    so many at most
    count    only how many there are
    stats    only what they come to, and what the registry's rows take
    """

    where: Sequence[str]
    since: str | None
    sort: str
    reverse: bool
    limit: int | None
    count: bool
    stats: bool


class ExactOptions(TypedDict, total=False):
    """An exact comparison, as options of a call.

    resume  keep finished tensors in this journal, and go on where it ends
    layers  "same" (the default), or "all": each layer is held against each other one too
    """

    resume: str | os.PathLike[str] | None
    layers: Literal["same", "all"]


class CompareOptions(Options, ExactOptions, total=False):
    """How sources are read, and how an exact comparison goes."""


class ExactWishes(Struct, frozen=True):
    """What a call asks of an exact comparison: its journal, and whether every layer is held against every other."""

    resume: Path | None = None
    all_layers: bool = False


def exact_wishes(exact: bool, options: ExactOptions) -> ExactWishes | None:
    """What a call asks of an exact comparison; None where it asks for none.

    Raises:
        ValueError: options of an exact comparison without one, or layers that there are none of.
    """
    resume, layers = options.get("resume"), options.get("layers", "same")
    if layers not in ("same", "all"):
        raise ValueError(f"layers {layers!r}: it is 'same' or 'all'")
    if not exact:
        if resume is not None or layers != "same":
            raise ValueError("`resume` and `layers` are for an exact comparison (exact=True)")
        return None
    return ExactWishes(None if resume is None else Path(resume), layers == "all")


class Reading(Struct, frozen=True):
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


Asked = str | os.PathLike[str] | Fingerprint | Reading  # a path or Hub id, or what was read before
