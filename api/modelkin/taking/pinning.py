"""A recipe held against the Hub: its commits and bytes as they are now, or what it says of them where the Hub is not asked."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from modelkin.sources.hub_reading import hub_size
from modelkin.taking.at_once import at_once
from modelkin.taking.recipes import HEAD, Entry, Recipe
from modelkin.wishes import HowToRead
from modelkin_indexer.errors import SourceError, WrongLine
from modelkin_indexer.hub.client import HubClient
from modelkin_registry.answers.shared import Synced

UNASKED = "by the recipe; the Hub was not asked"
OTHER_LEVEL = "the recipe has no bytes of this level; the Hub was not asked"


def expected(recipe: Recipe, level: str | None, max_bytes: int | None) -> Iterator[Synced]:
    """What a recipe says of the bytes of each repository, without those of which more than `max_bytes` are read."""
    for entry in recipe.entries:
        if level not in (None, entry.level):
            yield Synced(entry.repo, "wanted", OTHER_LEVEL)
        elif max_bytes is None or entry.bytes <= max_bytes:
            yield Synced(entry.repo, "wanted", f"{'about so many bytes, ' if entry.is_about else ''}{UNASKED}", None, entry.bytes)


def pinned(recipe: Recipe, client: HubClient, how: HowToRead, workers: int, target: Path) -> Iterator[Synced]:
    """Ask the Hub for the commit of each repository and the bytes that are read of it, and write the recipe with these.

    One that the Hub does not show stays as it was, and is told ("failed"); one whose files may not be read is pinned, with the bytes that
    the recipe had. The registry is not changed.

    Raises:
        WrongLine: the file cannot be written.
    """
    _require_place(target)
    entries = []
    for _, (entry, told) in at_once(workers, lambda entry: _pinned(client, how, entry), recipe.entries):
        entries.append(entry)
        yield told
    _write(replace(recipe, entries=tuple(entries)), target)


def _pinned(client: HubClient, how: HowToRead, entry: Entry) -> tuple[Entry, Synced]:
    entry = replace(entry, level=how.level or entry.level)
    try:
        entry = replace(entry, revision=client.repo(entry.repo, entry.revision).commit)
    except SourceError as error:
        return entry, Synced(entry.repo, "failed", str(error))
    try:
        size = hub_size(client, entry.repo, replace(how, level=entry.level), entry.revision)
    except SourceError as error:
        return entry, Synced(entry.repo, "pinned", f"its bytes are not known: {error}")
    return replace(entry, bytes=size, is_about=False), Synced(entry.repo, "pinned", None, None, size)


def _require_place(target: Path) -> None:
    """Say so at once where it cannot be written, not after an hour of asking."""
    if target.is_dir() or not target.resolve().parent.is_dir():
        raise WrongLine(target, 1, "cannot be written: it is a folder, or its folder is not there")
    if target.exists() and not _is_recipe(target):
        raise WrongLine(target, 1, "is there and no recipe, and nothing else is written over. Give the name of a new file")


def _is_recipe(target: Path) -> bool:
    try:
        with target.open("rb") as stream:
            return stream.read(len(HEAD)) == HEAD.encode()
    except OSError as error:
        raise WrongLine(target, 1, f"cannot be read: {error}") from error


def _write(recipe: Recipe, target: Path) -> None:
    unfinished = target.with_name(f".{target.name}.unfinished-{secrets.token_hex(4)}")
    try:
        unfinished.write_text(recipe.text(), encoding="utf-8")
        unfinished.replace(target)
    except OSError as error:
        raise WrongLine(target, 1, f"cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
