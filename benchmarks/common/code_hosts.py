"""Reports for code hosts, held against the SARIF Multitool: the schema of SARIF 2.1.0, its rules, and those of GitHub's code scanning."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

ADVICE = "SARIF2002"  # a note that it gives on every result whose message is in words


def sarif(program: Path, text: str) -> None:
    """Raises ValueError for what the SARIF Multitool calls an error or warns of."""
    with tempfile.TemporaryDirectory() as folder:
        file, told = Path(folder) / "report.sarif", Path(folder) / "told.sarif"
        file.write_text(text, encoding="utf-8")
        asked = [program, "validate", file, "--rule-kind", "Sarif;Ghas", "--level", "Error;Warning;Note", "--output", told]
        environment = {**os.environ, "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1"}
        done = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False)
        found = json.loads(told.read_text(encoding="utf-8-sig"))["runs"][0] if told.exists() else {}
        said = {one["ruleId"] for one in found.get("results", ()) if one.get("level") != "note"}
        read = any(one["ruleId"] == ADVICE for one in found.get("results", ()))  # what it cannot parse it passes over without a word
        if done.returncode or said or not read:
            raise ValueError(f"{done.returncode} {sorted(said)} {'' if read else 'not read'}")


def sarif_spoilt(text: str) -> str:
    """The report with a level that there is none of."""
    found: dict[str, Any] = json.loads(text)
    found["runs"][0]["results"][0]["level"] = "stolen"
    return json.dumps(found)
