"""What is found of models whose tensors bear random names, without a config: by descent, by name, and of strangers nothing.

    python -m benchmarks.counterparts.random_names BENCH_DIR [--universe dev] [--derived DIR] [--work DIR] [--level full] [--only A,B]

BENCH_DIR as in benchmarks.truth.lineage. Each child of the universe's truth is asked for twice in a registry of the parents: under its own
names, and with every tensor under twelve random letters. And every model is asked for under random names in a registry of all of them and
of three strangers of each one's very shapes: whether the search without names finds it, and what it is called against itself. Writes
results/random_names.json: counts, and the answers that differ.
"""

from __future__ import annotations

import argparse
import json
import random
import string
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from benchmarks.common.results import write_result
from modelkin_indexer.errors import ModelkinError
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_indexer.results.channels import CHANNELS
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.source import Source
from modelkin_indexer.spec import LEVELS
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.relations import is_descent
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.registry import Registry
from modelkin_registry.relations.pairs import hold
from modelkin_registry.search.candidates import find_candidates

LETTERS = 12  # of a random name
SHOWN = 100  # relatives asked for: all of a universe
STRANGERS, SEED = 3, 14  # strangers of each model's shapes, and what they are drawn by


class Renamed:
    """A source under other names, in their order, without its config."""

    def __init__(self, source: Source, seed: str) -> None:
        rng = random.Random(seed)
        self._source = source
        self._names = {"".join(rng.choices(string.ascii_lowercase, k=LETTERS)): name for name in source.tensors}
        self.path, self.name, self.files, self.notes = source.path, source.name, source.files, source.notes
        self.quantization, self.unread = source.quantization, source.unread
        self.config: Mapping[str, Any] = {}
        self.metadata: Mapping[str, str] = {}
        self.tensors: Mapping[str, TensorInfo] = {new: replace(source.tensors[old], name=new) for new, old in sorted(self._names.items())}

    @property
    def bytes_read(self) -> int:
        return self._source.bytes_read

    def read(self, tensor: str, start: int, stop: int, out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
        return self._source.read(self._names[tensor], start, stop, out)

    def close(self) -> None:
        self._source.close()


def printed(path: Path, level: str, *, renamed: bool, work: Path) -> Fingerprint:
    """A model's fingerprint under its own names or random ones; made once."""
    known = work / f"{path.parent.name if path.is_file() else path.name}-{level}{'-random' if renamed else ''}.modelkin"
    if known.exists():
        return fingerprints.load(known)
    source = open_source(path)
    try:
        made = fingerprint_source(Renamed(source, path.name) if renamed else source, level=level)
    finally:
        source.close()
    made.save(known)
    return made


def folder_of(name: str, universe: Path, derived: Path) -> Path | None:
    """Where a model of the truth lies."""
    for path in (universe / "models" / name, derived / name):
        if path.exists():
            gguf = list(path.glob("*.gguf"))
            return gguf[0] if gguf and not list(path.glob("*.safetensors")) else path
    return None


def told(relative: Relative | None) -> dict[str, Any]:
    """What an answer says of one relative, as far as the two are held against each other."""
    if relative is None:
        return {"relation": "unrelated", "descent": False, "also": [], "families": [], "shared": 0.0}
    families = {f.family for c in relative.components for f in c.families if f.inherited and f.informative}
    also = sorted(relative.also)
    return {
        "relation": relative.relation,
        "descent": is_descent(relative),
        "also": also,
        "families": sorted(families),
        "shared": relative.shared,
    }


def asked(registry: Registry, fingerprint: Fingerprint) -> tuple[dict[str, Relative], dict[str, float], list[str]]:
    """Relatives by name, parents of a merge with their weights, and the names in the answer's order."""
    answer = registry.query(fingerprint, k=SHOWN, show_all=True)
    merge = {parent.model: parent.weight for parent in (answer.merge.parents if answer.merge else ())}
    return {one.model: one for one in answer.relatives}, merge, [one.model for one in answer.relatives if is_descent(one)]


def scored(pairs: list[dict[str, Any]], models: Mapping[str, Path], level: str, work: Path) -> dict[str, Any]:
    """Every pair of the truth under own names and under random ones."""
    parents = sorted({p["parent"] for p in pairs})
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, Registry.open(Path(folder) / "own.db") as own:
        for name in parents:
            own.add(name, printed(models[name], level, renamed=False, work=work))
        for child in sorted({p["child"] for p in pairs}):
            mine = [p for p in pairs if p["child"] == child]
            try:
                before, after = (asked(own, printed(models[child], level, renamed=renamed, work=work)) for renamed in (False, True))
            except ModelkinError as error:
                rows.append({"child": child, "error": str(error)})
                continue
            for pair in mine:
                was, now = (told(found[0].get(pair["parent"])) for found in (before, after))
                rows.append(
                    {"parent": pair["parent"], "child": child, "truth": pair["relation"], "expect": pair["expect"], "was": was, "now": now}
                )
            rows.append(
                {"child": child, "merge was": before[1], "merge now": after[1], "first was": before[2][:3], "first now": after[2][:3]}
            )
    return {"summary": summary(rows), "differs": [row for row in rows if differs(row)], "alone": found_alone(models, level, work)}


def stranger(model: Fingerprint, random: np.random.Generator) -> Fingerprint:
    """A model of the same names and shapes that has nothing else in common with it."""
    table, vectors, experts = model.matrices, model.vectors, model.experts
    matrices = replace(
        table,
        **{channel: _units(random, getattr(table, channel)) for channel in CHANNELS},
        digest=random.integers(0, 256, table.digest.shape, np.uint8),
        numbers=random.integers(1, 1 << 63, table.numbers.shape, np.uint64),
    )
    others = replace(vectors, sketch=_units(random, vectors.sketch), digest=random.integers(0, 256, vectors.digest.shape, np.uint8))
    single = replace(experts, numbers=random.integers(1, 1 << 63, experts.numbers.shape, np.uint64))
    return replace(model, matrices=matrices, vectors=others, experts=single)


def _units(random: np.random.Generator, like: npt.NDArray[Any]) -> npt.NDArray[np.float16]:
    values = random.standard_normal(like.shape)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True) if values.size else values, np.float16)


def found_alone(models: Mapping[str, Path], level: str, work: Path) -> dict[str, Any]:
    """Every model under random names among all models and their strangers: candidates by votes, and what it is called against itself."""
    random_numbers = np.random.default_rng(SEED)
    named: dict[str, int] = Counter()
    missed, strangers = [], 0
    with tempfile.TemporaryDirectory() as folder, Registry.open(Path(folder) / "all.db") as registry:
        with registry.store.batch():
            for name in sorted(models):
                known = printed(models[name], level, renamed=False, work=work)
                registry.add(name, known)
                for number in range(STRANGERS):
                    registry.add(f"stranger-{number}-of-{name}", stranger(known, random_numbers))
        for name in sorted(models):
            asked_for = printed(models[name], level, renamed=True, work=work)
            voted = registry.store.names_of(find_candidates(registry.index, asked_for, nearest=0)).values()
            strangers += sum(other.startswith("stranger-") for other in voted)
            missed += [name] if name not in voted else []
            named[hold(asked_for, registry.get(name), name, ALONE).kin().relative.relation] += 1
    counts = {"models": len(models), "found": len(models) - len(missed), "strangers with a vote": strangers}
    return counts | {"missed": missed, "called": dict(sorted(named.items()))}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over all pairs."""
    pairs = [row for row in rows if "was" in row]
    kin = [row for row in pairs if row["was"]["descent"]]
    models = [row for row in rows if "first was" in row]
    return {
        "pairs": len(pairs),
        "by descent under own names": len(kin),
        "by descent under random names": sum(row["now"]["descent"] for row in kin),
        "named as before": sum(row["now"]["relation"] == row["was"]["relation"] for row in kin),
        "all names as before": sum(
            {row["now"]["relation"], *row["now"]["also"]} == {row["was"]["relation"], *row["was"]["also"]} for row in kin
        ),
        "families as before": sum(row["now"]["families"] == row["was"]["families"] for row in kin),
        "newly accused": sum(row["now"]["descent"] and not row["was"]["descent"] for row in pairs),
        "children": len(models),
        "first as before": sum(row["first now"][:1] == row["first was"][:1] for row in models),
        "merge parents as before": sum(set(row["merge now"]) == set(row["merge was"]) for row in models),
    }


def differs(row: dict[str, Any]) -> bool:
    """Whether an answer says another thing under random names; of strangers that nothing is found, in whatever words, is the same."""
    if "was" in row:
        return (row["was"]["descent"] or row["now"]["descent"]) and row["was"] != row["now"]
    return "error" in row or row["first was"][:1] != row["first now"][:1] or set(row["merge was"]) != set(row["merge now"])


def made(bench: Path, universe: Path, work: Path) -> Path:
    """The derivatives of a universe."""
    derived = work / "derived"
    if not derived.exists():
        call = [
            sys.executable,
            str(bench / "make_derivatives.py"),
            "--universe",
            universe.name,
            "--root",
            str(universe.parent),
            "--out",
            str(derived),
        ]
        subprocess.run(call, check=True)
    return derived


def chosen(truth: dict[str, Any], universe: Path, derived: Path, only: set[str]) -> Iterator[tuple[dict[str, Any], dict[str, Path]]]:
    """Pairs whose models are there, parents stored in the universe; adapters alone have no weights of their own."""
    for pair in truth["pairs"]:
        paths = {name: folder_of(name, universe, derived) for name in (pair["parent"], pair["child"])}
        stored = (universe / "models" / pair["parent"]).exists()
        wanted = not only or pair["child"] in only
        if wanted and stored and all(paths.values()) and not any(name.endswith("-lora") or "-traj" in name for name in paths):
            yield pair, {name: path for name, path in paths.items() if path is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bench", type=Path)
    parser.add_argument("--universe", default="dev")
    parser.add_argument("--derived", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--level", choices=LEVELS, action="append")
    parser.add_argument("--only", default="", help="children, with commas between")
    parser.add_argument("--no-file", action="store_true", help="print what differs, and write nothing")
    args = parser.parse_args()
    universe = args.bench / args.universe
    with tempfile.TemporaryDirectory() as folder:
        work = args.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        derived = args.derived or made(args.bench, universe, work)
        truth = json.loads((universe / "truth.json").read_text())
        found = list(chosen(truth, universe, derived, set(filter(None, args.only.split(",")))))
        models = {name: path for _, paths in found for name, path in paths.items()}
        results = {level: scored([pair for pair, _ in found], models, level, work) for level in args.level or LEVELS}
    for level, result in results.items():
        for row in result["differs"]:
            print(level, json.dumps(row))
        print(json.dumps({"level": level, "summary": result["summary"], "alone": result["alone"]}, indent=1))
    if not args.no_file:
        write_result("random_names", results)


if __name__ == "__main__":
    main()
