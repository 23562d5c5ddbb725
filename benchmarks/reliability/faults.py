"""Forged fingerprints and exports, a damaged registry, a full disk: does anything crash, stay behind, or answer otherwise?

    python -m benchmarks.reliability.faults [--command modelkin]

Forged fingerprints are asked about and added, forged exports taken in. Each is refused with an error that names it, or it is of sound
form and does no harm: what is told of the models that were there before stays as it was, and when it is removed the registry's rows are
what they were. Damages of the registry's file (pages, bits, sectors) are each refused, found by `doctor`, or change no answer: names,
origins, claims, and the relatives of three queries. On a full disk nothing is there in part. Writes results/faults.json; exits 1 if
anything went wrong.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct, field

import modelkin
from benchmarks.common.results import write_result
from benchmarks.hostile.adversary import Tensors, learned, read
from benchmarks.reliability import archives, damages, forged
from modelkin_indexer.errors import ModelkinError
from modelkin_indexer.results.beside import Claim, StructurePart
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.spec import PUBLIC_KEY
from modelkin_registry.registry import Registry

WIDTH = 64
LINEAGES = 16  # models, each with a child
ALONE_EVERY = 10  # every tenth forgery is also given to the command by itself, to see what it ends with
REFUSED = (3, 4)  # exit codes of what cannot be read, and of registries
MOST_MB = 1000  # a description of 32 MB, parsed, and a line of 64 MB
FREE = (0, 40_000, 80_000, 150_000, 250_000, 400_000, 600_000, 900_000, 1_300_000)  # bytes free while four models of some 60 kB are added


class Tally(Struct):
    """What became of everything. `problems` must stay empty."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def note(self, what: str, problem: str = "") -> None:
        self.counts[what] += 1
        if problem:
            self.problems.append(f"{what}: {problem}")


class Bench:
    """A registry of small models that are related in pairs, what it answers undisturbed, and copies of it to be disturbed."""

    def __init__(self, folder: Path, command: Sequence[str]) -> None:
        self.folder, self.command, self.tally = folder, command, Tally()
        self.sound = folder / "sound.db"
        with Registry.open(self.sound) as registry:
            for number in range(LINEAGES):
                parent = learned(WIDTH, number)
                self._add(registry, f"model-{number}", parent, [Claim("license", "mit", "README.md")])
                self._add(registry, f"child-{number}", changed(parent, number), [Claim("base_model", f"model-{number}", "README.md")])
            registry.rename("model-1", "another name")
        self.data = damages.closed(self.sound)
        self.asked = [self.fingerprint(changed(learned(WIDTH, number), 100 + number)) for number in (0, 1)]
        self.asked.append(self.fingerprint(learned(WIDTH, 999)))
        self.rows, (self.told, self.answers) = rows(self.sound), self.answered(self.sound)

    def fingerprint(self, tensors: Tensors) -> Fingerprint:
        return read(self.folder / "model", tensors, PUBLIC_KEY, "full")

    def _add(self, registry: Registry, name: str, tensors: Tensors, claims: Sequence[Claim]) -> None:
        licence = StructurePart("licence", "LICENSE", "0" * 32, b"Permission is hereby granted, free of charge, to any person.")
        registry.add(name, self.fingerprint(tensors), origin=f"/models/{name}", claims=claims, structure=[licence])

    def copy(self, name: str, data: bytes | None = None) -> Path:
        """A copy in a folder of its own, with other bytes if given."""
        place = self.folder / "copies" / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        (place / "r.db").write_bytes(self.data if data is None else data)
        return place / "r.db"

    def answered(self, path: Path) -> tuple[dict[str, Any], list[Any]]:
        """What is told of the models that this bench put there, and which of them the queries find."""
        with Registry.open(path, create=False) as registry:
            ours = [line.model for line in registry.list() if not line.sender and line.source.startswith("/models/")]
            told = {name: registry.show(name) | {"weighed": registry.weighed_claims(name)} for name in ours}
            found = [registry.query(one, source="q", k=30) for one in self.asked]
        return told, [answer.to_dict()["relatives"] for answer in found]

    def disturbed(self, path: Path, added: Sequence[str] = ()) -> str:
        """How a registry differs from the undisturbed one, but for the models that were added and are removed again; "" if not at all."""
        told, answers = self.answered(path)
        if told != self.told:
            return "other things are told of the models that were there"
        mine = [[(one["model"], one["relation"]) for one in answer if one["model"] in told] for answer in answers]
        if mine != [[(one["model"], one["relation"]) for one in answer] for answer in self.answers]:
            return "other relatives among the models that were there"
        with Registry.open(path, create=False) as registry:
            for name in added:
                registry.remove(name)
        if rows(path) != self.rows:
            return "other rows than before"
        return "" if self.answered(path)[1] == self.answers else "other answers than before"

    def run(self, registry: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.command, "--registry", str(registry), *arguments], capture_output=True, text=True, check=False)


def changed(tensors: Tensors, seed: int) -> Tensors:
    """A light fine-tune."""
    random = np.random.default_rng(seed)
    return {
        name: values + (0.1 * values.std() * random.standard_normal(values.shape)).astype(np.float32) for name, values in tensors.items()
    }


def rows(path: Path) -> dict[str, list[Any]]:
    """All rows of the registry's tables, but for the log of changes and what counts them."""
    connection = sqlite3.connect(path)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    kept = [name for name in names if name not in ("change", "sqlite_sequence", "kind")]
    found = {name: sorted(map(repr, connection.execute(f"SELECT * FROM {name}"))) for name in kept}
    connection.close()
    return found


# Forged fingerprints


def forgeries(bench: Bench) -> Iterator[tuple[str, bytes, bool]]:
    """Each with whether its form is sound. What is forged twice to the same bytes counts once."""
    seen: set[bytes] = set()
    for width, level in ((WIDTH, "full"), (WIDTH, "probe")):
        sound = read(bench.folder / "forged", mixture(width), PUBLIC_KEY, level)
        for seed in (0, 10_000):
            made = [(name, data, False) for name, data in forged.forged(sound, of_level(forged.FORGED, level), seed)]
            made += [(name, data, False) for name, data in forged.damaged(sound, seed)]
            made += [(name, data, True) for name, data in forged.forged(sound, of_level(forged.PASSING, level), seed)]
            for name, data, is_sound in made:
                if data not in seen and data != sound.to_bytes():
                    seen.add(data)
                    yield f"{level} {name}", data, is_sound


def of_level(kinds: dict[str, forged.Forge], level: str) -> dict[str, forged.Forge]:
    """Those that can be made of a fingerprint of this level."""
    only_full = ("experts", "gram", "anchored", "digest", "numbers", "blocks", "place", "columns", "level")
    return kinds if level == "full" else {name: forge for name, forge in kinds.items() if not name.startswith(only_full)}


def mixture(width: int) -> Tensors:
    """A mixture of experts, so that no table of its fingerprint is empty."""
    tensors, random = learned(width, 500), np.random.default_rng(500)
    tensors = {name: values for name, values in tensors.items() if ".mlp." not in name}
    for layer in range(2):
        at = f"model.layers.{layer}.block_sparse_moe"
        shapes = {f"{at}.gate": (4, width)} | {f"{at}.experts.{n}.{w}": (width, width) for n in range(4) for w in ("w1", "w2", "w3")}
        tensors |= {f"{name}.weight": random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return tensors


def try_fingerprints(bench: Bench, most: int | None) -> None:
    registry, made = bench.copy("forged"), list(forgeries(bench))[:most]
    for number, (name, data, is_sound) in enumerate(made):
        path = bench.folder / "forgeries" / f"{number}.modelkin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        problem = one_fingerprint(bench, registry, path, is_sound=is_sound, alone=number % ALONE_EVERY == 0)
        bench.tally.note("forged fingerprints", problem and f"{name}: {problem}")
        path.unlink()
    if problem := bench.disturbed(registry):
        bench.tally.note("registry after all forgeries", problem)


def one_fingerprint(bench: Bench, registry: Path, path: Path, *, is_sound: bool, alone: bool) -> str:
    """Ask about it and add it. What went wrong, or ""."""
    asked = told_of(path, lambda: json.dumps(modelkin.query(path, registry=registry).to_dict(), allow_nan=False))
    with modelkin.open(registry) as opened:
        (added,) = opened.add(path).results
    taken = added.status == "added"
    bench.tally.note(f"fingerprints of {'sound' if is_sound else 'unsound'} form, {'taken in' if taken else 'refused'}")
    if asked.startswith("!") or (taken and not is_sound):
        problem = asked or "taken in"
    elif not taken and (not added.reason or path.name not in f"{added.source} {added.reason}"):
        problem = f"not named: {added}"
    elif taken:
        problem = bench.disturbed(registry, [added.model])
    else:
        problem = ""
    if alone and not problem:
        done = bench.run(registry, "query", str(path), "--json")
        bench.tally.note("commands run alone")
        if "Traceback" in done.stderr or done.returncode not in ((0,) if not asked else REFUSED):
            problem = f"the command ends with {done.returncode}: {done.stderr[-300:]}"
    return problem


def told_of(path: Path, ask: Any) -> str:
    """ "" where a call ends well, the error where it is refused by name, and what begins with `!` where not."""
    try:
        ask()
    except ModelkinError as error:
        return str(error) if path.name in f"{error} {getattr(error, 'path', '')}" else f"! not named: {error}"
    except Exception as error:
        return f"! {type(error).__name__}: {error}"
    return ""


def try_archives(bench: Bench, most: int | None) -> None:
    with Registry.open(bench.folder / "there.db") as there:
        for number in range(3):
            there.add(f"there-{number}", bench.fingerprint(learned(WIDTH, 700 + number)), claims=[Claim("license", "mit", "README.md")])
        there.export(bench.folder / "export")
    registry, sound = bench.copy("imports"), (bench.folder / "export").read_bytes()
    for number, (name, data) in enumerate(list(archives.forged(sound, 0))[:most]):
        path = bench.folder / f"{number}.export"
        path.write_bytes(data)
        with modelkin.open(registry) as opened:
            said = told_of(path, lambda path=path, opened=opened: opened.import_(path))
        bench.tally.note(f"forged exports, {'refused' if said else 'taken in'}")
        bench.tally.note("forged exports", f"{name}: {said or 'taken in'}" if not said or said.startswith("!") else "")
        if rows(registry) != bench.rows:
            bench.tally.note("registry after a forged export", name)
            registry = bench.copy("imports")
        if number % ALONE_EVERY == 0:
            done = bench.run(registry, "import", str(path), "--json")
            bench.tally.note("commands run alone")
            if "Traceback" in done.stderr or done.returncode not in REFUSED:
                bench.tally.note("command", f"{name}: import ends with {done.returncode}: {done.stderr[-300:]}")
        path.unlink()
    if problem := bench.disturbed(registry):
        bench.tally.note("registry after all forged exports", problem)


# Damages


def try_damages(bench: Bench, most: int | None) -> None:
    for name, data in list(damages.damages(bench.data, 0))[:most]:
        path = bench.copy("damaged", data)
        outcome = damaged_outcome(bench, path)
        bench.tally.note(f"damages, {outcome.split(':')[0]}")
        bench.tally.note("damages", f"{name}: {outcome}" if outcome.startswith(("silently", "crash")) else "")
        path.unlink()


def damaged_outcome(bench: Bench, path: Path) -> str:
    try:
        told, answers = bench.answered(path)
    except ModelkinError as error:
        return "refused" if str(path) in str(error) else f"crash: not named: {error}"
    except Exception as error:
        return f"crash: {type(error).__name__}: {error}"
    try:
        with Registry.open(path, create=False) as registry:
            broken = [finding for finding in registry.examine() if finding.state == "broken"]
    except ModelkinError as error:
        broken = [error]
    except Exception as error:
        return f"crash: doctor: {type(error).__name__}: {error}"
    if (told, answers) != (bench.told, bench.answers):
        return "other answers, found by doctor" if broken else "silently wrong"
    return "found by doctor, answers unchanged" if broken else "answers unchanged"


# A full disk


def try_full_disk(bench: Bench) -> None:
    new = []
    for number in range(4):
        place = bench.folder / "new" / f"new-{number}"
        read(place, learned(WIDTH, 800 + number), PUBLIC_KEY, "full")
        new.append(str(place))
    with Registry.open(bench.folder / "elsewhere.db") as there:
        for number in range(4):
            there.add(f"sent-{number}", bench.fingerprint(learned(WIDTH, 900 + number)))
        there.export(bench.folder / "sent")
    verbs = {"add": ["add", *new, "--json"], "import": ["import", str(bench.folder / "sent"), "--json"], "export": ["export"]}
    for verb, arguments in verbs.items():
        for free in FREE:
            for way, limited in (("file limit", damages.with_little_room), ("full disk", damages.on_full_disk)):
                registry = bench.copy("full")
                out = [str(registry.parent / "disk" / "out" if way == "full disk" else registry.parent / "out")] if verb == "export" else []
                done = limited(registry, lambda path, more=(*arguments, *out): [*bench.command, "--registry", str(path), *more], free)
                if done is None:
                    bench.tally.note(f"{way}: not tried")
                    continue
                bench.tally.note(f"{way}, {verb}: {'ends with an error' if done.returncode else 'done'}")
                problem = full_problem(bench, registry, done, verb)
                bench.tally.note("full disk", problem and f"{way}, {verb}, {free}: {problem}")


def full_problem(bench: Bench, registry: Path, done: subprocess.CompletedProcess[str], verb: str) -> str:
    """What is wrong after a call on a full disk: an acknowledged model is lost, one is there in part, a traceback, or no word of it."""
    if "Traceback" in done.stderr or done.returncode not in (0, *REFUSED):
        return f"ends with {done.returncode}: {done.stderr[-300:]}"
    with Registry.open(registry, create=False) as opened:
        broken = [finding.detail for finding in opened.examine() if finding.state == "broken"]
        names = {line.model for line in opened.list()}
    if broken:
        return f"broken: {broken[0]}"
    if bench.answered(registry)[0] != bench.told:
        return "other things are told of the models that were there"
    if verb == "add":
        acknowledged = {line["model"] for line in map(json.loads, done.stdout.splitlines()) if line.get("status") == "added"}
        if acknowledged != names - bench.told.keys():
            return f"acknowledged {sorted(acknowledged)}, there {sorted(names - bench.told.keys())}"
    if verb == "export" and done.returncode and (registry.parent / "out").exists():
        return "a part of an export was left"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", default="modelkin", help="the command under test")
    parser.add_argument("--most", type=int, help="try only so many of each")
    parser.add_argument("--only", choices=("fingerprints", "archives", "damages", "disk"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), shlex.split(args.command))
        tries = {
            "fingerprints": lambda: try_fingerprints(bench, args.most),
            "archives": lambda: try_archives(bench, args.most),
            "damages": lambda: try_damages(bench, args.most),
            "disk": lambda: try_full_disk(bench),
        }
        for name, trial in tries.items():
            if args.only in (None, name):
                trial()
                print(name, dict(bench.tally.counts), *bench.tally.problems, sep="\n", file=sys.stderr)
    memory = {
        "this process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "commands": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10,
    }
    for who, most in memory.items():
        if most > MOST_MB:
            bench.tally.note("memory", f"{who}: {most} MB")
    found = {"counts": dict(sorted(bench.tally.counts.items())), "peak_mb": memory, "registry_bytes": len(bench.data)}
    write_result("faults", found | {"problems": bench.tally.problems}, out=args.out)
    return int(bool(bench.tally.problems))


if __name__ == "__main__":
    sys.exit(main())
