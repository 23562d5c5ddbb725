"""What the tensors of a model tell together: layer numbers, widths, numbers of heads, and how its matrices are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from modelkin_data import name_tables
from modelkin_indexer.anatomy import layouts
from modelkin_indexer.anatomy.libraries.linears import TOLD_BY, LinearVotes
from modelkin_indexer.anatomy.libraries.published import Published
from modelkin_indexer.anatomy.names import Meaning, Naming
from modelkin_indexer.anatomy.splits import SplitName, split_name
from modelkin_indexer.anatomy.stacks import find_stacks
from modelkin_indexer.places import NO_LAYER, Place, TensorInfo

FACES_OUT = ("o", "cross_o", "down", "shared_down", "out")  # roles whose rows are written to the residual stream
INPUT_NORMS = ("attention_input", "mlp_input", "mixer_input", "final")


class Told(Struct, frozen=True):
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


class Model:
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
        self._head_gains: dict[str, int] = {}
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
        """Rows of one head's queries: by the config, by that of a model of the same shape, by gains of that length.

        Else the usual, of a library that is known to have fused or re-ordered them.
        """
        own = layouts.config_shape(self.config, meaning.component, None).head_size
        if own:
            return own
        alike = self._told.alike
        if alike and layouts.config_hidden(alike, meaning.component) == self._hidden.get(meaning.component):
            return layouts.config_shape(alike, meaning.component, None).head_size
        if not self.stored(split).layout:
            return None
        place = Place(meaning.component, self.layer(split), "attention", "o")
        columns, rows = self._output_columns.get(place, 0), self.info(split).shape[0]
        gain, keys = self._head_gains.get(meaning.component, 0), self._key_rows.get(place, (rows - columns) // 2)
        if gain and gain < columns and columns % gain == 0:
            return gain
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
            if plain and not stored_layout(split, meaning, 2) and (width := self._width(meaning.component)):
                self._linears.take(meaning.component, meaning.role, info, width)
        for split in self.splits:
            meaning, shape = self.naming.meaning(split), self._weights[split.name].shape
            hidden = self._hidden.get(meaning.component) or layouts.config_hidden(self.config, meaning.component)
            layout = stored_layout(split, meaning, len(shape))
            if layout and hidden and shape[-1] != shape[-2] and hidden in shape[-2:]:
                writes = meaning.role in FACES_OUT
                self._stored_input_first.setdefault((meaning.component, layout), shape[-1 if writes else -2] == hidden)
        for split in self.splits:
            meaning, shape = self.naming.meaning(split), self._weights[split.name].shape
            if meaning.family == "attention" and meaning.role in FACES_OUT and split.parameter == "weight" and len(shape) == 2:
                turned = stored_layout(split, meaning, 2) == "conv1d" and self.input_first(meaning.component, "conv1d")
                turned = turned or self.is_turned(split, meaning)
                place = Place(meaning.component, self.layer(split), meaning.family, meaning.role)
                self._output_columns.setdefault(place, shape[0 if turned else 1])
        if any(tensor.layout for tensor in self._published.values()):
            self._look_beside(meanings)

    def _look_beside(self, meanings: Sequence[tuple[SplitName, Meaning, TensorInfo]]) -> None:
        """Sizes of matrices that tell how others in their layer are laid out."""
        for split, meaning, info in meanings:
            if meaning.family == "norm" and meaning.role in ("q_norm", "k_norm") and split.parameter == "weight":
                self._head_gains[meaning.component] = info.elements
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


def stored_layout(split: SplitName, meaning: Meaning, axes: int) -> str:
    """Which of the layouts whose axes may be turned round this weight has: `stacked`, `conv1d` or ""."""
    if split.parameter not in ("weight", ""):
        return ""
    if meaning.family == "expert" and split.expert is None and axes == 3:
        return "stacked"
    return "conv1d" if meaning.rule.layout == "conv1d" and axes == 2 else ""


def is_grouped(meaning: Meaning, stored: Published) -> bool:
    return meaning.rule.layout == "grouped" or "grouped" in stored.layout


def _rests_on_heads(meaning: Meaning, stored: Published) -> bool:
    return is_grouped(meaning, stored) or "rope" in stored.layout
