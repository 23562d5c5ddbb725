"""What a Hub says of repositories, read as a stranger's words: what is malformed is left out by name, and the rest goes on."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from itertools import islice
from typing import Any, TypeGuard

from msgspec import Struct

from modelkin_indexer.beside.claims import MAX_OF_A_KIND, MAX_VALUE
from modelkin_indexer.hub import limits
from modelkin_indexer.hub.errors import BadAnswer
from modelkin_indexer.results.beside import SourceFile

TOLD = ("pipeline_tag", "library_name", "createdAt", "lastModified")  # what of a description claims are made of, beside its tags
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|\+00:00)")
SHA256 = re.compile(r"[0-9a-fA-F]{64}")
OPENING = (b",", b"[", b"{")  # each begins a value
_parsing = threading.Lock()  # one answer at a time is a tree in memory, however many threads ask


class Repo(Struct, frozen=True):
    """A repository as the Hub describes it. `hub_id` stays when it is renamed; `files` are known only where they were asked for.

    `modified` is ISO 8601, UTC; `digest` of a file is its SHA-256 where it is stored apart (LFS), else its git blob id with "git:" before.
    `left_out` names the files whose entries cannot be read.
    """

    name: str
    hub_id: str
    commit: str
    modified: str
    downloads: int
    files: tuple[SourceFile, ...] = ()
    about: Mapping[str, Any] | None = None
    left_out: tuple[str, ...] = ()


class Unreadable(Struct, frozen=True):
    """An entry of a list that is no repository. `name` is what it calls itself, or where it stands."""

    name: str
    reason: str


def page_of(data: bytes | bytearray, number: int) -> list[Repo | Unreadable]:
    """The entries of page `number` of a list. Raises BadAnswer, ValueError."""
    with _parsing:
        page = _parsed(data)
        if not isinstance(page, list):
            raise ValueError(f"{type(page).__name__}, not a list")
        if len(page) > limits.ENTRIES:
            raise BadAnswer(f"page {number} of its list has {len(page):,} entries, more than {limits.ENTRIES:,}")
        return [_entry(item, f"entry {place} of page {number}") for place, item in enumerate(page, 1)]


def repo_of(data: bytes | bytearray) -> Repo:
    """The description of one repository. Raises BadAnswer, ValueError."""
    with _parsing:
        return _repo(_parsed(data))


def files_of(data: bytes | bytearray) -> tuple[str, tuple[SourceFile, ...]]:
    """Commit and files of a dataset's description. Raises BadAnswer, ValueError."""
    with _parsing:
        said = _parsed(data)
        if not isinstance(said, dict):
            raise ValueError(f"{type(said).__name__}, not a description")
        return _text(said, "sha"), _files(said)[0]


def _parsed(data: bytes | bytearray) -> Any:
    if sum(data.count(mark) for mark in OPENING) > limits.ITEMS:
        raise BadAnswer(f"it holds more than {limits.ITEMS:,} items")
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _entry(item: Any, place: str) -> Repo | Unreadable:
    try:
        return _repo(item)
    except ValueError as error:
        name = item.get("id") if isinstance(item, dict) else None
        return Unreadable(name if _is_text(name) else place, f"its entry in the Hub's list cannot be read ({error})")


def _repo(said: Any) -> Repo:
    if not isinstance(said, dict):
        raise ValueError(f"{type(said).__name__}, not a description")
    modified = _text(said, "lastModified")
    if not DATE.fullmatch(modified):
        raise ValueError("lastModified is no time")
    files, left_out = _files(said)
    return Repo(
        name=_text(said, "id"),
        hub_id=_text(said, "_id", ""),
        commit=_text(said, "sha"),
        modified=modified,
        downloads=_number(said, "downloads"),
        files=files,
        about=_about(said),
        left_out=left_out,
    )


def _files(said: Mapping[str, Any]) -> tuple[tuple[SourceFile, ...], tuple[str, ...]]:
    """The files, and the names or places of entries that are none."""
    entries = said.get("siblings")
    if not isinstance(entries, list | None):
        raise ValueError("siblings is no list")
    if entries and len(entries) > limits.FILES:
        raise ValueError(f"{len(entries):,} files, more than {limits.FILES:,}")
    files, left_out = [], []
    for place, entry in enumerate(entries or (), 1):
        try:
            files.append(_file(entry))
        except ValueError:
            name = entry.get("rfilename") if isinstance(entry, dict) else None
            left_out.append(name if _is_text(name) else f"entry {place}")
            if len(left_out) > limits.MALFORMED:
                raise ValueError(f"more than {limits.MALFORMED} of its files are none") from None
    return tuple(files), tuple(left_out)


def _file(said: Any) -> SourceFile:
    if not isinstance(said, dict):
        raise ValueError("no entry")
    apart = said.get("lfs")
    if not isinstance(apart, dict | None):
        raise ValueError("lfs is no entry")
    digest = "git:" + _text(said, "blobId", "")
    if apart and apart.get("sha256") is not None:
        digest = _text(apart, "sha256")
        if not SHA256.fullmatch(digest):
            raise ValueError("sha256 is none")
    return SourceFile(_text(said, "rfilename"), _number(apart if apart and "size" in apart else said, "size"), digest)


def _about(said: Mapping[str, Any]) -> dict[str, Any]:
    tags = said.get("tags")
    kept = {name: said[name] for name in TOLD if _is_text(said.get(name), MAX_VALUE)}
    texts = (tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else ()
    return {**kept, "tags": [tag for tag in islice(texts, MAX_OF_A_KIND) if _is_text(tag, MAX_VALUE)]}


def _text(said: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = said.get(name)
    value = default if value is None else value
    if not isinstance(value, str) or (value != default and not _is_text(value)):
        raise ValueError(f"{name} is missing" if value is None else f"{name} is no text")
    return value


def _is_text(value: Any, most: int = limits.NAME) -> TypeGuard[str]:
    """Whether it can be shown, stored and be a name: no control characters, no halves of characters."""
    if not isinstance(value, str) or not 0 < len(value) <= most:
        return False
    return not any(ord(character) < 32 or ord(character) == 127 or 0xD800 <= ord(character) < 0xE000 for character in value)


def _number(said: Mapping[str, Any], name: str) -> int:
    value = said.get(name)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limits.SIZE:
        raise ValueError(f"{name} is no number of its kind")
    return value
