"""Places of every tensor of every architecture of the installed `transformers`, held against the modules the tensors sit in.

    python -m benchmarks.formats.transformers_names [--only REGEX] [--out FILE]

Each class is made small and without values (transformers_models.py, in processes of a hundred classes), its names, shapes and config go to
`read_anatomy`, and what comes back is checked: every parameter has a place; every matrix is in the family its modules say
(transformers_truth.py); layers are numbered as module lists are; components and the two stacks of encoder-decoders are told apart.
Takes about 3 minutes of CPU time. Writes benchmarks/results/transformers_names.json; exits 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from benchmarks.common.results import result_path, write_result
from benchmarks.formats.transformers_models import class_names
from benchmarks.formats.transformers_truth import families, layer_lists, sides
from modelkin_indexer.anatomy.reading import read_anatomy
from modelkin_indexer.places import Anatomy, Place, TensorInfo

BATCH = 100  # classes a process makes
TIMEOUT = 900  # seconds for one process
RIGHT_FAMILY = 0.99  # least share of the matrices in the right family
MADE = 0.9  # least share of the classes that must have been made: of none, all are right
DTYPES = {"float32": "F32", "int64": "I64", "int32": "I32", "bool": "BOOL", "bfloat16": "BF16", "float16": "F16", "uint8": "U8"}


class Score(Struct):
    """Counts over all classes, and what went wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)
    unplaced: dict[str, list[str]] = field(default_factory=dict)
    misplaced: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    layers: dict[str, list[str]] = field(default_factory=dict)
    components: dict[str, list[str]] = field(default_factory=dict)
    types: set[str] = field(default_factory=set)


def described(classes: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """The classes, as processes of their own describe them."""
    script = Path(__file__).with_name("transformers_models.py")
    for start in range(0, len(classes), BATCH):
        names = [f"{model_type}:{name}" for model_type, name in classes[start : start + BATCH]]
        done = subprocess.run([sys.executable, script, *names], capture_output=True, text=True, timeout=TIMEOUT, check=True)
        yield from map(json.loads, done.stdout.splitlines())
        print(f"{start + len(names)} of {len(classes)} classes", file=sys.stderr)


def check(model: dict[str, Any], score: Score) -> None:
    """Hold one model's places against its modules."""
    label = f"{model['type']}:{model['class']}"
    if model["failed"]:
        score.failed[label] = model["failed"]
        return
    tensors = model["tensors"]
    infos = {t["name"]: _info(t) for t in tensors}
    anatomy = read_anatomy(infos, model["config"])
    places = _places(anatomy)
    parameters = {t["name"] for t in tensors if t["parameter"] and prod(t["shape"])}  # some defaults make tensors without numbers
    score.types.add(model["type"])
    score.counts += Counter(models=1, tensors=len(tensors), parameters=len(parameters), guessed=len(parameters & set(anatomy.guessed)))
    if lost := sorted(parameters & (set(anatomy.unplaced) | set(anatomy.constants))):
        score.unplaced[label] = lost
        score.counts["parameters without a place"] += len(lost)
    for tensor in tensors:
        _check_family(model["type"], tensor, places, score)
    if wrong := list(_layer_faults(tensors, places)):
        score.layers[label] = wrong[:5]
    if wrong := list(_component_faults(model, places)):
        score.components[label] = wrong[:5]


def _info(tensor: dict[str, Any]) -> TensorInfo:
    shape = tuple(tensor["shape"])
    return TensorInfo(tensor["name"], DTYPES.get(tensor["dtype"], "F32"), shape, 4 * prod(shape))


def _places(anatomy: Anatomy) -> dict[str, set[Place]]:
    places: dict[str, set[Place]] = defaultdict(set)
    for piece in anatomy.pieces:
        for view in piece.views:
            places[view.tensor].add(piece.place)
    return places


def _check_family(model_type: str, tensor: dict[str, Any], places: dict[str, set[Place]], score: Score) -> None:
    if not tensor["parameter"] or sum(axis > 1 for axis in tensor["shape"]) < 2:
        return
    right, found = families(tensor), {place.family for place in places[tensor["name"]]}
    score.counts["matrices"] += 1
    if not right:
        score.counts["matrices whose modules do not tell"] += 1
    elif not found or not found <= right:
        score.counts["matrices in a wrong family"] += 1
        generic = re.sub(r"\d+", "#", tensor["name"])
        score.misplaced[model_type, generic, " ".join(sorted(found)) or "none", " ".join(sorted(right))] += 1


def _layer_faults(tensors: Sequence[dict[str, Any]], places: dict[str, set[Place]]) -> Iterator[str]:
    """Layers of a list of layer modules must have numbers of their own, rising by one from layer to layer."""
    for path, members in layer_lists(tensors).items():
        numbers: dict[int, set[int]] = defaultdict(set)
        for index, name in members:
            numbers[index] |= {place.layer for place in places[name]}
        found = [sorted(numbers[index]) for index in sorted(numbers)]
        first = found[0][0] if found and found[0] else -1
        expected = [[first + index - min(numbers)] for index in sorted(numbers)]
        if first < 0 or found != expected:
            yield f"{path}: {found[:6]}"


def _component_faults(model: dict[str, Any], places: dict[str, set[Place]]) -> Iterator[str]:
    """Tensors of different sides (text, vision, audio, encoder, decoder by their modules) must be in different components."""
    found: dict[str, set[str]] = defaultdict(set)
    for tensor, side in sides(model):
        found[side] |= {place.component for place in places[tensor["name"]]}
    names = sorted(found)
    for at, one in enumerate(names):
        for other in names[at + 1 :]:
            if shared := found[one] & found[other]:
                yield f"{one} and {other} share {', '.join(sorted(shared))}"


def report(score: Score) -> dict[str, Any]:
    """The results file."""
    counts = score.counts
    told = counts["matrices"] - counts["matrices whose modules do not tell"]
    rows = [{"type": t, "name": n, "found": f, "right": r, "times": times} for (t, n, f, r), times in score.misplaced.most_common()]
    return {
        "transformers": __import__("importlib.metadata", fromlist=["version"]).version("transformers"),
        "model types": len(score.types),
        "counts": dict(counts),
        "share of parameters placed": 1 - counts["parameters without a place"] / max(1, counts["parameters"]),
        "share of matrices in the right family": 1 - counts["matrices in a wrong family"] / max(1, told),
        "classes with layers numbered otherwise": len(score.layers),
        "classes with components mixed": len(score.components),
        "not made": score.failed,
        "without a place": score.unplaced,
        "misplaced": rows,
        "layers": score.layers,
        "components": score.components,
    }


def main() -> int:
    """Run all, write the results, print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="model types to try, a regular expression")
    parser.add_argument("--out", type=Path, default=result_path("transformers_names"))
    options = parser.parse_args()
    score = Score()
    for model in described([row for row in class_names() if re.search(options.only, row[0])]):
        check(model, score)
    result = report(score)
    write_result("transformers_names", result, out=options.out)
    print(json.dumps({key: value for key, value in result.items() if not isinstance(value, dict | list) or key == "counts"}, indent=1))
    made = score.counts["models"] >= MADE * (score.counts["models"] + len(score.failed))
    return int(not made or result["share of parameters placed"] < 1 or result["share of matrices in the right family"] < RIGHT_FAMILY)


if __name__ == "__main__":
    sys.exit(main())
