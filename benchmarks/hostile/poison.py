"""Somebody sends an archive to change what a registry says: imports that claim to be what is here, and models planted around a query.

    python -m benchmarks.hostile.poison BENCH_DIR [--universe dev] [--derived DIR] [--parts FOLDER --minutes 5]

Imports: fifty archives, each with names, dates, Hub origins, former names, claims and weights of its author's choice. After each, all that
is told of the models that were here is as before (names, dates, origins, claims, files), questions find the same of them in the same order,
no claim means another model, and no import is drawn as anybody's parent.

Dilution: of each child of a lineage universe, a hundred fingerprints a little like it are planted beside its relatives: each by itself, or
so that they are a little like each other too, as unrelated models of one kind are. No relative may be lost that is found without them.
Writes results/poison.json; exits 1 if anything was moved, or a relative lost.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from benchmarks.common.in_parts import UNFINISHED, InParts, Unfinished
from benchmarks.common.results import write_result
from benchmarks.hostile.adversary import learned
from benchmarks.hostile.attacks import Tensors, read
from benchmarks.reliability.archives import MODELS, consistent, packed
from benchmarks.reliability.archives import read as entries_of
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.beside import Claim, SourceFile
from modelkin_indexer.results.channels import CHANNELS
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.spec import PUBLIC_KEY
from modelkin_registry.answers.relations import is_descent
from modelkin_registry.registry import Registry

WIDTH = 64
ARCHIVES, PLANTED = 50, 100
FILES = (SourceFile("model.safetensors", 5, "sha256:1"),)
OLD, AHEAD, TODAY = (f"{year}-01-01T00:00:00.000000+00:00" for year in (1999, 2099, 2026))
LOCAL = ("org/m", "base", "child")
COSINES = (0.1, 0.19, 0.3)  # of planted models with the query; below what counts as evidence by itself
SHARED = 0.15  # cosine between planted models that are made alike

# Imports


def trained(tensors: Tensors, seed: int, size: float) -> Tensors:
    random = np.random.default_rng(seed)
    noise = {name: size * values.std() * random.standard_normal(values.shape) for name, values in tensors.items()}
    return {name: values + noise[name].astype(np.float32) for name, values in tensors.items()}


def weights(folder: Path) -> dict[str, Fingerprint]:
    base, hub = learned(WIDTH, 1), learned(WIDTH, 2)
    made = {"base": base, "child": trained(base, 5, 0.1), "org/m": hub, "newer": trained(hub, 6, 0.1), "copy": trained(base, 7, 0.05)}
    made["stranger"] = learned(WIDTH, 3)
    return {name: read(folder / "model", tensors, PUBLIC_KEY, "full") for name, tensors in made.items()}


def begun(path: Path, found: dict[str, Fingerprint]) -> None:
    with Registry.open(path) as registry:
        registry.add("org/m", found["org/m"], origin="org/m@1", who="hub", files=FILES, claims=[Claim("license", "mit", "README.md")])
        registry.add("base", found["base"], origin="/models/base")
        registry.add("child", found["child"], origin="/models/child", claims=[Claim("base_model", "base", "README.md")])


def told(path: Path, found: dict[str, Fingerprint]) -> dict[str, Any]:
    """All that is said of what was here, and what questions find of it."""
    asked = [Claim("base_model", name, "README.md") for name in (*LOCAL, "somebody/base")]
    with Registry.open(path, create=False) as registry:
        numbers = [registry.store.get(name).revision for name in LOCAL]
        answers = {name: registry.query(one, source="q", k=50, claims=asked) for name, one in found.items()}
        edges = [edge for edge in registry.tree().edges if edge.parent in LOCAL and edge.child in LOCAL]
        return {
            "shown": {name: registry.show(name) | {"weighed": registry.weighed_claims(name)} for name in LOCAL},
            "listed": [line for line in registry.list() if not line.sender],
            "meant": registry.store.claims.aliases()[0],
            "names": registry.store.names_of(numbers),
            "of files": registry.store.models_of_files(FILES),
            "relatives": {q: [(one.model, one.relation) for one in a.relatives if one.model in LOCAL] for q, a in answers.items()},
            "claims": {q: [(claim.value, claim.model) for claim in a.claims] for q, a in answers.items()},
            "edges": [(edge.parent, edge.child, edge.relation, edge.direction) for edge in edges],
        }


def archive(folder: Path, found: dict[str, Fingerprint], random: Random) -> Path:
    """What an author sends: one or two of these weights, and of everything else what he likes."""
    there = folder / "there.db"
    for left in folder.glob("there.db*"):
        left.unlink()
    names = random.sample([*LOCAL, "org/m@12345678", "other", "base#1", "somebody/base"], 2)
    with Registry.open(there) as registry:
        for name, one in zip(names[: random.randint(1, 2)], random.sample(sorted(found), 2), strict=False):
            registry.add(name, found[one], origin="/elsewhere", files=FILES, claims=[Claim("license", "none", "README.md")])
        (folder / "sent").unlink(missing_ok=True)
        registry.export(folder / "sent")
    entries = entries_of((folder / "sent").read_bytes())
    lines = [json.loads(line) for line in entries[MODELS].splitlines()]
    for line in lines:
        _lie(line, random)
    entries[MODELS] = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    consistent(entries)
    (folder / "sent").write_bytes(packed(entries))
    return folder / "sent"


def _lie(model: dict[str, Any], random: Random) -> None:
    _dated(model, random.choice((OLD, AHEAD, TODAY)))
    model["former_names"] = random.sample([*LOCAL, "their/base", "somebody/base", "BASE"], random.randrange(4))
    for revision in model["revisions"]:
        for source in revision["sources"]:
            source["who"] = random.choice(("hub", "local", "", "tester"))
            source["origin"] = random.choice(("org/m@1", "org/m@2", "/models/base", ""))
    kinds = random.sample(("base_model", "license", "hub_status"), random.randrange(4))
    said = [{"kind": kind, "value": random.choice((*LOCAL, "gone")), "source": "README.md"} for kind in kinds]
    model["claims"] = [{**one, "first_seen": OLD, "last_seen": random.choice((OLD, AHEAD))} for one in said]


def _dated(value: Any, at: str) -> None:
    if isinstance(value, list):
        for item in value:
            _dated(item, at)
    elif isinstance(value, dict):
        value.update({name: at for name in ("added", "first_seen", "last_seen") if name in value})
        for item in value.values():
            _dated(item, at)


def imports(folder: Path) -> dict[str, Any]:
    """One registry for each archive, and one that takes in all of them."""
    found, moved, parents, taken = weights(folder), [], [], Counter[str]()
    begun(folder / "here.db", found)
    before = told(folder / "here.db", found)
    shutil.copy(folder / "here.db", folder / "all.db")
    for number in range(ARCHIVES):
        sent = archive(folder, found, Random(number))
        for path in (shutil.copy(folder / "here.db", folder / "one.db"), folder / "all.db"):
            with Registry.open(path) as registry:
                taken.update(one.status for one in registry.take_in(sent, sender=f"sender {number % 7}")[0])
                apart = {line.model for line in registry.list() if line.sender}
                parents += [edge.parent for edge in registry.tree().edges if edge.parent in apart and edge.direction != "unknown"]
            after = told(Path(path), found)
            moved += [f"archive {number}: {what}" for what in before if after[what] != before[what]]
    return {"archives": ARCHIVES, "taken_in": dict(taken), "moved": moved, "imports_drawn_as_parents": parents}


# Dilution


def planted(query: Fingerprint, seed: int, number: int, *, alike: bool) -> Fingerprint:
    """A fingerprint as that of a model a little like the query; `alike`: and a little like the others of the same seed."""
    random, cosine = np.random.default_rng((seed, number)), COSINES[number % len(COSINES)]
    common = np.random.default_rng(seed) if alike else None

    def mixed(sketches: npt.NDArray[Any]) -> npt.NDArray[Any]:
        wide = sketches.astype(np.float64)
        parts = [(cosine, wide), (np.sqrt(SHARED) if alike else 0.0, _units(common, wide) if common else wide)]
        rest = np.sqrt(1 - sum(share**2 for share, _ in parts))
        found = sum(share * part for share, part in parts) + rest * _units(random, wide)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return np.where(np.abs(wide).sum(axis=1, keepdims=True) > 0, found / np.maximum(lengths, 1e-12), 0.0).astype(sketches.dtype)

    table = query.matrices
    new = {channel: mixed(getattr(table, channel)) for channel in CHANNELS if getattr(table, channel).shape[1]}
    new |= {name: _drawn(random, getattr(table, name)) for name in ("digest", "numbers", "blocks")}
    vectors = replace(query.vectors, sketch=mixed(query.vectors.sketch), digest=_drawn(random, query.vectors.digest))
    experts = replace(query.experts, sketch=np.zeros_like(query.experts.sketch), numbers=_drawn(random, query.experts.numbers))
    return replace(query, matrices=replace(table, **new), vectors=vectors, experts=experts)


def _units(random: np.random.Generator, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
    drawn = random.standard_normal(like.shape)
    return drawn / np.maximum(np.linalg.norm(drawn, axis=1, keepdims=True), 1e-12)


def _drawn(random: np.random.Generator, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Digests of nothing else: over the whole range of their type, so that none is a sum of others by chance."""
    return random.integers(0, np.iinfo(like.dtype).max, like.shape, dtype=like.dtype, endpoint=True)


def of_folder(folder: Path) -> Fingerprint:
    files = list(folder.glob("*.gguf"))
    source = open_source(files[0] if files and not list(folder.glob("*.safetensors")) else folder)
    try:
        return fingerprint_source(source, key=PUBLIC_KEY, level="full", threads=1)
    finally:
        source.close()


def dilution(universe: Path, derived: Path | None, folder: Path, parts: InParts, *, partial: bool) -> dict[str, Any]:
    pairs = [one for one in json.loads((universe / "truth.json").read_text())["pairs"] if one["expect"] in ("derived", "partial")]
    places = [universe / "models", *([derived] if derived else [])]
    names = {one[side] for one in pairs for side in ("parent", "child")}
    where = {name: at for name in names if (at := next((place / name for place in places if (place / name).is_dir()), None))}
    there = [one for one in pairs if {one["parent"], one["child"]} <= where.keys()]
    if not (folder / "parents.db").exists():  # of a run before this one
        with Registry.open(folder / "parents.db") as registry:
            for name in sorted({one["parent"] for one in there}):
                registry.add(name, of_folder(where[name]))
    children = sorted({one["child"] for one in there})
    numbers = {child: number for number, child in enumerate(children)}

    def measure(child: str) -> dict[str, Any]:
        wanted = {one["parent"] for one in there if one["child"] == child}
        found = diluted(folder, of_folder(where[child]), wanted, numbers[child])
        print(child, found, flush=True)
        return found

    try:
        rows = parts.each(children, measure)
    except Unfinished as left:
        if not partial:
            raise
        print(left)
        rows = parts.done(children)
    return {
        "planted": PLANTED,
        "cosines": COSINES,
        "pairs_without_files": len(pairs) - len(there),
        "children": len(children),
        "children_not_done": [child for child in children if child not in rows],
        "found_without": sum(len(row["found"]) for row in rows.values()),
        "lost": {child: row["lost"] for child, row in rows.items() if any(row["lost"].values())},
        "planted_called_relatives": sum(sum(row["planted_called_relatives"].values()) for row in rows.values()),
        "rows": rows,
    }


def diluted(folder: Path, query: Fingerprint, wanted: set[str], seed: int) -> dict[str, Any]:
    """What is found of the wanted ones without planted models, and what is lost with them: each by itself, and alike."""
    before, _ = relatives(folder / "parents.db", query, wanted)
    lost, called = {}, {}
    for form, alike in (("apart", False), ("alike", True)):
        path = Path(shutil.copy(folder / "parents.db", folder / "diluted.db"))
        with Registry.open(path) as registry, registry.store.batch():
            for number in range(PLANTED):
                registry.add(f"planted-{number}", planted(query, seed, number, alike=alike))
        after, called[form] = relatives(path, query, wanted)
        lost[form] = sorted(before - after)
        for left in folder.glob("diluted.db*"):
            left.unlink()
    return {"found": sorted(before), "lost": lost, "planted_called_relatives": called}


def relatives(path: Path, query: Fingerprint, wanted: set[str]) -> tuple[set[str], int]:
    """The wanted ones that are told as related by descent, and how many planted ones are."""
    with Registry.open(path, create=False) as registry:
        related = [one.model for one in registry.query(query, k=20).relatives if is_descent(one)]
    return wanted & set(related), sum(name.startswith("planted-") for name in related)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("--universe", default="dev")
    parser.add_argument("--derived", type=Path, help="what BENCH_DIR/make_derivatives.py made")
    parser.add_argument("--parts", type=Path, help="keep what is done in this folder, for a run that goes on behind it")
    parser.add_argument("--minutes", type=float, help="end after so long; what is left a later run does")
    parser.add_argument("--partial", action="store_true", help="write what is done, and which children are not")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        folder = args.parts or Path(work)
        folder.mkdir(parents=True, exist_ok=True)
        parts = InParts(folder / "parts", args.minutes)
        try:
            result = parts.each(["imports"], lambda _: imports(folder))
            print(result, flush=True)
            result["dilution"] = dilution(args.bench / args.universe, args.derived, folder, parts, partial=args.partial)
        except Unfinished as left:
            print(left)
            return UNFINISHED
        write_result("poison", {**result, "measured_on": parts.commits()}, out=args.out)
    return int(bool(result["imports"]["moved"] or result["imports"]["imports_drawn_as_parents"] or result["dilution"]["lost"]))


if __name__ == "__main__":
    sys.exit(main())
