"""Quantised weights decoded: against formats written number by number, in any byte range, and refused where they contradict themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from safetensors.numpy import save_file

import quantised_libraries
from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.quantised.packing import exponents, unpack_bits
from modelkin_indexer.quantised.parts import Parts
from modelkin_indexer.quantised.plain import stores_plainly
from modelkin_indexer.quantised.schemes import SCHEMES
from modelkin_indexer.source import Source
from modelkin_indexer.sources.folders import weights_in
from modelkin_indexer.sources.stored import values
from quantised_libraries import ao_floats, bitnet, comfy_nvfp4, comfy_turned, comfy_w4a8, quanto, sparse
from quantised_models import IN, NAME, OUT, Layer, awq, every_layer, four_bit_codes, fp4, fp8, gptq, hqq, in_words, mlx, packed_integers
from tiny_models import save_model, tiny_llama

LAYERS = every_layer() | quantised_libraries.every_layer()
WEIGHT = f"{NAME}.weight"


def read(source: Source, name: str = WEIGHT) -> Any:
    info = source.tensors[name]
    return values.decode(info.dtype, source.read(name, 0, info.nbytes)).reshape(info.shape)


def test_every_scheme_of_the_register_has_a_layer() -> None:
    assert {layer.scheme for layer in LAYERS.values()} == {scheme.__module__.rpartition(".")[2] for scheme in SCHEMES}


def test_names_and_types_tell_that_no_scheme_need_look(tmp_path: Path) -> None:
    """Of every stored layer they do not; of a plain model they do, and then no scheme takes a tensor."""
    plain = save_model(tmp_path / "plain", tiny_llama(1))
    folders = {case: layer.write(tmp_path / case.replace("/", "-")) for case, layer in LAYERS.items()}
    for case, path in {**folders, "plain": plain}.items():
        container, weights = weights_in(path)
        with closing(container.open(weights)) as source:
            assert stores_plainly(source) == (case == "plain"), case
            if case == "plain":
                assert not [found for scheme in SCHEMES for found in scheme(Parts(source))]


@pytest.mark.parametrize("case", LAYERS)
def test_values_are_those_that_were_written(case: str, tmp_path: Path) -> None:
    layer = LAYERS[case]
    with closing(open_source(layer.write(tmp_path))) as source:
        assert set(source.tensors) == {WEIGHT, "model.norm.weight"}
        assert source.quantization == layer.kind
        assert source.tensors[WEIGHT].shape == (OUT, IN)
        np.testing.assert_allclose(read(source), layer.weight, rtol=2e-6, atol=max(1e-9, layer.summed * 1e-6))


@pytest.mark.parametrize("case", LAYERS)
def test_all_bytes_count_once(case: str, tmp_path: Path) -> None:
    """A whole reading costs the stored weight and its scales, not the decoded values, nor a side tensor over and over."""
    with closing(open_source(LAYERS[case].write(tmp_path))) as source:
        opened = source.bytes_read
        read(source)
        size = (tmp_path / "model.safetensors").stat().st_size
        assert opened < source.bytes_read <= size * TIMES_READ.get(case.split()[0], 1)


# Where a byte belongs to rows far apart, scales lie in tiles of 128 rows, or what the codes are or what is padding is looked at first.
TIMES_READ = {"hqq": 8, "bitnet": 6, "quanto": 6, "comfy": 2, "torchao": 2}


@settings(deadline=None, max_examples=60)
@given(case=st.sampled_from(sorted(LAYERS)), ends=st.tuples(st.integers(0, OUT * IN * 4), st.integers(0, OUT * IN * 4)))
def test_any_range_of_bytes(case: str, ends: tuple[int, int], tmp_path_factory: pytest.TempPathFactory) -> None:
    with closing(open_source(LAYERS[case].write(tmp_path_factory.mktemp("layer")))) as source:
        whole = source.read(WEIGHT, 0, OUT * IN * 4)
        start, stop = sorted(ends)
        assert (source.read(WEIGHT, start, stop) == whole[start:stop]).all()


@given(bits=st.integers(1, 8), count=st.integers(1, 70), seed=st.integers(0, 99))
def test_bit_streams(bits: int, count: int, seed: int) -> None:
    numbers = np.random.default_rng(seed).integers(0, 2**bits, (3, count))
    stream = in_words(numbers, bits).view(np.uint8)
    assert (unpack_bits(stream, bits, count) == numbers).all()


def test_exponents() -> None:
    found = exponents(np.array([0, 126, 127, 128, 254, 255], np.uint8))
    np.testing.assert_array_equal(found, np.array([2.0**-127, 0.5, 1, 2, 2.0**127, np.nan], np.float32))


def test_stacked_experts_of_gpt_oss(tmp_path: Path) -> None:
    """Presented [experts, out, in], as the file has them."""
    layer = fp4("mxfp4")
    name = "model.layers.0.mlp.experts.down_proj"
    blocks = layer.stored["weight_packed"].reshape(2, OUT // 2, IN // 32, 16)
    scales = layer.stored["weight_scale"].reshape(2, OUT // 2, IN // 32)
    save_file({f"{name}_blocks": blocks, f"{name}_scales": scales}, tmp_path / "model.safetensors")
    with closing(open_source(tmp_path)) as source:
        assert list(source.tensors) == [name]
        np.testing.assert_array_equal(read(source, name), layer.weight.reshape(2, OUT // 2, IN))


def test_stacked_experts_in_fp8_blocks(tmp_path: Path) -> None:
    layer = fp8("powers")
    name = "model.layers.0.mlp.experts.down_proj"
    stored = {
        name: layer.stored["weight"].reshape(2, 32, IN),
        f"{name}_scale_inv": layer.stored["weight_scale_inv"].reshape(2, 1, IN // 32),
    }
    save_file(stored, tmp_path / "model.safetensors")
    with closing(open_source(tmp_path)) as source:
        np.testing.assert_array_equal(read(source, name), layer.weight.reshape(2, 32, IN))


def test_plain_eight_bit_floats_stay_as_they_are(tmp_path: Path) -> None:
    """A cast to FP8 without scales is a plain number format."""
    layer = fp8("tensor")
    save_file({WEIGHT: layer.stored["weight"]}, tmp_path / "model.safetensors")
    with closing(open_source(tmp_path)) as source:
        assert source.quantization == ""
        assert source.tensors[WEIGHT].dtype == "F8_E4M3"


def test_the_probe_level_reads_few_bytes(tmp_path: Path) -> None:
    """Rows are decoded alone, not with a block of others."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2**32, (2048 // 8, 1024), dtype=np.uint32).view(np.int32)
    stored = {"qweight": codes, "qzeros": np.zeros((16, 128), np.int32), "scales": np.ones((16, 1024), np.float16)}
    save_file({f"{NAME}.{last}": tensor for last, tensor in stored.items()}, tmp_path / "model.safetensors")
    with closing(open_source(tmp_path)) as source:
        fingerprint_source(source, level="probe")
        assert source.bytes_read < codes.nbytes / 2


def test_fingerprint_says_how_it_was_stored(tmp_path: Path) -> None:
    with closing(open_source(gptq(4).write(tmp_path))) as source:
        about = fingerprint_source(source).about
    assert (about.quantization, about.coverage, about.parameters) == ("gptq 4 bits, groups of 32", 1.0, OUT * IN + IN)


def changed(layer: Layer, **tensors: Any) -> Layer:
    """The layer with other tensors; None takes one away. `quant_map` is that of the weight, `state` its quant_state."""
    full = {"state": STATE, "quant_map": "weight.quant_map"}
    stored = {**layer.stored, **{full.get(last, last): tensor for last, tensor in tensors.items()}}
    return replace(layer, stored={k: v for k, v in stored.items() if v is not None})


def with_config(layer: Layer, **config: Any) -> Layer:
    return replace(layer, config={**layer.config, **config})


ZEROS = np.zeros((4, 4), np.int32)
TURNED = np.frombuffer(b'{"format": "convrot_w4a4", "convrot_groupsize": 64}', np.uint8)
DAMAGED: dict[str, tuple[Callable[[], Layer], str]] = {
    "no scales": (lambda: changed(gptq(4), scales=None), "scales"),
    "no zeros": (lambda: changed(gptq(4), qzeros=None), "qzeros"),
    "scales of another width": (lambda: changed(gptq(4), scales=np.ones((3, 40), np.float16)), "contradicts"),
    "zeros of another height": (lambda: changed(gptq(4), qzeros=np.zeros((5, 8), np.int32)), "contradicts"),
    "no bits fit": (lambda: changed(gptq(4), qzeros=np.zeros((3, 13), np.int32)), "no number of bits"),
    "groups of zero": (lambda: with_config(gptq(4), group_size=0), "groups of 0"),
    "groups of a word": (lambda: with_config(gptq(4), group_size="many"), "groups of 'many'"),
    "groups that do not add up": (lambda: with_config(gptq(4), group_size=7), "groups of 7"),
    "short g_idx": (lambda: changed(gptq(4, order="plain"), g_idx=np.zeros(5, np.int32)), "5 numbers"),
    "floats in g_idx": (lambda: changed(gptq(4, order="plain"), g_idx=np.zeros(IN, np.float32)), "whole number"),
    "packed as floats": (lambda: changed(gptq(4), qweight=np.zeros((12, OUT), np.float32)), "packed matrix"),
    "awq zeros": (lambda: changed(awq(), qzeros=ZEROS), "not I32"),
    "awq width": (lambda: changed(awq(), qweight=np.zeros((IN, 9), np.int32)), "four bits do not explain"),
    "state is no json": (lambda: changed(four_bit_codes("nf4"), state=np.frombuffer(b"[1", np.uint8)), "JSON"),
    "state is a list": (lambda: changed(four_bit_codes("nf4"), state=np.frombuffer(b"[1]", np.uint8)), "JSON object"),
    "state without shape": (lambda: changed(four_bit_codes("nf4"), state=np.frombuffer(b"{}", np.uint8)), "shape"),
    "blocks of zero": (lambda: changed(four_bit_codes("nf4"), state=STATED % (64, 96, 0)), "blocks of '0'"),
    "larger shape": (lambda: changed(four_bit_codes("nf4"), state=STATED % (65, 96, 64)), "belong to shape"),
    "huge shape": (lambda: changed(four_bit_codes("nf4"), state=STATED % (2**62, 2**62, 64)), "belong to shape"),
    "huge state": (lambda: changed(four_bit_codes("nf4"), state=np.zeros(70_000, np.uint8)), "more than such"),
    "no state": (lambda: changed(four_bit_codes("nf4"), state=None), "quant_state"),
    "no code book": (lambda: changed(four_bit_codes("nf4"), quant_map=None), "quant_map"),
    "short code book": (lambda: changed(four_bit_codes("nf4"), quant_map=np.ones(7, np.float32)), "7 numbers"),
    "no scale": (lambda: changed(fp8("blocks"), weight_scale_inv=None), "scale"),
    "scales of another grid": (lambda: changed(fp8("blocks"), weight_scale_inv=np.ones((7, 5), np.float32)), "contradicts"),
    "scales of three axes": (lambda: changed(fp8("blocks"), weight_scale_inv=np.ones((2, 2, 1), np.float32)), "contradicts"),
    "blocks of nothing": (lambda: with_config(fp8("blocks"), weight_block_size=[0, 128]), "blocks of [0, 128]"),
    "no shape": (lambda: changed(packed_integers(4), weight_shape=None), "weight_shape"),
    "shape too wide": (lambda: changed(packed_integers(4), weight_shape=np.array([OUT, 2**40])), "contradicts"),
    "shape below zero": (lambda: changed(packed_integers(4), weight_shape=np.array([OUT, -1])), "contradicts"),
    "packed scales": (lambda: changed(packed_integers(4), weight_scale=np.ones((OUT, 7), np.float32)), "contradicts"),
    "packed zeros": (lambda: changed(packed_integers(4, zero=True), weight_zero_point=ZEROS), "not I32"),
    "fp4 scales": (lambda: changed(fp4("mxfp4"), weight_scale=np.zeros((OUT, 7), np.uint8)), "contradicts"),
    "no fp4 scales": (lambda: changed(fp4("mxfp4"), weight_scale=None), "weight_scale"),
    "no overall scale": (lambda: changed(fp4("nvfp4"), weight_global_scale=None), "weight_global_scale"),
    "comfy mark": (lambda: changed(comfy_nvfp4(), comfy_quant=np.frombuffer(b"{", np.uint8)), "JSON"),
    "comfy scales": (lambda: changed(comfy_nvfp4(), weight_scale=np.zeros((OUT, 6), ml_dtypes.float8_e4m3fn)), "belong to"),
    "comfy turn": (lambda: changed(comfy_turned("convrot_w4a4"), comfy_quant=TURNED), "turned in groups of 64"),
    "comfy no channel": (lambda: changed(comfy_w4a8(4), weight_s_channel=None), "weight_s_channel"),
    "comfy width": (lambda: changed(comfy_w4a8(4), weight=np.zeros((OUT, 40), np.int8)), "neither 4 nor 6"),
    "quanto shifts": (lambda: changed(quanto(4), **{"weight._shift": np.ones((3, 1), np.float32)}), "contradicts"),
    "quanto no scales": (lambda: changed(quanto(4), **{"weight._scale": None}), "_scale"),
    "bitnet codes": (lambda: changed(bitnet(), weight=np.full((16, IN), 255, np.uint8)), "other codes"),
    "bitnet bias": (lambda: changed(bitnet(), bias=np.ones(50, np.float32)), "bias of 50"),
    "torchao scales": (lambda: changed(ao_floats("nvfp4"), _weight_scale=np.ones((7, 5), ml_dtypes.float8_e4m3fn)), "contradicts"),
    "torchao overall": (lambda: changed(ao_floats("nvfp4"), _weight_per_tensor_scale=np.ones(3, np.float32)), "3 numbers"),
    "sparse shape": (lambda: changed(sparse(False), shape=np.array([OUT, 80])), "contradicts"),
    "sparse no shape": (lambda: changed(sparse(False), shape=None), "shape"),
    "mlx scales": (lambda: changed(mlx(4), scales=np.ones((OUT, 7), np.float16)), "contradicts"),
    "mlx biases": (lambda: changed(mlx(4), biases=np.ones((OUT, 7), np.float16)), "but its scales"),
    "mlx no scales": (lambda: changed(mlx(4), scales=None), "scales"),
    "hqq groups of zero": (lambda: changed(hqq(4, 1), group_size=np.array(0, np.int32)), "groups of 0"),
    "hqq bits": (lambda: changed(hqq(4, 1), nbits=np.array(5, np.int32)), "5 bits"),
    "hqq shape": (lambda: changed(hqq(4, 1), shape=np.array([OUT, 7 * IN])), "contradict"),
    "hqq axis": (lambda: changed(hqq(4, 1), axis=np.zeros(2, np.int32)), "one number"),
}
STATE = "weight.quant_state.bitsandbytes__nf4"


class _Stated:
    def __mod__(self, numbers: tuple[int, int, int]) -> Any:
        return np.frombuffer(b'{"shape": [%d, %d], "blocksize": %d}' % numbers, np.uint8)


STATED = _Stated()


@pytest.mark.parametrize("case", DAMAGED)
def test_contradictions_are_told_at_opening(case: str, tmp_path: Path) -> None:
    make, words = DAMAGED[case]
    folder = make().write(tmp_path)
    with pytest.raises(DamagedFile) as raised:
        open_source(folder)
    assert words in str(raised.value)
    assert str(folder) in str(raised.value)
    assert raised.value.tensor is not None
    assert raised.value.tensor.startswith(NAME)
    assert raised.value.remedy


@pytest.mark.parametrize("group", [-1, 3])
def test_a_group_that_is_not_there(group: int, tmp_path: Path) -> None:
    """Seen when the values are read: groups of inputs are data."""
    layer = gptq(4, order="plain")
    layer.stored["g_idx"][5] = group
    with closing(open_source(layer.write(tmp_path))) as source, pytest.raises(DamagedFile, match="names groups from"):
        read(source)


def test_unknown_forms_are_named(tmp_path: Path) -> None:
    layer = changed(four_bit_codes("nf4"), state=None, **{STATE.replace("nf4", "nf7"): STATED % (OUT, IN, 64)})
    with closing(open_source(layer.write(tmp_path))) as source:
        assert set(source.tensors) == {"model.norm.weight"}
        assert [what for what, _ in source.unread] == ["bitsandbytes nf7"]


def test_a_weight_stored_twice(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="both as it is and quantised"):
        open_source(changed(gptq(4), weight=np.ones((OUT, IN), np.float32)).write(tmp_path))


def stored_folder(folder: Path, stored: dict[str, Any], config: dict[str, Any] | None = None) -> Path:
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in stored.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config or {}))
    return folder


def test_mlx_settings_of_single_modules(tmp_path: Path) -> None:
    """Four bits in groups of 64 and eight in groups of 32 have the same shapes; the module's own entry decides."""
    layers = {NAME: mlx(4), "model.layers.0.mlp.down_proj": mlx(8), "model.layers.1.mlp.down_proj": mlx(2)}
    stored = {f"{module}.{last}": tensor for module, layer in layers.items() for last, tensor in layer.stored.items()}
    config = {"quantization": {"group_size": 32, "bits": 4, **{module: layer.config for module, layer in layers.items()}, "lm_head": False}}
    with closing(open_source(stored_folder(tmp_path, stored, config))) as source:
        for module, layer in layers.items():
            np.testing.assert_allclose(read(source, f"{module}.weight"), layer.weight, rtol=2e-6)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_mlx_without_a_word_of_its_bits(bits: int, tmp_path: Path) -> None:
    """The codes tell: each group meets both ends."""
    layer = replace(mlx(bits), config={})
    with closing(open_source(layer.write(tmp_path))) as source:
        assert source.quantization == layer.kind
        np.testing.assert_allclose(read(source), layer.weight, rtol=2e-6)


def test_what_nothing_tells_is_left_out_and_counted(tmp_path: Path) -> None:
    """One bit a number in groups of 32 looks like two bits in groups of 16."""
    layer = replace(mlx(1), config={})
    with closing(open_source(layer.write(tmp_path))) as source:
        assert set(source.tensors) == {"model.norm.weight"}
        assert source.unread == (("MLX, groups of 32 bits", OUT * IN // 8 + 2 * 2 * OUT * IN // 32),)


def test_nothing_but_what_is_not_decoded(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="MLX, groups of 32 bits"):
        open_source(stored_folder(tmp_path, replace(mlx(1), config={}).named()))


def test_mlx_stacks_of_experts(tmp_path: Path) -> None:
    layers, name = [mlx(bits) for bits in (3, 3)], "model.layers.0.mlp.switch_mlp.gate_proj"
    stored = {f"{name}.{last}": np.stack([layer.stored[last] for layer in layers]) for last in layers[0].stored}
    folder = stored_folder(tmp_path, stored, {"quantization": {"bits": 3, "group_size": 32}})
    with closing(open_source(folder)) as source:
        np.testing.assert_allclose(read(source, f"{name}.weight"), np.stack([layer.weight for layer in layers]), rtol=2e-6)
        about = fingerprint_source(source).about
    assert (about.coverage, about.unplaced) == (1.0, ())


@pytest.mark.parametrize("padding", [5, 15])
def test_zeros_that_fill_a_comfy_matrix_up_are_no_weights(padding: int, tmp_path: Path) -> None:
    """Up to multiples of 16: 15 at the most."""
    layer = comfy_nvfp4(padding)
    with closing(open_source(layer.write(tmp_path))) as source:
        assert source.tensors[WEIGHT].shape == (OUT - padding, IN - padding)
        np.testing.assert_allclose(read(source), layer.weight, rtol=2e-6)


def test_comfy_marks_in_the_metadata_of_the_file(tmp_path: Path) -> None:
    """By names that may lack the prefix of the diffusion model."""
    layer = comfy_nvfp4()
    stored = {f"model.diffusion_model.{name}": tensor for name, tensor in layer.named().items() if not name.endswith("comfy_quant")}
    save_file(stored, tmp_path / "model.safetensors", {"_quantization_metadata": json.dumps({"layers": {NAME: {"format": "nvfp4"}}})})
    with closing(open_source(tmp_path)) as source:
        assert source.quantization == "nvfp4 (ComfyUI)"
        np.testing.assert_allclose(read(source, f"model.diffusion_model.{WEIGHT}"), layer.weight, rtol=2e-6)


def test_a_comfy_form_of_the_future_is_left_out_and_counted(tmp_path: Path) -> None:
    mark = np.frombuffer(b'{"format": "int3_dreamt"}', np.uint8)
    with closing(open_source(changed(comfy_nvfp4(), comfy_quant=mark).write(tmp_path))) as source:
        assert set(source.tensors) == {"model.norm.weight"}
        assert source.unread == (("ComfyUI int3_dreamt", OUT * IN // 2 + 128 * 8 + 4 + len(mark)),)


def test_what_the_inputs_of_a_comfy_layer_are_multiplied_with(tmp_path: Path) -> None:
    layer, smooth = comfy_nvfp4(), np.linspace(0.5, 2, IN).astype(np.float32)
    with closing(open_source(changed(layer, pre_quant_scale=smooth).write(tmp_path))) as source:
        np.testing.assert_allclose(read(source), layer.weight * smooth, rtol=2e-6)


def test_a_modelopt_layer_smoothed_in_another_way_is_left_out_and_counted(tmp_path: Path) -> None:
    layer = quantised_libraries.modelopt()
    layer.stored["pre_quant_scale"] = np.ones(3, np.float32)
    with closing(open_source(layer.write(tmp_path))) as source:
        assert list(source.tensors) == ["model.norm.weight"]
        assert [kind for kind, _ in source.unread] == ["ModelOpt int4, inputs scaled in another way"]


def test_rows_that_fill_ternary_bytes_up_are_no_weights(tmp_path: Path) -> None:
    layer = bitnet(rows=OUT - 3)
    with closing(open_source(layer.write(tmp_path))) as source:
        np.testing.assert_allclose(read(source), layer.weight, rtol=2e-6)


@pytest.mark.parametrize("told", ["config", "bias", "other tensors", "columns"])
def test_the_shape_of_a_grouped_quanto_weight(told: str, tmp_path: Path) -> None:
    layer = quanto(4, size=32, rows=60, columns=160)
    stored = layer.named()
    if told == "bias":
        stored[f"{NAME}.bias"] = np.ones(60, np.float32)
    elif told == "other tensors":
        stored |= {"norm.weight": np.ones(60, np.float32), "token.weight": np.ones((7, 160), np.float32)}
    elif told == "columns":
        grouped = np.ones((300, 32), np.float32)
        grouped.reshape(60, 160)[:] = np.random.default_rng(1).uniform(0.1, 1, 160)  # columns of different sizes
        codes = np.rint(grouped * np.random.default_rng(0).choice([-7, 7], (300, 32)) + 8).astype(np.uint8)
        stored[f"{NAME}.weight._data._data"] = codes[:150] | codes[150:] << 4
        stored[f"{NAME}.weight._scale"], stored[f"{NAME}.weight._shift"] = (np.full((300, 1), n, np.float32) for n in (1, 8))
    config = {"hidden_size": 160, "intermediate_size": 60} if told == "config" else None
    with closing(open_source(stored_folder(tmp_path, stored, config))) as source:
        assert source.tensors[WEIGHT].shape == (60, 160)
        if told != "columns":
            np.testing.assert_allclose(read(source), layer.weight, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("module", "shape"), [("q_proj", (256, 256)), ("o_proj", (256, 256)), ("v_proj", (128, 256)), ("down_proj", (256, 512))]
)
def test_a_grouped_quanto_weight_by_what_its_name_says_of_its_width(module: str, shape: tuple[int, int], tmp_path: Path) -> None:
    """Groups of 128 of 256 x 256 are those of 512 x 128 too, and both sizes are in the config."""
    name, layer = f"model.layers.0.self_attn.{module}", quanto(4, size=128, rows=shape[0], columns=shape[1])
    stored = {key.replace(NAME, name): array for key, array in layer.named().items()}
    config = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 128, "num_attention_heads": 2, "num_key_value_heads": 1}
    with closing(open_source(stored_folder(tmp_path, stored, config))) as source:
        assert {name: info.shape for name, info in source.tensors.items()} == {f"{name}.weight": shape}


def test_a_grouped_quanto_weight_that_could_have_several_shapes_is_left_out_and_counted(tmp_path: Path) -> None:
    layer = quanto(4, size=128, rows=256, columns=256)
    stored = {key.replace(NAME, "mixer.heads"): array for key, array in layer.named().items()} | {"norm.weight": np.ones(256, np.float32)}
    with closing(open_source(stored_folder(tmp_path, stored, {"width": 256, "wide": 512, "narrow": 128}))) as source:
        assert list(source.tensors) == ["norm.weight"]
        assert [kind for kind, _ in source.unread] == ["quanto qint4, in one of several shapes"]


@pytest.mark.parametrize("storage", [np.float16, ml_dtypes.bfloat16, np.float32, np.int32])
def test_codes_of_bitsandbytes_declared_as_another_type(storage: Any, tmp_path: Path) -> None:
    layer = four_bit_codes("nf4")
    folder = changed(layer, weight=layer.stored["weight"].reshape(-1).view(storage)[:, None]).write(tmp_path)
    with closing(open_source(folder)) as source:
        np.testing.assert_allclose(read(source), layer.weight, rtol=2e-6)


def test_what_torchao_keeps_in_a_kernel_order_is_left_out_and_counted(tmp_path: Path) -> None:
    stored = {
        f"{NAME}._weight_qdata": np.zeros((8, 1, 32, 4), np.int32),
        f"{NAME}._weight_scale_and_zero": np.zeros((2, OUT, 2), np.float16),
    }
    said = {WEIGHT: json.dumps({"_type": "Int4TilePackedTo4dTensor", "_data": {}})}
    save_file({**stored, "model.norm.weight": np.ones(IN, np.float32)}, tmp_path / "model.safetensors", said)
    with closing(open_source(tmp_path)) as source:
        assert set(source.tensors) == {"model.norm.weight"}
        assert source.unread == (("torchao Int4TilePackedTo4dTensor", sum(tensor.nbytes for tensor in stored.values())),)


def test_block_scales_that_are_as_many_as_rows(tmp_path: Path) -> None:
    """16 x 16 scales of 256 rows are blocks, not one a row."""
    rng = np.random.default_rng(0)
    codes, scales = rng.standard_normal((256, 512)).astype(ml_dtypes.float8_e4m3fn), rng.random((16, 16)).astype(np.float32)
    with closing(open_source(stored_folder(tmp_path, {WEIGHT: codes, f"{WEIGHT}_scale_inv": scales}))) as source:
        np.testing.assert_allclose(read(source), codes.astype(np.float32) * np.repeat(np.repeat(scales, 16, 0), 32, 1), rtol=2e-6)


def test_marks_that_are_not_as_many_as_numbers(tmp_path: Path) -> None:
    """Seen when the values are read."""
    layer = sparse(False)
    layer.stored["bitmask"] = layer.stored["bitmask"] ^ np.uint8(1)
    with closing(open_source(layer.write(tmp_path))) as source, pytest.raises(DamagedFile, match="marks"):
        read(source)


def test_layers_in_the_order_of_a_kernel_are_left_out_and_counted(tmp_path: Path) -> None:
    stored = {f"{NAME}.{last}": np.zeros((4, 4), np.int32) for last in ("weight_packed", "scale_packed", "meta")}
    with closing(open_source(stored_folder(tmp_path, {**stored, "model.norm.weight": np.ones(IN, np.float32)}))) as source:
        assert set(source.tensors) == {"model.norm.weight"}
        assert source.unread == (("compressed-tensors marlin-24", 3 * 64),)
