"""The submissions of a batch: from a list (CSV, or JSON a line), read strictly, or from a folder in which each entry is one."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from modelkin.sources.naming import HUB_PREFIX
from modelkin_indexer.errors import SourceNotFound, WrongLine
from modelkin_registry.screening.declared import ANY, Declaration

LISTS = {".csv": "CSV", ".jsonl": "JSON, one object a line", ".ndjson": "JSON, one object a line"}
BETWEEN = ";"  # items of a list in one cell of a CSV file
LARGEST = 1 << 26  # bytes of a list: a hundred thousand submissions have fewer
LONGEST_NAME = 200  # characters of a submission's name
COMPONENT = re.compile(r"[a-z][a-z0-9_.-]*")
GIVE = f"Give a folder of submissions, or a list of them ({', '.join(LISTS)})."
Row = tuple[int, Mapping[str, Any]]  # the line it stands on, and its fields


def read_batch(path: Path) -> list[Declaration]:
    """The submissions that a list or a folder names, in their order.

    Paths in a list are taken from the folder that it lies in; `hf://org/name` is a Hub id. In a folder each subfolder and file is one
    submission, hidden ones left out, by name; it declares what its own files say.

    Raises:
        SourceNotFound: there is no such file or folder, or it is no list.
        WrongLine: the list has a mistake, with its line.
    """
    if path.is_dir():
        return _entries(path)
    if path.suffix.lower() not in LISTS or not path.is_file():
        raise SourceNotFound("no such file or folder" if not path.exists() else "is no list of submissions", path=path, remedy=GIVE)
    if path.stat().st_size > LARGEST:
        raise WrongLine(path, 1, f"has more than {LARGEST:,} bytes")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise WrongLine(path, line, "is not UTF-8") from None
    rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else _json_rows(path, text)
    found: dict[str, int] = {}
    declared = []
    for line, row in rows:
        one = _declaration(path, line, row)
        if one.name in found:
            raise WrongLine(path, line, f"the name {one.name!r} stands on line {found[one.name]} too")
        found[one.name] = line
        declared.append(one)
    return declared


def _entries(folder: Path) -> list[Declaration]:
    found: dict[str, Declaration] = {}
    for entry in sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")):
        name, number = shown(entry), 1
        while name in found:  # of bytes that are no text, and of a name that shows them so
            number += 1
            name = f"{shown(entry)}#{number}"
        found[name] = Declaration(name, str(folder / entry))
    return list(found.values())


def shown(name: str) -> str:
    """The name of a file as text, whatever bytes it has."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _csv_rows(path: Path, text: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)  # whose lines end where CSV's do, and at no character of a name
    heads: list[str] | None = None
    begun = 1
    try:
        for cells in reader:
            line, begun = begun, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if heads is None:
                heads = [cell.strip() for cell in cells]
                _check_heads(path, line, heads)
                continue
            if len(cells) != len(heads):
                raise WrongLine(path, line, f"has {len(cells)} cells, the head of the list {len(heads)}")
            row = {head: _of_cell(path, line, head, cell.strip()) for head, cell in zip(heads, cells, strict=True)}
            yield line, {head: value for head, value in row.items() if value is not None}
    except csv.Error as error:
        raise WrongLine(path, reader.line_num, f"is no CSV: {error}") from error
    if heads is None:
        raise WrongLine(path, 1, f"has no head: its first line names the columns, as {', '.join(NEEDED)}")


def _check_heads(path: Path, line: int, heads: list[str]) -> None:
    twice = next((head for head in heads if heads.count(head) > 1), None)
    if twice is not None:
        raise WrongLine(path, line, f"two columns are named {twice!r}")
    _check_fields(path, line, heads, "column")


def _check_fields(path: Path, line: int, names: Any, word: str) -> None:
    for name in names:
        if name not in FIELDS:
            raise WrongLine(path, line, f"no {word} is named {name!r}: there are {', '.join(FIELDS)}")
    for name in NEEDED:
        if name not in names:
            raise WrongLine(path, line, f"the {word} {name!r} is missing")


def _of_cell(path: Path, line: int, head: str, cell: str) -> Any:
    """A cell as JSON would have it: empty ones are None, lists are parted by semicolons, parts of components are `vision=org/name`."""
    if not cell:
        return None
    kind = FIELDS[head]
    if kind is _text:
        return cell
    items = [item.strip() for item in cell.split(BETWEEN) if item.strip()]
    if kind is not _parts:
        return items
    parts: dict[str, list[str]] = {}
    for item in items:
        component, equals, model = (piece.strip() for piece in item.partition("="))
        if not equals or not model:
            raise WrongLine(path, line, f"{head}: {item!r} is not of the form component=model")
        parts.setdefault(component, []).append(model)
    return parts


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=partial(_unique, path, number))
        except (ValueError, RecursionError) as error:  # no JSON, or a number of thousands of digits
            raise WrongLine(path, number, f"is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise WrongLine(path, number, "is no JSON object")
        _check_fields(path, number, row, "field")
        yield number, {name: value for name, value in row.items() if value is not None}


def _unique(path: Path, line: int, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise WrongLine(path, line, "names one field twice")
    return found


def _declaration(path: Path, line: int, row: Mapping[str, Any]) -> Declaration:
    checked = {name: _checked(path, line, name, value) for name, value in row.items()}
    for name in NEEDED:
        if name not in checked:
            raise WrongLine(path, line, f"{name} is empty")
    source = checked["source"]
    if not source.startswith(HUB_PREFIX):
        checked["source"] = str(path.parent / source)
    if len(checked["name"]) > LONGEST_NAME or checked["name"] == ANY:
        raise WrongLine(path, line, f"name has more than {LONGEST_NAME} characters, or is {ANY!r}")
    return Declaration(**checked)


def _checked(path: Path, line: int, name: str, value: Any) -> Any:
    try:
        return FIELDS[name](value)
    except ValueError as error:
        raise WrongLine(path, line, f"{name}: {error}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f"{value!r} is no text")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise ValueError(f"{value!r} holds half a character") from None
    return value.strip()


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is no list of names")
    return tuple(_text(one) for one in value)


def _components(value: Any) -> tuple[str, ...]:
    return tuple(_component(one) for one in _names(value))


def _component(name: str) -> str:
    if name != ANY and not COMPONENT.fullmatch(name):
        raise ValueError(f"{name!r} is no component: they are words as text, vision or audio, and {ANY!r} for all")
    return name


def _parts(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} does not name models by component")
    return {_component(name): _names(models) for name, models in value.items()}


NEEDED = ("name", "source")
FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "name": _text,
    "source": _text,
    "file": _text,
    "base": _names,
    "reused": _parts,
    "from_scratch": _components,
    "allowed_bases": _names,
    "allowed_parts": _parts,
    "licence": _text,
    "allowed_licences": _names,
}
