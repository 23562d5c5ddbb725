"""Folders of several models: each part read with its own config, kept apart, and compared with a model of its own."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from modelkin_indexer.anatomy.parts import anatomy_of
from modelkin_indexer.errors import DamagedFile, SourceError
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.registry import Registry
from tiny_models import save_model, tiny_llama


def pipeline(folder: Path, parts: dict[str, str], **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    index = {"_class_name": "TinyPipeline", **{name: [library, "Kind"] for name, library in parts.items()}, **more}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def weights(folder: Path, tensors: dict[str, Any], config: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config or {}))
    return folder


def convolutions(seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    shapes = {"encoder.conv_in.weight": (16, 3, 3, 3), "decoder.conv_in.weight": (16, 4, 3, 3), "decoder.conv_out.weight": (3, 16, 3, 3)}
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def read(path: Path) -> Fingerprint:
    with contextlib.closing(open_source(path)) as source:
        return fingerprint_source(source)


@pytest.fixture
def tiny_pipeline(tmp_path: Path) -> Path:
    folder = pipeline(
        tmp_path / "pipe", {"text_encoder": "transformers", "text_encoder_2": "transformers", "vae": "diffusers", "scheduler": "diffusers"}
    )
    save_model(folder / "text_encoder", tiny_llama(1))
    save_model(folder / "text_encoder_2", tiny_llama(2))
    weights(folder / "vae", convolutions(3))
    (folder / "scheduler").mkdir()
    return folder


def test_parts_are_components(tiny_pipeline: Path) -> None:
    with contextlib.closing(open_source(tiny_pipeline)) as source:
        anatomy = anatomy_of(source)
        names = {view.tensor for piece in anatomy.pieces for view in piece.views}
        assert names == set(source.tensors)
        assert "vae/decoder.conv_in.weight" in names
        assert source.config == {"architectures": ["TinyPipeline"]}
        assert "text_encoder/model.safetensors" in {file.name for file in source.files}
        components = {piece.place.component for piece in anatomy.pieces}
        assert {"text", "text_2"} <= components
        assert all(name.startswith("vae") for name in components - {"text", "text_2"})
        assert anatomy.layers["text"] == anatomy.layers["text_2"] == 3
        name = "text_encoder_2/model.embed_tokens.weight"
        assert np.array_equal(
            source.read(name, 0, source.tensors[name].nbytes).view(np.float32), tiny_llama(2)["model.embed_tokens.weight"].ravel()
        )


def test_a_part_is_found_in_a_model_of_its_own(tiny_pipeline: Path, tmp_path: Path) -> None:
    alone, stranger = save_model(tmp_path / "alone", tiny_llama(2)), save_model(tmp_path / "stranger", tiny_llama(9))
    with Registry.open(tmp_path / "registry.db") as registry:
        whole = read(tiny_pipeline)
        found = registry.compare(whole, read(alone))
        shared = [(part.query, part.relative) for part in found.components if part.shared > 0.9]
        assert shared == [("text_2", "text")]
        assert registry.compare(whole, read(stranger)).relation in ("unrelated", "not comparable")


def test_reading_order_of_parts_does_not_matter(tiny_pipeline: Path) -> None:
    once = read(tiny_pipeline)
    index = json.loads((tiny_pipeline / "model_index.json").read_text())
    (tiny_pipeline / "model_index.json").write_text(json.dumps(dict(reversed(index.items()))))
    assert read(tiny_pipeline).to_bytes() == once.to_bytes()


def test_parts_of_one_kind_keep_apart(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "pipe", {"text_encoder": "transformers", "prior_text_encoder": "transformers"})
    for number, name in enumerate(("text_encoder", "prior_text_encoder")):
        save_model(folder / name, tiny_llama(number))
    with contextlib.closing(open_source(folder)) as source:
        assert {piece.place.component for piece in anatomy_of(source).pieces} == {"text", "text_encoder.text"}


def test_sentence_transformers(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", tiny_llama(1))
    modules = [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "1_Pooling").mkdir()
    (folder / "modules.json").write_text(json.dumps(modules))
    with contextlib.closing(open_source(folder)) as source:
        assert "model.embed_tokens.weight" in source.tensors  # one module with weights: a model as any other
    weights(folder / "2_Dense", {"linear.weight": np.ones((8, 48), np.float32)})
    (folder / "modules.json").write_text(json.dumps([*modules, {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]))
    with contextlib.closing(open_source(folder)) as source:
        assert {"0_Transformer/model.embed_tokens.weight", "2_Dense/linear.weight"} <= set(source.tensors)


@pytest.mark.parametrize("name", ["..", ".", "a/b", "a\\b", "linked"])
def test_parts_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    weights(tmp_path / "secret", convolutions(1))
    folder = pipeline(tmp_path / "pipe", {name: "diffusers"})
    (folder / "linked").symlink_to(tmp_path / "secret")
    with pytest.raises(DamagedFile, match="Do not trust"):
        open_source(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b'{"unet": 1}', b"\xff"])
@pytest.mark.parametrize("index", ["model_index.json", "modules.json"])
def test_damaged_indexes(tmp_path: Path, index: str, content: bytes) -> None:
    (tmp_path / index).write_bytes(content)
    with pytest.raises(SourceError):
        open_source(tmp_path)


def test_a_damaged_part_stops_the_whole(tiny_pipeline: Path) -> None:
    (tiny_pipeline / "vae" / "model.safetensors").write_bytes(b"\x10")
    with pytest.raises(DamagedFile, match="vae"):
        open_source(tiny_pipeline)
