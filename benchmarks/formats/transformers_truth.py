"""What a tensor of a `transformers` model is, told by the classes of the modules it sits in: the truth that names are held against.

Knows nothing of the tables of names. Of a few modules the classes leave a choice (a convolution inside an attention module): then several
families are right. An empty set means that the classes do not tell.
"""

from __future__ import annotations

import re
from typing import Any

NORM = re.compile(r"(?i)norm|L2Clip|GRN$|LayerScale|FakeNormalization")
POSITION = re.compile(r"(?i)position|relative|rotary|alibi|RelPos|BucketEmb")
CONVOLUTION = re.compile(r"(?i)conv\d?(d|1|2|3)?$|Conv2d|Conv1d|Conv3d|ConvTranspose|DepthwiseConv|ParametrizationList|Dcn|DeformConv")
TABLE = re.compile(r"Embedding$|EmbeddingTable$")
RECURRENT = re.compile(r"^(LSTM|GRU|RNN|LSTMCell|GRUCell)$")
OFFSET = re.compile(r"(^|_)(pos|rel)_|_bias$|embed")
BIAS = re.compile(r"(^|[._])bias$")

# The nearest module whose class matches decides; the first pattern of the list wins within one class.
DECIDING = (
    ("expert", re.compile(r"Experts?$|ParallelExperts|ExpertMLP|ExpertLayer|ExpertsMLP")),
    ("router", re.compile(r"Router|Gating$|TopKGate|(MoE|Moe)Gate(?!d)|TopKGating")),
    (
        "mlp",
        re.compile(
            r"(?i)mlp(?!LayerWithBN)\w*$|glu(?!e)\w*$|feedforward|feed_forward|ffn|intermediate|denseact|gateddense|feedfoward|fflayer|perceptron"
        ),
    ),
    ("linear attention", re.compile(r"DeltaAttention|LinearAttention|Lightning\w*Attention|RwkvSelfAttention|KimiLinear\w*Attention")),
    (
        "ssm",
        re.compile(
            r"Mamba|(Bamba|Jamba|NemotronH|FalconH1)Mixer|Rwkv|Hyena|DeltaNet|Rglru|Recurrent(?!Gemma)|RecurrentBlock|ShortConv|[xms]LSTM(Layer|Cell|Back)"
        ),
    ),
    ("attention layer", re.compile(r"Attention\w*(Layer|Block|Merger)$|ResidualAttention$")),
    ("attention", re.compile(r"(?i)attention(?!al)|attn|MLA$|QKV|SelfOutput|Indexer|Compressor$|GatedCross")),
    ("moe", re.compile(r"(?i)(moe|moeblock|moelayer|sparse\w*block|mixtureofexperts|moemlp)$")),
    ("features", re.compile(r"FeatureProjection")),
    ("projector", re.compile(r"(?i)projector|projection$|connector|merger|resampler|abstractor|aligner")),
    ("head", re.compile(r"(?i)head$|heads$|classif|predict|pooler|ProjectionHead|MLMHead|span|scorer")),
    ("embedding", re.compile(r"(?i)embed|tokenizer|patchif")),
    ("layer", re.compile(r"(?i)(layer|block)$|Output$")),
)
BY_ROOM = {  # families that are right for a matrix in a module of this kind: of linear layers and bare tensors, and of convolutions
    "expert": ("expert", "expert conv"),
    "router": ("router", "router"),
    "mlp": ("mlp", "mlp conv"),
    "linear attention": ("attention ssm", "attention ssm conv"),
    "ssm": ("ssm", "ssm conv"),
    "attention layer": ("attention mlp", "attention conv"),
    "attention": ("attention", "attention conv"),
    "moe": ("expert router mlp", "conv mlp"),
    "features": ("embedding mlp", "conv"),
    "projector": ("mlp head", "conv mlp"),
    "head": ("head mlp", "head conv"),
    "embedding": ("embedding conv mlp position", "conv"),
    "layer": ("mlp", "conv"),
}


def families(tensor: dict[str, Any]) -> set[str]:
    """The families that are right for this tensor; empty where its modules do not tell."""
    *parts, last = tensor["name"].split(".")
    inner = tensor["classes"][-1]
    if sum(axis > 1 for axis in tensor["shape"]) < 2:
        return {"norm"} if NORM.search(inner) and last == "weight" else {"bias"} if last == "bias" and inner == "Linear" else set()
    if RECURRENT.search(inner):
        return {"ssm"}
    if TABLE.search(inner):
        return _table(tensor, parts)
    if NORM.search(inner):
        return {"norm"}
    bare = inner not in ("Linear", "Conv1D") and not CONVOLUTION.search(inner)
    if bare and ((POSITION.search(inner) and not inner.endswith("Attention")) or POSITION.search(last) or OFFSET.search(last)):
        return {"position", "bias", "embedding"}
    if BIAS.search(last) and bare:
        return {"bias"}
    return _by_rooms(tensor, parts, bool(CONVOLUTION.search(inner)) and inner != "Conv1D", bare)


def _table(tensor: dict[str, Any], parts: list[str]) -> set[str]:
    """An embedding module: its own class, or the attention module around it, may say that it holds positions."""
    if POSITION.search(tensor["classes"][-1]) or any(re.search(r"Attention|RelativePosition", name) for name in tensor["classes"][1:-1]):
        return {"position", "embedding"} if not POSITION.search(parts[-1]) else {"position"}
    return {"position"} if POSITION.search(parts[-1]) else {"embedding", "position"}


def _by_rooms(tensor: dict[str, Any], parts: list[str], convolution: bool, bare: bool) -> set[str]:
    names = tensor["classes"]
    for depth in range(len(names) - 1, 0, -1):
        room = next((room for room, pattern in DECIDING if pattern.search(names[depth])), "")
        if room == "attention" and POSITION.search(".".join(parts[depth:])):
            return {"attention", "position"}
        if room in ("mlp", "layer", "moe") and (shared := _of_mixture(names, parts, depth)):
            return shared
        if room == "layer" and bare:
            return set()
        if room:
            return set(BY_ROOM[room][convolution].split()) | (
                {"embedding", "position"} if bare and room in ("projector", "head", "embedding") else set()
            )
    if convolution:
        return {"conv"}
    if len(names) == 2 and not bare and re.search(r"For[A-Z]|LMHead", names[0]):
        return {"head", "mlp"} if "proj" in parts[0] else {"head"}
    return set()


def _of_mixture(names: list[str], parts: list[str], depth: int) -> set[str]:
    """An MLP among the experts of a mixture is an expert; beside them it may be one."""
    path = parts[:depth]
    if any("expert" in part and "gate" not in part for part in path):
        return {"expert"}
    if any("shared" in part for part in path):
        return {"expert", "mlp"}
    if parts[-1] in ("gate", "shared_expert_gate") and DECIDING[7][1].search(names[depth]):
        return {"router"}
    return set()


LAYER_CLASS = re.compile(r"(Layer|Block|Bottleneck)$")
LIST_CLASS = re.compile(r"^(ModuleList|Sequential|ModuleDict)$")


def layer_lists(tensors: list[dict[str, Any]]) -> dict[str, list[tuple[int, str]]]:
    """Innermost lists of layer modules with attention or a mixer in them: path -> (index, tensor) of all that is in their layers."""
    lists: dict[str, list[tuple[int, str]]] = {}
    mixing: set[str] = set()
    for tensor in tensors:
        parts, classes = tensor["name"].split("."), tensor["classes"]
        at = [
            number
            for number in range(1, len(classes))
            if LIST_CLASS.search(classes[number - 1]) and parts[number - 1].isdecimal() and LAYER_CLASS.search(classes[number])
        ]
        if at:
            path = ".".join(parts[: at[-1] - 1])
            lists.setdefault(path, []).append((int(parts[at[-1] - 1]), tensor["name"]))
            if any(re.search(r"(?i)attention|mixer|mamba|deltanet", name) for name in classes[at[-1] + 1 :]):
                mixing.add(path)
    return {path: members for path, members in lists.items() if path in mixing}


def sides(model: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Tensors of layers with the side that their sub-model is: vision, audio or text by its config, encoder or decoder by its module."""
    composite = [key for key, value in model["config"].items() if key.endswith("_config") and isinstance(value, dict)]
    parts_of_its_own = [key for key, value in model["config"].items() if isinstance(value, dict) and value.get("model_type")]
    found = []
    for tensor in model["tensors"]:
        if not any(LAYER_CLASS.search(name) and "Projection" not in name for name in tensor["classes"]):
            continue
        if composite:
            side = next((side for name in reversed(tensor["configs"]) if (side := _config_side(name))), "")
        elif parts_of_its_own:
            side = next((name for name in reversed(tensor["configs"][1:]) if name.endswith("Config")), "")
        else:
            parts = tensor["name"].split(".")
            stacks = bool(model["config"].get("is_encoder_decoder"))
            side = next((part for part in parts if part in ("encoder", "decoder")), "") if stacks else ""
        if side:
            found.append((tensor, side))
    return found


def _config_side(name: str) -> str:
    """The sense a sub-config's name tells."""
    for side in ("Vision", "Audio", "Text"):
        if name.endswith(f"{side}Config"):
            return side.lower()
    return ""
