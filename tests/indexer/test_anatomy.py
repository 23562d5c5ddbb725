"""Names, shapes and config to places and views: the same weights stored in different ways are the same pieces."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from modelkin_indexer.anatomy.reading import MAX_EXPERTS, read_anatomy
from modelkin_indexer.places import NO_LAYER, Anatomy, Piece, Place, TensorInfo, View

Values = dict[str, npt.NDArray[np.float32]]
HEADS, GROUPS, SIZE, HIDDEN, INNER, EXPERTS, VOCABULARY = 4, 2, 3, 12, 20, 3, 50
CONFIG = {"model_type": "llama", "hidden_size": HIDDEN, "num_attention_heads": HEADS, "num_key_value_heads": GROUPS, "head_dim": SIZE}


def info(name: str, *shape: int, dtype: str = "F32") -> TensorInfo:
    return TensorInfo(name, dtype, shape, 4 * prod(shape))


def infos(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, TensorInfo]:
    return {name: info(name, *shape) for name, shape in shapes.items()}


def anatomy_of(values: Values, config: Mapping[str, Any]) -> Anatomy:
    return read_anatomy(infos({name: value.shape for name, value in values.items()}), config)


def seen(values: Values, view: View) -> npt.NDArray[np.float32]:
    stored = np.ascontiguousarray(values[view.tensor]).reshape(-1)[view.offset :]
    return as_strided(stored, view.shape, [4 * step for step in view.strides]).reshape(-1, view.columns)


def oriented(values: Values, config: Mapping[str, Any]) -> dict[tuple[Any, ...], list[list[float]]]:
    """All that a reader of the weights goes by: each piece's place and attributes with its values."""
    return {
        (piece.place, piece.experts, piece.residual, piece.reads_norm): np.concatenate(
            [seen(values, view) for view in piece.views], axis=1 if piece.is_vector else 0
        ).tolist()
        for piece in anatomy_of(values, config).pieces
    }


def piece_at(anatomy: Anatomy, family: str, role: str, layer: int = 0, component: str = "text") -> Piece:
    place = Place(component, layer, family, role)
    return next(piece for piece in anatomy.pieces if piece.place == place)


def random_values(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> Values:
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def llama(seed: int = 0, layers: int = 2) -> Values:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "lm_head.weight": (VOCABULARY, HIDDEN)}
    for layer in range(layers):
        front = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{front}{norm}.weight"] = (HIDDEN,)
        for role, rows in (("q", HEADS * SIZE), ("k", GROUPS * SIZE), ("v", GROUPS * SIZE)):
            shapes[f"{front}self_attn.{role}_proj.weight"] = (rows, HIDDEN)
        shapes[f"{front}self_attn.o_proj.weight"] = (HIDDEN, HEADS * SIZE)
        shapes |= {f"{front}mlp.{role}_proj.weight": (INNER, HIDDEN) for role in ("gate", "up")}
        shapes[f"{front}mlp.down_proj.weight"] = (HIDDEN, INNER)
    return random_values(shapes | {"model.norm.weight": (HIDDEN,)}, seed)


def renamed(values: Values, old: str, new: str) -> Values:
    return {name.replace(old, new): value for name, value in values.items()}


def phi3() -> Values:
    values = llama()
    for layer in range(2):
        front = f"model.layers.{layer}."
        values[f"{front}self_attn.qkv_proj.weight"] = np.concatenate([values.pop(f"{front}self_attn.{role}_proj.weight") for role in "qkv"])
        values[f"{front}mlp.gate_up_proj.weight"] = np.concatenate(
            [values.pop(f"{front}mlp.{role}_proj.weight") for role in ("gate", "up")]
        )
    return values


@pytest.mark.parametrize("config", [CONFIG, {}, {"num_attention_heads": 7, "head_dim": "?"}], ids=["config", "no config", "wrong config"])
def test_fused_projections_are_seen_as_the_separate_ones(config: dict[str, Any]) -> None:
    assert oriented(phi3(), config) == oriented(llama(), CONFIG)


@pytest.mark.parametrize("front", ["", "language_model.model.", "base_model.model.model.", "module._orig_mod.model.", "my_own.name."])
def test_any_prefix_gives_the_same_places(front: str) -> None:
    values = llama()
    del values["lm_head.weight"]
    assert oriented(renamed(values, "model.", front), CONFIG) == oriented(values, CONFIG)


def gpt2() -> tuple[Values, Values]:
    """As published (input first, fused, with masks) and with Linear layers."""
    shapes: dict[str, tuple[int, ...]] = {"h.0.ln_1.weight": (HIDDEN,), "h.0.ln_2.weight": (HIDDEN,), "wpe.weight": (9, HIDDEN)}
    shapes |= {"wte.weight": (VOCABULARY, HIDDEN), "ln_f.weight": (HIDDEN,), "h.0.attn.c_proj.weight": (HIDDEN, HIDDEN)}
    shapes |= {"h.0.attn.c_attn.weight": (HIDDEN, 3 * HIDDEN), "h.0.attn.c_attn.bias": (3 * HIDDEN,)}
    shapes |= {"h.0.mlp.c_fc.weight": (HIDDEN, INNER), "h.0.mlp.c_proj.weight": (INNER, HIDDEN)}
    fused = random_values(shapes)
    split = {f"transformer.{name}": value.T if "c_" in name else value for name, value in fused.items()}
    for kind in ("weight", "bias"):
        parts = np.split(split.pop(f"transformer.h.0.attn.c_attn.{kind}"), 3)
        split |= {f"transformer.h.0.attn.{role}_proj.{kind}": part for role, part in zip("qkv", parts, strict=True)}
    return fused | {"h.0.attn.bias": np.ones((1, 1, 9, 9), np.float32)}, split


def test_gpt2_stored_input_first_and_as_linear_layers_are_the_same() -> None:
    fused, split = gpt2()
    config = {"model_type": "gpt2", "n_embd": HIDDEN, "n_head": HEADS}
    assert oriented(fused, config) == oriented(split, config) == oriented(fused, {})
    assert anatomy_of(fused, config).constants == {"h.0.attn.bias": "causal mask"}


def grouped(groups: int) -> tuple[Values, Values]:
    """Query heads of each group followed by its key and value head (GPT-NeoX: one query head a group; Falcon: more), and split."""
    shapes: dict[str, tuple[int, ...]] = {"gpt_neox.layers.0.attention.dense.weight": (HIDDEN, HEADS * SIZE)}
    shapes |= {"gpt_neox.layers.0.input_layernorm.weight": (HIDDEN,)}
    fused = random_values(shapes | {f"gpt_neox.layers.0.attention.query_key_value.{kind}": () for kind in ("weight", "bias")})
    split = {name: value for name, value in fused.items() if "query_key_value" not in name}
    queries = HEADS // groups
    for kind, width in (("weight", (HIDDEN,)), ("bias", ())):
        blocks = np.random.default_rng(1).standard_normal((groups, queries + 2, SIZE, *width), dtype=np.float32)
        fused[f"gpt_neox.layers.0.attention.query_key_value.{kind}"] = blocks.reshape(-1, *width)
        for role, part in zip("qkv", (blocks[:, :queries], blocks[:, queries], blocks[:, queries + 1]), strict=True):
            split[f"gpt_neox.layers.0.attention.{role}_proj.{kind}"] = part.reshape(-1, *width)
    return fused, split


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_heads_that_take_turns_are_told_apart(groups: int) -> None:
    fused, split = grouped(groups)
    config = {"model_type": "gpt_neox", "num_attention_heads": HEADS, "hidden_size": HIDDEN}
    assert oriented(fused, config) == oriented(split, config)


def test_heads_that_take_turns_stay_together_where_their_number_is_unknown() -> None:
    anatomy = anatomy_of(grouped(4)[0], {})
    assert piece_at(anatomy, "attention", "qkv").views[0].shape == (3 * HEADS * SIZE, HIDDEN)
    assert piece_at(anatomy, "bias", "qkv").is_vector
    assert piece_at(anatomy, "attention", "qkv").reads_norm == Place("text", 0, "norm", "attention_input")


def mixture(inner: int = INNER, biased: bool = False) -> Values:
    """Experts one by one."""
    front = "model.layers.0.mlp.experts."
    shapes: dict[str, tuple[int, ...]] = {"model.layers.0.post_attention_layernorm.weight": (HIDDEN,)}
    for expert in range(EXPERTS):
        shapes |= {f"{front}{expert}.{role}_proj.weight": (inner, HIDDEN) for role in ("gate", "up")}
        shapes[f"{front}{expert}.down_proj.weight"] = (HIDDEN, inner)
        if biased:
            shapes |= {f"{front}{expert}.{role}_proj.bias": (inner,) for role in ("gate", "up")}
            shapes[f"{front}{expert}.down_proj.bias"] = (HIDDEN,)
    return random_values(shapes)


def stack(values: Values, role: str, kind: str = "weight") -> npt.NDArray[np.float32]:
    """[experts, in, out], or [experts, n]."""
    return np.stack([values[f"model.layers.0.mlp.experts.{expert}.{role}_proj.{kind}"].T for expert in range(EXPERTS)])


@pytest.mark.parametrize("input_first", [True, False])
def test_stacked_experts_are_seen_as_single_ones(input_first: bool) -> None:
    single = mixture()
    fused = np.concatenate([stack(single, "gate"), stack(single, "up")], axis=-1)
    stacked = {name: value for name, value in single.items() if "experts" not in name}
    for role, value in (("gate_up", fused), ("down", stack(single, "down"))):
        stacked[f"model.layers.0.mlp.experts.{role}_proj"] = np.ascontiguousarray(value if input_first else value.swapaxes(1, 2))
    assert oriented(stacked, {}) == oriented(single, {})


@pytest.mark.parametrize("config", [{"model_type": "gpt_oss"}, {}, {"text_config": {"model_type": "gpt_oss"}}])
def test_gate_and_up_that_take_turns_are_told_apart(config: dict[str, Any]) -> None:
    single = mixture(biased=True)
    stacked = {name: value for name, value in single.items() if "experts" not in name}
    for kind, ending in (("weight", ""), ("bias", "_bias")):
        both = np.stack([stack(single, "gate", kind), stack(single, "up", kind)], axis=-1)
        stacked[f"model.layers.0.mlp.experts.gate_up_proj{ending}"] = both.reshape(*both.shape[:-2], -1)
        stacked[f"model.layers.0.mlp.experts.down_proj{ending}"] = stack(single, "down", kind)
    assert oriented(stacked, config) == oriented(single, config)


@pytest.mark.parametrize(("model_type", "steps"), [("llama4", (1, HIDDEN)), ("qwen3_moe", (HIDDEN, 1))])
def test_square_stacks_follow_the_architecture(model_type: str, steps: tuple[int, int]) -> None:
    shapes: dict[str, tuple[int, ...]] = {"layers.0.input_layernorm.weight": (HIDDEN,)}
    shapes |= {f"layers.0.feed_forward.experts.{role}_proj": (EXPERTS, HIDDEN, HIDDEN) for role in ("gate", "up", "down")}
    anatomy = read_anatomy(infos(shapes), {"model_type": model_type})
    assert {view.strides for piece in anatomy.pieces if piece.experts for view in piece.views} == {steps}


def test_experts_are_in_the_order_of_their_numbers() -> None:
    shapes = {f"layers.0.mlp.experts.{expert}.up_proj.weight": (2, 3) for expert in (10, 9, 2, 0)}
    views = piece_at(read_anatomy(infos(shapes), {}), "expert", "up").views
    assert [view.tensor.split(".")[4] for view in views] == ["0", "2", "9", "10"]


def test_an_expert_of_another_shape_has_a_piece_of_its_own() -> None:
    shapes = {"layers.0.mlp.experts.0.up_proj.weight": (2, 3), "layers.0.mlp.experts.1.up_proj.weight": (4, 3)}
    pieces = read_anatomy(infos(shapes), {}).pieces
    assert [(piece.place.role, piece.views[0].shape) for piece in pieces] == [("up", (2, 3)), ("up.2", (4, 3))]


def test_matrices_know_the_norm_they_read_and_the_side_of_the_residual_stream() -> None:
    anatomy = anatomy_of(llama(), CONFIG)
    norms = {piece.place.role: piece.reads_norm.role for piece in anatomy.pieces if piece.reads_norm is not None}
    wanted = {"q": "attention_input", "k": "attention_input", "v": "attention_input", "gate": "mlp_input", "up": "mlp_input"}
    assert norms == wanted | {"head": "final"}
    sides = {piece.place.role: piece.residual for piece in anatomy.pieces if not piece.is_vector}
    wanted = dict.fromkeys(("q", "k", "v", "gate", "up"), "in") | dict.fromkeys(("o", "down"), "out")
    assert sides == wanted | dict.fromkeys(("token", "head"), "none")
    assert anatomy.layers == {"text": 2}


def test_a_norm_of_another_length_is_not_read() -> None:
    values = llama() | {"model.layers.0.input_layernorm.weight": np.ones(HIDDEN - 1, np.float32)}
    assert piece_at(anatomy_of(values, CONFIG), "attention", "q").reads_norm is None


def test_side_by_side_blocks_read_the_one_norm_but_not_behind_an_output_norm() -> None:
    shapes = {"layers.0.input_layernorm.weight": (4,), "layers.0.mlp.up_proj.weight": (6, 4)}
    assert piece_at(read_anatomy(infos(shapes), {}), "mlp", "up").reads_norm == Place("text", 0, "norm", "attention_input")
    shapes["layers.0.post_feedforward_layernorm.weight"] = (4,)
    assert piece_at(read_anatomy(infos(shapes), {}), "mlp", "up").reads_norm is None


def test_a_head_behind_a_transform_does_not_read_the_final_norm() -> None:
    shapes = {
        "head.dense.weight": (4, 4),
        "decoder.weight": (9, 4),
        "model.final_norm.weight": (4,),
        "model.layers.0.attn_norm.weight": (4,),
    }
    assert piece_at(read_anatomy(infos(shapes), {}), "head", "head", NO_LAYER).reads_norm is None
    del shapes["head.dense.weight"]
    shapes["lm_head.weight"] = shapes.pop("decoder.weight")
    assert piece_at(read_anatomy(infos(shapes), {}), "head", "head", NO_LAYER).reads_norm == Place("text", NO_LAYER, "norm", "final")


def test_tensors_of_more_axes_are_flattened_and_leading_ones_dropped() -> None:
    shapes: dict[str, tuple[int, ...]] = {"pos_embed": (1, 17, 8), "patch_embed.proj.weight": (8, 3, 4, 4), "cls_token": (1, 1, 8)}
    anatomy = read_anatomy(infos(shapes | {"wte.weight": (1, 8), "layers.0.mixer.conv1d.weight": (6, 1, 4)}), {})
    found = {piece.place.role: (piece.views[0].shape, piece.residual, piece.is_vector) for piece in anatomy.pieces}
    assert found == {
        "learned": ((17, 8), "in", False),
        "patch": ((8, 48), "out", False),
        "class": ((1, 8), "none", True),
        "token": ((1, 8), "none", True),
        "conv": ((6, 4), "in", False),
    }


def test_a_stack_of_too_many_experts_is_unknown() -> None:
    name = "layers.0.mlp.experts.up_proj"
    assert read_anatomy(infos({name: (MAX_EXPERTS + 1, 2, 2)}), {}).unplaced == (name,)


def test_layers_of_several_stacks_in_a_component_follow_one_another_longest_first() -> None:
    names = ["vision_model.global_transformer.layers.0", "vision_model.transformer.layers.0", "vision_model.transformer.layers.1"]
    anatomy = read_anatomy(infos({f"{name}.self_attn.q_proj.weight": (2, 2) for name in names}), {})
    assert [piece.views[0].tensor[:-24] for piece in anatomy.pieces] == [names[1], names[2], names[0]]
    assert anatomy.layers == {"vision": 3}


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("model.layers.0.self_attn.rotary_emb.inv_freq", (8,), "rotary table"),
        ("gpt_neox.layers.0.attention.bias", (1, 1, 8, 8), "causal mask"),
        ("h.0.attn.masked_bias", (), "masked scores"),
        ("embeddings.position_ids", (1, 8), "index table"),
        ("stem.bn1.num_batches_tracked", (), "batch norm"),
        ("model.layers.0.mlp.up_proj.weight.quant_state.bitsandbytes__nf4", (80,), "4-bit"),
        ("model.layers.0.mlp.up_proj.SCB", (8,), "8-bit"),
        ("model.layers.0.mlp.up_proj.scales", (1, 64), "GPTQ"),
        ("h.0.attn.causal_mask", (8, 8), "causal mask"),
        ("model.rotary_emb.cos_cached", (4096, 512), "rotary table"),
        ("model.layers.0.mlp.up_proj.weight", (0, 8), "no numbers"),
    ],
)
def test_constants_have_their_reason_and_no_piece(name: str, shape: tuple[int, ...], reason: str) -> None:
    anatomy = read_anatomy(infos({name: shape}), {})
    assert reason in anatomy.constants[name]
    assert (anatomy.pieces, anatomy.unplaced) == ((), ())


def test_a_real_bias_is_no_mask() -> None:
    anatomy = read_anatomy(infos({"layers.0.attention.bias": (8,)}), {})
    assert anatomy.constants == {}


@pytest.mark.parametrize(("ending", "dtype"), [("qweight", "I32"), ("weight", "U8"), ("weight_packed", "F32")])
def test_packed_weights_are_listed_and_have_no_piece(ending: str, dtype: str) -> None:
    name = f"model.layers.0.mlp.up_proj.{ending}"
    anatomy = read_anatomy({name: info(name, 8, 8, dtype=dtype)}, {})
    assert (anatomy.unplaced, anatomy.pieces, anatomy.constants) == ((name,), (), {})


def test_names_that_their_shapes_belie_are_kept_and_listed() -> None:
    names = ["model.layers.3.causal_mask", "something.5.position_ids", "h.0.mlp.experts.down_proj"]
    anatomy = read_anatomy(infos(dict.fromkeys(names, (2, 3))), {})
    assert anatomy.unplaced == tuple(sorted(names))
    assert {(piece.place.family, piece.views[0].tensor, piece.place.layer) for piece in anatomy.pieces} == {
        ("other", names[0], 3),
        ("other", names[1], 5),
        ("other", names[2], 4),  # of several stacks the longest comes first
    }


def test_two_tensors_of_one_meaning_get_a_piece_each() -> None:
    shapes = {"model.embed_tokens.weight": (9, 4), "embed_tokens.weight": (9, 4), "wte.weight": (9, 4), "model.layers.0.ln_1.weight": (4,)}
    tokens = [piece for piece in read_anatomy(infos(shapes), {}).pieces if piece.place.family == "embedding"]
    assert [(piece.place.role, piece.views[0].tensor) for piece in tokens] == [
        ("token", "wte.weight"),
        ("token.2", "embed_tokens.weight"),
        ("token.3", "model.embed_tokens.weight"),
    ]


def test_lora_factors_are_placed() -> None:
    front = "base_model.model.model.layers.1.self_attn.q_proj.lora_"
    anatomy = read_anatomy(infos({f"{front}A.weight": (2, 8), f"{front}B.default.weight": (8, 2)}), {})
    assert [piece.place for piece in anatomy.pieces] == [Place("text", 1, "other", f"lora_{factor}_q") for factor in "ab"]
    assert anatomy.unplaced == ()


PARTS = ["model", "layers", "0", "1", "h", "experts", "mlp", "self_attn", "attn", "c_attn", "query_key_value", "gate_up_proj", "q_proj"]
PARTS += [
    "up_proj",
    "c_proj",
    "encoder",
    "decoder",
    "visual",
    "weight",
    "bias",
    "lora_A",
    "norm",
    "embed_tokens",
    "wq",
    "x",
    "",
    "99999999",
]
SHAPES = st.lists(st.integers(0, 6), max_size=4).map(tuple)
ARCHITECTURES = (Path(__file__).parents[1] / "data" / "anatomy_names.txt").read_text(encoding="utf-8").split("\n")
REAL_NAMES = sorted({line.split()[0] for line in ARCHITECTURES if line and line[0] not in "#{"})
NAMES = st.one_of(st.sampled_from(REAL_NAMES), st.lists(st.sampled_from(PARTS), min_size=1, max_size=8).map(".".join))
MODELS = st.dictionaries(NAMES, SHAPES, max_size=16)
NUMBERS = st.one_of(st.integers(-2, 6), st.none(), st.sampled_from(["", "llama4", "gpt_oss", [4, 4], True, 2.5]))
CONFIGS = st.dictionaries(st.sampled_from(["num_attention_heads", "head_dim", "hidden_size", "text_config", "model_type"]), NUMBERS)


@settings(deadline=None)
@given(MODELS, CONFIGS)
def test_every_number_of_any_model_is_in_one_piece_or_its_tensor_is_accounted_for(
    shapes: dict[str, tuple[int, ...]], config: dict[str, Any]
) -> None:
    anatomy = read_anatomy(infos(shapes), config)
    counted = {name: np.zeros(prod(shape), int) for name, shape in shapes.items()}
    for piece in anatomy.pieces:
        assert len({view.shape for view in piece.views}) == 1
        for view in piece.views:
            steps = sum(np.arange(n).reshape(-1, *(1,) * after) * step for after, n, step in _axes(view))
            np.add.at(counted[view.tensor], np.ravel(view.offset + steps), 1)
    assert all((times == (name not in anatomy.constants)).all() for name, times in counted.items())
    places = [piece.place for piece in anatomy.pieces]
    assert places == sorted(set(places))
    assert set(anatomy.unplaced) <= set(shapes)


def _axes(view: View) -> list[tuple[int, int, int]]:
    return [(len(view.shape) - 1 - axis, n, step) for axis, (n, step) in enumerate(zip(view.shape, view.strides, strict=True))]


@settings(deadline=None)
@given(st.permutations(sorted(phi3())), st.sampled_from([CONFIG, {}]))
def test_the_order_of_the_tensors_does_not_matter(order: list[str], config: dict[str, Any]) -> None:
    shapes = {name: value.shape for name, value in phi3().items()}
    assert read_anatomy(infos({name: shapes[name] for name in order}), config) == read_anatomy(infos(shapes), config)
