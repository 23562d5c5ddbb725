"""What every answer can do: become JSON by the contract, a table for pandas, and a page of a notebook."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

if TYPE_CHECKING:
    import pandas

CONTRACT = 1  # of the JSON: fields may be added within it, never renamed or dropped
# Where an answer's rows are: fields one inside the other, of the first way that leads to any. What is not named here is a row by itself.
TABLES: dict[str, tuple[tuple[str, ...], ...]] = {
    "QueryAnswer": (("relatives",),),
    "Relative": (("components", "families"),),
    "ComponentEvidence": (("families",),),
    "Counterparts": (("tensors",),),
    "CompareAnswer": (("components", "families"),),
    "AuditAnswer": (("findings",),),
    "DecomposeAnswer": (("merge", "parents"), ("fit", "parents")),
    "Merge": (("parents",),),
    "MergeByLayer": (("parents",),),
    "ExactSummary": (("families",),),
    "Aligned": (("families",),),
    "TreeAnswer": (("edges",),),
    "Screening": (("results",),),
    "TrajectoryAnswer": (("steps",),),
    "Additions": (("results",),),
    "Syncing": (("results",),),
    "Journal": (("entries",),),
    "Upgrade": (("results",),),
    "Refresh": (("results",),),
    "Listing": (("models",),),
    "Calibration": (("backgrounds",),),
    "Examination": (("findings",),),
    "Formats": (("formats",),),
    "Shown": (("revisions", "sources"),),
    "Imported": (("renamed",),),
}
SHOWN = 50  # rows on a page of a notebook
NEEDS_PANDAS = "to_pandas() needs pandas: pip install 'modelkin[pandas]'"


def to_plain(value: Any) -> Any:
    """A result as JSON can hold it: objects by field ("contract" first), lists, and null for what is no finite number.

    A field whose name is a word of Python's has an underscore after it there, and none here (`from_`).
    """
    if isinstance(value, Struct):
        found = {name.rstrip("_"): to_plain(item) for name, item in structs.asdict(value).items()}
        return {"contract": found.pop("contract"), **found} if "contract" in found else found
    if isinstance(value, Mapping):
        return {str(name): to_plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if hasattr(value, "item"):  # a number of numpy's
        return to_plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Plain(Struct, frozen=True):
    """Base of every answer."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract's object: what `--json` prints."""
        found: dict[str, Any] = to_plain(self)
        return found

    def rows(self) -> list[dict[str, Any]]:
        """The answer as a table: a dictionary a row, with numbers and texts only. An answer without a table is one row."""
        ways = TABLES.get(type(self).__name__)
        if ways is None:
            return [_flat(self)]
        return next((found for way in ways if (found := list(_followed(self, way)))), [])

    def to_pandas(self) -> pandas.DataFrame:
        """The same rows as a data frame.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(NEEDS_PANDAS) from error
        return pandas.DataFrame(self.rows())

    def _repr_html_(self) -> str:
        """The sentences, the warnings and the table, for a notebook. Every name is escaped."""
        said = getattr(self, "explanation", ())
        parts = [f"<p><strong>{_escaped(sentence)}</strong></p>" for sentence in said[:1]]
        parts += _list(said[1:]) + _list([f"! {warning}" for warning in getattr(self, "warnings", ())])
        return f'<div class="modelkin">{"".join(parts)}{_table(self.rows())}</div>'


def _followed(value: Any, way: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows at the end of a way, each with the plain fields of what was passed."""
    if not way:
        yield _flat(value)
        return
    inside = _fields(value).get(way[0]) or ()
    several = isinstance(inside, (list, tuple))
    for item in inside if several else (inside,):
        passed = _flat(item) if len(way) > 1 and several else {}
        for row in _followed(item, way[1:]):
            yield passed | row


def _fields(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    return structs.asdict(value)


def _flat(value: Any) -> dict[str, Any]:
    """What of an object fits into cells: numbers, texts, and lists of them as one text."""
    found: dict[str, Any] = {}
    for name, item in _fields(value).items():
        if name == "contract":
            continue
        plain = to_plain(item)
        if isinstance(plain, list) and all(isinstance(one, str) for one in plain):
            found[name] = ", ".join(plain)
        elif not isinstance(plain, (list, dict)):
            found[name] = plain
    return found


def _list(sentences: Iterable[str]) -> list[str]:
    items = "".join(f"<li>{_escaped(sentence)}</li>" for sentence in sentences)
    return [f"<ul>{items}</ul>"] if items else []


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{_escaped(str(name))}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(row.get(name))}</td>' for name in names)}</tr>" for row in rows[:SHOWN])
    more = f"<p>{len(rows) - SHOWN:,} more rows: to_pandas() has them.</p>" if len(rows) > SHOWN else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        shown = f"{value:.4g}"
        return "0.9999" if shown == "1" and value < 1 else shown  # what is not quite 1 is not shown as 1
    return _escaped(str(value))


def _escaped(text: str) -> str:
    from html import escape  # for notebooks alone

    return escape(text)
