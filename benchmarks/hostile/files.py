"""Gives every hostile file to the installed command and checks that each is refused by name, in bounded memory, and that nothing is
stored; and that the odd files which publishers write are read.

    python -m benchmarks.hostile.files [--command modelkin] [--newest]

Writes benchmarks/results/hostile_files.json; exits 1 if anything went wrong. `--newest`: only the containers that were added last
(Orbax, TensorFlow, LiteRT-LM, ExecuTorch, spaCy), into hostile_newest.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.common.results import write_result
from benchmarks.hostile.cases import SEED, Case, bomb_mark, compose, make_cases, sound_model
from benchmarks.hostile.containers import NEWEST, write_cases
from benchmarks.hostile.expected import NOTED, REFUSED
from modelkin_indexer.errors import SourceError
from modelkin_indexer.opening import open_source

BATCH = 50  # sources given to one command
SINGLE_EVERY = 100  # every hundredth case is also given alone, to see the exit code it causes
UNREADABLE = 3  # the command's exit code for input that cannot be read
MOST_MB = 400  # what the command may need, with a header of 60 MB and half a million entries in it; a sound model of 50 KB takes 240
TIMEOUT = 900  # seconds for one command; a hang is a failure


def opening_problems(cases: list[Case]) -> list[str]:
    """What is wrong with how `open_source` takes the cases: those to be refused must raise a SourceError naming it."""
    problems = []
    for case in cases:
        try:
            open_source(case.path).close()
        except SourceError as error:
            if case.outcome != REFUSED:
                problems.append(f"{case.path.name}: refused at opening: {error}")
            elif str(case.path) not in str(error):
                problems.append(f"{case.path.name}: not named in: {error}")
        except Exception as error:
            problems.append(f"{case.path.name}: {type(error).__name__} is not a SourceError: {error}")
        else:
            if case.outcome == REFUSED:
                problems.append(f"{case.path.name}: opened as if sound")
    return problems


class Command:
    """The installed command with its registry."""

    def __init__(self, command: str, registry: Path) -> None:
        self._command, self._registry = command, registry

    def add(self, paths: list[Path]) -> tuple[int, dict[str, dict[str, Any]]]:
        """Exit code, and the printed line of each source."""
        run = self._run("add", *map(str, paths))
        lines = {}
        for text in run.stdout.splitlines():
            with suppress(ValueError):  # a line that is not JSON leaves its source without an answer, which is counted
                line = json.loads(text)
                lines[line.get("source", "")] = line  # an error of the whole call is of no source
        return run.returncode, lines

    def stored(self) -> list[str]:
        """Names of the models in the registry."""
        return sorted(model["model"] for model in json.loads(self._run("list").stdout)["models"])

    def _run(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [self._command, verb, *arguments, "--registry", str(self._registry), "--json"]
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)


def command_problems(command: Command, cases: list[Case]) -> list[str]:
    """What is wrong with one `add` of these cases."""
    code, lines = command.add([case.path for case in cases])
    problems = [] if code == UNREADABLE else [f"{cases[0].path.name} and {len(cases) - 1} more: exit code {code}"]
    for case in cases:
        line = lines.get(str(case.path))
        if line is None:
            problems.append(f"{case.path.name}: no line was printed")
        elif line["status"] != "failed":
            problems.append(f"{case.path.name}: status {line['status']}")
        elif case.path.name not in (line["reason"] or ""):
            problems.append(f"{case.path.name}: not named in the reason {line['reason']!r}")
    return problems


def odd_problems(command: Command, cases: list[Case]) -> list[str]:
    """What is wrong with one `add` of files that have to be read: numbers that are none must lower the coverage."""
    code, lines = command.add([case.path for case in cases])
    problems = [] if code == 0 else [f"{cases[0].path.name} and {len(cases) - 1} more: exit code {code}"]
    for case in cases:
        line = lines.get(str(case.path), {"status": "no line"})
        if line["status"] != "added":
            problems.append(f"{case.path.name}: {line['status']}: {line.get('reason')}")
        elif "not-finite" in case.path.name and line["coverage"] == 1:
            problems.append(f"{case.path.name}: coverage 1")
    return problems


def peak_mb() -> float:
    """The largest memory any command took so far. A child's count starts from this process's own peak, so that has to stay small."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def made(folder: Path, newest: bool) -> list[Case]:
    """All cases, or those of the newest containers."""
    if not newest:
        return make_cases(folder)
    return [Case(kind, path, outcome) for kind, path, outcome in write_cases(folder, bomb_mark(folder), SEED, NEWEST)]


def run(command_name: str, folder: Path, newest: bool = False) -> dict[str, Any]:
    """Make the cases, give them to the command, and say how it went."""
    started, command = time.perf_counter(), Command(command_name, folder / "registry")
    sound = folder / "sound.safetensors"
    sound.write_bytes(compose(*sound_model()))
    code, lines = command.add([sound])
    problems = [] if code == 0 and lines[str(sound)]["status"] == "added" else [f"the sound model was not added: {lines}"]
    before, baseline = command.stored(), peak_mb()
    (folder / "cases").mkdir()
    cases = made(folder / "cases", newest)
    problems += opening_problems([case for case in cases if not case.large])
    odd = [case for case in cases if case.outcome == NOTED]
    bad = [case for case in cases if case.outcome != NOTED]
    aside = Command(command_name, folder / "odd")
    for start in range(0, len(odd), BATCH):
        problems += odd_problems(aside, odd[start : start + BATCH])
    for start in range(0, len(bad), BATCH):
        problems += command_problems(command, bad[start : start + BATCH])
    singles = bad[::SINGLE_EVERY]
    for case in singles:
        problems += command_problems(command, [case])
    peak, after = peak_mb(), command.stored()
    if after != before:
        problems.append(f"the registry changed: {before} before, {after} after")
    if peak > MOST_MB:
        problems.append(f"took {peak:.0f} MB, {peak - baseline:.0f} more than for a sound model")
    if bomb_mark(folder / "cases").exists():
        problems.append("a pickle was run")
    return {
        "seed": SEED,
        "cases": len(bad),
        "stored": sorted(set(after) - set(before)),
        "odd_but_read": len(odd),
        "kinds": dict(Counter(case.kind for case in cases)),
        "run_singly": len(singles),
        "problems": problems,
        "memory_mb": {"sound model": round(baseline), "all hostile files": round(peak)},
        "seconds": round(time.perf_counter() - started, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--command", default="modelkin", help="the installed command")
    parser.add_argument("--newest", action="store_true", help="only the containers that were added last")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run(args.command, Path(folder), args.newest)
    write_result("hostile_newest" if args.newest else "hostile_files", result, out=args.out)
    print(json.dumps(result, indent=1))
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
