"""Weights as other libraries name and lay them out are the same pieces as the model's own publication of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from numpy.lib.stride_tricks import as_strided

from modelkin_data.libraries import libraries
from modelkin_indexer.anatomy.layouts import usual_head_size
from modelkin_indexer.anatomy.libraries.published import published
from modelkin_indexer.anatomy.libraries.styles import spelt
from modelkin_indexer.anatomy.model import Told
from modelkin_indexer.anatomy.reading import read_anatomy
from modelkin_indexer.places import Place, TensorInfo
from modelkin_indexer.sources.stored.files import read_config

Values = dict[str, npt.NDArray[np.float32]]
HEADS, GROUPS, SIZE, INNER, LAYERS, VOCABULARY = 4, 2, 6, 40, 2, 50
WIDTH = HEADS * SIZE
CONFIG = {"model_type": "llama", "hidden_size": WIDTH, "num_attention_heads": HEADS, "num_key_value_heads": GROUPS}


def llama() -> Values:
    """A llama as transformers publishes it."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, WIDTH),
        "model.norm.weight": (WIDTH,),
        "lm_head.weight": (VOCABULARY, WIDTH),
    }
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        shapes |= {f"{at}self_attn.{x}_proj.weight": (rows * SIZE, WIDTH) for x, rows in zip("qkv", (HEADS, GROUPS, GROUPS), strict=True)}
        shapes |= {f"{at}self_attn.o_proj.weight": (WIDTH, WIDTH), f"{at}mlp.down_proj.weight": (WIDTH, INNER)}
        shapes |= {f"{at}mlp.{x}_proj.weight": (INNER, WIDTH) for x in ("gate", "up")}
        shapes |= {f"{at}{x}_layernorm.weight": (WIDTH,) for x in ("input", "post_attention")}
    generator = np.random.default_rng(0)
    return {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def turned(values: Values, but: str) -> Values:
    """All matrices [in, out] but those whose names fit."""
    return {name: v.T if v.ndim == 2 and not re.search(but, name) else v for name, v in values.items()}


def each(values: Values, outside: Mapping[str, str], layer: str, inside: Mapping[str, Callable[[Values], Any] | str]) -> Values:
    """Names outside the layers, and of each layer what a module, or several, make."""
    found = {new: values[old] for old, new in outside.items()}
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        own = {name.removeprefix(at).removesuffix(".weight"): v for name, v in values.items() if name.startswith(at)}
        found |= {layer.format(i) + end: own[what] if isinstance(what, str) else what(own) for end, what in inside.items()}
    return found


def grouped(own: Values) -> Any:
    """q, k and v, group after group."""
    q, k, v = (own[f"self_attn.{x}_proj"].reshape(GROUPS, -1, WIDTH) for x in "qkv")
    return np.concatenate([q, k, v], axis=1).reshape(-1, WIDTH)


def stacked(own: Values) -> Any:
    return np.concatenate([own[f"self_attn.{x}_proj"] for x in "qkv"])


def gate_up(own: Values) -> Any:
    return np.concatenate([own["mlp.gate_proj"], own["mlp.up_proj"]])


def by_heads(x: str) -> Callable[[Values], Any]:
    return lambda own: own[f"self_attn.{x}_proj"].reshape(-1, SIZE, WIDTH).transpose(0, 2, 1)


def taking_turns(x: str) -> Callable[[Values], Any]:
    return lambda own: own[f"self_attn.{x}_proj"].reshape(-1, 2, SIZE // 2, WIDTH).transpose(0, 2, 1, 3).reshape(-1, WIDTH)


def flipped(name: str) -> Callable[[Values], Any]:
    return lambda own: own[name].T


OUTSIDE = ("model.embed_tokens.weight", "lm_head.weight", "model.norm.weight")


def outside(*names: str) -> dict[str, str]:
    return dict(zip(OUTSIDE, names, strict=True))


def megatron(values: Values) -> Values:
    inside = {
        "self_attention.linear_qkv.weight": grouped,
        "self_attention.linear_qkv.layer_norm_weight": "input_layernorm",
        "self_attention.linear_proj.weight": "self_attn.o_proj",
        "mlp.linear_fc1.weight": gate_up,
        "mlp.linear_fc1.layer_norm_weight": "post_attention_layernorm",
        "mlp.linear_fc2.weight": "mlp.down_proj",
    }
    names = outside("embedding.word_embeddings.weight", "output_layer.weight", "decoder.final_layernorm.weight")
    return each(values, names, "decoder.layers.{}.", inside)


def litgpt(values: Values, fused: str, qkv: Callable[[Values], Any]) -> Values:
    inside = {
        f"attn.{fused}.weight": qkv,
        "attn.proj.weight": "self_attn.o_proj",
        "norm_1.weight": "input_layernorm",
        "norm_2.weight": "post_attention_layernorm",
        "mlp.fc_1.weight": "mlp.gate_proj",
        "mlp.fc_2.weight": "mlp.up_proj",
        "mlp.proj.weight": "mlp.down_proj",
    }
    return each(values, outside("transformer.wte.weight", "lm_head.weight", "transformer.ln_f.weight"), "transformer.h.{}.", inside)


def tensorrt(values: Values) -> Values:
    inside = {
        "attention.qkv.weight": stacked,
        "attention.dense.weight": "self_attn.o_proj",
        "input_layernorm.weight": "input_layernorm",
        "post_layernorm.weight": "post_attention_layernorm",
        "mlp.fc.weight": "mlp.gate_proj",
        "mlp.gate.weight": "mlp.up_proj",
        "mlp.proj.weight": "mlp.down_proj",
    }
    names = outside("transformer.vocab_embedding.weight", "lm_head.weight", "transformer.ln_f.weight")
    return each(values, names, "transformer.layers.{}.", inside)


def lens(values: Values) -> Values:
    inside = {
        **{f"attn.{name}": by_heads(x) for name, x in (("W_Q", "q"), ("_W_K", "k"), ("_W_V", "v"))},
        "attn.W_O": lambda own: own["self_attn.o_proj"].T.reshape(HEADS, SIZE, WIDTH),
        "ln1.w": "input_layernorm",
        "ln2.w": "post_attention_layernorm",
        "mlp.W_gate": flipped("mlp.gate_proj"),
        "mlp.W_in": flipped("mlp.up_proj"),
        "mlp.W_out": flipped("mlp.down_proj"),
    }
    found = each(values, outside("embed.W_E", "unembed.W_U", "ln_final.w"), "blocks.{}.", inside)
    return found | {"unembed.W_U": found["unembed.W_U"].T}


def maxtext(values: Values) -> Values:
    inside = {
        **{f"self_attention/{y}/kernel": lambda own, x=x: own[f"self_attn.{x}_proj"].T.reshape(WIDTH, -1, SIZE) for x, y in QUERIES},
        "self_attention/out/kernel": lambda own: own["self_attn.o_proj"].T.reshape(HEADS, SIZE, WIDTH),
        "mlp/wi_0/kernel": flipped("mlp.gate_proj"),
        "mlp/wi_1/kernel": flipped("mlp.up_proj"),
        "mlp/wo/kernel": flipped("mlp.down_proj"),
        "pre_self_attention_layer_norm/scale": "input_layernorm",
        "post_self_attention_layer_norm/scale": "post_attention_layernorm",
    }
    head = "params/decoder/logits_dense/kernel"
    found = each(
        values,
        outside("params/token_embedder/embedding", head, "params/decoder/decoder_norm/scale"),
        "params/decoder/layers_{}/",
        inside,
    )
    return found | {head: found[head].T}


QUERIES = (("q", "query"), ("k", "key"), ("v", "value"))


def meta(values: Values) -> Values:
    inside = {
        **{f"attention.w{x}.weight": taking_turns(x) for x in "qk"},
        "attention.wv.weight": "self_attn.v_proj",
        "attention.wo.weight": "self_attn.o_proj",
        "attention_norm.weight": "input_layernorm",
        "ffn_norm.weight": "post_attention_layernorm",
        "feed_forward.w1.weight": "mlp.gate_proj",
        "feed_forward.w3.weight": "mlp.up_proj",
        "feed_forward.w2.weight": "mlp.down_proj",
    }
    return each(values, outside("tok_embeddings.weight", "output.weight", "norm.weight"), "layers.{}.", inside)


def torchtune(values: Values) -> Values:
    inside = {
        **{f"attn.{x}_proj.weight": taking_turns(x) for x in "qk"},
        "attn.v_proj.weight": "self_attn.v_proj",
        "attn.output_proj.weight": "self_attn.o_proj",
        "sa_norm.scale": "input_layernorm",
        "mlp_norm.scale": "post_attention_layernorm",
        **{f"mlp.w{number}.weight": f"mlp.{x}_proj" for number, x in ((1, "gate"), (2, "down"), (3, "up"))},
    }
    return each(values, outside("tok_embeddings.weight", "output.weight", "norm.scale"), "layers.{}.", inside)


def paddle(values: Values) -> Values:
    return {name.replace("model.", "llama.", 1): v for name, v in turned(values, "embed").items()}


def paddle_fused(values: Values) -> Values:
    inside = {
        "self_attn.qkv_proj.weight": lambda own: grouped(own).T,
        "self_attn.o_proj.weight": flipped("self_attn.o_proj"),
        "mlp.gate_up_fused_proj.weight": lambda own: gate_up(own).T,
        "mlp.down_proj.weight": flipped("mlp.down_proj"),
        "input_layernorm.weight": "input_layernorm",
        "post_attention_layernorm.weight": "post_attention_layernorm",
    }
    found = each(values, outside("llama.embed_tokens.weight", "lm_head.weight", "llama.norm.weight"), "llama.layers.{}.", inside)
    return found | {"lm_head.weight": found["lm_head.weight"].T}


def flax(values: Values) -> Values:
    found = {}
    for name, value in turned(values, "embed").items():
        leaf = "embedding" if "embed" in name else "kernel" if value.ndim == 2 else "weight"
        found[re.sub(r"\.weight$", f".{leaf}", name).replace(".", "/")] = value
    return found


def slashes_as_dots(values: Values) -> Values:
    return {name.replace("/", ".").replace("layers.", "layers_"): value for name, value in flax(values).items()}


def underscored(values: Values) -> Values:
    return {name.replace(".", "_"): value for name, value in values.items()}


FORMS: dict[str, Callable[[Values], Values]] = {
    "Megatron-core": megatron,
    "LitGPT, grouped": lambda values: litgpt(values, "attn", grouped),
    "LitGPT": lambda values: litgpt(values, "qkv", stacked),
    "TensorRT-LLM": tensorrt,
    "TransformerLens": lens,
    "MaxText": maxtext,
    "Meta": meta,
    "torchtune": torchtune,
    "Paddle": paddle,
    "Paddle, fused": paddle_fused,
    "Flax": flax,
    "Flax, slashes as dots": slashes_as_dots,
    "underscores": underscored,
}


def infos(values: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, TensorInfo]:
    return {name: TensorInfo(name, "F32", value.shape, value.nbytes) for name, value in sorted(values.items())}


def pieces(values: Values, config: Mapping[str, Any], told: Told) -> dict[tuple[Any, ...], list[Any]]:
    """Each piece's place and what is known of it, with its values."""
    found = {}
    for piece in read_anatomy(infos(values), config, told).pieces:
        rows = []
        for view in piece.views:
            stored = np.ascontiguousarray(values[view.tensor]).reshape(-1)
            low = view.offset
            steps = [4 * step for step in view.strides]
            rows.append(as_strided(stored[low:], view.shape, steps).reshape(-1, view.columns))
        found[piece.place, piece.experts, piece.residual, piece.reads_norm] = np.concatenate(rows).tolist()
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("told", ["its own config", "that of a model alike"])
def test_the_same_pieces_as_published(form: str, told: str) -> None:
    values = llama()
    own, alike = (CONFIG, {}) if told == "its own config" else ({}, CONFIG)
    assert pieces(FORMS[form](values), own, Told(alike=alike)) == pieces(values, {}, Told())


def test_heads_of_a_model_of_another_width_are_not_taken() -> None:
    values = megatron(llama())
    other = read_anatomy(infos(values), {}, Told(alike={**CONFIG, "hidden_size": 2 * WIDTH}))
    assert other == read_anatomy(infos(values), {})


def test_every_library_of_the_table_is_recognised_and_every_name_of_it_parsed() -> None:
    for library in libraries():
        for row in library.rows:
            assert bool(row.published) != bool(row.parts)
            assert re.compile(row.name)
            groups = row.name.count("#") + len(re.findall(r"\((?!\?)", row.name))
            assert {int(n) for text in (row.published, *row.parts) for n in re.findall(r"\{(\d)\}", text)} <= set(range(1, groups + 1))
            assert not row.rows or len(row.rows) == len(row.parts)


@pytest.mark.parametrize("turned_by", ["shapes", "metadata", "nothing"])
def test_square_matrices_are_turned_where_the_file_says_so(turned_by: str) -> None:
    shape = (WIDTH, INNER if turned_by == "shapes" else WIDTH)
    values = {f"layers.0.self_attn.{x}_proj.weight": np.zeros((WIDTH, WIDTH), np.float32) for x in "qkvo"}
    values |= {
        "layers.0.mlp.up_proj.weight": np.zeros(shape, np.float32),
        "layers.0.mlp.down_proj.weight": np.zeros(shape[::-1], np.float32),
    }
    values |= {"layers.0.input_layernorm.weight": np.zeros(WIDTH, np.float32)}
    anatomy = read_anatomy(infos(values), {}, Told(turned=turned_by == "metadata"))
    steps = {piece.views[0].strides for piece in anatomy.pieces if piece.place.family == "attention"}
    assert steps == {(WIDTH, 1) if turned_by == "nothing" else (1, WIDTH)}


def test_one_matrix_the_usual_way_round_speaks_for_all() -> None:
    values = {name: np.zeros(v.shape, np.float32) for name, v in paddle(llama()).items()}
    values["llama.layers.1.mlp.up_proj.weight"] = np.zeros((INNER, WIDTH), np.float32)
    anatomy = read_anatomy(infos(values), {})
    query = next(piece for piece in anatomy.pieces if piece.place == Place("text", 0, "attention", "q"))
    assert query.views[0].strides == (WIDTH, 1)


def test_parts_of_a_fused_tensor_and_halves_that_changed_places() -> None:
    width = 8
    generator = np.random.default_rng(1)
    values: Values = {}
    for i in range(2):
        values |= {f"double_blocks.{i}.img_attn.qkv.weight": generator.standard_normal((3 * width, width), dtype=np.float32)}
        values |= {f"single_blocks.{i}.linear1.weight": generator.standard_normal((7 * width, width), dtype=np.float32)}
        values |= {f"single_blocks.{i}.linear1.bias": generator.standard_normal(7 * width, dtype=np.float32)}
    values |= {"final_layer.adaLN_modulation.1.weight": generator.standard_normal((2 * width, width), dtype=np.float32)}
    published: Values = {}
    for i in range(2):
        at, qkv = f"transformer_blocks.{i}.attn.", values[f"double_blocks.{i}.img_attn.qkv.weight"]
        published |= {f"{at}to_{x}.weight": part for x, part in zip("qkv", np.split(qkv, 3), strict=True)}
        for end in ("weight", "bias"):
            at, both = f"single_transformer_blocks.{i}.", np.split(values[f"single_blocks.{i}.linear1.{end}"], 7)
            published |= {f"{at}attn.to_{x}.{end}": part for x, part in zip("qkv", both, strict=False)}
            published[f"{at}proj_mlp.{end}"] = np.concatenate(both[3:])
    published["norm_out.linear.weight"] = np.concatenate(np.split(values["final_layer.adaLN_modulation.1.weight"], 2)[::-1])
    ours = read_anatomy(infos(values), {})
    theirs = {place[0]: rows for place, rows in pieces(published, {}, Told()).items()}
    assert {piece.place for piece in ours.pieces} == set(theirs)
    for piece in ours.pieces:
        (view,) = piece.views
        flat = values[view.tensor].reshape(-1)
        index = np.indices(view.shape).reshape(len(view.shape), -1).T @ np.array(view.strides) + view.offset
        assert flat[index].reshape(-1, view.columns).tolist() == theirs[piece.place]


def test_names_are_left_alone_where_they_are_spelt_as_usual() -> None:
    assert spelt(llama()) == {}
    assert spelt(["a/b", "c/d/weight"]) == {}
    assert spelt(["conv_1", "features_2"]) == {}
    assert spelt(["a.kernel", "b.kernel", "c.weight", "d.weight"]) == {}


def test_heads_are_of_the_usual_size_where_nothing_tells() -> None:
    assert usual_head_size(4096, 1024) == 128
    assert usual_head_size(2048, 256) == 128
    assert usual_head_size(576, 192) == 64
    assert usual_head_size(7, 7) is None


def test_a_stack_of_experts_as_mlx_names_it() -> None:
    shapes = {f"model.layers.0.mlp.switch_mlp.{x}_proj.weight": (3, INNER, WIDTH) for x in ("gate", "up")}
    shapes |= {"model.layers.0.mlp.switch_mlp.down_proj.weight": (3, WIDTH, INNER), "model.layers.0.input_layernorm.weight": (WIDTH,)}
    anatomy = read_anatomy({name: TensorInfo(name, "F32", shape, 4 * prod(shape)) for name, shape in shapes.items()}, {})
    found = {piece.place.role: (len(piece.views), piece.views[0].shape) for piece in anatomy.pieces if piece.place.family == "expert"}
    assert found == {"gate": (3, (INNER, WIDTH)), "up": (3, (INNER, WIDTH)), "down": (3, (WIDTH, INNER))}


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("params.json", '{"dim": 24, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-5}', {"hidden_size": 24, "num_attention_heads": 4}),
        ("model_config.yaml", "name: x\nn_embd: 24\nn_head: 4\nn_query_groups: 2\n", {"hidden_size": 24, "num_attention_heads": 4}),
        ("params.json", "[", None),
        ("params.json", '["dim", 24]', None),
    ],
)
def test_settings_of_a_library_stand_in_for_a_config(tmp_path: Path, file: str, text: str, told: dict[str, int] | None) -> None:
    (tmp_path / file).write_text(text)
    config, notes = read_config(tmp_path)
    assert config == ({} if told is None else told | {"num_key_value_heads": 2})
    assert [note.startswith(f"{file} left out") for note in notes] == [True] * (told is None)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert read_config(tmp_path) == ({"model_type": "llama"}, ())


def test_kernels_stored_outputs_first_are_left_as_they_are() -> None:
    shapes = {"dense/kernel:0": (6, 4), "dense/bias:0": (6,), "dense_1/kernel:0": (3, 6), "dense_1/bias:0": (3,)}
    tensors = {name: TensorInfo(name, "F32", shape, 4 * prod(shape)) for name, shape in shapes.items()}
    assert set(published(tensors)) == set(shapes)
    turned_round = {name: TensorInfo(name, "F32", info.shape[::-1], info.nbytes) for name, info in tensors.items()}
    assert {tensor.info.shape for tensor in published(turned_round).values()} == set(shapes.values())
