"""Calls of the command line: in this process, and as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from modelkin_cli.main import cli

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, registry: str | None = "r.db", width: int = 80, **more: Any) -> Result:
    """One call in this process."""
    before = ["--registry", registry] if registry else []
    return CliRunner().invoke(cli, [*before, *arguments], env={"COLUMNS": str(width)}, **more)


def process(*arguments: str, cwd: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """One call as a process of its own."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, env=environment(), check=False, **more)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "modelkin_cli", "--registry", "r.db", *arguments]


def environment() -> dict[str, str]:
    paths = os.pathsep.join(str(ROOT / part) for part in ("indexer", "registry", "api", "cli", "data"))
    return {**os.environ, "PYTHONPATH": paths, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
