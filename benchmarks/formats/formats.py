"""One model in every container, layout and quantisation: read, covered, found and named right.

    python -m benchmarks.formats.formats BENCH_DIR/dev DERIVED --scored SCORED [--out FILE]

BENCH_DIR/dev is a universe of models with known descent, DERIVED what its `make_derivatives.py` wrote, SCORED the JSON that its `score.py`
wrote of a registry of the parents (level full). Each derivative that stores its parent's weights otherwise is read once more for its
coverage, beside its parent in safetensors as the limit. Writes results/formats.json and formats.md; exits 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.common.results import result_path, write_page, write_result
from modelkin_indexer.errors import SourceError
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import About

STORED_OTHERWISE = ("identical", "cast", "quantised", "lora-merged", "lora-adapter")
COVERAGE, NAMED = 0.99, 0.95  # least coverage of each, least share named right
LEAST = 20  # derivatives there must be
DECLARED = "declared"


def row(pair: dict[str, Any], folders: tuple[Path, Path]) -> dict[str, Any]:
    """One derivative: what the registry said of it, and how much of it has a place."""
    said = {key: pair.get(key) for key in ("child", "parent", "truth", "said", "found", "named")}
    if pair["expect"] == DECLARED:  # an adapter holds no weight of its base: what it declares is told, and nothing is found
        said |= dict.fromkeys(("found", "named"), pair["said"] == DECLARED)
    parent = about(pair["parent"], folders)
    try:
        child = about(pair["child"], folders)
    except SourceError as error:
        return said | {"read": False, "stored": str(error), "coverage": 0.0, "coverage_of_parent": parent.coverage}
    stored = child.quantization or " ".join(child.dtypes)
    return said | {"read": True, "stored": stored, "coverage": child.coverage, "coverage_of_parent": parent.coverage}


def about(name: str, folders: tuple[Path, Path]) -> About:
    """A model of the universe or a derivative, read at level probe."""
    folder = next(folder / name for folder in folders if (folder / name).exists())
    return fingerprint_source(open_source(folder), level="probe").about


def report(pairs: list[dict[str, Any]], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The results file."""
    count = max(1, len(rows))
    children = {row["child"] for row in rows}
    summary = {
        "derivatives": len(rows),
        "read": sum(row["read"] for row in rows),
        "least coverage": min((row["coverage"] for row in rows), default=0.0),
        "found": sum(row["found"] for row in rows) / count,
        "named right": sum(row["named"] is True for row in rows) / count,
        "strangers held against them": sum(p["child"] in children and not p["found"] and p["expect"] == "unrelated" for p in pairs),
        "accused": sum(p["accused"] for p in pairs if p["child"] in children),
    }
    return {"summary": summary, "derivatives": rows}


def table(result: dict[str, Any]) -> str:
    """The results as a page."""
    lines = ["# Formats", "", *(f"- {key}: {value:g}" for key, value in result["summary"].items()), ""]
    lines += ["| derivative | of | stored | truth | said | coverage |", "| --- | --- | --- | --- | --- | --- |"]
    words = ("child", "parent", "stored", "truth", "said")
    lines += [f"| {' | '.join(r[word] for word in words)} | {r['coverage']:.4f} |" for r in result["derivatives"]]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, write both files, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("universe", type=Path)
    parser.add_argument("derived", type=Path)
    parser.add_argument("--scored", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=result_path("formats"))
    options = parser.parse_args()
    pairs = json.loads(options.scored.read_text())["pairs"]
    folders = (options.derived, options.universe / "models")
    wanted = [pair for pair in pairs if pair["truth"] in STORED_OTHERWISE and pair["expect"] != "unrelated"]
    result = report(pairs, [row(pair, folders) for pair in wanted])
    write_result("formats", result, out=options.out)
    write_page("formats", ".md", table(result), out=options.out)
    summary = result["summary"]
    print(json.dumps(summary, indent=1))
    good = summary["least coverage"] >= COVERAGE and summary["found"] == 1 and summary["named right"] >= NAMED and not summary["accused"]
    return int(not good or len(wanted) < LEAST)


if __name__ == "__main__":
    sys.exit(main())
