"""Holds the reading of other libraries' files against their own converters: small random models of transformers are converted by LitGPT,
torchtune (its own form and Meta's), TransformerLens, Flax, timm and open_clip, saved, and read at both levels beside the original.

    pip install "transformers==4.46.3" litgpt torchtune "torchao==0.9.0" "transformer_lens==2.15.4" jax flax
    pip install timm open_clip_torch clip-anytorch
    python -m benchmarks.formats.libraries_reference [--only LIBRARY]

Writes benchmarks/results/libraries_reference.json: the share of numbers that stand at the same place with the same value, and what a
comparison says, of the conversion and of one that was trained on (each number changed by a fortieth to a thirteenth of its tensor's
spread). Exits 1 where a copy is not read as one, a trained one is not found whole, or a stranger in the library's form is called a
relative.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from msgspec import Struct
from safetensors.torch import save_file

import modelkin
from benchmarks.common.results import write_result
from modelkin_indexer.anatomy.parts import anatomy_of
from modelkin_indexer.opening import open_source
from modelkin_indexer.places import Place
from modelkin_indexer.sources.stored import values

State = dict[str, torch.Tensor]
COPIES = ("identical", "recast", "reparameterised")
CHANGED = 0.05  # of a tensor's spread: a light fine-tune
WHOLE = 0.93  # of the weights that have to carry the evidence of a fine-tune; odd tensors are too small to show anything
PACKAGES = ("transformers", "litgpt", "torchtune", "transformer-lens", "flax", "timm", "open_clip_torch")
LLAMA = {
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 600,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}


class Converted(Struct, frozen=True):
    """The original's tensors and config, and the same as the library has them, in a file of that name."""

    original: State
    config: Mapping[str, Any]
    other: State
    file: str


def llama(seed: int) -> Any:
    """A random llama of transformers, gains and rows of uneven size."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return _uneven(LlamaForCausalLM(LlamaConfig(**LLAMA)))


def _uneven(model: Any) -> Any:
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(torch.exp(0.3 * torch.randn(weight.shape[0], *[1] * (weight.ndim - 1))))
            else:
                weight.add_(0.2 * torch.randn_like(weight))
    return model


def litgpt(seed: int) -> Converted:
    from litgpt.config import Config
    from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama

    model, other = llama(seed), {}
    config = Config(
        n_layer=4, n_head=8, n_embd=128, n_query_groups=2, intermediate_size=320, mlp_class_name="LLaMAMLP", norm_class_name="RMSNorm"
    )
    copy_weights_hf_llama(config, {}, other, model.state_dict())
    return Converted(model.state_dict(), model.config.to_dict(), other, "lit_model.pth")


def torchtune(seed: int) -> Converted:
    model = llama(seed)
    return Converted(model.state_dict(), model.config.to_dict(), _tuned(model), "model.safetensors")


def meta(seed: int) -> Converted:
    from torchtune.models.convert_weights import tune_to_meta

    model = llama(seed)
    return Converted(model.state_dict(), model.config.to_dict(), tune_to_meta(_tuned(model)), "consolidated.00.pth")


def _tuned(model: Any) -> State:
    from torchtune.models.convert_weights import hf_to_tune

    config = model.config
    found: State = hf_to_tune(model.state_dict(), config.num_attention_heads, config.num_key_value_heads, config.hidden_size)
    return found


def transformer_lens(seed: int) -> Converted:
    from transformer_lens import HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions.llama import convert_llama_weights

    model = llama(seed)
    config = HookedTransformerConfig(
        n_layers=4, d_model=128, n_ctx=128, d_head=16, n_heads=8, n_key_value_heads=2, d_mlp=320, d_vocab=600, act_fn="silu", gated_mlp=True
    )
    return Converted(model.state_dict(), model.config.to_dict(), convert_llama_weights(model, config), "model.pt")


def flax_llama(seed: int) -> Converted:
    from transformers import FlaxLlamaForCausalLM

    model = llama(seed)
    return Converted(model.state_dict(), model.config.to_dict(), _flax(model, FlaxLlamaForCausalLM), "model.npz")


def flax_bert(seed: int) -> Converted:
    from transformers import BertConfig, BertModel, FlaxBertModel

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=600,
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=64,
        attn_implementation="eager",
    )
    model = _uneven(BertModel(config))
    return Converted(model.state_dict(), config.to_dict(), _flax(model, FlaxBertModel), "model.npz")


def _flax(model: Any, flax_class: Any) -> State:
    from flax.traverse_util import flatten_dict
    from transformers.modeling_flax_pytorch_utils import convert_pytorch_state_dict_to_flax

    made = convert_pytorch_state_dict_to_flax(model.state_dict(), flax_class(model.config, _do_init=True))
    return {"/".join(name): torch.from_numpy(np.array(value)) for name, value in flatten_dict(made).items()}


def timm(seed: int) -> Converted:
    import timm as library
    from transformers import ViTConfig
    from transformers.models.vit.convert_vit_timm_to_pytorch import create_rename_keys, read_in_q_k_v, rename_key

    torch.manual_seed(seed)
    model = _uneven(library.create_model("vit_tiny_patch16_224", img_size=64, embed_dim=96, depth=4, num_heads=4, num_classes=50))
    config = ViTConfig(hidden_size=96, num_hidden_layers=4, num_attention_heads=4, intermediate_size=384, image_size=64, num_labels=50)
    original = dict(model.state_dict())
    for old, new in create_rename_keys(config):
        rename_key(original, old, new)
    read_in_q_k_v(original, config)
    return Converted(original, config.to_dict(), model.state_dict(), "model.safetensors")


def open_clip(seed: int) -> Converted:
    from open_clip.model import CLIP
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.convert_clip_original_pytorch_to_hf import copy_text_model_and_projection, copy_vison_model_and_projection

    torch.manual_seed(seed)
    vision = {"layers": 4, "width": 128, "head_width": 32, "patch_size": 8, "image_size": 32}
    text = {"context_length": 32, "vocab_size": 600, "width": 96, "heads": 4, "layers": 4}
    model = _uneven(CLIP(embed_dim=64, vision_cfg=vision, text_cfg=text))
    config = CLIPConfig(
        projection_dim=64,
        text_config={
            "hidden_size": 96,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 384,
            "vocab_size": 600,
            "max_position_embeddings": 32,
        },
        vision_config={
            "hidden_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 512,
            "image_size": 32,
            "patch_size": 8,
        },
    )
    original = CLIPModel(config)
    copy_text_model_and_projection(original, model)
    copy_vison_model_and_projection(original, model)
    return Converted(original.state_dict(), config.to_dict(), model.state_dict(), "open_clip_model.safetensors")


CASES: dict[str, Callable[[int], Converted]] = {
    "LitGPT": litgpt,
    "torchtune": torchtune,
    "Meta, by torchtune": meta,
    "TransformerLens": transformer_lens,
    "Flax, a llama": flax_llama,
    "Flax, a BERT": flax_bert,
    "timm": timm,
    "open_clip": open_clip,
}


def save(state: State, folder: Path, file: str, config: Mapping[str, Any] | None = None) -> Path:
    """The tensors in a file of a folder."""
    folder.mkdir()
    state = {name: tensor.detach().contiguous().clone() for name, tensor in state.items()}
    if file.endswith(".safetensors"):
        save_file(state, folder / file)
    elif file.endswith(".npz"):
        np.savez(folder / file, **{name: tensor.numpy() for name, tensor in state.items()})  # type: ignore[arg-type]
    else:
        torch.save(state, folder / file)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config, default=str), encoding="utf-8")
    return folder if not file.endswith(".npz") else folder / file


def trained_on(state: State, seed: int) -> State:
    """Each number changed a little, some tensors more than others."""
    torch.manual_seed(seed)
    sizes = {name: CHANGED * (0.5 + float(torch.rand(()))) * float(weight.std(correction=0)) for name, weight in state.items()}
    return {name: weight + sizes[name] * torch.randn_like(weight) for name, weight in state.items()}


def by_place(path: Path, alike: Mapping[str, Any]) -> dict[Place, npt.NDArray[np.float32]]:
    """Every place's values."""
    with closing(open_source(path)) as source:
        return {
            piece.place: np.concatenate([values.read_rows(source, view, 0, view.rows).ravel() for view in piece.views])
            for piece in anatomy_of(source, alike).pieces
        }


def same_share(path: Path, original: Path, config: Mapping[str, Any]) -> float:
    """Share of the original's numbers that the other has at the same place."""
    ours, theirs = by_place(original, {}), by_place(path, config)
    same = sum(values.size for place, values in ours.items() if place in theirs and np.array_equal(values, theirs[place]))
    return same / sum(values.size for values in ours.values())


def asked(name: str) -> dict[str, Any]:
    """One library, held against."""
    found, stranger = CASES[name](1), CASES[name](2)
    row: dict[str, Any] = {"library": name}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        original = save(found.original, folder / "original", "model.safetensors", found.config)
        trained = save(trained_on(found.original, 3), folder / "trained", "model.safetensors", found.config)
        other = save(found.other, folder / "other", found.file)
        apart = save(stranger.other, folder / "stranger", found.file)
        row["same place and value"] = round(same_share(other, original, found.config), 4)
        for level in ("full", "probe"):
            for what, ours, theirs in (("copy", other, original), ("trained", other, trained), ("stranger", apart, original)):
                answer = modelkin.compare(ours, theirs, level=level)
                row[f"{what}, {level}"] = {"relation": answer.relation, "shared": round(answer.shared, 3)}
    row["right"] = _is_right(row)
    return row


def _is_right(row: Mapping[str, Any]) -> bool:
    copies = all(row[f"copy, {level}"]["relation"] in COPIES for level in ("full", "probe"))
    trained = all(
        row[f"trained, {level}"]["shared"] >= WHOLE and row[f"trained, {level}"]["relation"] == "fine-tuned" for level in ("full", "probe")
    )
    strangers = all(row[f"stranger, {level}"]["relation"] in ("unrelated", "not comparable") for level in ("full", "probe"))
    return copies and trained and strangers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=CASES, action="append")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for name in options.only or CASES:
        rows.append(asked(name))
        print(json.dumps(rows[-1]), flush=True)
    write_result("libraries_reference", {"rows": rows}, out=options.out, packages=[name for name in PACKAGES if _is_installed(name)])
    return 0 if all(row["right"] for row in rows) else 1


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
