"""Whole small models that libraries quantise and save themselves, each in a folder as it is published: for models_reference.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Model = Any
Save = Callable[[Model, Path], None]
VOCABULARY, WIDTH, NEURONS, LAYERS, HEADS = 512, 256, 512, 3, 4


def llama(seed: int) -> Model:
    from transformers import LlamaConfig, LlamaForCausalLM

    return _uneven(LlamaForCausalLM(LlamaConfig(**_sizes(), tie_word_embeddings=False)), seed)


def experts(seed: int) -> Model:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    sizes = _sizes() | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
    return _uneven(Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes)), seed)


def _sizes() -> dict[str, Any]:
    heads = {"num_attention_heads": HEADS, "num_key_value_heads": HEADS // 2, "head_dim": WIDTH // HEADS}
    return {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": NEURONS, "num_hidden_layers": LAYERS, **heads}


def _uneven(model: Model, seed: int) -> Model:
    """Random weights whose rows differ in size; gains around 1."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    with torch.no_grad():
        for parameter in model.parameters():
            shape = parameter.shape
            new = 0.03 * draw(*shape) * torch.exp(0.3 * draw(*shape[:-1], 1)) if len(shape) > 1 else 1 + 0.1 * draw(*shape)
            parameter.copy_(new)
    model.config.architectures = [type(model).__name__]
    return model.to(torch.bfloat16)


def _said(folder: Path, **more: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def torchao(config: Callable[[], Any], *, pickled: bool = False) -> Save:
    def save(model: Model, folder: Path) -> None:
        from safetensors.torch import save_file
        from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
        from torchao.quantization import quantize_

        quantize_(model, config())
        model.config.save_pretrained(folder)
        _said(folder, quantization_config={"quant_method": "torchao"})
        if pickled:
            torch.save(model.state_dict(), folder / "pytorch_model.bin")
            return
        tensors, told = flatten_tensor_state_dict(model.state_dict())
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, folder / "model.safetensors", metadata=told)

    return save


def mlx(recipe: str = "", **options: Any) -> Save:
    def save(model: Model, folder: Path) -> None:
        from mlx_lm.convert import mixed_quant_predicate_builder
        from mlx_lm.utils import load_model, quantize_model, save_config, save_model

        source = folder.with_name("source")
        model.save_pretrained(source)
        _said(source, num_experts=4, rope_theta=10000.0)  # which mlx-lm wants, and transformers 5 keeps elsewhere
        loaded, config = load_model(source)
        chosen = mixed_quant_predicate_builder(recipe, loaded) if recipe else None
        loaded, config = quantize_model(loaded, config, quant_predicate=chosen, **options)
        save_model(folder, loaded, donate_model=False)
        save_config(config, folder / "config.json")
        shutil.rmtree(source)

    return save


def quanto(kind: str) -> Save:
    def save(model: Model, folder: Path) -> None:
        from optimum import quanto as library

        library.QuantizedModelForCausalLM.quantize(model, weights=getattr(library, kind), exclude="lm_head").save_pretrained(folder)

    return save


def bitsandbytes(**options: Any) -> Save:
    def save(model: Model, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig

        source, config = folder.with_name("source"), BitsAndBytesConfig(**options)
        model.save_pretrained(source)
        AutoModelForCausalLM.from_pretrained(source, quantization_config=config, device_map="cpu").save_pretrained(folder)
        shutil.rmtree(source)

    return save


def modelopt(config: str) -> Save:
    def save(model: Model, folder: Path) -> None:
        from modelopt.torch import quantization
        from modelopt.torch.export import export_hf_checkpoint

        tokens = torch.randint(0, VOCABULARY, (4, 16), generator=torch.Generator().manual_seed(0))
        export_hf_checkpoint(quantization.quantize(model, getattr(quantization, config), lambda one: one(tokens)), export_dir=folder)

    return save


def _torchao_config(name: str, **options: Any) -> Callable[[], Any]:
    def made() -> Any:
        from torchao import quantization
        from torchao.prototype.mx_formats import inference_workflow

        if "group" in options:
            return quantization.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=quantization.PerGroup(options["group"]))
        return getattr(quantization if hasattr(quantization, name) else inference_workflow, name)()

    return made


TORCHAO = {
    "int8": _torchao_config("Int8WeightOnlyConfig"),
    "int8, inputs too": _torchao_config("Int8DynamicActivationInt8WeightConfig"),
    "float8": _torchao_config("Float8WeightOnlyConfig"),
    "intx of 4 bits": _torchao_config("IntxWeightOnlyConfig", group=32),
    "nvfp4": _torchao_config("NVFP4WeightOnlyConfig"),
}
MODELOPT = ("NVFP4_DEFAULT_CFG", "FP8_DEFAULT_CFG", "INT4_AWQ_CFG", "W4A8_AWQ_BETA_CFG", "MXFP4_DEFAULT_CFG", "MXFP8_DEFAULT_CFG",
            "INT8_SMOOTHQUANT_CFG", "FP8_2D_BLOCKWISE_WEIGHT_ONLY_CFG", "FP8_PER_CHANNEL_PER_TOKEN_CFG")  # fmt: skip
FSDP = {"bnb_4bit_quant_storage": torch.bfloat16, "bnb_4bit_use_double_quant": True}
# library and form -> the model, and how it is saved
FORMS: dict[tuple[str, str], tuple[Callable[[int], Model], Save]] = {
    **{("torchao", f"{form}, {kind}"): (llama, torchao(config, pickled=kind == "bin")) for form, config in TORCHAO.items()
       for kind in ("safetensors", "bin")},
    **{("mlx-lm", f"affine, {bits} bits"): (llama, mlx(bits=bits, group_size=64)) for bits in (2, 3, 4, 5, 6, 8)},
    **{("mlx-lm", mode): (llama, mlx(mode=mode, bits=bits, group_size=size))
       for mode, bits, size in (("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16))},
    ("mlx-lm", "3 and 6 bits, module by module"): (llama, mlx("mixed_3_6", bits=4, group_size=64)),
    ("mlx-lm", "experts, affine, 4 bits"): (experts, mlx(bits=4, group_size=64)),
    ("mlx-lm", "experts, mxfp4"): (experts, mlx(mode="mxfp4", bits=4, group_size=32)),
    **{("optimum-quanto", kind): (llama, quanto(kind)) for kind in ("qint8", "qint4", "qint2", "qfloat8")},
    ("bitsandbytes", "nf4"): (llama, bitsandbytes(load_in_4bit=True, bnb_4bit_quant_type="nf4")),
    ("bitsandbytes", "nf4, stored as bfloat16"): (llama, bitsandbytes(load_in_4bit=True, bnb_4bit_quant_type="nf4", **FSDP)),
    ("bitsandbytes", "fp4"): (llama, bitsandbytes(load_in_4bit=True, bnb_4bit_quant_type="fp4")),
    ("bitsandbytes", "int8"): (llama, bitsandbytes(load_in_8bit=True)),
    **{("nvidia-modelopt", config): (llama, modelopt(config)) for config in MODELOPT},
}  # fmt: skip
