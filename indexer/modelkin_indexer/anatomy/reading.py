"""What every tensor of a model is: from names, shapes, dtypes and config.json to places and oriented views. Reads no values.

names.py    a name -> stack, layer, expert, module; a module -> family and role, by the tables
libraries/  names and layouts of other libraries -> published ones
model.py    what all tensors of a model tell together
layouts.py  a stored shape -> views [out, in], for transposed, fused and stacked tensors
buffers.py  what is no weight, and packed weights
here        all put together, one piece for each place
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct, field

from modelkin_indexer.anatomy import layouts
from modelkin_indexer.anatomy.constants.buffers import SortedOut, sort_out
from modelkin_indexer.anatomy.layouts import Grid
from modelkin_indexer.anatomy.libraries.published import published
from modelkin_indexer.anatomy.model import FACES_OUT, NOTHING_TOLD, Model, Told, is_grouped, stored_layout
from modelkin_indexer.anatomy.names import Meaning
from modelkin_indexer.anatomy.splits import SplitName
from modelkin_indexer.places import Anatomy, Piece, Place, TensorInfo, View

MAX_EXPERTS = 65536  # a stack of more is no stack of experts: each becomes a view, and a header may claim any number
TOKEN_TABLES = (("embedding", "token"), ("head", "head"))
ATTENTION_READS, MLP_READS = ("attention_input", "mixer_input"), ("mlp_input",)
READS = {
    ("attention", "q"): ATTENTION_READS,
    ("attention", "k"): ATTENTION_READS,
    ("attention", "v"): ATTENTION_READS,
    ("attention", "qkv"): ATTENTION_READS,
    ("attention", "kv"): ATTENTION_READS,
    ("attention", "q_a"): ATTENTION_READS,
    ("attention", "kv_a"): ATTENTION_READS,
    ("attention", "q_b"): ("q_a_norm",),
    **{("attention", role): ("kv_a_norm",) for role in ("kv_b", "k_b", "v_b")},
    ("attention", "cross_q"): ("cross_attention_input",),
    ("ssm", "in"): ATTENTION_READS,
    ("ssm", "in_qkvz"): ATTENTION_READS,
    ("ssm", "in_ba"): ATTENTION_READS,
    **{("mlp", role): MLP_READS for role in ("gate", "up", "gate_up")},
    **{("expert", role): MLP_READS for role in ("gate", "up", "gate_up", "shared_gate", "shared_up")},
    ("router", "router"): MLP_READS,
    ("head", "head"): ("final",),
}


def read_anatomy(
    tensors: Mapping[str, TensorInfo], config: Mapping[str, Any], told: Told = NOTHING_TOLD, given: SortedOut | None = None
) -> Anatomy:
    """Places and views of a model's tensors.

    `config` is the model's config.json, or empty: what it does not tell is worked out from shapes where they leave no choice. No tensor is
    dropped: each has a piece, is a constant, or is unplaced. A fused bias whose parts take turns has several views [1, n], which belong
    one after the other; biases of experts are pieces of experts with one view [1, n] an expert. `given` says what is no weight, where
    values were looked at for it.
    """
    sorted_out = given or sort_out(tensors, config)
    model = Model(published(sorted_out.weights, kernels=not told.graph), config, told)
    pieces = _Pieces()
    unknown, guessed = [], []
    for split in model.splits:
        meaning, info = model.naming.meaning(split), model.info(split)
        parts = [] if info.name in sorted_out.doubtful else list(_parts(info, split, meaning, model))
        if not parts:
            unknown.append(info.name)
            parts = [_unknown_part(info, split, meaning, model)]
        elif meaning.guessed:
            guessed.append(info.name)
        for part in parts:
            pieces.add(part)
    return Anatomy(
        pieces.finished(),
        tuple(sorted({*unknown, *sorted_out.packed})),
        dict(sorted(sorted_out.constants.items())),
        model.layers,
        tuple(sorted(set(guessed))),
        tuple(sorted(sorted_out.packed)),
    )


class _Part(Struct, frozen=True):
    """What one tensor gives to one place: all of it, or one expert."""

    place: Place
    views: tuple[View, ...]
    residual: str
    expert: int | None = None
    named: bool = True


def _parts(info: TensorInfo, split: SplitName, meaning: Meaning, model: Model) -> Iterator[_Part]:
    """The parts of a known tensor; none if no rule knows it or its shape is not what the rule means."""
    if meaning.family == "attention" and meaning.role in layouts.FUSED["kv_b"] and len(info.shape) == 3 and not info.transposed:
        place = _place(meaning, meaning.role, split.parameter, model.layer(split))
        yield _Part(place, layouts.latent_views(info, meaning.role), "in")
        return
    if (views := _in_order(info, split, meaning, model)) is not None:
        place = _place(meaning, meaning.role, split.parameter, model.layer(split))
        yield _Part(place, views, _residual(meaning, place, layouts.stored_grid(info, squeeze=False)), None, meaning.known)
        return
    stacked = meaning.family == "expert" and split.expert is None and not meaning.role.startswith("shared_")
    fused = f"gate_{meaning.role}" if model.is_gated(split, meaning) else meaning.role
    parts = (meaning.role,) if split.parameter.startswith("lora") else layouts.split_role(fused)
    shape = model.shape(split, meaning) if len(parts) > 1 else layouts.UNKNOWN_SHAPE
    grouped = is_grouped(meaning, model.stored(split))
    for expert, grid in (_stacked_grids if stacked else _grids)(info, split, meaning, model):
        rows = layouts.split_rows(grid.rows, parts, shape, grouped, model.interleaved(meaning))
        for role, some in zip(parts, rows, strict=True) if rows else [(meaning.role, layouts.Rows(0, grid.rows))]:
            place = _place(meaning, role, split.parameter, model.layer(split))
            yield _Part(place, grid.views(some), _residual(meaning, place, grid), expert, meaning.known)


def _grids(info: TensorInfo, split: SplitName, meaning: Meaning, model: Model) -> Iterator[tuple[int | None, Grid]]:
    grid = layouts.stored_grid(info, squeeze=meaning.family != "conv")
    turned = stored_layout(split, meaning, len(info.shape)) == "conv1d" and model.input_first(meaning.component, "conv1d")
    turned = turned or model.is_turned(split, meaning)
    grid, rows = grid.transposed if turned and not grid.vector else grid, model.stored(split).rows
    yield split.expert, grid if rows is None else grid.part(*rows)


def _in_order(info: TensorInfo, split: SplitName, meaning: Meaning, model: Model) -> tuple[View, ...] | None:
    """A tensor whose rows its library keeps in another order; None for all others."""
    layout = model.stored(split).layout
    if not layout:
        return None
    if "swapped" in layout and not info.transposed:
        return layouts.swapped_halves(info)
    if "heads_first" in layout and len(info.shape) == 3:
        return layouts.heads_first(info)
    if "rope" not in layout or split.parameter != "weight" or len(info.shape) != 2 or info.transposed:
        return None
    size = model.head_size(split, meaning)
    return layouts.rope_halves(info, size) if size else None


def _stacked_grids(info: TensorInfo, split: SplitName, meaning: Meaning, model: Model) -> Iterator[tuple[int | None, Grid]]:
    axes = 2 if split.parameter == "bias" else 3
    if len(info.shape) == axes and info.shape[0] <= MAX_EXPERTS:
        yield from enumerate(layouts.expert_grids(info, model.input_first(meaning.component, "stacked")))


def _place(meaning: Meaning, role: str, parameter: str, layer: int) -> Place:
    if parameter in ("weight", ""):
        return Place(meaning.component, layer, meaning.family, role)
    owner = f"expert_{role}" if meaning.family == "expert" and not role.startswith("shared_") else role
    if parameter == "bias":
        return Place(meaning.component, layer, "bias", owner)
    return Place(meaning.component, layer, "other", f"{parameter}_{owner}")


def _residual(meaning: Meaning, place: Place, grid: Grid) -> str:
    if grid.vector or (place.family, place.role) in TOKEN_TABLES:
        return "none"
    if meaning.rule.residual and place.family == meaning.family:
        return meaning.rule.residual
    return "out" if place.family == meaning.family and place.role in FACES_OUT else "in"


def _unknown_part(info: TensorInfo, split: SplitName, meaning: Meaning, model: Model) -> _Part:
    """A tensor that no pattern knows, under its own name; outside the stacks its layer is the first number in the name, if any."""
    grid = layouts.stored_grid(info, squeeze=False)
    number = _NUMBER.search(split.rest)
    layer = int(number[1]) if number is not None and not split.stack else model.layer(split)
    return _Part(Place(meaning.component, layer, "other", split.rest), grid.views(), "none" if grid.vector else "in", named=False)


_NUMBER = re.compile(r"(?:^|\.)(\d{1,5})(?:\.|$)")


class _Slot(Struct):
    """A piece in the making."""

    place: Place
    residual: str
    named: bool
    views: tuple[View, ...] = ()
    experts: dict[int, View] = field(default_factory=dict)


class _Pieces:
    """Pieces by place. A second tensor for a taken place gets the same role with a number: none is dropped, none shares a place."""

    def __init__(self) -> None:
        self._slots: dict[Place, _Slot] = {}
        self._open: dict[tuple[Place, tuple[int, ...]], _Slot] = {}
        self._copies: Counter[Place] = Counter()

    def add(self, part: _Part) -> None:
        """Take in a part: into the place's piece if it is another expert of the same shape, else into a piece of its own."""
        if part.expert is None:
            self._new(part).views = part.views
            return
        key = part.place, part.views[0].shape
        slot = self._open.get(key)
        if slot is None or part.expert in slot.experts:
            slot = self._open[key] = self._new(part)
        slot.experts[part.expert] = part.views[0]

    def _new(self, part: _Part) -> _Slot:
        place = part.place
        while place in self._slots:
            self._copies[part.place] += 1
            place = Place(place.component, place.layer, place.family, f"{part.place.role}.{self._copies[part.place] + 1}")
        self._slots[place] = _Slot(place, part.residual, part.named)
        return self._slots[place]

    def finished(self) -> tuple[Piece, ...]:
        """All pieces, by place."""
        self._gains = {place: slot.views[0].columns for place, slot in self._slots.items() if place.family == "norm" and slot.views}
        self._transforms = {place.component for place in self._slots if (place.family, place.role) == ("head", "transform")}
        return tuple(self._piece(self._slots[place]) for place in sorted(self._slots, key=_order))

    def _piece(self, slot: _Slot) -> Piece:
        views = slot.views or tuple(slot.experts[expert] for expert in sorted(slot.experts))
        reads = None if views[0].rows == 1 and slot.residual == "none" else self._read_norm(slot.place, views[0].columns)
        return Piece(slot.place, views, bool(slot.experts), slot.residual, reads, slot.named)

    def _read_norm(self, place: Place, columns: int) -> Place | None:
        """The gain that multiplies a matrix's input. Where attention and MLP run side by side, both read the layer's only norm."""
        norms = READS.get((place.family, place.role), ())
        if norms is MLP_READS and not any(self._gain(place, role) for role in ("mlp_input", "attention_output", "mlp_output")):
            norms = ATTENTION_READS
        if norms == ("final",) and place.component in self._transforms:
            return None
        return next((Place(place.component, place.layer, "norm", role) for role in norms if self._gain(place, role) == columns), None)

    def _gain(self, place: Place, role: str) -> int | None:
        return self._gains.get(Place(place.component, place.layer, "norm", role))


def _order(place: Place) -> tuple[str, int, str, str]:
    return place.component, place.layer, place.family, place.role
