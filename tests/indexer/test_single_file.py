"""One file of several models comes to the same components as a pipeline's folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source

RANDOM = np.random.default_rng(3)
UNET = {"input_blocks.1.0.in_layers.2.weight": (16, 8, 3, 3), "output_blocks.0.0.in_layers.2.weight": (8, 16, 3, 3)}
DIT = {"double_blocks.0.img_attn.qkv.weight": (96, 32), "final_layer.linear.weight": (16, 32)}
CLIP = {"text_model.embeddings.token_embedding.weight": (200, 32), "text_model.encoder.layers.0.self_attn.q_proj.weight": (32, 32)}
VAE = {"encoder.conv_in.weight": (16, 3, 3, 3), "decoder.conv_out.weight": (3, 16, 3, 3)}


def tensors(shapes: dict[str, tuple[int, ...]], prefix: str = "") -> dict[str, np.ndarray]:
    return {prefix + name: RANDOM.standard_normal(shape, np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("denoiser", "before", "part"),
    [(UNET, "model.diffusion_model.", "unet"), (DIT, "model.diffusion_model.", "transformer")],
)
def test_parts_are_told_apart(tmp_path: Path, denoiser: dict[str, tuple[int, ...]], before: str, part: str) -> None:
    whole = tensors(denoiser, before) | tensors(CLIP, "conditioner.embedders.0.transformer.") | tensors(VAE, "first_stage_model.")
    whole |= tensors(CLIP, "conditioner.embedders.1.model.") | {"betas": np.linspace(0, 1, 1000, dtype=np.float32)}
    save_file(whole, tmp_path / "a.safetensors")
    source = open_source(tmp_path / "a.safetensors")
    assert sorted({name.partition("/")[0] for name in source.tensors}) == sorted(
        [part, "text_encoder", "text_encoder_2", "vae", "checkpoint"]
    )
    assert sum(info.nbytes for info in source.tensors.values()) == sum(values.nbytes for values in whole.values())
    name = f"{part}/{next(iter(denoiser))}"
    stored = whole[before + next(iter(denoiser))]
    assert source.read(name, 0, stored.nbytes).tobytes() == stored.tobytes()
    found = fingerprint_source(source)
    assert {"text", "text_2"} <= set(found.about.components)
    assert {name.partition(".")[0] for name in found.about.components} >= {part, "vae"}


def test_one_prefix_around_everything_is_one_model(tmp_path: Path) -> None:
    save_file(tensors(UNET, "model.diffusion_model."), tmp_path / "a.safetensors")
    assert all("/" not in name for name in open_source(tmp_path / "a.safetensors").tensors)


def test_a_folder_of_the_same_parts_has_the_same_components(tmp_path: Path) -> None:
    unet, clip, vae = tensors(UNET), tensors(CLIP), tensors(VAE)
    whole = {f"model.diffusion_model.{name}": value for name, value in unet.items()}
    whole |= {f"cond_stage_model.transformer.{name}": value for name, value in clip.items()}
    whole |= {f"first_stage_model.{name}": value for name, value in vae.items()}
    save_file(whole, tmp_path / "one.safetensors")
    index = {"_class_name": "P", "unet": ["diffusers", "U"], "text_encoder": ["transformers", "C"], "vae": ["diffusers", "A"]}
    for part, values in (("unet", unet), ("text_encoder", clip), ("vae", vae)):
        (tmp_path / "pipe" / part).mkdir(parents=True)
        save_file(values, tmp_path / "pipe" / part / "model.safetensors")
    (tmp_path / "pipe" / "model_index.json").write_text(json.dumps(index))
    sides = [fingerprint_source(open_source(tmp_path / name)) for name in ("one.safetensors", "pipe")]
    assert sides[0].about.components == sides[1].about.components
    assert sides[0].matrices.places == sides[1].matrices.places
    assert np.array_equal(sides[0].matrices.digest, sides[1].matrices.digest)
