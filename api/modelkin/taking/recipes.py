"""A recipe: which repositories of the Hub make a registry, at which revision and level, and how much of each is read.

Its first line is `# modelkin recipe 1: NAME`. Then each line names one repository, in four words: `org/name`; a revision (`main`, or a
commit, which pins it); the level, `probe` or `full`; and the bytes that are read of it, exact (`548105171`) or about (`~550M`; k, M, G and
T are powers of 1000). What follows a `#`, and empty lines, are for people.
"""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path

from msgspec import Struct

from modelkin.sources.naming import HUB_ID
from modelkin_data.recipes import RECIPES, shipped_recipe
from modelkin_indexer.errors import WrongLine

HEAD = "# modelkin recipe 1: "
MAIN = "main"
LONGEST = 193  # characters of a repository: 96 of each name
LEVELS = ("probe", "full")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
BYTES = re.compile(r"(?P<exact>[0-9]{1,15})|~(?P<about>[0-9]{1,4}(\.[0-9]{1,3})?)(?P<unit>[kMGT]?)")
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
WORDS = ("a repository", "a revision", "a level", "the bytes that are read")


class Entry(Struct, frozen=True):
    """One repository. `revision` is a branch, a tag or a commit; `bytes` are read of it, or about so many (`is_about`)."""

    repo: str
    revision: str
    level: str
    bytes: int
    is_about: bool

    def line(self) -> str:
        """Its line in a recipe."""
        return f"{self.repo:60} {self.revision:40} {self.level:5} {_in_short(self.bytes) if self.is_about else self.bytes}"


class Recipe(Struct, frozen=True, dict=True):
    """Repositories, in the order of the file. `name` is what the journal of `sync` knows it by."""

    name: str
    entries: tuple[Entry, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(entry.repo for entry in self.entries)

    @cached_property
    def by_repo(self) -> dict[str, Entry]:
        """What is wanted of each repository."""
        return {entry.repo: entry for entry in self.entries}

    def text(self) -> str:
        """It as a file that `read_recipe` reads."""
        return "\n".join((f"{HEAD}{self.name}", *(entry.line().rstrip() for entry in self.entries), ""))


def read_recipe(asked: str | os.PathLike[str]) -> Recipe:
    """A recipe that comes with modelkin, by name, or else a file.

    Raises:
        WrongLine: the file cannot be read, or has a mistake; with the line.
    """
    if asked in RECIPES:
        return parsed_recipe(shipped_recipe(str(asked)), f"{asked}.recipe")
    try:
        text = Path(asked).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(RECIPES)
        raise WrongLine(os.fspath(asked), 1, f"it is no recipe of modelkin's ({known}), and as a file cannot be read: {error}") from error
    return parsed_recipe(text, os.fspath(asked))


def parsed_recipe(text: str, where: str) -> Recipe:
    """A recipe from its text. Raises WrongLine."""
    first, *lines = text.removeprefix("\ufeff").split("\n")
    name = first.removeprefix(HEAD).strip()
    if not first.startswith(HEAD) or not NAME.fullmatch(name):
        raise WrongLine(where, 1, f"a recipe begins with {HEAD!r} and its name, of letters, digits, dots and dashes")
    entries: dict[str, Entry] = {}
    for number, line in enumerate(lines, 2):
        words = line.partition("#")[0].split()
        if not words:
            continue
        entry = _entry(words, where, number)
        if entry.repo in entries:
            raise WrongLine(where, number, f"{entry.repo} stands twice. Keep one line of it.")
        entries[entry.repo] = entry
    if not entries:
        raise WrongLine(where, max(len(lines), 1), "it names no repository")
    return Recipe(name, tuple(entries.values()))


def _entry(words: list[str], where: str, number: int) -> Entry:
    if len(words) != len(WORDS):
        raise WrongLine(where, number, f"{len(words)} words, and there are four: {', '.join(WORDS)}")
    repo, revision, level, size = words
    if not HUB_ID.fullmatch(repo) or "@" in repo or len(repo) > LONGEST:
        raise WrongLine(where, number, f"{_told(repo)} is no repository of the Hub (org/name)")
    if not REVISION.fullmatch(revision):
        raise WrongLine(where, number, f"{_told(revision)} is no revision: a commit, or {MAIN}")
    if level not in LEVELS:
        raise WrongLine(where, number, f"{_told(level)} is no level: {' or '.join(LEVELS)}")
    if (told := BYTES.fullmatch(size)) is None:
        raise WrongLine(where, number, f"{_told(size)} are no bytes: 548105171, or about: ~550M")
    if told["exact"] is not None:
        return Entry(repo, revision, level, int(told["exact"]), False)
    return Entry(repo, revision, level, round(float(told["about"]) * UNITS[told["unit"]]), True)


def _told(word: str) -> str:
    return repr(word if len(word) <= LONGEST else f"{word[:LONGEST]}...")


def _in_short(size: int) -> str:
    """Bytes as `~15.2G`."""
    unit = next((one for one in "TGMk" if size >= UNITS[one]), "")
    number = size / UNITS[unit]
    return f"~{number:.{2 if number < 10 and unit else 1 if number < 100 and unit else 0}f}{unit}"
