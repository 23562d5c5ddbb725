"""Write docs/thresholds.md from the named numbers of the code and their comments: `python docs/make_thresholds_page.py`.

A test holds that the page is current, and that no such number is without a comment.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "thresholds.md"
FOLDERS = (
    "registry/modelkin_registry",
    "indexer/modelkin_indexer/fingerprinting",
    "indexer/modelkin_indexer/anatomy",
    "api/modelkin/auditing",
)
NAME = re.compile(r"[A-Z][A-Z0-9_]*")
HEAD = """# Thresholds

Made from the named numbers of the code by `python docs/make_thresholds_page.py`. What each decides, and where it was measured, is its
comment there.

"""


class Threshold(NamedTuple):
    """A named number: where it stands, what it is, and what its comment says."""

    path: Path
    line: int
    name: str
    value: str
    words: str


def thresholds() -> Iterator[Threshold]:
    """Every module-level name in capitals whose value is a number, or numbers, by file and line."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            lines = path.read_text(encoding="utf-8").splitlines()
            for node in ast.parse("\n".join(lines)).body:
                yield from _of(node, path, lines)


def _of(node: ast.stmt, path: Path, lines: list[str]) -> Iterator[Threshold]:
    target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
    value = node.value if isinstance(node, ast.Assign) else None
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = list(zip(target.elts, value.elts, strict=True))
    else:
        pairs = [(target, value)]
    for named, number in pairs:
        if isinstance(named, ast.Name) and NAME.fullmatch(named.id) and number is not None and _is_number(number):
            yield Threshold(path.relative_to(ROOT), node.lineno, named.id, ast.unparse(number), _words(node, lines))


def _is_number(value: ast.expr) -> bool:
    """A number, arithmetic on numbers, or a tuple of them."""
    if isinstance(value, ast.Tuple):
        return bool(value.elts) and all(map(_is_number, value.elts))
    if isinstance(value, ast.UnaryOp):
        return _is_number(value.operand)
    if isinstance(value, ast.BinOp):
        return _is_number(value.left) and _is_number(value.right)
    return isinstance(value, ast.Constant) and isinstance(value.value, (int, float)) and not isinstance(value.value, bool)


def _words(node: ast.stmt, lines: list[str]) -> str:
    """The comment of the statement's own lines, else the one right above it, or above the block of constants that it stands in."""
    own = lines[node.lineno - 1 : node.end_lineno]
    if (said := " ".join(found[1] for line in own if (found := re.search(r"  # (.*)$", line)))) != "":
        return said.strip()
    above = node.lineno - 2
    while above >= 0 and re.match(r"[A-Z][A-Z0-9_, ]* = [^#]*$", lines[above]):
        above -= 1
    found: list[str] = []
    while above >= 0 and lines[above].startswith("# "):
        found.insert(0, lines[above][2:].strip())
        above -= 1
    return " ".join(found)


def page() -> str:
    """The page's text: a table a file."""
    sections: dict[Path, list[Threshold]] = {}
    for one in thresholds():
        sections.setdefault(one.path, []).append(one)
    parts = []
    for path, found in sections.items():
        rows = "\n".join(f"| `{one.name}` | {one.value} | {one.words.replace('|', '&#124;')} |" for one in found)
        parts.append(f"## {path}\n\n| name | value | what it decides |\n|---|---|---|\n{rows}\n")
    return HEAD + "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
