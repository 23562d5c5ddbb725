"""What every tensor of a model is: from names, shapes, dtypes and config.json to places and oriented views. Reads no values.

names.py    a name -> stack, layer, expert, module; a module -> family and role, by the tables
layouts.py  a stored shape -> views [out, in], for transposed, fused and stacked tensors
buffers.py  what is no weight, and packed weights
here        all put together, one piece for each place
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelkin_data import name_tables
from modelkin_indexer.anatomy import layouts
from modelkin_indexer.anatomy.buffers import SortedOut, sort_out
from modelkin_indexer.anatomy.layouts import Grid
from modelkin_indexer.anatomy.libraries.linears import TOLD_BY, LinearVotes
from modelkin_indexer.anatomy.libraries.published import Published, published
from modelkin_indexer.anatomy.names import Meaning, Naming
from modelkin_indexer.anatomy.splits import SplitName, split_name
from modelkin_indexer.anatomy.stacks import find_stacks
from modelkin_indexer.places import NO_LAYER, Anatomy, Piece, Place, TensorInfo, View

MAX_EXPERTS = 65536  # a stack of more is no stack of experts: each becomes a view, and a header may claim any number
FACES_OUT = ("o", "cross_o", "down", "shared_down", "out")  # roles whose rows are written to the residual stream
TOKEN_TABLES = (("embedding", "token"), ("head", "head"))
INPUT_NORMS = ("attention_input", "mlp_input", "mixer_input", "final")
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


@dataclass(frozen=True)
class Told:
    """What is told of a model beside its names and shapes. `interleaved`: gate and up of stacked experts take turns (None: as names and
    config tell). `turned`: its library stores matrices [in, out], where shapes leave it open. `graph`: its matrices are presented [out, in]
    whatever they are called. `alike`: the config of a model that may have the same shape, for numbers of heads that its own config does
    not tell.
    """

    interleaved: bool | None = None
    turned: bool = False
    graph: bool = False
    alike: Mapping[str, Any] = field(default_factory=dict)


NOTHING_TOLD = Told()


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
    model = _Model(published(sorted_out.weights, kernels=not told.graph), config, told)
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


class _Model:
    """What the tensors of a model tell together: layer numbers, widths, and how its matrices are stored."""

    def __init__(self, tensors: Mapping[str, Published], config: Mapping[str, Any], told: Told) -> None:
        self.config, self._told, self._published = config, told, tensors
        self._weights = weights = {name: tensor.info for name, tensor in tensors.items()}
        text = layouts.config_section(config, "text")
        self.model_types = {str(section["model_type"]) for section in (config, text) if "model_type" in section}
        self.splits = [split_name(name) for name in sorted(weights, key=lambda name: (len(name), name))]
        self.naming = self._named()
        unknown = {split.name for split in self.splits if not self.naming.meaning(split).known}
        if unknown:
            self.splits = find_stacks(self.splits, unknown)
            self.naming = self._named()
        self.layers, self._first_layer = self._number_layers()
        self._hidden = self._hidden_sizes()
        self._output_columns: dict[Place, int] = {}
        self._down_columns: dict[Place, int] = {}
        self._key_rows: dict[Place, int] = {}
        self._stored_input_first: dict[tuple[str, str], bool] = {}
        self._linears = LinearVotes(told.turned)
        self._interleaved = self._takes_turns() if told.interleaved is None else told.interleaved
        self._look_at_shapes()

    def _named(self) -> Naming:
        shapes = {name: info.shape for name, info in self._weights.items()}
        return Naming(self.splits, shapes, str(self.config.get("model_type", "")))

    def layer(self, split: SplitName) -> int:
        """The layer's number inside its component."""
        return NO_LAYER if split.layer is None else self._first_layer[split.stack] + split.layer

    def info(self, split: SplitName) -> TensorInfo:
        """The tensor, with the shape that it was published in and the name that it has in the file."""
        return self._weights[split.name]

    def stored(self, split: SplitName) -> Published:
        """How the file lays the tensor out."""
        return self._published[split.name]

    def shape(self, split: SplitName, meaning: Meaning) -> layouts.Shape:
        """What the split of a fused tensor rests on."""
        output = Place(meaning.component, self.layer(split), "attention", "cross_o" if meaning.role.startswith("cross_") else "o")
        columns = self._output_columns.get(output)
        found = layouts.config_shape(self.config, meaning.component, columns)
        if found.heads is None and columns and _rests_on_heads(meaning, self.stored(split)):
            size = self.head_size(split, meaning)
            return layouts.Shape(columns // size, None, size, columns) if size else found
        return found

    def head_size(self, split: SplitName, meaning: Meaning) -> int | None:
        """Rows of one head's queries: by the config, by that of a model of the same shape, by gains of that length, else the usual."""
        own = layouts.config_shape(self.config, meaning.component, None).head_size
        if own:
            return own
        alike = self._told.alike
        if alike and layouts.config_hidden(alike, meaning.component) == self._hidden.get(meaning.component):
            return layouts.config_shape(alike, meaning.component, None).head_size
        place = Place(meaning.component, self.layer(split), "attention", "o")
        columns, rows = self._output_columns.get(place, 0), self.info(split).shape[0]
        keys = self._key_rows.get(place, (rows - columns) // 2)
        return layouts.usual_head_size(columns, keys) if columns and keys > 0 else None

    def is_gated(self, split: SplitName, meaning: Meaning) -> bool:
        """Whether the first matrix of an MLP holds gate and up."""
        if "gated" not in self.stored(split).layout:
            return False
        down = self._down_columns.get(Place(meaning.component, self.layer(split), meaning.family, "down"))
        return down is not None and self.info(split).shape[0] == 2 * down

    def is_turned(self, split: SplitName, meaning: Meaning) -> bool:
        """Whether a plain matrix is stored [in, out], as all of its component are."""
        info = self.info(split)
        if not self._linears.agree(meaning.component) or len(info.shape) != 2 or info.transposed or min(info.shape) < 2:
            return False
        if split.parameter not in ("weight", ""):
            return False
        return self._linears.is_turned(meaning.component, meaning.family, info.shape, self._width(meaning.component))

    def input_first(self, component: str, layout: str) -> bool:
        """Whether matrices of this layout (`conv1d` or `stacked`) are stored [in, out] in this component."""
        default = layout == "stacked" and not self.model_types.isdisjoint(name_tables().input_first)
        return self._stored_input_first.get((component, layout), default)

    def interleaved(self, meaning: Meaning) -> bool:
        """Whether rows of gate and up take turns in stacked experts."""
        return meaning.family == "expert" and self._interleaved

    def _number_layers(self) -> tuple[dict[str, int], dict[str, int]]:
        """Layers by component, and each stack's first number. Of a component's stacks the longest comes first, those inside others last."""
        lengths: dict[tuple[str, str], int] = {}
        for split in self.splits:
            if split.layer is not None:
                key = self.naming.meaning(split).component, split.stack
                lengths[key] = max(lengths.get(key, 0), split.layer + 1)
        layers: dict[str, int] = {}
        first: dict[str, int] = {}
        stacks = {stack for _, stack in lengths}

        def order(entry: tuple[tuple[str, str], int]) -> tuple[str, bool, int, str]:
            (component, stack), length = entry
            return component, any(stack.startswith(f"{outer}.") for outer in stacks), -length, stack

        for (component, stack), length in sorted(lengths.items(), key=order):
            first[stack] = layers.get(component, 0)
            layers[component] = first[stack] + length
        return layers, first

    def _hidden_sizes(self) -> dict[str, int]:
        """Width of each component's residual stream: the length of most norms that read it."""
        lengths: dict[str, Counter[int]] = {}
        for split in self.splits:
            meaning = self.naming.meaning(split)
            if meaning.family == "norm" and meaning.role in INPUT_NORMS and split.parameter == "weight":
                lengths.setdefault(meaning.component, Counter())[self._weights[split.name].elements] += 1
        return {component: max(counts, key=lambda length: (counts[length], length)) for component, counts in lengths.items()}

    def _width(self, component: str) -> int | None:
        """Width of a component's residual stream, or of its table of tokens."""
        return self._hidden.get(component) or layouts.config_hidden(self.config, component) or self._token_columns.get(component)

    def _look_at_shapes(self) -> None:
        meanings = [(split, self.naming.meaning(split), self._weights[split.name]) for split in self.splits]
        self._token_columns = {
            meaning.component: info.shape[1]
            for _, meaning, info in meanings
            if (meaning.family, meaning.role) == ("embedding", "token") and len(info.shape) == 2
        }
        for split, meaning, info in meanings:
            plain = split.parameter == "weight" and len(info.shape) == 2 and meaning.family in TOLD_BY and meaning.known
            if plain and not _stored_layout(split, meaning, 2) and (width := self._width(meaning.component)):
                self._linears.take(meaning.component, meaning.role, info, width)
        for split in self.splits:
            meaning, shape = self.naming.meaning(split), self._weights[split.name].shape
            hidden = self._hidden.get(meaning.component) or layouts.config_hidden(self.config, meaning.component)
            layout = _stored_layout(split, meaning, len(shape))
            if layout and hidden and shape[-1] != shape[-2] and hidden in shape[-2:]:
                writes = meaning.role in FACES_OUT
                self._stored_input_first.setdefault((meaning.component, layout), shape[-1 if writes else -2] == hidden)
        for split in self.splits:
            meaning, shape = self.naming.meaning(split), self._weights[split.name].shape
            if meaning.family == "attention" and meaning.role in FACES_OUT and split.parameter == "weight" and len(shape) == 2:
                turned = _stored_layout(split, meaning, 2) == "conv1d" and self.input_first(meaning.component, "conv1d")
                turned = turned or self.is_turned(split, meaning)
                place = Place(meaning.component, self.layer(split), meaning.family, meaning.role)
                self._output_columns.setdefault(place, shape[0 if turned else 1])
        if any(tensor.layout for tensor in self._published.values()):
            self._look_beside(meanings)

    def _look_beside(self, meanings: Sequence[tuple[SplitName, Meaning, TensorInfo]]) -> None:
        """Sizes of matrices that tell how others in their layer are laid out."""
        for split, meaning, info in meanings:
            if split.parameter != "weight" or len(info.shape) != 2:
                continue
            if meaning.role == "down":
                self._down_columns[Place(meaning.component, self.layer(split), meaning.family, "down")] = info.shape[1]
            elif (meaning.family, meaning.role) == ("attention", "k"):
                self._key_rows[Place(meaning.component, self.layer(split), "attention", "o")] = info.shape[0]

    def _takes_turns(self) -> bool:
        """As gpt-oss stores gate and up; without a config, its biases of stacked experts give it away."""
        if self.model_types:
            return not self.model_types.isdisjoint(name_tables().interleaved_gate_up)
        meanings = ((split, self.naming.meaning(split)) for split in self.splits if split.parameter == "bias" and split.expert is None)
        return any((meaning.family, meaning.role) == ("expert", "gate_up") for _, meaning in meanings)


def _stored_layout(split: SplitName, meaning: Meaning, axes: int) -> str:
    """Which of the layouts whose axes may be turned round this weight has: `stacked`, `conv1d` or ""."""
    if split.parameter not in ("weight", ""):
        return ""
    if meaning.family == "expert" and split.expert is None and axes == 3:
        return "stacked"
    return "conv1d" if meaning.rule.layout == "conv1d" and axes == 2 else ""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one tensor gives to one place: all of it, or one expert."""

    place: Place
    views: tuple[View, ...]
    residual: str
    expert: int | None = None
    named: bool = True


def _parts(info: TensorInfo, split: SplitName, meaning: Meaning, model: _Model) -> Iterator[_Part]:
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
    grouped = _is_grouped(meaning, model.stored(split))
    for expert, grid in (_stacked_grids if stacked else _grids)(info, split, meaning, model):
        rows = layouts.split_rows(grid.rows, parts, shape, grouped, model.interleaved(meaning))
        for role, some in zip(parts, rows, strict=True) if rows else [(meaning.role, layouts.Rows(0, grid.rows))]:
            place = _place(meaning, role, split.parameter, model.layer(split))
            yield _Part(place, grid.views(some), _residual(meaning, place, grid), expert, meaning.known)


def _grids(info: TensorInfo, split: SplitName, meaning: Meaning, model: _Model) -> Iterator[tuple[int | None, Grid]]:
    grid = layouts.stored_grid(info, squeeze=meaning.family != "conv")
    turned = _stored_layout(split, meaning, len(info.shape)) == "conv1d" and model.input_first(meaning.component, "conv1d")
    turned = turned or model.is_turned(split, meaning)
    grid, rows = grid.transposed if turned and not grid.vector else grid, model.stored(split).rows
    yield split.expert, grid if rows is None else grid.part(*rows)


def _in_order(info: TensorInfo, split: SplitName, meaning: Meaning, model: _Model) -> tuple[View, ...] | None:
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


def _is_grouped(meaning: Meaning, stored: Published) -> bool:
    return meaning.rule.layout == "grouped" or "grouped" in stored.layout


def _rests_on_heads(meaning: Meaning, stored: Published) -> bool:
    return _is_grouped(meaning, stored) or "rope" in stored.layout


def _stacked_grids(info: TensorInfo, split: SplitName, meaning: Meaning, model: _Model) -> Iterator[tuple[int | None, Grid]]:
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


def _unknown_part(info: TensorInfo, split: SplitName, meaning: Meaning, model: _Model) -> _Part:
    """A tensor that no pattern knows, under its own name; outside the stacks its layer is the first number in the name, if any."""
    grid = layouts.stored_grid(info, squeeze=False)
    number = _NUMBER.search(split.rest)
    layer = int(number[1]) if number is not None and not split.stack else model.layer(split)
    return _Part(Place(meaning.component, layer, "other", split.rest), grid.views(), "none" if grid.vector else "in", named=False)


_NUMBER = re.compile(r"(?:^|\.)(\d{1,5})(?:\.|$)")


@dataclass(slots=True)
class _Slot:
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
