"""The files of a screening: the whole answer, a line a submission, and what code hosts and CI systems read."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from modelkin.screening.junit import junit
from modelkin.screening.kept import write_whole
from modelkin.screening.sarif import sarif
from modelkin_registry.screening.results import Screening

REPORT, LINES, SARIF, JUNIT = "report.json", "submissions.jsonl", "report.sarif", "junit.xml"


def write_answer(answer: Screening, out: Path) -> None:
    """Write all of them, each whole or not at all. Nothing of a clock or of this machine is in them but the paths of submissions."""
    lines = "".join(json.dumps(one.to_dict(), allow_nan=False) + "\n" for one in answer.results)
    write_whole(out / LINES, lines.encode())
    write_whole(out / SARIF, _json(sarif(answer, str(Path.cwd()), _version())))
    write_whole(out / JUNIT, junit(answer))
    write_whole(out / REPORT, _json(answer.to_dict()))


def _json(plain: dict[str, Any]) -> bytes:
    return json.dumps(plain, indent=1, allow_nan=False).encode() + b"\n"


def _version() -> str:
    try:
        return version("modelkin")
    except PackageNotFoundError:
        return "0.0.0"
