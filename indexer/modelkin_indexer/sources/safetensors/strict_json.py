"""A cursor over JSON that a stranger wrote.

General parsers turn a few bytes of text into tens of bytes of objects and silently keep the last of two equal keys. The headers read
here are long but flat, so this walks them member by member: one key and one small value in memory at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.sources.stored.files import FETCH_AGAIN

# Members of one object. The largest public models store 150,000 tensors, all shards together.
MAX_MEMBERS = 500_000
# Text of one value. A tensor's entry takes about 60 bytes; 64 axes of 20 digits would take 1,300.
MAX_VALUE = 2048
# Bytes of a tensor's or file's name. Names end up in messages and tables; real ones stay under 200.
MAX_NAME = 4096

_WHITESPACE = re.compile(rb"[ \t\r\n]*+")
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\.)*+"')


class Cursor:
    """Walks one JSON document. `what` names it in messages ("header", "index")."""

    def __init__(self, data: bytes | bytearray, path: Path, what: str) -> None:
        self._data, self._path, self._what, self._at = data, path, what, 0

    def fail(self, problem: str, tensor: str | None = None) -> NoReturn:
        raise DamagedFile(f"{self._what} {problem}", path=self._path, tensor=tensor, remedy=FETCH_AGAIN)

    def members(self) -> Iterator[str]:
        """The keys of the object here, each once, in order. The caller takes the value of a key before it asks for the next."""
        if not self._take(b"{"):
            self.fail(f"is not a JSON object at byte {self._at}")
        seen: set[str] = set()
        while not self._take(b"}"):
            if seen:
                self._expect(b",")
            name = self.string("key")
            if name in seen:
                self.fail(f"has the key {name!r} twice")
            seen.add(name)
            if len(seen) > MAX_MEMBERS:
                problem = f"{self._what} has more than {MAX_MEMBERS:,} members in one object"
                raise UnsupportedFormat(problem, path=self._path, remedy="Split the model into shards.")
            self._expect(b":")
            yield name

    def null(self) -> bool:
        """Whether null stands here; it is taken then."""
        return self._take(b"null")

    def string(self, what: str, limit: int = MAX_NAME) -> str:
        """The string here, of at most `limit` bytes as written; `what` names it in messages."""
        self._skip()
        found = _STRING.match(self._data, self._at)
        if not found:
            self.fail(f"is not JSON, or its {what} is not a string, at byte {self._at}")
        if found.end() - self._at > limit:
            self.fail(f"has a {what} of {found.end() - self._at:,} bytes, more than {limit:,}, at byte {self._at}")
        try:
            value = _text(found[0])
        except UnicodeError:
            self.fail(f"is not UTF-8 at byte {self._at}")
        except ValueError as error:
            self.fail(f"is not JSON at byte {self._at} ({error})")
        self._at = found.end()
        return value

    def value(self, tensor: str | None = None, limit: int = MAX_VALUE) -> Any:
        """Any small value here, parsed; its text may take `limit` bytes and its objects may not repeat a key."""
        self._skip()
        text = self._data[self._at : self._at + limit].decode("latin-1")  # one character a byte, so that positions agree
        try:
            value, length = _DECODER.raw_decode(text)
        except RecursionError:
            self.fail("is nested too deeply", tensor)
        except ValueError as error:
            self.fail(f"is not JSON at byte {self._at}, or has a value longer than {limit} bytes there ({error})", tensor)
        self._at += length
        return value

    def end(self) -> None:
        """Nothing but white space may follow."""
        self._skip()
        if self._at != len(self._data):
            self.fail(f"goes on after its JSON object, at byte {self._at}")

    def _skip(self) -> None:
        if self._at < len(self._data) and self._data[self._at] in b" \t\r\n":
            found = _WHITESPACE.match(self._data, self._at)
            self._at = found.end() if found else self._at

    def _take(self, mark: bytes) -> bool:
        self._skip()
        found = self._data.startswith(mark, self._at)
        self._at += len(mark) * found
        return found

    def _expect(self, mark: bytes) -> None:
        if not self._take(mark):
            self.fail(f"is not JSON at byte {self._at}: {mark.decode()!r} is missing")


def _text(token: bytes | bytearray) -> str:
    """What a JSON string means. Raises ValueError; UnicodeError where it is not UTF-8 or has half a surrogate pair."""
    text = token.decode("utf-8")
    if "\\" not in text:
        return text[1:-1]
    meaning = str(json.loads(text))
    meaning.encode("utf-8")
    return meaning


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_constants(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_no_repeats, parse_constant=_no_constants)
