"""Which tensors of a model may be two parts of one matrix: by names that end alike, where the matrix is known and its parts are not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from modelkin_indexer.anatomy.names import Meaning, Naming
from modelkin_indexer.anatomy.splits import SplitName, split_name
from modelkin_indexer.places import TensorInfo

# `q_proj.0.weight`, `q_proj_a.weight`, `q_proj.left.weight`: letters and digits in a row, and words for two sides, the first one first.
SIDES = (("left", "right"), ("top", "bottom"), ("first", "second"), ("down", "up"))
PART = re.compile(rf"(.+)[._]([A-Za-z]|\d|{'|'.join(word for pair in SIDES for word in pair)})\.weight")
WEIGHT = ".weight"
READING = {("attention", "q"), ("attention", "k"), ("attention", "v"), ("mlp", "gate"), ("mlp", "up")}
WRITING = {("attention", "o"), ("mlp", "down")}
FLOATS = ("F64", "F32", "F16", "BF16")
Shape = tuple[int, int]


class Pair(Struct, frozen=True):
    """Two tensors in the order of their names, and the matrix whose name they begin with."""

    matrix: str
    parts: tuple[str, str]
    shapes: tuple[Shape, Shape]


class Matrices(Struct, frozen=True):
    """A model's matrices as they would be: (component, layer) -> role -> the shape of one that is whole, or the pair of one that is not."""

    layers: Mapping[tuple[str, int | None], Mapping[str, Shape | Pair]]

    @property
    def pairs(self) -> list[Pair]:
        return [one for roles in self.layers.values() for one in roles.values() if isinstance(one, Pair)]


def matrices_of(tensors: Mapping[str, TensorInfo], config: Mapping[str, Any]) -> Matrices | None:
    """What the names tell, None where no two tensors may be one matrix, as in nearly all models."""
    pairs = {pair.matrix: pair for pair in _pairs(tensors)}
    if not pairs:
        return None
    model_type = str(config.get("model_type", ""))
    used = {part for pair in pairs.values() for part in pair.parts}
    own = _meanings({name: info.shape for name, info in tensors.items()}, model_type)
    shapes: dict[str, tuple[int, ...]] = {name: info.shape for name, info in tensors.items() if name not in used}
    whole = _meanings(shapes | {name: pair.shapes[0] for name, pair in pairs.items()}, model_type)
    layers: dict[tuple[str, int | None], dict[str, Shape | Pair]] = {}
    for name, (split, meaning) in whole.items():
        kind = meaning.family, meaning.role
        if not meaning.known or split.parameter != "weight" or split.expert is not None or kind not in READING | WRITING:
            continue
        place = layers.setdefault((meaning.component, split.layer), {})
        if name not in pairs:
            place |= {meaning.role: (shapes[name][0], shapes[name][1])} if len(shapes[name]) == 2 else {}
        elif not any(own[part][1].known for part in pairs[name].parts):
            place[meaning.role] = pairs[name]
    found = Matrices({place: roles for place, roles in layers.items() if any(isinstance(one, Pair) for one in roles.values())})
    return found if found.layers else None


def _pairs(tensors: Mapping[str, TensorInfo]) -> list[Pair]:
    """Two matrices of one stem and tags in a row; of three nobody knows what they are."""
    stems: dict[str, list[tuple[str, str]]] = {}
    for name, info in tensors.items():
        part = PART.fullmatch(name)
        if part is not None and len(info.shape) == 2 and info.dtype in FLOATS and not info.transposed:
            stems.setdefault(part[1], []).append((part[2], name))
    found = []
    for stem, parts in stems.items():
        ordered = sorted(parts, key=lambda part: (part[0] in [second for _, second in SIDES], part))
        if len(parts) == 2 and _in_a_row(ordered[0][0], ordered[1][0]) and f"{stem}{WEIGHT}" not in tensors:
            one, other = (name for _, name in ordered)
            shapes = [(tensors[name].shape[0], tensors[name].shape[1]) for name in (one, other)]
            found.append(Pair(f"{stem}{WEIGHT}", (one, other), (shapes[0], shapes[1])))
    return found


def _in_a_row(first: str, second: str) -> bool:
    return (first, second) in SIDES or (len(first) == len(second) == 1 and ord(second) == ord(first) + 1)


def _meanings(shapes: Mapping[str, tuple[int, ...]], model_type: str) -> dict[str, tuple[SplitName, Meaning]]:
    splits = [split_name(name) for name in sorted(shapes)]
    naming = Naming(splits, shapes, model_type)
    return {split.name: (split, naming.meaning(split)) for split in splits}
