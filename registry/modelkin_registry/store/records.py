"""What goes into the store and what comes out: plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from msgspec import Struct, field

from modelkin_indexer.results.beside import Claim, SourceFile, StructurePart

MAX_NAME = 512  # characters of a model's name
DIGITS = 8  # of a content's digest, in the name of a revision or of a model whose name another one has
DISPLACED, IMPORTED = "@", "#"  # stand before these in the name of a model that had to give its name away, or came in under a taken one
MAX_TRIES = 5  # of a repository whose failure may pass, before it has to change or be asked for with --retry
HUB = "hub"  # who says so of a model that `modelkin sync` read; its origin is org/name@commit


def digits_of(content: str, count: int = DIGITS) -> str:
    """The digits of a content's digest that stand in names, without its level."""
    return content.rpartition("-")[2][:count]


def names_apart(name: str, mark: str, content: str) -> Iterator[str]:
    """Names for a model that cannot have this one, the shortest first: no two contents share the last of them."""
    digits = digits_of(content, len(content))
    endings = [mark + digits[:count] for count in range(DIGITS, len(digits) + DIGITS, DIGITS)]
    yield from (name[: MAX_NAME - len(ending)] + ending for ending in endings)


class NewModel(Struct, frozen=True):
    """One observation of one model: a fingerprint's bytes and what describes it.

    `content` is the digest of the weights as stored, the same for the same content; `known_as` the content under which the newest revision
    has the same weights, read at another level. `who` says so (a person, `hub`) and `origin` is where the weights came from (a path, an
    address with its revision). `sender` names the file that brought an imported model, "" for what was read here.
    """

    name: str
    content: str
    level: str
    spec: str
    key: str
    parameters: int
    bytes_total: int
    coverage: float
    about: Mapping[str, Any]
    blob: bytes
    config: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[SourceFile, ...] = ()
    who: str = ""
    origin: str = ""
    claims: tuple[Claim, ...] = ()
    structure: tuple[StructurePart, ...] = ()
    known_as: str = ""
    sender: str = ""


class PutResult(Struct, frozen=True):
    """What became of one `put`. `name` differs from the one given where that is a former name; `status` is "added" or "unchanged".

    `kept` is the new name of the model that had the name before, "" if none had to make room; `size` bytes of the fingerprint.
    """

    status: str
    name: str
    model_id: int
    revision: int
    size: int
    kept: str = ""


class StoredModel(Struct, frozen=True):
    """One revision of a model with the fingerprint that stands for it, that of the highest level.

    `name` is the model's for its newest revision, and `model@digits` for an older one. `revision` is the number by which it is searched.
    """

    model_id: int
    model: str
    name: str
    sender: str
    added: str
    revision: int
    current: bool
    fingerprint: int
    content: str
    level: str
    spec: str
    key: str
    parameters: int
    bytes_total: int
    coverage: float
    about: dict[str, Any]
    config: dict[str, Any]
    origin: str
    digest: str
    blob: bytes


class KeptFingerprint(Struct, frozen=True):
    """One stored fingerprint as the doctor looks at it, with what its rows tell. `searched`: whether it stands for its revision."""

    fingerprint: int
    revision: int
    name: str
    level: str
    spec: str
    key: str
    coverage: float
    parameters: int
    bytes_total: int
    config: str
    about: str
    content: str
    digest: str
    size: int
    data: bytes
    searched: bool


class Facets(NamedTuple):
    """What a revision is sorted and chosen by, as the fingerprint that stands for it tells.

    `adapter` is the kind of an adapter without its base, "" for other models; `parameters` are the numbers that are held, None if unknown.
    """

    level: str
    family: str
    components: tuple[str, ...]
    quantization: str
    adapter: str
    parameters: int | None
    bytes: int
    coverage: float


class Stored(NamedTuple):
    """What a registry's rows of one kind take: how many there are, and their bytes without what the engine needs beside."""

    kind: str
    rows: int
    bytes: int


class VectorRecord(NamedTuple):
    """The search rows of one kind and component of a revision, as stored.

    `fingerprint` is the number of the one that they were made of; `is_sound` whether they are what was stored.
    """

    kind: str
    component: str
    fingerprint: int
    layers: bytes
    data: bytes
    is_sound: bool


class KeptStructure(NamedTuple):
    """A thing that lay beside a model's weights, and when."""

    kind: str
    name: str
    digest: str
    data: bytes
    first_seen: str
    last_seen: str


class Change(Struct, frozen=True):
    """One line of the change log. `what` is "put", "remove" or "rename"; `revision` the one that it is about, None for a name."""

    seq: int
    model_id: int
    revision: int | None
    what: str
    at: str


class Queued(Struct, frozen=True):
    """One repository of the Hub as it was listed. `modified` is ISO 8601."""

    repo: str
    hub_id: str
    revision: str
    modified: str
    level: str


class Leased(Queued, frozen=True):
    """A repository that is lent to a worker: how it came into the queue, how often it failed, and the bytes that may be read of it."""

    selection: str = ""
    tries: int = 0
    max_bytes: int | None = None


class Lent(NamedTuple):
    """Jobs of the queue: all of them, those that workers hold, and those that wait for their time after a failure."""

    jobs: int
    held: int
    later: int
