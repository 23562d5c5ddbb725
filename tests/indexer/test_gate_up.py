"""Gate and up of stacked experts: one after the other or taking turns, told by what they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from modelkin_indexer.anatomy.parts import anatomy_of
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint

Tensors = dict[str, npt.NDArray[np.float32]]
EXPERTS, NEURONS, HIDDEN = 4, 64, 48


def experts(layer: int, paired: bool) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Gate and up [experts, neurons, hidden]; `paired`: rows of one neuron are of one length, as training leaves them."""
    rng = np.random.default_rng(layer)
    gate, up = rng.standard_normal((2, EXPERTS, NEURONS, HIDDEN)).astype(np.float32)
    length = rng.uniform(0.5, 1.5, (EXPERTS, NEURONS, 1)).astype(np.float32) if paired else np.float32(1)
    return gate * length, up * length


def stored(folder: Path, form: str, paired: bool = True) -> Path:
    tensors: Tensors = {"model.embed_tokens.weight": np.random.default_rng(9).standard_normal((64, HIDDEN)).astype(np.float32)}
    for layer in range(2):
        front = f"model.layers.{layer}.mlp.experts"
        gate, up = experts(layer, paired)
        if form == "single":
            tensors |= {f"{front}.{e}.gate_proj.weight": gate[e] for e in range(EXPERTS)}
            tensors |= {f"{front}.{e}.up_proj.weight": up[e] for e in range(EXPERTS)}
        elif form == "turns":
            tensors[f"{front}.gate_up_proj"] = np.stack([gate, up], axis=2).reshape(EXPERTS, 2 * NEURONS, HIDDEN)
        else:
            tensors[f"{front}.gate_up_proj"] = np.concatenate([gate, up], axis=1)
        tensors[f"model.layers.{layer}.post_attention_layernorm.weight"] = np.linspace(0.5, 1.5, HIDDEN, dtype=np.float32)
    folder.mkdir()
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / "model.safetensors")
    return folder


def digests(found: Fingerprint) -> list[bytes]:
    return [row.tobytes() for row in found.matrices.digest]


@pytest.mark.parametrize("form", ["turns", "halves"])
def test_either_layout_is_the_model_with_single_experts(form: str, tmp_path: Path) -> None:
    single = fingerprint_source(open_source(stored(tmp_path / "single", "single")))
    found = fingerprint_source(open_source(stored(tmp_path / form, form)))
    assert found.matrices.places == single.matrices.places
    assert digests(found) == digests(single)


@pytest.mark.parametrize("form", ["turns", "halves"])
def test_without_pairs_names_decide(form: str, tmp_path: Path) -> None:
    """Rows of one size, as before training: one after the other, since nothing says otherwise."""
    anatomy = anatomy_of(open_source(stored(tmp_path / form, form, paired=False)))
    gate = next(piece for piece in anatomy.pieces if piece.place.role == "gate")
    assert gate.views[0].strides == (HIDDEN, 1)
