"""Side by side with two peers on the same pairs: found, accused and seconds a pair, each by its own rule, misses included.

    python -m benchmarks.truth.peers UNIVERSE_DIR DERIVED_DIR [--work DIR]

DERIVED_DIR is what the universe's make_derivatives.py writes. modelDNA 0.1.0 and the Cisco Model Provenance Kit 1.0.0 are installed with
pip, each in a virtual environment of its own in --work (1.1 GB). Every tool is given two folders and nothing else, in one process after its
imports: modelkin fingerprints both at level full and compares them. Folders without a tokenizer get their parent's, which the kit needs
(modelkin gets none).
A pair counts as related: modelkin by any relation of descent; modelDNA from probability 0.9; the Cisco kit from a score above
0.75 or metadata tier 1 or 2 (as it reports), and, beside that, by its score of the weights alone. Writes results/peers.json and peers.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common.results import write_page, write_result
from modelkin_indexer.errors import ModelkinError
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_registry.answers.relations import is_descent
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.relations.pairs import measure_kin

PEERS = {
    "modeldna": ["modeldna==0.1.0"],
    "cisco": ["--prefer-binary", "--ignore-requires-python", "cisco-ai-provenance-kit==1.0.0"],
}
COLUMNS = ("modelkin", "modelDNA", "Cisco, reported", "Cisco, weights only")
WANTED = ("derived", "partial")


def installed(name: str, work: Path) -> Path:
    """The Python of a virtual environment with this peer."""
    folder = work / name
    if not (folder / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "-q", *PEERS[name]], check=True)
    return folder / "bin" / "python"


def ours(a: Path, b: Path) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        query, relative = (fingerprint_source(open_source(one)) for one in (a, b))
        found = measure_kin(query, relative, b.name, ALONE).relative
        answer = {"says": found.relation, "score": found.shared, "related": is_descent(found)}
    except ModelkinError as error:
        answer = {"says": "error", "score": None, "related": False, "error": str(error)[:200]}
    return {**answer, "seconds": round(time.perf_counter() - began, 4)}


def theirs(name: str, work: Path, pairs: list[tuple[Path, Path]]) -> list[dict[str, Any]]:
    lines = "".join(json.dumps([str(a), str(b)]) + "\n" for a, b in pairs)
    driver = Path(__file__).with_name("peer_driver.py")
    with (work / f"{name}.log").open("w") as log:
        ran = subprocess.run([installed(name, work), driver, name], input=lines, stdout=subprocess.PIPE, stderr=log, text=True, check=True)
    return [json.loads(line) for line in ran.stdout.splitlines()]


def with_tokenizer(folder: Path, donor: Path, work: Path) -> Path:
    """The folder, or a folder of links to its files and the donor's tokenizer where it has none."""
    if (folder / "tokenizer.json").exists() or not (donor / "tokenizer.json").exists():
        return folder
    made = work / "folders" / folder.name
    if not made.exists():
        made.mkdir(parents=True)
        for file in folder.iterdir():
            (made / file.name).symlink_to(file.resolve())
        for name in ("tokenizer.json", "tokenizer_config.json"):
            if (donor / name).exists() and not (made / name).exists():
                shutil.copy(donor / name, made / name)
    return made


def cell(rows: list[dict[str, Any]], related: Callable[[dict[str, Any]], bool]) -> str:
    """`found/wanted`, and what was accused of the others."""
    wanted, others = ([r for r in rows if (r["expect"] in WANTED) is kind] for kind in (True, False))
    parts = [f"{sum(map(related, wanted))}/{len(wanted)}"] if wanted else []
    return ", ".join([*parts, *([f"{sum(map(related, others))} accused of {len(others)}"] if others else [])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("universe", type=Path)
    parser.add_argument("derived", type=Path)
    parser.add_argument("--work", type=Path)
    args = parser.parse_args()
    work = args.work or Path(tempfile.mkdtemp(prefix="peers-"))
    work.mkdir(exist_ok=True)

    def folder_of(name: str) -> Path | None:
        return next((base / name for base in (args.universe / "models", args.derived) if (base / name).is_dir()), None)

    truth = json.loads((args.universe / "truth.json").read_text())["pairs"]
    rows, pairs, plain = [], [], []
    donors = args.universe / "models"
    for pair in truth:
        parent, child = folder_of(pair["parent"]), folder_of(pair["child"])
        if parent and child:
            rows.append({key: pair[key] for key in ("parent", "child", "relation", "expect")})
            plain.append((child, parent))
            donor = donors / parent.name.split("-")[0]
            child_donor = donor if pair["expect"] in WANTED else donors / child.name.split("-")[0]
            pairs.append(
                (with_tokenizer(child, child_donor if child_donor.is_dir() else donors / "L1", work), with_tokenizer(parent, donor, work))
            )
    answers = {"modelkin": [ours(a, b) for a, b in plain]}
    answers |= {name: theirs(name, work, pairs) for name in PEERS}
    for at, row in enumerate(rows):
        row |= {name: found[at] for name, found in answers.items()}
    related: dict[str, Callable[[dict[str, Any]], bool]] = {
        "modelkin": lambda r: r["modelkin"]["related"],
        "modelDNA": lambda r: r["modeldna"]["related"],
        "Cisco, reported": lambda r: r["cisco"]["related"],
        "Cisco, weights only": lambda r: r["cisco"].get("weights_related", False),
    }
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        kinds[row["relation"]].append(row)
    seconds = {name: sorted(r["seconds"] for r in found) for name, found in answers.items()}
    summary = {
        column: {
            "found": sum(related[column](r) for r in rows if r["expect"] in WANTED),
            "wanted": sum(r["expect"] in WANTED for r in rows),
            "accused": sum(related[column](r) for r in rows if r["expect"] not in WANTED),
            "unrelated": sum(r["expect"] not in WANTED for r in rows),
            "errors": sum("error" in r[name] for r in rows),
            "median_seconds": round(seconds[name][len(rows) // 2], 3),
        }
        for column, name in zip(COLUMNS, ("modelkin", "modeldna", "cisco", "cisco"), strict=True)
    }
    missed = [
        [r["parent"], r["child"], r["relation"], r["modelkin"]["says"]]
        for r in rows
        if r["expect"] in WANTED and not r["modelkin"]["related"]
    ]
    write_result("peers", {"summary": summary, "missed_by_modelkin": missed, "pairs": rows})
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for key in ("found", "accused"):
        of = {"found": "wanted", "accused": "unrelated"}[key]
        lines.append(f"| **{key}** | " + " | ".join(f"{summary[c][key]} of {summary[c][of]}" for c in COLUMNS) + " |")
    for key in ("errors", "median_seconds"):
        lines.append(
            f"| {'could not be judged' if key == 'errors' else 'median seconds a pair'} | "
            + " | ".join(str(summary[c][key]) for c in COLUMNS)
            + " |"
        )
    lines += [f"| {kind} | " + " | ".join(cell(found, related[c]) for c in COLUMNS) + " |" for kind, found in sorted(kinds.items())]
    head = (__doc__ or "").split("\n\n")
    text = [f"# {head[0]}", head[2].rsplit(" Writes", 1)[0], "\n".join(lines), "Missed by modelkin:"]
    text.append("\n".join(f"- {parent} -> {child} ({relation}): {says}" for parent, child, relation, says in missed) or "none")
    write_page("peers", ".md", "\n\n".join(text) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
