"""Rooms, floors, arrows and circles of each part, counted from the code: `python -m benchmarks.house.rooms`.

A room is a file or a folder one level down in a part. An arrow stands for all imports from one room of a part into another, imports by
`import_module` and by a dotted name in a string among them. A room's floor is one above the highest that it imports.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("data", "indexer", "registry", "api", "cli")  # each may import those before it
PACKAGES = {part: "modelkin" if part == "api" else f"modelkin_{part}" for part in PARTS}
DOTTED = re.compile(r"(modelkin(?:_[a-z]+)?)((?:\.[a-z_0-9]+)+)")
Arrows = Mapping[str, set[str]]


def modules(part: str) -> dict[str, Path]:
    """Every module of a part by its dotted name."""
    package = ROOT / part / PACKAGES[part]
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, at its top or anywhere in it; also those that stand in strings, and what import_module joins."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                raise SyntaxError(f"{path}: a relative import")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose and is_module(node.value):
            yield node.value


def is_module(name: str) -> bool:
    """Whether a text is the dotted name of a module of ours."""
    if not DOTTED.fullmatch(name):
        return False
    package, _, rest = name.partition(".")
    part = next((part for part in PARTS if PACKAGES[part] == package), None)
    there = ROOT / (part or "") / package / rest.replace(".", "/")
    return part is not None and (there.is_dir() or there.with_suffix(".py").is_file())


def room(name: str, part: str) -> str:
    """The room of a part that a dotted name lies in; "" for the part's own `__init__` and for other parts."""
    package, _, rest = name.partition(".")
    first = rest.split(".")[0]
    there = ROOT / part / PACKAGES[part] / first
    return first if package == PACKAGES[part] and first and (there.is_dir() or there.with_suffix(".py").is_file()) else ""


def arrows(part: str) -> Arrows:
    """For each room the other rooms of its part that it imports."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, path in modules(part).items():
        if not (here := room(name, part)):
            continue
        found[here] |= {there for other in imported(path) if (there := room(other, part)) and there != here}
    return dict(found)


def floors(found: Arrows) -> dict[str, int]:
    """Each room's floor. Raises ValueError, naming the rooms of a circle."""
    known: dict[str, int] = {}

    def floor(name: str, way: tuple[str, ...]) -> int:
        if name in way:
            raise ValueError(" -> ".join((*way[way.index(name) :], name)))
        if name not in known:
            known[name] = 1 + max((floor(other, (*way, name)) for other in sorted(found.get(name, ()))), default=-1)
        return known[name]

    for name in sorted(found):
        floor(name, ())
    return known


def circle(found: Arrows) -> str:
    """A circle in words, or ""."""
    try:
        floors(found)
    except ValueError as error:
        return str(error)
    return ""


def folder_arrows(part: str, folder: str) -> Arrows:
    """Arrows between the files of one folder of a part."""
    package = f"{PACKAGES[part]}.{folder}"
    own = {name: path for name, path in modules(part).items() if name.startswith(package + ".")}
    known = set(own)
    found: dict[str, set[str]] = {}
    for name, path in own.items():
        hits = {other if other in known else other.rpartition(".")[0] for other in imported(path)}
        found[name.removeprefix(package + ".")] = {hit.removeprefix(package + ".") for hit in hits & known if hit != name}
    return found


def back_up(part: str) -> set[str]:
    """Imports of a part that stands above it."""
    above = {PACKAGES[other] for other in PARTS[PARTS.index(part) + 1 :]}
    return {f"{name}: {other}" for name, path in modules(part).items() for other in imported(path) if other.split(".")[0] in above}


def main() -> int:
    """Print the table. Returns 1 where there is a circle or an arrow back up."""
    wrong = 0
    print(f"{'part':10}{'rooms':>7}{'floors':>8}{'arrows':>8}  circle")
    for part in PARTS:
        found = arrows(part)
        round_about = circle(found)
        height = 1 + max(floors(found).values(), default=-1) if not round_about else "-"
        print(f"{part:10}{len(found):7}{height!s:>8}{sum(map(len, found.values())):8}  {round_about or 'none'}")
        for line in sorted(back_up(part)):
            print(f"  back up: {line}")
        wrong += bool(round_about) or bool(back_up(part))
        if not round_about:
            for level in range(int(height)):
                print(f"  {level}: {' '.join(sorted(name for name, at in floors(found).items() if at == level))}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
