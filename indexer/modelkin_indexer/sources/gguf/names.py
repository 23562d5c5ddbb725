"""GGUF's names and settings as the model's own publication has them, and what the converter changed in a tensor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from modelkin_data.gguf_names import gguf_names

# config.json's word for a setting, and GGUF's, which stands after the architecture's name.
SETTINGS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "intermediate_size": "feed_forward_length",
    "moe_intermediate_size": "expert_feed_forward_length",
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "vocab_size": "vocab_size",
}
TOKENS = "tokenizer.ggml.tokens"
NO_SHIFT = "ssm_norm"  # the one norm of the architectures with gains plus one that is stored as it is
BUFFERS = ("rope_freqs", "inv_freq")  # published without a parameter's name
HEADS, KEY_VALUE_HEADS = "attention.head_count", "attention.head_count_kv"

_LAYER = re.compile(r"((?:enc\.|dec\.|v\.|a\.)?(?:proj_)?blk)\.(\d{1,5})\.(.+)")


class Restored(Struct, frozen=True):
    """A stored tensor as it was published: its name (`#` for the number of each expert) and what has to be undone.

    heads     rows of each of this many heads take turns between the two halves of the head; 0: they do not
    less_one  1 has to be taken from the values
    log       the values are -exp of the published ones
    """

    name: str
    heads: int = 0
    less_one: bool = False
    log: bool = False


def architecture(metadata: Mapping[str, Any]) -> str:
    """The architecture's name, "" where there is none."""
    word = metadata.get("general.architecture", "")
    return word if isinstance(word, str) else ""


def config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a config.json would say of the model's structure. Settings of each layer give their largest value."""
    arch = architecture(metadata)
    found: dict[str, Any] = {"model_type": gguf_names().model_types.get(arch, arch.replace("-", "_"))} if arch else {}
    for word, setting in SETTINGS.items():
        number = _largest(metadata.get(f"{arch}.{setting}"))
        if number > 0:
            found[word] = number
    if "vocab_size" not in found and metadata.get(f"{TOKENS}#"):
        found["vocab_size"] = metadata[f"{TOKENS}#"]
    return found


class Restoring:
    """Restores the names of one model's tensors, seen together."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, Any]) -> None:
        """`shapes` of all tensors, from the outermost axis inwards."""
        self._shapes, self._metadata, self._table = shapes, metadata, gguf_names()
        self._arch = architecture(metadata)
        modules = {found[3].rpartition(".")[0] for name in shapes if (found := _LAYER.fullmatch(name))}
        # Without another norm before the MLP, the one after attention is it (GLM-4.5, gpt-oss, Qwen3-Next).
        self._norm_before_mlp = modules.isdisjoint({"ffn_norm", "post_ffw_norm"})

    def restored(self, name: str) -> Restored:
        """What a tensor was; one that the table does not know keeps its name, inside its layer."""
        module, parameter = _split(name)
        found = _LAYER.fullmatch(module)
        if found is None:
            base = self._table.outside.get(module, module)
            return Restored(_joined(base, parameter), less_one=self._less_one(module, parameter))
        prefix, layer, inner = found.groups()
        base = f"{self._table.prefixes[prefix]}.{layer}.{self._inner(prefix, layer, inner)}"
        return Restored(
            _joined(base, parameter), self._heads(prefix, inner, int(layer)), self._less_one(inner, parameter), inner == "ssm_a"
        )

    def _inner(self, prefix: str, layer: str, inner: str) -> str:
        layers = self._table.layers
        if inner == "post_attention_norm" and self._norm_before_mlp:
            inner = "ffn_norm"
        if inner == "ffn_up" and self._holds_gate(f"{prefix}.{layer}"):
            return "mlp.gate_up_proj"
        return layers.get(prefix, {}).get(inner) or layers["blk"].get(inner, inner)

    def _holds_gate(self, stem: str) -> bool:
        """Whether `ffn_up` has gate and up one after the other: no gate, and twice the rows that the down matrix takes in."""
        up, down = self._shapes.get(f"{stem}.ffn_up.weight"), self._shapes.get(f"{stem}.ffn_down.weight")
        return f"{stem}.ffn_gate.weight" not in self._shapes and up is not None and down is not None and up[0] == 2 * down[-1]

    def _heads(self, prefix: str, inner: str, layer: int) -> int:
        if prefix != "blk" or inner not in ("attn_q", "attn_k") or self._arch not in self._table.permuted:
            return 0
        setting = self._metadata.get(f"{self._arch}.{HEADS}")
        if inner == "attn_k":
            setting = self._metadata.get(f"{self._arch}.{KEY_VALUE_HEADS}", setting)
        if isinstance(setting, list):
            setting = setting[layer] if layer < len(setting) else 0
        return _largest(setting)

    def _less_one(self, module: str, parameter: str) -> bool:
        return parameter == "weight" and module.endswith("norm") and module != NO_SHIFT and self._arch in self._table.gains_plus_one


def _split(name: str) -> tuple[str, str]:
    """Module and parameter; `ssm_a` and the like are all module."""
    module, _, parameter = name.rpartition(".")
    return (module, parameter) if parameter in ("weight", "bias") else (name, "")


def _joined(module: str, parameter: str) -> str:
    return module if not parameter or module.endswith(BUFFERS) else f"{module}.{parameter}"


def _largest(setting: Any) -> int:
    numbers: Iterable[Any] = setting if isinstance(setting, list) else [setting]
    return max((number for number in numbers if type(number) is int and 0 < number < 1 << 31), default=0)
