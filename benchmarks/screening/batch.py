"""A batch of 200 submissions of every kind, screened: outcomes against their truth, interruptions, and the cost beside a loop over `query`.

    python -m benchmarks.screening.batch LINEAGEBENCH WILDBENCH [--derived DIR] [--old COMMAND] [--kills 20] [--only-every N]

Submissions: the derivatives of a lineage universe (half of them declare what they were made from), cases of how answers go wrong in the
wild, generated fine-tunes, strangers, rings of copies, 5 hidden from the public key, 5 forged to look like another's parent, 10 with
hostile names, 20 unreadable. The registry is under a private key, as an evaluator's is. Right: the outcome is one that the truth allows.
Then the call is killed at random moments and resumed until it ends; its files have to be those of the undisturbed one. Beside it, in the
same run, a shell loop over `query` of an earlier build (--old, with a registry of its own making). Writes results/screening.json; exits 1
if a clear one is flagged, a hidden one is clear, fewer than 98 % are right, or an interrupted report differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.results import write_result
from benchmarks.screening.submissions import CLEAR, FLAGGED, Batch, Case, make

LEAST_RIGHT = 0.98  # share of outcomes
REPORT = ("report.json", "submissions.jsonl", "report.sarif", "junit.xml")
NEW = [sys.executable, "-m", "modelkin_cli"]


def cost(before: resource.struct_rusage, after: resource.struct_rusage) -> float:
    """Processor seconds of child processes."""
    return round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)


def timed(command: Sequence[str], **more: Any) -> tuple[subprocess.CompletedProcess[bytes], dict[str, float]]:
    """A call, with its wall and processor seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, check=False, **more)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, {"wall_seconds": round(time.monotonic() - began, 1), "cpu_seconds": cost(before, after)}


def own() -> dict[str, str]:
    """The environment of an installed command: without the paths on which this build may lie, which it would import instead of its own."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def register(command: Sequence[str], registry: Path, key: Path, models: Mapping[str, Path], env: Mapping[str, str] | None = None) -> None:
    """All models in one call, under the names of copies of their folders."""
    copies = registry.with_suffix(".models")
    copies.mkdir()
    for name, path in models.items():
        shutil.copytree(path, copies / name)
    call = [*command, "--registry", str(registry), "--key-file", str(key), "add", *(str(copies / name) for name in models), "--no-starter"]
    done = subprocess.run(call, capture_output=True, check=False, env=env)
    if done.returncode:
        raise SystemExit(done.stderr.decode()[-2000:])


def judged(cases: Sequence[Case], lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Outcomes against the truth."""
    rows = list(zip(cases, lines, strict=True))
    wrong = [
        {"submission": case.name, "kind": case.kind, "right": case.right, "outcome": line["outcome"], "reason": line["reason"]}
        for case, line in rows
        if line["outcome"] not in case.right
    ]
    kinds: dict[str, Counter[str]] = {}
    for case, line in rows:
        kinds.setdefault(case.kind, Counter())[line["outcome"]] += 1
    return {
        "submissions": len(rows),
        "right": len(rows) - len(wrong),
        "share_right": round(1 - len(wrong) / len(rows), 4),
        "with_one_right_outcome": sum(len(case.right) == 1 for case in cases),
        "clear_ones_flagged": sum(CLEAR in case.right and line["outcome"] == FLAGGED for case, line in rows),
        "hidden_ones_clear": sum(case.kind.startswith("hidden") and line["outcome"] == CLEAR for case, line in rows),
        "outcomes": {kind: dict(sorted(found.items())) for kind, found in sorted(kinds.items())},
        "wrong": wrong,
    }


def interrupted(call: Sequence[str], out: Path, kills: int, wall: float) -> dict[str, Any]:
    """The same call, killed after random times until it was so often, then left to end."""
    drawn, sent = random.Random(1), 0
    for _ in range(kills):
        with subprocess.Popen([*call, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                process.wait(drawn.uniform(0.3, max(1.2, wall / kills * 2)))
            except subprocess.TimeoutExpired:
                process.kill()
                sent += 1
    done = subprocess.run([*call, "--out", str(out)], capture_output=True, check=False)
    return {"killed": sent, "calls": kills + 1, "exit_code": done.returncode}


def loop(command: Sequence[str], registry: Path, key: Path, cases: Sequence[Case]) -> dict[str, float]:
    """A shell loop over `query`, as people write it. `answered`: calls that gave one, which all should but those of unreadable files."""
    lines = [
        shlex.join([*command, "--registry", str(registry), "--key-file", str(key), "query", str(case.source), "--json"]) for case in cases
    ]
    script = "\n".join(f"{line} > {number}.json 2>/dev/null || true" for number, line in enumerate(lines))
    with tempfile.TemporaryDirectory() as folder:
        spent = timed(["bash", "-c", script], cwd=folder, env=own())[1]
        answers = [json.loads(file.read_text() or "{}") for file in Path(folder).glob("*.json")]
    return {**spent, "answered": sum("relatives" in answer for answer in answers)}


def run(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    batch = make(work, arguments.lineagebench, arguments.wildbench, arguments.derived)
    batch = Batch(batch.registered, batch.cases[:: arguments.only_every])
    key, manifest, registry = work / "our.key", work / "batch.jsonl", work / "r.db"
    key.write_text(random.Random(7).randbytes(32).hex())
    manifest.write_text("".join(case.line() + "\n" for case in batch.cases))
    register(NEW, registry, key, batch.registered)
    call = [*NEW, "--registry", str(registry), "--key-file", str(key), "screen", str(manifest), "-q"]
    done, spent = timed([*call, "--out", str(work / "out")])
    print(done.stderr.decode()[-2000:], spent, flush=True)
    lines = [json.loads(line) for line in (work / "out" / "submissions.jsonl").read_text().splitlines()]
    report = json.loads((work / "out" / "report.json").read_text())
    found = {
        **judged(batch.cases, lines),
        "registered": len(batch.registered),
        "rings": [ring["members"] for ring in report["rings"]],
        "discovery": report["discovery"],
        "exit_code": done.returncode,
        "screen": spent | {"megabytes_of_the_largest_process": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024},
    }
    print(
        json.dumps({name: found[name] for name in ("share_right", "clear_ones_flagged", "hidden_ones_clear", "wrong")}, indent=1),
        flush=True,
    )
    if arguments.kills:
        again = interrupted(call, work / "again", arguments.kills, spent["wall_seconds"])
        same = all((work / "again" / name).read_bytes() == (work / "out" / name).read_bytes() for name in REPORT)
        found["interrupted"] = again | {"same_report": same}
        print(found["interrupted"], flush=True)
    if arguments.old:
        old = shlex.split(arguments.old)
        register(old, work / "old.db", key, batch.registered, own())
        found["loop_over_query"] = loop(old, work / "old.db", key, batch.cases)
        found["cpu_ratio"] = round(found["loop_over_query"]["cpu_seconds"] / spent["cpu_seconds"], 2)
        print(found["loop_over_query"], found["cpu_ratio"], flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lineagebench", type=Path)
    parser.add_argument("wildbench", type=Path)
    parser.add_argument("--derived", type=Path, help="where the universe's derivatives lie, if they are made")
    parser.add_argument("--old", help="the command of an earlier build")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--only-every", type=int, default=1, help="every Nth submission alone; nothing is written then")
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["MODELKIN_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        found = run(arguments, work)
    if arguments.only_every == 1:
        write_result("screening", found)
    bad = found["clear_ones_flagged"] or found["hidden_ones_clear"] or found["share_right"] < LEAST_RIGHT
    return int(bool(bad or not found.get("interrupted", {"same_report": True})["same_report"]))


if __name__ == "__main__":
    sys.exit(main())
