"""Changed bundles of evidence: whether each is refused, and by name.

    python -m benchmarks.reports.changes [--each 50]

Bundles of pairs of several relations, under the public and a private key, are changed at random: one byte; one digit; one value of the
answer, or of what it is judged by, with all digests made anew, as a forger would; and cut or lengthened. A change is refused by name where
an error tells the file with its line or section, or the answer of `verify` tells the section or field. Digests of what cannot be made
again from fingerprints (`made`: dates, versions, digests of files) protect against accidents alone, so a forger's change of these is
counted apart, with `--weights` read again. Unchanged bundles have to be reproduced, by a process of its own too, and never refused.
Writes results/changes.json.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import modelkin
from benchmarks.common.results import write_result
from benchmarks.reports.cases import models
from modelkin.bundles import bundle
from modelkin.errors import ModelkinError

PAIRS = (("child", "parent"), ("stranger", "parent"), ("graft", "other"))
FORGED = ("answer", "judge", "fingerprints", "question")  # sections that are made again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--each", type=int, default=50, help="changes of each kind, over all bundles")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_result("changes", measured(Path(folder), given.each), out=given.out)


def measured(folder: Path, each: int) -> dict[str, Any]:
    """What became of every change."""
    found, draw = models(folder / "models"), random.Random(7)
    key = folder / "own.key"
    modelkin.key("new", key)
    made: list[tuple[Path, list[Path]]] = []
    for number, (a, b) in enumerate(PAIRS):
        file = folder / f"{number}.json"
        modelkin.evidence(found[a], found[b], file, controls=[found["deep"]], key_file=key if number == 2 else None)
        made.append((file, [found[a], found[b]]))
    counts: Counter[str] = Counter()
    missed: list[str] = []
    for kind in ("byte", "digit", "length", "forged"):
        for number in range(each):
            file, _ = made[number % len(made)]
            changed, told = CHANGES[kind](file.read_bytes(), draw)
            outcome = judged(folder / "changed.json", changed)
            counts[f"{kind}: {outcome}"] += 1
            missed += [f"{kind} {told}"] if outcome == "taken" else []
    forged_files = sum(weights_tell(file, weights, folder) for file, weights in made[:2])
    reproduced = [modelkin.verify(file).verdict for file, _ in made]
    alone = [elsewhere(file) for file, _ in made]
    return {
        "changes": sum(counts.values()),
        "refused_by_name": sum(count for name, count in counts.items() if "refused" in name),
        "taken": sum(count for name, count in counts.items() if name.endswith("taken")),
        "bundles": len(made),
        "unchanged_reproduced": reproduced.count("reproduced"),
        "unchanged_reproduced_in_a_process_of_its_own": alone.count(True),
        "forged_file_digests_told_with_weights": forged_files,
        "bytes_of_a_bundle": [file.stat().st_size for file, _ in made],
        "by_kind": dict(sorted(counts.items())),
        "missed": missed,
    }


def byte(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    """One byte."""
    at = draw.randrange(len(data))
    return data[:at] + bytes([draw.choice([b for b in range(256) if b != data[at]])]) + data[at + 1 :], f"at {at}"


def digit(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    """One digit of a number outside the fingerprints."""
    text = re.sub(rb'"data": "[^"]*"', lambda found: b" " * len(found[0]), data)
    at = draw.choice([found.start() for found in re.finditer(rb"\d", text)])
    return data[:at] + bytes([draw.choice([d for d in b"0123456789" if d != data[at]])]) + data[at + 1 :], f"at {at}"


def length(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Cut, lengthened, or another space."""
    at = draw.randrange(len(data))
    changed = draw.choice([data[:at], data + b"\n", data + data[:1], data[:at] + b" " + data[at:]])
    return changed, f"to {len(changed)}"


def forged(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    """One value, with digests made anew. A number is changed by more than 1 in 1,000, a text gets a letter."""
    found = json.loads(data)
    leaves = [leaf for leaf in walked(found, ()) if leaf[0] in FORGED and leaf[-1] not in ("data", "contract")]
    way = draw.choice(leaves)
    inside = found
    for step in way[:-1]:
        inside = inside[step]
    inside[way[-1]] = other(inside[way[-1]])
    return bundle.to_bytes({name: found[name] for name in bundle.SECTIONS}), "/".join(map(str, way))


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if value is None or isinstance(value, bool):
        return 0.5 if value is None else not value
    if isinstance(value, (int, float)):
        return value + 1 if isinstance(value, int) else value * 1.01 + 0.01
    return value + "x"


def walked(value: Any, way: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The way to every value that holds no others."""
    if isinstance(value, (dict, list)):
        for name, inside in value.items() if isinstance(value, dict) else enumerate(value):
            yield from walked(inside, (*way, name))
    else:
        yield way


CHANGES = {"byte": byte, "digit": digit, "length": length, "forged": forged}


def judged(file: Path, data: bytes) -> str:
    """Refused with a name, refused without, or taken."""
    file.write_bytes(data)
    try:
        done = modelkin.verify(file)
    except ModelkinError as error:
        return "refused as damaged" if str(error).startswith(str(file)) and len(str(error)) > len(str(file)) + 20 else "not named"
    if done.verdict == "reproduced":
        return "taken"
    return "refused by field" if all(one.where for one in done.differences) else "not named"


def weights_tell(file: Path, weights: list[Path], folder: Path) -> bool:
    """Whether a forged digest of an input's files is told once the weights are read again."""
    found = json.loads(file.read_bytes())
    found["made"]["inputs"][0]["sha256"] = "0" * 64
    changed = folder / "changed.json"
    changed.write_bytes(bundle.to_bytes({name: found[name] for name in bundle.SECTIONS}))
    return modelkin.verify(changed, weights=weights).verdict == "differs"


def elsewhere(file: Path) -> bool:
    """Whether a process that knows nothing of this one, in an empty folder and without a registry, reproduces it."""
    with tempfile.TemporaryDirectory() as empty:
        command = [sys.executable, "-m", "modelkin_cli", "--registry", f"{empty}/none.db", "verify", str(file), "--quiet"]
        done = subprocess.run(command, cwd=empty, capture_output=True, text=True, check=False)
        return done.returncode == 0 and done.stdout.strip() == "reproduced" and not list(Path(empty).iterdir())


if __name__ == "__main__":
    main()
