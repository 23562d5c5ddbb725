"""PEFT adapters: the changes that their factors make, the sum with a base, and the declared base as an answer that is not measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import adapters_written
from adapters_written import BIAS, WEIGHT
from calls import run
from modelkin_indexer.adapters.config import read_adapter_config
from modelkin_indexer.adapters.names import OWN
from modelkin_indexer.adapters.presented import AdapterSource, is_surely_none
from modelkin_indexer.adapters.reading import read_adapter
from modelkin_indexer.adapters.source import on_base
from modelkin_indexer.adapters.tuners import TUNERS
from modelkin_indexer.errors import DamagedFile, SourceError, UnsupportedFormat
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.quantised.parts import Parts
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_indexer.results.beside import Claim
from modelkin_indexer.source import Source
from modelkin_indexer.sources.folders import weights_in, weights_of
from modelkin_indexer.sources.stored import values
from modelkin_registry.answers.asked import QueryAnswer
from modelkin_registry.registry import Registry
from tiny_models import save_model, tiny_llama

PREFIX = "base_model.model.model.layers.0.self_attn."
Q, OUTPUT = f"{PREFIX}q_proj", f"{PREFIX}o_proj"
RANK, OUT, IN = 4, 6, 10


def factors(module: str = Q, rank: int = RANK, seed: int = 0, out: int = OUT, columns: int = IN) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((rank, columns)).astype(np.float32), rng.standard_normal((out, rank)).astype(np.float32)
    return {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}


def write(folder: Path, tensors: Mapping[str, Any], **config: Any) -> Path:
    """An adapter's folder; alpha is 8 unless said otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    said = {"peft_type": "LORA", "lora_alpha": 8, "base_model_name_or_path": "somebody/base", **config}
    (folder / "adapter_config.json").write_text(json.dumps(said))
    return folder


def read(source: Source, name: str) -> Any:
    info = source.tensors[name]
    return values.decode(info.dtype, source.read(name, 0, info.nbytes)).reshape(info.shape)


def opened(folder: Path) -> AdapterSource:
    source = open_source(folder)
    assert isinstance(source, AdapterSource)
    return source


def product(tensors: Mapping[str, Any], module: str = Q) -> Any:
    return tensors[f"{module}.lora_B.weight"] @ tensors[f"{module}.lora_A.weight"]


KINDS = adapters_written.every_kind()
NAME = "model.layers.0.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 8 / RANK),
        ({"use_rslora": True}, 8 / RANK**0.5),
        ({"alpha_pattern": {"q_proj": 2}}, 2 / RANK),
        ({"alpha_pattern": {r"^model\.layers\.\d+\.self_attn.q_proj": 2, "k_proj": 3}}, 2 / RANK),
        ({"alpha_pattern": {"_proj": 2}}, 8 / RANK),  # the last part of a name has to match whole
        ({"r": 99, "rank_pattern": {"q_proj": 77}}, 8 / RANK),  # the factors themselves tell the rank
    ],
)
def test_the_scale_follows_the_config(config: dict[str, Any], scale: float, tmp_path: Path) -> None:
    tensors = factors()
    with closing(open_source(write(tmp_path, tensors, **config))) as source:
        assert list(source.tensors) == [NAME]
        np.testing.assert_allclose(read(source, NAME), scale * product(tensors), rtol=1e-5)


def test_turned_round_where_the_base_stores_inputs_first(tmp_path: Path) -> None:
    tensors = factors()
    with closing(open_source(write(tmp_path, tensors, fan_in_fan_out=True))) as source:
        np.testing.assert_allclose(read(source, NAME), 2 * product(tensors).T, rtol=1e-5)


def test_token_tables_convolutions_and_whole_tensors(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    table = {"lora_embedding_A": rng.standard_normal((RANK, 20)), "lora_embedding_B": rng.standard_normal((OUT, RANK))}
    kernel = {"lora_A.weight": rng.standard_normal((RANK, 3, 5, 5)), "lora_B.weight": rng.standard_normal((OUT, RANK, 1, 1))}
    whole = rng.standard_normal((20, OUT)).astype(np.float32)
    tensors = {f"base_model.model.model.embed_tokens.{last}": tensor.astype(np.float32) for last, tensor in table.items()}
    tensors |= {f"base_model.model.patch.{last}": tensor.astype(np.float32) for last, tensor in kernel.items()}
    tensors["base_model.model.lm_head.modules_to_save.default.weight"] = whole
    with closing(open_source(write(tmp_path, tensors))) as source:
        assert set(source.tensors) == {"model.embed_tokens.weight", "patch.weight", "lm_head.weight"}
        embedding = (table["lora_embedding_B"] @ table["lora_embedding_A"]).T
        np.testing.assert_allclose(read(source, "model.embed_tokens.weight"), 2 * embedding, rtol=1e-4, atol=1e-5)
        patch = np.einsum("or,ricd->oicd", kernel["lora_B.weight"][:, :, 0, 0], kernel["lora_A.weight"])
        np.testing.assert_allclose(read(source, "patch.weight"), 2 * patch, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(source.read("patch.weight", 31 * 4, 77 * 4), source.read("patch.weight", 0, 400)[124:308])
        np.testing.assert_array_equal(read(source, "lm_head.weight"), whole)


def test_without_a_config_factors_alone_are_an_adapter(tmp_path: Path) -> None:
    """Their scale is not known; it changes no correlation."""
    tensors = factors()
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    with closing(opened(tmp_path)) as source:
        np.testing.assert_allclose(read(source, NAME), product(tensors), rtol=1e-5)


def test_a_model_with_factors_of_its_own_is_no_adapter(tmp_path: Path) -> None:
    """Some models keep adapters inside."""
    save_file({**factors(), "model.norm.weight": np.ones(IN, np.float32)}, tmp_path / "model.safetensors")
    with closing(open_source(tmp_path)) as source:
        assert not isinstance(source, AdapterSource)
        assert len(source.tensors) == 3


def test_every_kind_of_the_register_has_an_adapter() -> None:
    assert {written.kind for written in KINDS.values()} == {kind for kind, tuner in TUNERS.items() if tuner.changes is not None}


def test_every_tuners_sign_is_looked_for() -> None:
    assert set(OWN) == {tuner.prefix for tuner in TUNERS.values()}


@pytest.mark.parametrize("case", KINDS)
def test_names_leave_it_open_whether_it_is_an_adapter(case: str, tmp_path: Path) -> None:
    """Without a config too, which says so of all."""
    folder = KINDS[case].write(tmp_path / "adapter")
    (folder / "adapter_config.json").unlink()
    container, weights = weights_of(folder, next(folder.glob("*.safetensors")))
    with closing(container.open(weights)) as source:
        assert not is_surely_none(source, read_adapter_config(source)[0])


def test_names_tell_that_a_model_is_none(tmp_path: Path) -> None:
    container, weights = weights_in(save_model(tmp_path / "model", tiny_llama(1)))
    with closing(container.open(weights)) as source:
        config, _ = read_adapter_config(source)
        assert is_surely_none(source, config)
        assert read_adapter(Parts(source), source, config) is None


@pytest.mark.parametrize("case", KINDS)
def test_each_kind_on_its_base_and_alone(case: str, tmp_path: Path) -> None:
    """Alone it is the change where the adapter tells it, else its vectors at most, and what is not compared is counted."""
    written, before = KINDS[case], adapters_written.base()
    folder = written.write(tmp_path / "adapter")
    save_file(before, tmp_path / "model.safetensors")
    with closing(on_base(opened(folder), open_source(tmp_path / "model.safetensors"))) as source:
        np.testing.assert_allclose(read(source, WEIGHT), written.summed(before[WEIGHT]), rtol=1e-4, atol=1e-4)
        bias = written.bias(before[BIAS]) if written.bias is not None else before[BIAS]
        np.testing.assert_allclose(read(source, BIAS), bias, rtol=1e-4, atol=1e-5)
        assert set(source.tensors) == set(before)
        assert source.adapter["kind"] == written.words
    with closing(opened(folder)) as source:
        shown = {WEIGHT} if written.alone is not None else set()
        vectors = {name for name, info in source.tensors.items() if max(info.shape) == info.elements}
        assert set(source.tensors) - vectors == shown
        assert (BIAS in vectors) == (bool(shown) and written.bias is not None)
        if written.alone is not None:
            np.testing.assert_allclose(read(source, WEIGHT), written.alone, rtol=1e-4, atol=1e-4)
        assert [written.words in what for what, _ in source.unread] == [True] * (not shown)


@pytest.mark.parametrize("case", KINDS)
def test_any_rows_of_a_sum(case: str, tmp_path: Path) -> None:
    folder = KINDS[case].write(tmp_path / "adapter")
    save_file(adapters_written.base(), tmp_path / "model.safetensors")
    with closing(on_base(opened(folder), open_source(tmp_path / "model.safetensors"))) as source:
        whole = read(source, WEIGHT)
        row = whole.nbytes // len(whole)
        for start, stop in ((0, 1), (3, 8), (len(whole) - 1, len(whole))):
            found = source.read(WEIGHT, start * row, stop * row).view(np.float32).reshape(stop - start, -1)
            np.testing.assert_allclose(found, whole[start:stop], rtol=1e-5, atol=1e-6)


def test_an_adapter_of_which_only_the_base_tells_the_change_is_not_comparable(tmp_path: Path) -> None:
    with closing(opened(KINDS["vera"].write(tmp_path / "adapter"))) as source:
        found = fingerprint_source(source)
        assert any("--adapter-base" in note for note in source.notes)
    about = found.about
    assert about.adapter is not None
    assert (about.adapter["kind"], ["VeRA" in one["what"] for one in about.unread]) == ("VeRA", [True])
    assert not len(found.matrices)


@pytest.mark.parametrize("kind", ["TINYLORA", "PREFIX_TUNING", "ZORA"])
def test_kinds_that_are_not_worked_out_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    folder = write(tmp_path, {f"{Q}.zora_basis": np.ones((4, 10), np.float32)}, peft_type=kind)
    with pytest.raises(UnsupportedFormat, match=kind):
        open_source(folder)


def test_tensors_of_an_adapter_that_nobody_knows_are_no_model(tmp_path: Path) -> None:
    """Without a config too: a frozen basis is the same in the adapters of strangers."""
    tensors = {f"{Q}.zora_basis": np.ones((4, 10), np.float32), f"{Q}.zora_gain": np.ones(4, np.float32)}
    save_file(tensors, tmp_path / "adapter.safetensors")
    with pytest.raises(UnsupportedFormat, match="no kind that is known"):
        open_source(tmp_path / "adapter.safetensors")


def test_a_config_beside_a_whole_model_changes_nothing(tmp_path: Path) -> None:
    save_file({NAME: np.ones((6, 10), np.float32), "model.norm.weight": np.ones(10, np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "ZORA"}')
    with closing(open_source(tmp_path)) as source:
        assert not isinstance(source, AdapterSource)
        assert len(source.tensors) == 2


def test_experts_and_rows_of_tokens(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    first, second = rng.standard_normal((3 * RANK, IN)).astype(np.float32), rng.standard_normal((OUT, 3 * RANK)).astype(np.float32)
    module = "base_model.model.model.layers.0.mlp.experts"
    table = rng.standard_normal((2, IN)).astype(np.float32)
    tensors = {f"{module}.base_layer.lora_A.weight": first, f"{module}.base_layer.lora_B.weight": second, f"{module}.lora_A.weight": first}
    tensors |= {f"{module}.lora_B.weight": second, "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": table}
    listed = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    folder = write(tmp_path / "adapter", tensors, r=RANK, target_parameters=listed, trainable_token_indices={"embed_tokens": [1, 4]})
    changes = np.stack([2 * second.reshape(OUT, RANK, 3)[:, :, e] @ first.reshape(3, RANK, IN)[e] for e in range(3)])
    names = {f"model.layers.0.{name}" for name in listed}
    with closing(opened(folder)) as source:
        assert set(source.tensors) == names
        assert [np.allclose(read(source, name), changes, atol=1e-4) for name in names] == [True, True]
        assert [size for _, size in source.unread] == [table.nbytes]
    stacks = {name: rng.standard_normal((3, OUT, IN)).astype(np.float32) for name in names}
    stacks["model.layers.0.mlp.experts.down_proj"] = stacks["model.layers.0.mlp.experts.down_proj"].reshape(3, IN, OUT)  # inputs first
    tokens = rng.standard_normal((9, IN)).astype(np.float32)
    base = based(tmp_path / "base", **{**stacks, "model.embed_tokens.weight": tokens})
    with closing(on_base(opened(folder), base)) as source:
        for name, stack in stacks.items():
            moved = changes if stack.shape == changes.shape else changes.swapaxes(1, 2)
            np.testing.assert_allclose(read(source, name), stack + moved, rtol=1e-4, atol=1e-4)
        found = read(source, "model.embed_tokens.weight")
        np.testing.assert_array_equal(found[[1, 4]], table)
        np.testing.assert_array_equal(np.delete(found, [1, 4], 0), np.delete(tokens, [1, 4], 0))


@pytest.mark.parametrize("begun", ["corda", "loftq", "lora_ga"])
def test_a_start_that_is_taken_from_data_is_shown_neither_alone_nor_on_a_base(begun: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "adapter", factors(), init_lora_weights=begun)
    with closing(opened(folder)) as source:
        assert not source.tensors
    with pytest.raises(UnsupportedFormat, match="start is taken from data"):
        on_base(opened(folder), based(tmp_path / "base"))


FOREIGN = {
    "kohya": ("lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_out_0", "lora_down.weight", "lora_up.weight"),
    "diffusers": ("unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0", "lora_A.weight", "lora_B.weight"),
    "older diffusers": ("unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0", "lora.down.weight", "lora.up.weight"),
    "processors": ("unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.processor.to_out_lora", "down.weight", "up.weight"),
}
DENOISED = "unet/down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0.weight"


@pytest.mark.parametrize("form", FOREIGN)
def test_files_of_other_trainers_come_out_under_one_name(form: str, tmp_path: Path) -> None:
    module, down, up = FOREIGN[form]
    tensors = factors()
    stored = {f"{module}.{down}": tensors[A], f"{module}.{up}": tensors[B]}
    if form == "kohya":
        stored[f"{module}.alpha"] = np.array(8, np.float32)
    save_file(stored, tmp_path / "style.safetensors")
    with closing(opened(tmp_path / "style.safetensors")) as source:
        assert list(source.tensors) == [DENOISED]
        np.testing.assert_allclose(read(source, DENOISED), product(tensors) * (2 if form == "kohya" else 1), rtol=1e-5)
    plain = DENOISED.removeprefix("unet/")
    with closing(
        on_base(opened(tmp_path / "style.safetensors"), based(tmp_path / "base", **{plain: np.ones((OUT, IN), np.float32)}))
    ) as source:
        np.testing.assert_allclose(read(source, plain), 1 + product(tensors) * (2 if form == "kohya" else 1), rtol=1e-5)


def test_products_cores_and_whole_changes_of_lycoris(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)

    def make(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    kernel, loha, norm = (
        "lora_unet_down_blocks_0_resnets_0_conv1",
        "lora_te1_text_model_encoder_layers_0_mlp_fc1",
        "lora_unet_conv_norm_out",
    )
    mid, first, second = make(RANK, RANK, 3, 3), make(RANK, 5, 1, 1), make(OUT, RANK, 1, 1)
    halves = {f"hada_w{i}_{s}": make(*((OUT, RANK) if s == "a" else (RANK, IN))) for i in (1, 2) for s in "ab"}
    stored = {f"{kernel}.lora_mid.weight": mid, f"{kernel}.lora_down.weight": first, f"{kernel}.lora_up.weight": second}
    stored |= {f"{loha}.{name}": tensor for name, tensor in halves.items()} | {f"{loha}.alpha": np.array(2, np.float32)}
    stored |= {f"{norm}.w_norm": make(7), f"{norm}.b_norm": make(7), f"{kernel}.diff_b": make(OUT)}
    save_file(stored, tmp_path / "lycoris.safetensors")
    with closing(opened(tmp_path / "lycoris.safetensors")) as source:
        found = {name: read(source, name) for name in source.tensors}
    expected = np.einsum("ijkl,oi,jc->ockl", mid, second[:, :, 0, 0], first[:, :, 0, 0])
    np.testing.assert_allclose(found["unet/down_blocks.0.resnets.0.conv1.weight"], expected, rtol=1e-4, atol=1e-4)
    product_of_halves = (halves["hada_w1_a"] @ halves["hada_w1_b"]) * (halves["hada_w2_a"] @ halves["hada_w2_b"])
    np.testing.assert_allclose(
        found["text_encoder/text_model.encoder.layers.0.mlp.fc1.weight"], product_of_halves / 2, rtol=1e-4, atol=1e-4
    )
    np.testing.assert_array_equal(found["unet/conv_norm_out.weight"], stored[f"{norm}.w_norm"])
    assert len(found) == 5


def test_what_a_trainer_adds_that_is_not_known_is_counted(tmp_path: Path) -> None:
    module = "lora_unet_down_blocks_0_attentions_1_proj_in"
    tensors = factors()
    stored = {
        f"{module}.lora_down.weight": tensors[A],
        f"{module}.lora_up.weight": tensors[B],
        f"{module}_x.spectre": np.ones(5, np.float32),
    }
    save_file(stored, tmp_path / "new.safetensors")
    with closing(opened(tmp_path / "new.safetensors")) as source:
        assert len(source.tensors) == 1
        assert [size for _, size in source.unread] == [20]


A, B = f"{Q}.lora_A.weight", f"{Q}.lora_B.weight"


@pytest.mark.parametrize(
    ("tensors", "config", "kind", "words"),
    [
        ({A: np.ones((4, 10), np.float32)}, {}, DamagedFile, "lora_B, is missing"),
        ({B: np.ones((6, 4), np.float32)}, {}, DamagedFile, "lora_A, is missing"),
        ({A: np.ones((4, 10), np.float32), B: np.ones((6, 5), np.float32)}, {}, DamagedFile, "contradicts"),
        ({A: np.ones(4, np.float32), B: np.ones((6, 4), np.float32)}, {}, DamagedFile, "contradicts"),
        ({**factors(), A.replace(".weight", ".second.weight"): np.ones((4, 10), np.float32)}, {}, DamagedFile, "two adapters"),
        ({**factors(), f"{Q}.lora_magnitude_vector": np.ones(5, np.float32)}, {}, DamagedFile, "5 magnitudes"),
        ({**factors(), f"{Q}.weight": np.ones((6, 10), np.float32)}, {}, DamagedFile, "changed twice"),
        (factors(), {"lora_alpha": "much"}, DamagedFile, "lora_alpha"),
        (factors(), {"lora_alpha": float("nan")}, DamagedFile, "lora_alpha"),
        (factors(), {"alpha_pattern": [1]}, DamagedFile, "alpha_pattern"),
        (factors(), {"alpha_pattern": {"(a+)+$": 1}}, UnsupportedFormat, "pattern"),
        (factors(), {"alpha_pattern": {".*" * 9: 1}}, UnsupportedFormat, "pattern"),
        (factors(rank=1, out=1 << 17, columns=1 << 17), {}, UnsupportedFormat, "larger than any"),
    ],
)  # fmt: skip
def test_contradictions_are_told(
    tensors: dict[str, Any], config: dict[str, Any], kind: type[SourceError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(kind) as raised:
        open_source(write(tmp_path, tensors, **config))
    assert words in str(raised.value)
    assert str(tmp_path) in str(raised.value)


def test_a_broken_config_is_a_note(tmp_path: Path) -> None:
    folder = write(tmp_path, factors())
    (folder / "adapter_config.json").write_text("{")
    with closing(opened(folder)) as source:
        assert any("adapter_config.json left out" in note for note in source.notes)


def based(folder: Path, **tensors: Any) -> Source:
    folder.mkdir()
    base = {NAME: np.random.default_rng(5).standard_normal((OUT, IN)).astype(np.float32), "model.norm.weight": np.ones(IN, np.float32)}
    save_file({**base, **tensors}, folder / "model.safetensors")
    return open_source(folder)


def test_the_sum_with_a_base(tmp_path: Path) -> None:
    tensors = {**factors(), "base_model.model.model.norm.weight": np.full(IN, 3, np.float32)}
    base = based(tmp_path / "base")
    before = read(base, NAME)
    with closing(on_base(opened(write(tmp_path / "adapter", tensors)), base)) as source:
        assert set(source.tensors) == {NAME, "model.norm.weight"}
        np.testing.assert_allclose(read(source, NAME), before + 2 * product(tensors), rtol=1e-5)
        np.testing.assert_array_equal(read(source, "model.norm.weight"), np.full(IN, 3))
        assert [file.name for file in source.files] == ["adapter_model.safetensors", "model.safetensors"]
        about = fingerprint_source(source).about
    assert about.adapter == {"kind": "LoRA", "rank": RANK, "base": "somebody/base", "added": True}


def test_dora_on_its_base_and_alone(tmp_path: Path) -> None:
    """Each row of the sum has the length that the magnitudes say."""
    lengths = np.arange(1, OUT + 1).astype(np.float32)
    tensors = {**factors(), f"{Q}.lora_magnitude_vector": lengths}
    folder = write(tmp_path / "adapter", tensors, use_dora=True)
    base = based(tmp_path / "base")
    summed = read(base, NAME) + 2 * product(tensors)
    with closing(opened(folder)) as source:
        np.testing.assert_allclose(read(source, NAME), 2 * product(tensors), rtol=1e-5)
        assert any("magnitudes" in note for note in source.notes)
        assert source.adapter["kind"] == "DoRA"
    with closing(on_base(opened(folder), base)) as source:
        expected = lengths[:, None] * summed / np.linalg.norm(summed, axis=1, keepdims=True)
        np.testing.assert_allclose(read(source, NAME), expected, rtol=1e-5)


def test_a_base_that_does_not_fit(tmp_path: Path) -> None:
    folder = write(tmp_path / "adapter", factors(OUTPUT))
    with pytest.raises(DamagedFile, match="has no such weight"):
        on_base(opened(folder), based(tmp_path / "base"))
    folder = write(tmp_path / "wide", factors(columns=IN + 1))
    with pytest.raises(DamagedFile, match=r"has shape \[6, 10\]"):
        on_base(opened(folder), based(tmp_path / "other"))


def test_fingerprints_without_an_adapter_keep_their_bytes(tmp_path: Path) -> None:
    with closing(open_source(save_model(tmp_path / "a", tiny_llama(1)))) as source:
        made = fingerprint_source(source)
    data = made.to_bytes()
    assert fingerprints.from_bytes(data).about.adapter is None
    with closing(open_source(write(tmp_path / "adapter", factors()))) as source:
        adapter = fingerprint_source(source)
    assert fingerprints.from_bytes(adapter.to_bytes()).about == adapter.about
    assert adapter.about.bytes_total == (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size


@pytest.fixture
def shapes(tmp_path: Path) -> dict[str, Any]:
    """Two strangers of one architecture in a registry's folder, and an adapter for the first."""
    for number, name in enumerate(("base", "stranger")):
        save_model(tmp_path / name, tiny_llama(number + 1))
    with closing(open_source(tmp_path / "base")) as source:
        out, columns = source.tensors[NAME].shape
    return {"out": out, "columns": columns}


def asked(folder: Path, tensors: Mapping[str, Any], base: str = "somebody/base", k: int = 5) -> QueryAnswer:
    adapter = write(folder / "adapter", tensors, base_model_name_or_path=base)
    with Registry.open(folder / "registry.db") as registry:
        for name in ("base", "stranger"):
            with closing(open_source(folder / name)) as source:
                registry.add(name, fingerprint_source(source))
        with closing(open_source(adapter)) as source:
            found = fingerprint_source(source)
        claims = [Claim("base_model", base, "adapter_config.json")]
        answer = registry.query(found, source="adapter", k=k, claims=claims)
        assert registry.query(found, source="adapter", k=k).relatives == answer.relatives  # the fingerprint knows its base too
        return answer


def test_the_declared_base_is_told_as_declared(shapes: dict[str, Any], tmp_path: Path) -> None:
    answer = asked(tmp_path, factors(**shapes))
    (relative,) = answer.relatives
    assert (relative.model, relative.relation, relative.declared) == ("base", "declared", True)
    assert (relative.shared, relative.p_value) == (0.0, None)
    assert not any(family.inherited for component in relative.components for family in component.families)
    assert any("declared, not measured" in sentence for sentence in answer.explanation)
    assert answer.explanation[0].startswith("No relative by descent was found")
    assert [claim.verdict for claim in answer.claims] == ["not measurable"]


@pytest.mark.parametrize(("wider", "base"), [(1, "somebody/base"), (0, "somebody/else")])
def test_shapes_that_do_not_fit_and_other_names_yield_nothing(wider: int, base: str, shapes: dict[str, Any], tmp_path: Path) -> None:
    assert asked(tmp_path, factors(**{**shapes, "out": shapes["out"] + wider}), base).relatives == ()


def test_two_adapters_compare_on_their_changes(shapes: dict[str, Any], tmp_path: Path) -> None:
    made = {}
    for name, seed in (("one", 0), ("other", 7)):
        with closing(
            open_source(write(tmp_path / name, {**factors(Q, 4, seed, **shapes), **factors(OUTPUT, 4, seed + 1, **shapes)}))
        ) as source:
            made[name] = fingerprint_source(source)
    tuned = {name: tensor * np.float32(1.01) for name, tensor in factors(Q, 4, 0, **shapes).items()} | factors(OUTPUT, 4, 1, **shapes)
    with closing(open_source(write(tmp_path / "tuned", tuned))) as source:
        made["tuned"] = fingerprint_source(source)
    with Registry.open(tmp_path / "adapters.db") as registry:
        found = {name: registry.compare(made["one"], made[name]).relation for name in ("other", "tuned")}
    assert found["other"] in ("unrelated", "not comparable")
    assert found["tuned"] not in ("unrelated", "not comparable")


def test_base_on_the_command_line(shapes: dict[str, Any], tmp_path: Path) -> None:
    adapter = write(tmp_path / "adapter", {name: tensor * 0.01 for name, tensor in factors(**shapes).items()})
    registry = str(tmp_path / "registry.db")
    assert run("add", "--no-starter", str(tmp_path / "base"), registry=registry).exit_code == 0
    summed = run("query", str(adapter), "--adapter-base", str(tmp_path / "base"), "--json", registry=registry)
    assert [relative["declared"] for relative in json.loads(summed.stdout)["relatives"]] == [False]
    compared = json.loads(run("compare", str(adapter), "base", "--json", registry=registry).stdout)
    assert [(claim["model"], claim["verdict"]) for claim in compared["claims"]] == [("base", "not measurable")]
    assert run("add", str(adapter), registry=registry).exit_code == 0
    shown = json.loads(run("show", adapter.name, "--json", registry=registry).stdout)
    assert [claim["verdict"] for claim in shown["weighed_claims"]] == ["not measurable"]
    refused = run("query", str(tmp_path / "base"), "--adapter-base", str(tmp_path / "base"), registry=registry)
    assert refused.exit_code == 3
    assert "is no adapter" in refused.stderr
