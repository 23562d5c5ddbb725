"""Write docs/benchmarks.md from benchmarks/results: `python docs/make_benchmarks_page.py`. A test holds that the page is current.

Of each result: what its script says it measures, how it was made, the figures at its top, and the pages and pictures beside it.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
SCRIPTS = ROOT / "benchmarks"
RESULTS = SCRIPTS / "results"
MADE = "made"
LONGEST = 120  # letters of a text that is told as a figure
MOST = 24  # figures of one result; the file has the rest
HEAD = """# Benchmarks

Made from [`benchmarks/results/`](../benchmarks/results) by `python docs/make_benchmarks_page.py`. Each result can be made again with its
script, and has its misses in it. Results without a line on how they were made are older than that line.

"""


def page() -> str:
    """The page's text: a section a result, by folder of the scripts."""
    found = [(script_of(path.stem), path) for path in sorted(RESULTS.glob("*.json"))]
    sections = [section(script, path) for script, path in sorted(found, key=lambda one: (str(one[0]), one[1].name))]
    return HEAD + "\n".join(sections)


def section(script: Path, path: Path) -> str:
    """One result."""
    content = json.loads(path.read_text(encoding="utf-8"))
    rows = [f"| {name} | {value} |" for name, value in figures(content)][:MOST]
    parts = [f"## {path.stem}", about(script)]
    parts += [made(content)] if isinstance(content, dict) and MADE in content else []
    parts += ["| figure | value |\n|---|---|\n" + "\n".join(rows)] if rows else []
    links = [f"[{other.name}](../benchmarks/results/{other.name})" for other in sorted(RESULTS.glob(f"{path.stem}.*"))]
    parts.append(f"Script: `{script}`. Files: {', '.join(links)}.")
    return "\n\n".join(parts) + "\n"


def script_of(name: str) -> Path:
    """The script that writes a result of this name. Raises LookupError."""
    for path in sorted(SCRIPTS.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        exact = f'write_result("{name}"' in text
        if exact or ((begun := re.search(r'write_result\(f"([\w-]+)\{', text)) is not None and name.startswith(begun[1])):
            return path.relative_to(ROOT)
    made = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")).get(MADE, {})
    if (SCRIPTS.parent / made.get("script", "")).is_file():  # one that writes under a name that it is given
        return Path(made["script"])
    raise LookupError(f"no script writes {name}.json")


def about(script: Path) -> str:
    """The first paragraph of a script's docstring."""
    words = ast.get_docstring(ast.parse((ROOT / script).read_text(encoding="utf-8"))) or ""
    return " ".join(words.split("\n\n")[0].split())


def made(content: Mapping[str, Any]) -> str:
    """How a result was made."""
    told = content[MADE]
    machine = told["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, load {told['load'][0]} at the end"
    call = " ".join([f"python -m {told['script'].removesuffix('.py').replace('/', '.')}", *told["arguments"]])
    return f"Made {told['at'][:10]} at commit `{told['commit']}` by `{call}` (Python {told['versions']['python']}; {where})."


def figures(content: Any, before: str = "", depth: int = 2) -> Iterator[tuple[str, str]]:
    """Numbers and short texts at the top of a result, two levels down at most."""
    items = content.items() if isinstance(content, Mapping) else enumerate(content) if isinstance(content, list) else ()
    for name, value in items:
        if name == MADE:
            continue
        called = f"{before}{name}".replace("|", "&#124;")
        if isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= LONGEST):
            yield (
                called,
                (f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)).replace(
                    "|", "&#124;"
                ),
            )
        elif depth > 1 and isinstance(value, Mapping) and len(value) <= MOST:
            yield from figures(value, f"{called}, ", depth - 1)


def shown(value: bool | int | float | str) -> str:
    """A figure in a cell. What is not quite 1 is not shown as 1."""
    if isinstance(value, float):
        words = f"{value:,.4g}"
        return "0.9999" if words == "1" and value < 1 else words
    return f"{value:,}" if type(value) is int else str(value).replace("|", "&#124;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
