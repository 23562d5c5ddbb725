"""Score the installed command on a universe of models with known lineage, at both levels.

    python -m benchmarks.truth.lineage BENCH_DIR [--universe dev] [--name dev] [--modelkin modelkin] [--work DIR]

BENCH_DIR holds `score.py`, `make_derivatives.py` (needs torch and gguf) and the universe, which may also be a folder elsewhere (such as
fresh_universe.py makes). Writes results/lineage-NAME.json with the scorer's table, its summary and every pair that was missed, accused or
named otherwise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common.results import write_result
from modelkin_indexer.spec import LEVELS


def score(bench: Path, universe: str, level: str, command: str, work: Path) -> dict[str, object]:
    """Run the scorer once; its table as text, its summary and what went otherwise than the truth says."""
    out = work / f"{level}.json"
    call = [sys.executable, str(bench / "score.py"), str(bench / universe), "--level", level, "--modelkin", command, "--json", str(out)]
    # one registry a level, the derivatives made once for both
    (work / level).mkdir(parents=True)
    (work / "derived").mkdir(exist_ok=True)
    if any((work / "derived").iterdir()):
        (work / level / "derived").symlink_to(work / "derived")
    ran = subprocess.run([*call, "--work", str(work / level)], capture_output=True, text=True)
    print(ran.stdout, ran.stderr, sep="")
    if ran.returncode:
        raise SystemExit(ran.returncode)
    if not (work / level / "derived").is_symlink():
        (work / "derived").rmdir()
        (work / level / "derived").rename(work / "derived")
    found = json.loads(out.read_text())
    pairs = found["pairs"]
    wanted = [p for p in pairs if p["expect"] in ("derived", "partial")]
    return {
        "level": level,
        "table": ran.stdout.splitlines(),
        "summary": found["summary"],
        "missed": [[p["parent"], p["child"], p["truth"], p["said"]] for p in wanted if not p["found"]],
        "accused": [[p["parent"], p["child"], p["truth"], p["said"]] for p in pairs if p["accused"]],
        "named_otherwise": [[p["parent"], p["child"], p["truth"], p["said"], p["also"]] for p in pairs if p.get("named") is False],
        "families_otherwise": [
            [p["parent"], p["child"], p["families_said"], p["families_true"]] for p in pairs if p.get("families") is False
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bench", type=Path)
    parser.add_argument("--universe", default="dev", help="in BENCH_DIR, or a folder")
    parser.add_argument("--name", help="of the results file (default: the universe's)")
    parser.add_argument("--modelkin", default="modelkin")
    parser.add_argument("--work", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        results = [score(args.bench, args.universe, level, args.modelkin, work) for level in reversed(LEVELS)]
    write_result(f"lineage-{args.name or args.universe}", results)


if __name__ == "__main__":
    main()
