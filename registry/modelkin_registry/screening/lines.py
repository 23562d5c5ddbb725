"""Where in a TOML file a table or key stands: what the standard library's parser does not tell, and a person with an error wants."""

from __future__ import annotations

import re

TABLE = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?$")
KEY = re.compile(r"\s*([A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')\s*=")
AT_END = "(at end of document)"
AT_LINE = re.compile(r"\(at line (\d+)")


def line_of(text: str, table: str = "", key: str = "") -> int:
    """The line, from 1, on which a key of a table stands, or the table's head without a key; 1 where neither is found.

    A key of the top has `table` "". What stands in strings of several lines is not told apart: only the number would be off.
    """
    here, head = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        if found := TABLE.match(line):
            here = _plain(found[1])
            head = number if here == table else head
            if here == table and not key:
                return number
        elif key and here == table and (named := KEY.match(line)) and _plain(named[1]) == key:
            return number
    return head


def line_of_error(error: Exception, text: str) -> int:
    """The line that the parser's message names; the last one where the text ends too soon, 1 where it names none."""
    found = AT_LINE.search(str(error))
    return int(found[1]) if found else len(text.splitlines()) or 1 if AT_END in str(error) else 1


def _plain(name: str) -> str:
    return name.strip().strip("\"'")
