"""What a shared file says of each model, as values; and the strict reading of what a stranger's file says.

Numbers that a fingerprint holds itself (level, parameters, coverage, config) are not repeated beside it, so they cannot contradict it.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from msgspec import Struct

from modelkin_indexer.results.beside import SourceFile
from modelkin_registry.store.records import MAX_NAME
from modelkin_registry.store.times import now

MAX_TEXT = 4096  # characters of a path, claim or file name
MAX_ITEMS = 100_000  # parts of one model: files of a revision, revisions, claims
UNITS = {"vocabulary": 8, "code": 12, "licence": 1}  # bytes of one number, shingle or character
MAX_STRUCTURE = 16 << 20  # characters of one, as base64
DIGEST = re.compile(r"[0-9a-f]{64}")
Item = TypeVar("Item")


class SharedFingerprint(Struct, frozen=True):
    """One fingerprint: the digest and length of its bytes, and when it was stored first."""

    digest: str
    size: int
    added: str


class SharedSource(Struct, frozen=True):
    """Who says that a revision exists, when, and from where."""

    who: str
    origin: str
    first_seen: str
    last_seen: str
    files: tuple[SourceFile, ...]


class SharedRevision(Struct, frozen=True):
    """One content of a model."""

    added: str
    files: tuple[SourceFile, ...]
    fingerprints: tuple[SharedFingerprint, ...]
    sources: tuple[SharedSource, ...]


class SharedClaim(Struct, frozen=True):
    """Something said about a model, with when it was read."""

    kind: str
    value: str
    source: str
    first_seen: str
    last_seen: str


class SharedStructure(Struct, frozen=True):
    """A thing that lay beside the weights. `data` is base64."""

    kind: str
    name: str
    data: str
    first_seen: str
    last_seen: str


class SharedModel(Struct, frozen=True):
    """One model with all that a registry knows of it. Revisions are oldest first, and there is at least one."""

    name: str
    added: str
    former_names: tuple[str, ...]
    revisions: tuple[SharedRevision, ...]
    claims: tuple[SharedClaim, ...]
    structure: tuple[SharedStructure, ...] = ()


def read_model(value: Any) -> SharedModel:
    """A model from parsed JSON. Raises ValueError naming what is wrong."""
    given = _object(value, "model", {"name", "added", "former_names", "revisions", "claims", "structure"})
    revisions = _list(given["revisions"], "revisions", _revision)
    if not revisions:
        raise ValueError("a model without a revision")
    names = _list(given["former_names"], "former_names", _name)
    claims, structure = _list(given["claims"], "claims", _claim), _list(given["structure"], "structure", _structure)
    return SharedModel(_name(given["name"]), _time(given["added"]), names, revisions, claims, structure)


def _revision(value: Any) -> SharedRevision:
    given = _object(value, "revision", {"added", "files", "fingerprints", "sources"})
    fingerprints = _list(given["fingerprints"], "fingerprints", _fingerprint)
    sources = _list(given["sources"], "sources", _source)
    if not fingerprints or not sources:
        raise ValueError("a revision without a fingerprint or a source")
    return SharedRevision(_time(given["added"]), _list(given["files"], "files", _file), fingerprints, sources)


def _fingerprint(value: Any) -> SharedFingerprint:
    given = _object(value, "fingerprint", {"digest", "size", "added"})
    if not isinstance(given["digest"], str) or not DIGEST.fullmatch(given["digest"]):
        raise ValueError("a digest that is none")
    return SharedFingerprint(given["digest"], count(given["size"]), _time(given["added"]))


def _source(value: Any) -> SharedSource:
    given = _object(value, "source", {"who", "origin", "first_seen", "last_seen", "files"})
    times = _time(given["first_seen"]), _time(given["last_seen"])
    return SharedSource(_text(given["who"]), _text(given["origin"]), *times, _list(given["files"], "files", _file))


def _claim(value: Any) -> SharedClaim:
    given = _object(value, "claim", {"kind", "value", "source", "first_seen", "last_seen"})
    kind, said, source = (_text(given[field]) for field in ("kind", "value", "source"))
    return SharedClaim(kind, said, source, _time(given["first_seen"]), _time(given["last_seen"]))


def _structure(value: Any) -> SharedStructure:
    given = _object(value, "structure", {"kind", "name", "data", "first_seen", "last_seen"})
    unit = UNITS.get(given["kind"]) if isinstance(given["kind"], str) else None
    data = given["data"]
    if unit is None or not isinstance(data, str) or len(data) > MAX_STRUCTURE or not data or len(b64decode(data, validate=True)) % unit:
        raise ValueError("a structure that is none")
    return SharedStructure(given["kind"], _text(given["name"]), data, _time(given["first_seen"]), _time(given["last_seen"]))


def _file(value: Any) -> SourceFile:
    given = _object(value, "file", {"name", "size", "digest"})
    return SourceFile(_text(given["name"]), count(given["size"]), _text(given["digest"]))


def _object(value: Any, what: str, fields: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != fields:
        raise ValueError(f"a {what} without exactly the fields {', '.join(sorted(fields))}")
    return value


def _list(value: Any, what: str, read: Callable[[Any], Item]) -> tuple[Item, ...]:
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        raise ValueError(f"{what} that are no list of at most {MAX_ITEMS:,}")
    return tuple(read(item) for item in value)


def _name(value: Any) -> str:
    name = _text(value)
    if not name or not name.isprintable() or len(name) > MAX_NAME:
        raise ValueError(f"a model's name that is not 1 to {MAX_NAME} printable characters")
    return name


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError(f"a text that is none, or longer than {MAX_TEXT:,} characters")
    value.encode()  # a lone surrogate is no text
    return value


def count(value: Any) -> int:
    """A whole number of bytes or things. Raises ValueError."""
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError("a number that is no count")
    return value


def _time(value: Any) -> str:
    """A time as stored. One that lies ahead becomes the present: it would outlive all that is noted after it."""
    try:
        time = datetime.fromisoformat(_text(value))
    except ValueError:
        time = None
    if time is None or time.utcoffset() != timedelta(0):
        raise ValueError("a time that is not in UTC, ISO 8601")
    return min(time.isoformat(timespec="microseconds"), now())
