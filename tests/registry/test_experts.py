"""Mixtures: experts moved, experts taken over, experts grown from a dense model."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from msgspec.structs import replace

import models
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.relations.pairs import measure_kin

EXPERTS, WIDTH = 8, 40


def mixture(seed: int) -> models.Tensors:
    """A Mixtral-shaped model with the attention and token tables of llama(seed); neurons of its experts differ in size."""
    rng = np.random.default_rng(seed + 1000)
    tensors = {k: v for k, v in models.llama(seed, layers=3).items() if ".mlp." not in k}
    for layer in range(3):
        at = f"model.layers.{layer}.block_sparse_moe."
        tensors[at + "gate.weight"] = (0.02 * rng.standard_normal((EXPERTS, models.HIDDEN))).astype(np.float32)
        for expert in range(EXPERTS):
            for name, shape in (("w1", (WIDTH, models.HIDDEN)), ("w3", (WIDTH, models.HIDDEN)), ("w2", (models.HIDDEN, WIDTH))):
                sizes = 0.02 * np.exp(0.4 * rng.standard_normal((shape[0], 1)))
                tensors[f"{at}experts.{expert}.{name}.weight"] = (sizes * rng.standard_normal(shape)).astype(np.float32)
    return tensors


def moved(tensors: models.Tensors, order: list[int]) -> models.Tensors:
    out = dict(tensors)
    for layer in range(3):
        at = f"model.layers.{layer}.block_sparse_moe."
        out[at + "gate.weight"] = tensors[at + "gate.weight"][order]
        for new, old in enumerate(order):
            out |= {f"{at}experts.{new}.{name}.weight": tensors[f"{at}experts.{old}.{name}.weight"] for name in ("w1", "w2", "w3")}
    return out


def index(folder: Path, tensors: models.Tensors, level: str = "full") -> Fingerprint:
    config = models.CONFIG | {"model_type": "mixtral", "num_local_experts": EXPERTS, "intermediate_size": WIDTH}
    models.write(folder, tensors, config=config)

    return fingerprint_source(open_source(folder), level=level)


def under(model: Fingerprint, component: str) -> Fingerprint:
    """The same model with its only component under another name."""
    about = replace(model.about, components=(component,), layers={component: next(iter(model.about.layers.values()))})
    tables = {name: getattr(model, name) for name in ("matrices", "vectors")}
    named = {name: replace(t, places=tuple(p._replace(component=component) for p in t.places)) for name, t in tables.items()}
    return replace(model, about=about, **named)


def test_experts_in_another_order(tmp_path: Path) -> None:
    parent = mixture(1)
    kin = measure_kin(index(tmp_path / "a", moved(parent, [3, 1, 4, 0, 5, 7, 2, 6])), index(tmp_path / "b", parent), "parent", ALONE)
    assert kin.relative.relation == "reparameterised"
    assert {"attention", "expert", "router", "embedding"} <= {f.family for c in kin.relative.components for f in c.families if f.inherited}


def test_some_experts_of_a_stranger(tmp_path: Path) -> None:
    host, donor = mixture(1), mixture(2)
    child = {k: donor[k] if any(f".experts.{n}." in k for n in (1, 4, 6)) else v for k, v in host.items()}
    for level in ("full", "probe"):
        a, b, c = (index(tmp_path / name, tensors, level) for name, tensors in (("a", child), ("b", donor), ("c", host)))
        given, kept = measure_kin(a, b, "donor", ALONE).relative, measure_kin(a, c, "host", ALONE).relative
        assert {f.family for x in kept.components for f in x.families if f.inherited} >= {"attention", "expert", "embedding"}
        assert kept.relation == "transplanted" or level == "probe"
        if level == "full":
            assert given.relation == "transplanted"
            assert [f.family for x in given.components for f in x.families if f.inherited] == ["expert"]
            assert 0.15 < given.shared < 0.2  # three of eight experts, which are 47 % of the parameters


def test_some_experts_of_a_stranger_under_names_that_tell_nothing(tmp_path: Path) -> None:
    """Each of them is a matrix by itself then, which no name tells from those of the host."""
    host, donor = mixture(1), mixture(2)
    child = {k: donor[k] if any(f".experts.{n}." in k for n in (1, 4, 6)) else v for k, v in host.items()}
    order = np.random.default_rng(3).permutation(len(child))
    named = index(tmp_path / "named", child)
    safetensors.numpy.save_file(
        {f"p{at}": value.astype(ml_dtypes.bfloat16) for at, value in zip(order, child.values(), strict=True)},
        tmp_path / "renamed.safetensors",
    )
    renamed = fingerprint_source(open_source(tmp_path / "renamed.safetensors"), level="full")
    for relative in (index(tmp_path / "host", host), index(tmp_path / "donor", donor)):
        before, after = (measure_kin(query, relative, "relative", ALONE).relative for query in (named, renamed))
        assert before.relation == after.relation == "transplanted"
        assert after.shared == pytest.approx(before.shared, abs=0.05)
        assert 0.1 < after.shared < 0.9


def test_two_mixtures_apart(tmp_path: Path) -> None:
    assert measure_kin(index(tmp_path / "a", mixture(1)), index(tmp_path / "b", mixture(2)), "x", ALONE).relative.relation == "unrelated"


def test_experts_grown_from_dense_layers(tmp_path: Path) -> None:
    dense = models.llama(1, layers=3)
    grown = {k: v for k, v in dense.items() if ".mlp." not in k}
    rng = np.random.default_rng(5)
    for layer in range(3):
        at = f"model.layers.{layer}.block_sparse_moe."
        grown[at + "gate.weight"] = (0.02 * rng.standard_normal((EXPERTS, models.HIDDEN))).astype(np.float32)
        for expert in range(EXPERTS):
            for name, role in (("w1", "gate"), ("w3", "up"), ("w2", "down")):
                weights = dense[f"model.layers.{layer}.mlp.{role}_proj.weight"]
                noise = 0.3 * weights.std() * rng.standard_normal(weights.shape)
                grown[f"{at}experts.{expert}.{name}.weight"] = (weights + noise).astype(np.float32)
    query, relative = index(tmp_path / "a", grown), models.fingerprint(tmp_path / "b", dense)
    assert measure_kin(query, relative, "dense", ALONE).relative.relation == "upcycled"
    kin = measure_kin(query, under(relative, "decoder"), "dense", ALONE)
    assert (kin.relative.relation, kin.relative.components[0].relative) == ("upcycled", "decoder")


def test_repeated_experts(tmp_path: Path) -> None:
    parent = mixture(1)
    kin = measure_kin(index(tmp_path / "a", moved(parent, [0, 1, 2, 3, 0, 1, 2, 3])), index(tmp_path / "b", parent), "parent", ALONE)
    changes = " ".join(kin.relative.components[0].changes)
    assert "50% of the experts repeat an expert that another one already is" in changes
