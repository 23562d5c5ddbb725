"""Asks the installed command about models whose truth is known, in the ways in which answers are wrong in the wild.

    python -m benchmarks.truth.wild BENCH_DIR [--split dev] [--modelkin modelkin] [--work DIR] [--answers FILE]

BENCH_DIR holds the cases and their runner (`run.py`, needs torch): common seeds, fixed tables, shared inputs, a part that stands for the
whole, adapters, names and layouts, odd models against themselves, unread weights, valid files, the registry, siblings. Writes
results/wild-SPLIT.json: what became of the questions by kind, and each that was not answered rightly. --answers takes what the runner has
written (`--json`) in place of a run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from benchmarks.common.results import write_result

RIGHT = "right"


def asked(bench: Path, split: str, command: str, work: Path) -> Path:
    """Run all questions. The runner's exit code says whether all were right, which its rows say too."""
    out = work / "answers.json"
    call = [
        sys.executable,
        str(bench / "run.py"),
        "--modelkin",
        command,
        "--split",
        split,
        "--work",
        str(work / "models"),
        "--json",
        str(out),
    ]
    subprocess.run(call, check=False)
    return out


def told(answers: dict[str, Any]) -> dict[str, Any]:
    """The outcomes by kind, and what was not right."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for row in answers["rows"]:
        kinds[row["kind"]][row["outcome"]] += 1
    return {
        "questions": len(answers["rows"]),
        "right": sum(found[RIGHT] for found in kinds.values()),
        "seconds": answers["seconds"],
        "by_kind": {kind: dict(found) for kind, found in sorted(kinds.items())},
        "not_right": [
            {key: row[key] for key in ("kind", "case", "asked", "outcome", "said")} for row in answers["rows"] if row["outcome"] != RIGHT
        ],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bench", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--modelkin", default="modelkin")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--answers", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        answers = args.answers or asked(args.bench, args.split, args.modelkin, args.work or Path(work))
        result = told(json.loads(answers.read_text(encoding="utf-8")))
    write_result(f"wild-{args.split}", result, packages=["torch"])
    print(json.dumps({key: result[key] for key in ("questions", "right", "by_kind")}, indent=1))
    return 0 if result["right"] == result["questions"] else 1


if __name__ == "__main__":
    sys.exit(main())
