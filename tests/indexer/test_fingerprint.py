"""Fingerprints: the same for the same weights however they are stored and read, golden bytes, file form, keys, budget."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import models
from modelkin_indexer import spec
from modelkin_indexer.anatomy.constants.table_reading import SMALL
from modelkin_indexer.errors import FingerprintError, UnusableValues
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.places import Place
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.sketch import chosen_rows
from modelkin_registry.search.candidates import index_rows
from modelkin_registry.store.rows import encode

# Sums in float64 round the same on every machine; gram and anchored are float32 products whose order a processor may choose.
GRAM_TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write(tmp_path_factory.mktemp("golden"), models.llama(1, layers=2))


def index(folder: Path, level: str = "full", threads: int = 1) -> Fingerprint:
    return fingerprint_source(open_source(folder), level=level, threads=threads)


def digest(*arrays: np.ndarray) -> str:  # type: ignore[type-arg]
    return blake3(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest(8)


def test_golden_bytes(folder: Path) -> None:
    """A change here is a change of the spec: raise spec.VERSION, and every registry has to be indexed again."""
    found = index(folder)
    matrices, vectors = found.matrices, found.vectors
    assert digest(matrices.probe, matrices.digest, matrices.rows, matrices.columns, matrices.top, matrices.seen) == "90665273a742b11e"
    assert digest(matrices.numbers, matrices.blocks) == "d93316396ac86a07"
    assert digest(vectors.sketch, vectors.quantiles, vectors.digest) == "30f1b0d06e5e99dd"
    golden = np.array(json.loads((Path(__file__).parents[1] / "data" / "golden_gram.json").read_text()), np.float32)
    assert np.abs(np.stack([matrices.gram[5], matrices.anchored[5]]).astype(np.float32) - golden).max() <= GRAM_TOLERANCE


def test_threads_do_not_matter(folder: Path) -> None:
    assert index(folder, threads=1).to_bytes() == index(folder, threads=2).to_bytes()


def test_full_reads_every_byte_once_and_probe_few(folder: Path) -> None:
    source = open_source(folder)
    header = source.bytes_read
    fingerprint_source(source, level="full")
    twice = [info for info in source.tensors.values() if len(info.shape) > 1 and info.elements <= SMALL]  # looked at for fixed tables
    assert source.bytes_read - header == sum(info.nbytes for info in (*source.tensors.values(), *twice))
    probed = index(folder, "probe")
    assert probed.about.bytes_read - sum(info.nbytes for info in twice) < probed.about.bytes_total / 5


def test_levels_agree_on_what_both_have(folder: Path) -> None:
    full, probe = index(folder), index(folder, "probe")
    assert full.matrices.places == probe.matrices.places
    assert (full.matrices.probe == probe.matrices.probe).all()
    assert probe.matrices.gram.shape[1] == probe.matrices.anchored.shape[1] == 0
    assert probe.matrices.digest.shape[1] == 0


def test_transposed_and_fused_storage_is_the_same_model(tmp_path: Path) -> None:
    tensors = models.llama(1, layers=2)
    fused = {k: v for k, v in tensors.items() if not k.endswith(models.READING)}
    for layer in range(2):
        at = f"model.layers.{layer}."
        fused[at + "self_attn.qkv_proj.weight"] = np.vstack([tensors[f"{at}self_attn.{r}_proj.weight"] for r in "qkv"])
        fused[at + "mlp.gate_up_proj.weight"] = np.vstack([tensors[f"{at}mlp.{r}_proj.weight"] for r in ("gate", "up")])
    plain = index(models.write(tmp_path / "plain", tensors))
    packed = index(models.write(tmp_path / "fused", fused, config=models.CONFIG | {"model_type": "phi3"}))
    assert packed.matrices.places == plain.matrices.places
    for column in ("probe", "gram", "anchored", "digest", "scale"):
        assert (getattr(packed.matrices, column) == getattr(plain.matrices, column)).all(), column


def test_sharding_prefix_and_order_do_not_matter(tmp_path: Path) -> None:
    tensors = models.llama(1, layers=2)
    plain = index(models.write(tmp_path / "plain", tensors))
    prefixed = {"language_model." + k: tensors[k] for k in reversed(tensors)}
    assert (index(models.write(tmp_path / "prefixed", prefixed)).matrices.probe == plain.matrices.probe).all()


def test_tied_head_counts_once(tmp_path: Path) -> None:
    tensors = models.llama(1, layers=2)
    tied = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]}
    for level in spec.LEVELS:
        found = index(models.write(tmp_path / "tied", tied), level)
        assert "lm_head.weight" in (found.about.constants or {})
        assert all(place.family != "head" for place in found.matrices.places)
        assert found.about.parameters == sum(v.size for k, v in tied.items() if k != "lm_head.weight")


def test_sketches_are_linear(tmp_path: Path) -> None:
    """The sketch of a merge is the merge of the sketches: merges can be solved on sketches."""
    a, b = models.llama(1, layers=2), models.llama(2, layers=2)
    mixed = {k: (0.3 * a[k] + 0.7 * b[k]).astype(np.float32) for k in a}
    raw = [found.matrices.probe.astype(float) * found.matrices.scale[:, None] for found in (_float(tmp_path, t) for t in (a, b, mixed))]
    assert np.abs(0.3 * raw[0] + 0.7 * raw[1] - raw[2]).max() <= 2e-3 * np.abs(raw[2]).max()


def _float(tmp_path: Path, tensors: models.Tensors) -> Fingerprint:
    return models.fingerprint(tmp_path / "f", tensors, level="probe", dtype=np.float32)


def test_cosines_of_sketches_estimate_correlations(tmp_path: Path) -> None:
    a = models.llama(1)
    b = models.noised(a, 2, 1.0)  # true correlation 0.707
    x, y = _float(tmp_path, a).matrices, _float(tmp_path, b).matrices
    cosines = np.sum(x.probe.astype(float) * y.probe.astype(float), axis=1)
    assert np.mean(cosines) == pytest.approx(1 / np.sqrt(2), abs=0.03)


def test_file_form_round_trip(folder: Path, tmp_path: Path) -> None:
    found = index(folder)
    found.save(tmp_path / "one.modelkin")
    again = fingerprints.load(tmp_path / "one.modelkin")
    assert again.to_bytes() == found.to_bytes()
    assert again.about == found.about
    with pytest.raises(AttributeError):
        again.about = found.about  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        again.matrices.probe[0, 0] = 1


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_file_form(folder: Path, data: st.DataObject) -> None:
    whole = index(folder, "probe").to_bytes()
    kind = data.draw(st.sampled_from(["cut", "flip"]))
    at = data.draw(st.integers(0, min(len(whole) - 1, 3000)))
    damaged = whole[:at] if kind == "cut" else whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    with contextlib.suppress(FingerprintError):
        found = fingerprints.from_bytes(damaged, "x.modelkin")
        assert len(found.matrices.probe) == len(found.matrices.places)
        return
    with pytest.raises(FingerprintError, match=r"x\.modelkin"):
        fingerprints.from_bytes(damaged, "x.modelkin")


def test_unknown_spec_is_refused_by_name(folder: Path) -> None:
    found = index(folder, "probe")
    newer = replace(found, about=replace(found.about, spec="9"))
    with pytest.raises(FingerprintError, match="spec '9'"):
        fingerprints.from_bytes(newer.to_bytes())


def test_private_keys(tmp_path: Path) -> None:
    tensors = models.llama(1, layers=2)
    keys = [spec.private_key(bytes([n]) * 32) for n in (1, 2)]
    first, second, public = (models.fingerprint(tmp_path / "k", tensors, key=key) for key in (*keys, spec.PUBLIC_KEY))
    assert len({f.about.key for f in (first, second, public)}) == 3
    for other in (second, public):
        assert np.abs(np.sum(first.matrices.probe.astype(float) * other.matrices.probe.astype(float), axis=1)).max() < 0.5
    assert bytes([1]) * 32 not in first.to_bytes()
    assert repr(keys[0]) == f"Key({first.about.key!r})"
    with pytest.raises(FingerprintError, match="32 bytes"):
        spec.private_key(b"short")


UP = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize("level", spec.LEVELS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -3.4e38])
def test_rows_without_numbers_are_left_out_and_told(tmp_path: Path, value: float, level: str) -> None:
    tensors = models.llama(1, layers=2)
    sound = models.fingerprint(tmp_path / "sound", tensors, level=level, dtype=np.float32)
    tensors[UP] = tensors[UP].copy()
    row = chosen_rows(spec.PUBLIC_KEY, *tensors[UP].shape)[0].start
    tensors[UP][row] = value
    found = models.fingerprint(tmp_path / "bad", tensors, level=level, dtype=np.float32)
    assert found.about.unread == ({"what": f"values that are no finite numbers: row {row} of {UP}", "bytes": 4 * models.HIDDEN},)
    assert found.matrices.places == sound.matrices.places
    at = found.matrices.places.index(Place("text", 1, "mlp", "up"))
    cosine = float(found.matrices.probe[at].astype(float) @ sound.matrices.probe[at].astype(float))
    assert 0.8 < cosine < 0.999
    for name in ("mean", "sd", "kurtosis", "scale"):
        assert np.isfinite(getattr(found.matrices, name)).all()
    with pytest.raises(UnusableValues, match=rf"{UP}.*row {row}"):
        fingerprint_source(open_source(tmp_path / "bad"), level=level, strict=True)


@pytest.mark.parametrize("level", spec.LEVELS)
def test_a_tensor_that_is_mostly_no_numbers_is_left_out(tmp_path: Path, level: str) -> None:
    tensors = models.llama(1, layers=2)
    tensors[UP] = np.full_like(tensors[UP], np.nan)
    found = models.fingerprint(tmp_path / "bad", tensors, level=level, dtype=np.float32)
    assert Place("text", 1, "mlp", "up") not in found.matrices.places
    assert found.about.unread == ({"what": f"values that are no finite numbers: most of {UP}", "bytes": tensors[UP].size * 4},)
    assert found.about.coverage == pytest.approx(1 - tensors[UP].size / sum(values.size for values in tensors.values()), abs=1e-5)


def test_a_gain_that_is_no_number(tmp_path: Path) -> None:
    tensors = models.llama(1, layers=2)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].copy()
    tensors["model.norm.weight"][5] = np.nan
    found = models.fingerprint(tmp_path / "bad", tensors)
    assert "row 5 of model.norm.weight" in found.about.unread[0]["what"]
    assert np.isfinite(found.vectors.sketch).all()


def test_a_model_without_any_number_is_refused(tmp_path: Path) -> None:
    tensors = {name: np.full_like(values, np.nan) for name, values in models.llama(1, layers=2).items()}
    with pytest.raises(UnusableValues, match="holds no weights that are finite numbers"):
        models.fingerprint(tmp_path / "bad", tensors)


def test_constants_are_recognised_by_content(tmp_path: Path) -> None:
    tensors = models.llama(1, layers=2)
    positions = np.arange(64)[:, None] * np.exp(-np.log(10000.0) / (models.HIDDEN // 2 - 1) * np.arange(models.HIDDEN // 2))
    tensors["model.embed_positions.weight"] = np.hstack([np.sin(positions), np.cos(positions)]).astype(np.float32)
    tensors["model.layers.0.self_attn.o_proj.weight"] = np.zeros((models.HIDDEN, models.HIDDEN), np.float32)
    found = models.fingerprint(tmp_path / "c", tensors, dtype=np.float32)
    assert "sines and cosines" in (found.about.constants or {})["model.embed_positions.weight"]
    zeros = found.matrices.places.index(Place("text", 0, "attention", "o"))  # kept, since a copy with it cleared is no copy; never evidence
    assert not found.matrices.probe[zeros].any()


def test_budget_of_a_deep_model(tmp_path: Path) -> None:
    """A 32-layer dense model with biases: at most 96 KB at level probe, 320 KB at level full. Sizes depend on places, not on widths."""
    rng = np.random.default_rng(1)
    tensors = models.with_layers(models.llama(1, layers=1), [0] * 32)
    tensors = {k: (v + 0.01 * rng.standard_normal(v.shape)).astype(np.float32) for k, v in tensors.items()}
    for name in ("q", "k", "v"):
        tensors |= {
            f"model.layers.{i}.self_attn.{name}_proj.bias": rng.standard_normal(models.HIDDEN).astype(np.float32) for i in range(32)
        }
    for level, budget in (("probe", 96 << 10), ("full", 320 << 10)):
        found = models.fingerprint(tmp_path / "deep", tensors, level=level)
        assert len(found.to_bytes()) + sum(encode(rows).data.nbytes for rows in index_rows(found)) <= budget


def test_stored_types_of_equal_values_give_equal_sketches(tmp_path: Path) -> None:
    rounded = {k: v.astype(ml_dtypes.bfloat16).astype(np.float32) for k, v in models.llama(1, layers=2).items()}
    a, b = (models.fingerprint(tmp_path / "t", rounded, dtype=dtype) for dtype in (np.float32, ml_dtypes.bfloat16))
    assert (a.matrices.probe == b.matrices.probe).all()
    assert (a.matrices.gram == b.matrices.gram).all()
    assert set(a.about.dtypes) == {"F32"}


def test_metadata_is_one_entry(folder: Path) -> None:
    """safetensors keeps metadata in an unordered map: more than one entry would make the bytes differ from run to run."""
    whole = index(folder, "probe").to_bytes()
    length = int.from_bytes(whole[:8], "little")
    assert len(json.loads(whole[8 : 8 + length])["__metadata__"]) == 1
    assert safetensors.numpy.load(whole)["matrices.probe"].shape[1] == spec.PROBE_NUMBERS


@pytest.mark.parametrize(
    ("config", "less_one"),
    [
        ({"model_type": "gemma3_text"}, True),
        ({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}, True),
        ({"model_type": "nemotron"}, True),
        ({"model_type": "qwen3_next"}, True),
        ({"model_type": "gemma3n_text"}, False),
        ({"model_type": "gemma4", "text_config": {"model_type": "gemma4_text"}}, False),
        ({"model_type": "llama"}, False),
    ],
)
def test_gains_stored_less_one_read_as_the_gains_they_are(config: dict[str, object], less_one: bool, tmp_path: Path) -> None:
    """The same function stored both ways has the same Gram matrices, by the architecture's own code and no other's."""
    plain = {name: values.astype(np.float32) for name, values in models.llama(1, layers=2).items()}
    stored = {name: values - 1 if "norm" in name and less_one else values for name, values in plain.items()}
    usual = index(models.write(tmp_path / "usual", plain, np.float32))
    found = index(models.write(tmp_path / "stored", stored, np.float32, config))
    assert np.abs(usual.matrices.gram.astype(np.float32) - found.matrices.gram.astype(np.float32)).max() < GRAM_TOLERANCE


def test_latent_attention_is_the_same_joined_and_as_keys_and_values(tmp_path: Path) -> None:
    """As published [heads x (key + value), rank], and as llama.cpp stores it: keys turned round, values apart."""
    heads, key, value, rank = 4, 16, 24, 32
    rng = np.random.default_rng(0)
    joined = {f"model.layers.{layer}.self_attn.kv_b_proj.weight": rng.standard_normal((heads * (key + value), rank)) for layer in range(2)}
    apart = {}
    for name, weights in joined.items():
        by_head = weights.reshape(heads, key + value, rank)
        apart[name.replace("kv_b", "k_b")] = by_head[:, :key].transpose(0, 2, 1)
        apart[name.replace("kv_b", "v_b")] = by_head[:, key:]
    config: dict[str, object] = {"model_type": "deepseek_v3", "num_attention_heads": heads, "qk_nope_head_dim": key, "v_head_dim": value}
    one = index(models.write(tmp_path / "joined", joined, np.float32, config))
    other = index(models.write(tmp_path / "apart", apart, np.float32, {}))
    assert one.matrices.places == other.matrices.places
    assert {place.role for place in one.matrices.places} == {"k_b", "v_b"}
    assert np.array_equal(one.matrices.digest, other.matrices.digest)
    assert np.array_equal(one.matrices.probe, other.matrices.probe)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "9" * 400])
def test_numbers_of_a_config_that_are_none_are_not_kept(number: str, tmp_path: Path) -> None:
    folder = models.write(tmp_path / "forged", models.llama(1), np.float32, {"model_type": "llama"})
    (folder / "config.json").write_text(f'{{"model_type": "llama", "hidden_size": {number}, "vocab_size": {number}}}')
    found = index(folder)
    assert found.about.config == {"model_type": "llama"}
    assert fingerprints.from_bytes(found.to_bytes()).about.config == found.about.config
