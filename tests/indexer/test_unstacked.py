"""Layers that JAX libraries keep stacked along an axis of one tensor: read as the same model that is stored layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

import models
from benchmarks.hostile.checkpoints import described, ocdbt_files
from benchmarks.hostile.written import packed
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.sources.unstacked import SHORT_RUN
from modelkin_registry.answers.asked import CompareAnswer
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.explanation.compare import compare_fingerprints

Values = dict[str, npt.NDArray[np.float32]]
LAYERS, HEADS = 3, 4
LONG = "params.decoder.layers.mlp.wi_0.kernel"


def llama() -> Values:
    return {name: np.ascontiguousarray(value, np.float32) for name, value in models.llama(1, layers=LAYERS).items()}


def layer(values: Values, number: int, name: str) -> npt.NDArray[np.float32]:
    return values[f"model.layers.{number}.{name}.weight"]


def heads(matrix: npt.NDArray[np.float32], width: int) -> npt.NDArray[np.float32]:
    """[out, in] as the kernel [in, heads, size]."""
    size = width // HEADS
    return np.stack([matrix[head * size : (head + 1) * size].T for head in range(len(matrix) // size)], axis=1)


def of_layers(values: Values) -> list[Values]:
    """Each layer as Flax would hold it alone."""
    width = values["model.norm.weight"].shape[0]
    found = []
    for number in range(LAYERS):
        out = layer(values, number, "self_attn.o_proj")
        size = width // HEADS
        found.append(
            {
                "self_attention.query.kernel": heads(layer(values, number, "self_attn.q_proj"), width),
                "self_attention.key.kernel": heads(layer(values, number, "self_attn.k_proj"), width),
                "self_attention.value.kernel": heads(layer(values, number, "self_attn.v_proj"), width),
                "self_attention.out.kernel": np.stack([out[:, head * size : (head + 1) * size].T for head in range(HEADS)]),
                "mlp.wi_0.kernel": layer(values, number, "mlp.gate_proj").T,
                "mlp.wi_1.kernel": layer(values, number, "mlp.up_proj").T,
                "mlp.wo.kernel": layer(values, number, "mlp.down_proj").T,
                "pre_self_attention_layer_norm.scale": layer(values, number, "input_layernorm"),
                "post_self_attention_layer_norm.scale": layer(values, number, "post_attention_layernorm"),
            }
        )
    return found


def outside(values: Values) -> Values:
    return {
        "params.token_embedder.embedding": values["model.embed_tokens.weight"],
        "params.decoder.decoder_norm.scale": values["model.norm.weight"],
        "params.decoder.logits_dense.kernel": values["lm_head.weight"].T,
    }


def scanned(values: Values, axis: int, front: str = "params.decoder.layers.") -> Values:
    inside = of_layers(values)
    return outside(values) | {f"{front}{name}": np.stack([one[name] for one in inside], axis) for name in inside[0]}


def apart(values: Values) -> Values:
    inside = of_layers(values)
    return outside(values) | {
        f"params.decoder.layers_{number}.{name}": value for number, one in enumerate(inside) for name, value in one.items()
    }


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, Values], Path]:
    def write(name: str, values: Values) -> Path:
        safetensors.numpy.save_file({key: np.ascontiguousarray(value) for key, value in values.items()}, tmp_path / f"{name}.safetensors")
        return tmp_path / f"{name}.safetensors"

    return write


def printed(path: Path, level: str) -> Fingerprint:
    source = open_source(path)
    try:
        return fingerprint_source(source, level=level)
    finally:
        source.close()


FORMS: dict[str, Callable[[Values], Values]] = {
    "MaxText, axis 1": lambda values: scanned(values, 1),
    "axis 0": lambda values: scanned(values, 0),
    "axis 0, in a scanned module": lambda values: scanned(values, 0, "params.decoder.layers.FlaxDecoderScannedLayers."),
    "slashes": lambda values: {name.replace(".", "/"): value for name, value in scanned(values, 1).items()},
}


@pytest.mark.parametrize("level", ["full", "probe"])
@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_model_that_is_stored_layer_by_layer(written: Callable[[str, Values], Path], form: str, level: str) -> None:
    values = llama()
    ours, theirs = printed(written("stacked", FORMS[form](values)), level), printed(written("apart", apart(values)), level)
    assert ours.matrices.places == theirs.matrices.places
    assert ours.vectors.places == theirs.vectors.places
    assert (ours.matrices.probe == theirs.matrices.probe).all()
    assert (ours.matrices.digest == theirs.matrices.digest).all()
    assert (ours.vectors.digest == theirs.vectors.digest).all()


def nested(values: Values) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *front, leaf = name.split(".")
        at = tree
        for part in front:
            at = at.setdefault(part, {})
        at[leaf] = value
    return tree


@pytest.mark.parametrize("container", ["Flax", "Orbax"])
@pytest.mark.parametrize("axis", [0, 1])
def test_flax_keeps_its_stacks_in_its_own_containers(container: str, axis: int, tmp_path: Path) -> None:
    values = llama()
    stacked = scanned(values, axis)
    published = models.fingerprint(tmp_path / "published", values, dtype=np.float32)
    path = tmp_path / "flax_model.msgpack"
    if container == "Flax":
        path.write_bytes(packed(nested(stacked)))
    else:
        path = tmp_path / "model"
        found = {key: data for name, value in stacked.items() for key, data in array_values(name, value).items()}
        for name, data in ocdbt_files(found).items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    found = fingerprint_source(open_source(path), level="full")
    answer: CompareAnswer = compare_fingerprints(found, published, a_name="a", b_name="b", controls={}, judge=ALONE)
    assert (answer.relation, answer.shared_of_all) == ("identical", 1.0)


def array_values(name: str, value: Any) -> dict[str, bytes]:
    """An array of Zarr's in one chunk."""
    return {f"{name}/.zarray": described(value), f"{name}/{'.'.join('0' * value.ndim)}": np.ascontiguousarray(value).tobytes()}


@pytest.mark.parametrize("form", FORMS)
def test_it_is_identical_to_the_published_model(written: Callable[[str, Values], Path], tmp_path: Path, form: str) -> None:
    values = llama()
    published = models.fingerprint(tmp_path / "published", values, dtype=np.float32)
    answer: CompareAnswer = compare_fingerprints(
        printed(written("stacked", FORMS[form](values)), "full"), published, a_name="a", b_name="b", controls={}, judge=ALONE
    )
    assert (answer.relation, answer.shared_of_all) == ("identical", 1.0)


@pytest.mark.parametrize("axis", [0, 1])
def test_bytes_are_those_of_the_layer(written: Callable[[str, Values], Path], axis: int) -> None:
    """Also of runs that are read one by one, and from the middle of one to that of another."""
    rng, neurons = np.random.default_rng(3), SHORT_RUN // 4 + 8
    shapes = {"mlp.wi_0.kernel": (5, neurons), "mlp.wo.kernel": (neurons, 5), "norm.scale": (5,), "norm.bias": (5,)}
    each = [{name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()} for _ in range(LAYERS)]
    path = written("stacked", {f"layers.{name}": np.stack([one[name] for one in each], axis) for name in shapes})
    source = open_source(path)
    for number, one in enumerate(each):
        for name, value in one.items():
            shown, raw = f"layers_{number}.{name}", value.tobytes()
            assert source.tensors[shown].shape == value.shape
            for start, stop in ((0, len(raw)), (4, len(raw) - 4), (len(raw) // 2, len(raw) // 2 + 4), (8, 8)):
                assert source.read(shown, start, stop).tobytes() == raw[start:stop]
    source.close()


@pytest.mark.parametrize(
    "values",
    [
        {"layers.a.kernel": np.ones((4, 3, 5), np.float32), "layers.b.kernel": np.ones((5, 3, 4), np.float32)},  # no gains
        {
            "layers.a.kernel": np.ones((4, 3, 5), np.float32),
            "layers.b.kernel": np.ones((5, 2, 4), np.float32),
            "layers.n.scale": np.ones((4, 3), np.float32),
        },
        {"layers.0.a.kernel": np.ones((4, 3), np.float32), "layers.0.b.kernel": np.ones((3, 4), np.float32)},
        {"layers.a.kernel": np.ones((4, 3), np.float32), "layers.b.kernel": np.ones((3, 4), np.float32), "layers.n.scale": np.ones(4)},
    ],
)
def test_what_is_no_stack_is_left_as_it_is(written: Callable[[str, Values], Path], values: Values) -> None:
    source = open_source(written("plain", values))
    assert source.tensors.keys() == values.keys()
    source.close()
