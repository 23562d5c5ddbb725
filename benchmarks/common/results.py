"""The one way to write a result: results/NAME.json, with how it was made (script, commit, versions, machine, load) beside the findings."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
MADE = "made"  # the key of what says how a result was made


def write_result(name: str, found: Mapping[str, Any] | Sequence[Any], *, out: Path | None = None, packages: Iterable[str] = ()) -> Path:
    """Write results/NAME.json, or `out` instead, and return where. What is no mapping stands under `rows`.

    `packages` are further ones whose versions matter: a peer, a library held against.
    """
    target = out or result_path(name)
    told = found if isinstance(found, Mapping) else {"rows": list(found)}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({MADE: made(packages), **told}, indent=1) + "\n", encoding="utf-8")
    return target


def write_page(name: str, suffix: str, text: str, *, out: Path | None = None) -> Path:
    """Write a page or picture of a result: results/NAME.md, or beside `out`."""
    target = (out or result_path(name)).with_suffix(suffix)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target


def result_path(name: str) -> Path:
    """Where the result of this name lies."""
    return RESULTS / f"{name}.json"


def read_result(name: str) -> Any:
    """A result as it was given to `write_result`."""
    found = json.loads(result_path(name).read_text(encoding="utf-8"))
    if isinstance(found, dict) and found.pop(MADE, None) is not None and set(found) == {"rows"}:
        return found["rows"]
    return found


def made(packages: Iterable[str] = ()) -> dict[str, Any]:
    """How a result comes to be, now."""
    return {
        "script": _script(),
        "arguments": [Path(argument).name if os.sep in argument else argument for argument in sys.argv[1:]],
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": versions(packages),
        "machine": machine(),
        "load": [round(number, 1) for number in os.getloadavg()],
    }


def _script() -> str:
    """The script that runs, by its place in the tree."""
    main = Path(sys.argv[0]).resolve()
    return str(main.relative_to(ROOT)) if main.is_relative_to(ROOT) else main.name


def commit() -> str | None:
    """The commit of the tree, with `+` after it where files differ from it; None outside a repository."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def resolved(commit: str) -> str:
    """A name of a commit as its number. Raises CalledProcessError."""
    return _git("rev-parse", "--short", commit)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Of Python, of what the project depends on, and of further packages that are installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [requirement.split(">")[0].split("=")[0].split("[")[0].strip() for requirement in project["dependencies"]]
    found = {"python": platform.python_version(), "modelkin": project["version"]}
    for name in sorted({*names, *packages}):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """What it ran on: no name and no path of it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"processor": _processor(), "cores": os.cpu_count(), "memory_gb": round(memory / 1e9), "system": platform.system()}


def _processor() -> str:
    """The model of the processor, by Linux' own word for it where there is one."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
