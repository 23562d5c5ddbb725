"""A batch of 200 submissions whose truth is known, and the models to register: lineage universe, wild cases, generated models.

The truth of each is a set of outcomes that are right. Where two are, that is said: what a policy leaves to a person may be either.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct, field

from benchmarks.hostile import adversary
from benchmarks.hostile.attacks import Tensors, framing, hidden, pieces_of, written
from benchmarks.screening.unreadable import FILE, write_all
from modelkin_indexer.spec import PUBLIC_KEY

SIZE = 200  # submissions; strangers fill what the kinds leave
WIDTHS = (128, 256)
LAYERS = 4
# Of the lineage universe, what is registered: all stored parents, and strangers of their kinds. All else is submitted.
PARENTS = (
    "G", "G-ftA", "G-ftB", "L1", "L1-ftA", "L1-ftB", "L1-heavy", "L1-traj1", "L1-traj2", "L1-traj3", "L1b", "L2", "N", "Q", "S", "V", "X",
)  # fmt: skip
REGISTERED = (*PARENTS, "B", "M", "P", "W")
KINDRED = ("derived", "partial")  # what the universe's truth expects of a pair by descent
CLEAR, FLAGGED, OPEN, UNREADABLE = "clear", "flagged", "inconclusive", "unreadable"
# Changes of coordinates and noise as large as the weights: not every one of them can be seen, and none may pass as clear.
# An untrained start is neither a parent nor a stranger of what was trained from it: the universe counts neither.
UNTRAINED = ("step0", "step0-L2")
HARD = ("rotated", "permuted", "rescaled", "noised")
HOSTILE_NAMES = (
    "\x1b[31mred", "two\nlines", "<img src=x onerror=alert(1)>", "\u202egnp.txt", "..\\..\\etc", "=cmd|' /C calc'!A0", "$(touch ran)",
    "'; DROP TABLE model; --", "\ufeffbom", "\U0001f600" * 40,
)  # fmt: skip


class Case(Struct, frozen=True):
    """One submission. `kind` is where it comes from; `right` the outcomes that are right."""

    name: str
    source: Path
    kind: str
    right: tuple[str, ...]
    base: tuple[str, ...] = ()
    from_scratch: tuple[str, ...] = ()

    def line(self) -> str:
        """Its line of the list."""
        said = {"name": self.name, "source": str(self.source), "base": list(self.base), "from_scratch": list(self.from_scratch)}
        return json.dumps({key: value for key, value in said.items() if value})


class Batch(Struct):
    """What is registered, by name, and what is submitted."""

    registered: dict[str, Path] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)


def make(work: Path, lineagebench: Path, wildbench: Path, derived: Path | None) -> Batch:
    """All of it, written under `work`."""
    batch = Batch()
    _lineage(batch, work, lineagebench, derived)
    _wild(batch, work / "wild", wildbench)
    _generated(batch, work / "made")
    return batch


# the lineage universe


def _lineage(batch: Batch, work: Path, lineagebench: Path, derived: Path | None) -> None:
    universe = lineagebench / "dev"
    if derived is None:
        derived = work / "derived"
        subprocess.run([sys.executable, lineagebench / "make_derivatives.py", "--universe", universe, "--out", derived], check=True)
    for name in REGISTERED:
        batch.registered[name] = universe / "models" / name
    pairs: dict[str, list[dict[str, Any]]] = {}
    for pair in json.loads((universe / "truth.json").read_text())["pairs"]:
        pairs.setdefault(pair["child"], []).append(pair)
    for number, (child, known) in enumerate(sorted(pairs.items())):
        source = next((root / child for root in (universe / "models", derived) if (root / child).exists()), None)
        if source is not None and child not in REGISTERED and not child.endswith(UNTRAINED):
            batch.cases.append(_child(child, source, known, declares=number % 2 == 0))


def _child(name: str, source: Path, known: Sequence[Mapping[str, Any]], *, declares: bool) -> Case:
    kin = [pair for pair in known if pair["expect"] in KINDRED]
    inside = [path for path in source.iterdir() if path.suffix == ".gguf"]
    source = inside[0] if inside and not list(source.glob("*.safetensors")) else source
    parents = tuple(dict.fromkeys(pair["parent"] for pair in kin))
    if not kin:  # of traps some hold nothing that can be compared
        return Case(f"lineage {name}", source, "lineage, no descent", (CLEAR, OPEN) if name.startswith("trap-") else (CLEAR,))
    relations = {pair["relation"] for pair in kin}
    if "lora-adapter" in relations:  # it holds nothing of its base
        return Case(f"lineage {name}", source, "lineage, adapter alone", (OPEN,), parents)
    if declares and not set(parents) & set(REGISTERED):
        return Case(f"lineage {name}", source, "lineage, a base declared that is not registered", (OPEN,), parents)
    if declares:
        return Case(f"lineage {name}", source, "lineage, declared", (CLEAR, OPEN) if relations & {*HARD, "merged"} else (CLEAR,), parents)
    return Case(f"lineage {name}", source, "lineage, undeclared", (FLAGGED, OPEN) if relations & {*HARD} else (FLAGGED,))


# cases of the wild


def _wild(batch: Batch, folder: Path, wildbench: Path) -> None:
    sys.path.insert(0, str(wildbench))
    cases = importlib.import_module("wildbench_dev").CASES
    modules = {path.stem[1:3]: importlib.import_module(f"cases.{path.stem}") for path in sorted((wildbench / "cases").glob("k*.py"))}
    hosts = modules["02"].host
    for number, case in enumerate(cases):
        options = dict(case)
        kind, name, builder = options.pop("kind"), options.pop("id"), options.pop("make")
        if (kind, builder) in (("01", "pair"), ("02", "shared"), ("06", "renumbered"), ("06", "swapped")):
            at = folder / f"{kind}-{name}"
            modules["02"].host = partial(_host, hosts, number)  # else all cases would have the same two hosts
            getattr(modules[kind], builder)(at, **options)
            batch.registered[f"wild-{kind}-{name}"] = at / "a"
            batch.cases += _wild_cases(kind, name, at)


def _host(hosts: Callable[..., Any], number: int, kind: str, seed: int, width: int) -> Any:
    return hosts(kind, seed + 10 * number, width)


def _wild_cases(kind: str, name: str, at: Path) -> Iterator[Case]:
    if kind == "06":
        yield Case(f"wild {kind}-{name}", at / "b", "wild, copy under other names", (FLAGGED,))
        return
    words = "wild, one seed" if kind == "01" else "wild, shared tables"
    yield Case(f"wild {kind}-{name}", at / "b", words, (CLEAR,))
    if (at / "child").exists():
        yield Case(f"wild {kind}-{name} child", at / "child", "wild, child of it", (FLAGGED,))


# generated


def learned(width: int, seed: int) -> Tensors:
    """A small decoder of unequal rows, with learned gains: the seed alone makes it another one."""
    return adversary.learned(width, seed, LAYERS)


def _generated(batch: Batch, folder: Path) -> None:
    originals = [learned(WIDTHS[n % len(WIDTHS)], 1000 + n) for n in range(10)]
    for number, tensors in enumerate(originals):
        batch.registered[f"original-{number}"] = written(folder / f"original-{number}", tensors)
    for number in range(30):
        batch.registered[f"public-{number}"] = written(folder / f"public-{number}", learned(WIDTHS[number % len(WIDTHS)], 2000 + number))
    batch.cases += _tuned(folder, originals)
    batch.cases += _adversaries(folder, originals)
    batch.cases += _rings(folder)
    sound = (folder / "original-0" / FILE).read_bytes()
    bad = write_all(folder / "bad", sound)
    batch.cases += [Case(f"unreadable, {kind}", path, "unreadable", (UNREADABLE,)) for kind, path in bad.items()]
    for number, name in enumerate(HOSTILE_NAMES):
        source = written(folder / f"named-{number}", learned(WIDTHS[number % len(WIDTHS)], 3000 + number))
        batch.cases.append(Case(name, source, "hostile name", (CLEAR,), from_scratch=("*",)))
    for number in range(SIZE - len(batch.cases)):
        source = written(folder / f"stranger-{number}", learned(WIDTHS[number % len(WIDTHS)], 4000 + number))
        batch.cases.append(Case(f"stranger {number}", source, "stranger", (CLEAR,), from_scratch=("*",) if number % 2 else ()))


def tuned(tensors: Tensors, seed: int, strength: float = 0.15) -> Tensors:
    """A change of its own relative size in each tensor, as further training makes."""
    random = np.random.default_rng(seed)
    return {
        name: (values + strength * random.uniform(0.3, 1.0) * values.std() * random.standard_normal(values.shape)).astype(np.float32)
        for name, values in sorted(tensors.items())
    }


def _tuned(folder: Path, originals: Sequence[Tensors]) -> Iterator[Case]:
    for number, tensors in enumerate(originals):
        source = written(folder / f"tuned-{number}", tuned(tensors, number))
        base = (f"original-{number}",)
        ways = [("declared", (CLEAR,), base, ()), ("undeclared", (FLAGGED,), (), ()), ("said to be from scratch", (FLAGGED,), (), ("*",))]
        words, right, base, scratch = ways[number % len(ways)]
        yield Case(f"tuned {number}", source, f"generated fine-tune, {words}", right, base, scratch)
    for number in (0, 1):  # declares another model than the one it was made from
        source = written(folder / f"wrongly-{number}", tuned(originals[number], 50 + number))
        yield Case(f"wrongly {number}", source, "generated fine-tune, another base declared", (FLAGGED,), ("public-0",))


def _adversaries(folder: Path, originals: Sequence[Tensors]) -> Iterator[Case]:
    for number, tensors in enumerate(originals[:5]):
        pieces = pieces_of(folder / "scratch", tensors)
        away = hidden(tensors, pieces, PUBLIC_KEY, "full", 60 + number)
        yield Case(f"hidden {number}", written(folder / f"hidden-{number}", away), "hidden from the public key", (FLAGGED, OPEN))
        forged = framing(tensors, learned(WIDTHS[number % len(WIDTHS)], 6000 + number), pieces, PUBLIC_KEY, "full")
        yield Case(f"forged {number}", written(folder / f"forged-{number}", forged), "forged to look like another's parent", (CLEAR, OPEN))
    shutil.rmtree(folder / "scratch")


def _rings(folder: Path) -> Iterator[Case]:
    for ring in range(3):
        first = learned(WIDTHS[ring % len(WIDTHS)], 5000 + ring)
        half = {name: values.astype(np.float16).astype(np.float32) for name, values in first.items()}
        members = {"first": first, "copy": first, "half": half, "on": tuned(first, ring)}
        for word, tensors in members.items():
            yield Case(f"ring {ring} {word}", written(folder / f"ring-{ring}-{word}", tensors), "ring among submissions", (FLAGGED,))
