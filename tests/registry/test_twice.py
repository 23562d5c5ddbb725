"""A network that a file holds twice (beside its running average, or as a target network) is no stranger to itself."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import CompareAnswer
from modelkin_registry.evidence.alignment import twin_layers
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.explanation.compare import compare_fingerprints
from models import Tensors

WIDTHS = (48, 64, 96, 96, 40)


def network(seed: int, common: int | None = None) -> Tensors:
    """Layers of two matrices each, all of other shapes, so that no layer has another one to stand out from.

    `common`: the seed of a matrix that starts alike in every layer, as a formula gives it, and was trained a little.
    """
    random, tensors = np.random.default_rng(seed), Tensors()
    for at, (columns, rows) in enumerate(pairwise(WIDTHS)):
        scale = np.exp(0.3 * random.standard_normal((rows, 1)))
        tensors[f"layers.{at}.base_weight"] = scale * random.standard_normal((rows, columns))
        tensors[f"layers.{at}.spline_weight"] = scale[:, :, None] * random.standard_normal((rows, columns, 5))
        if common is not None:
            start = np.cumsum(np.random.default_rng(common).standard_normal((64, 64)), axis=0)
            tensors[f"layers.{at}.state_weight"] = start + 0.02 * start.std() * random.standard_normal(start.shape)
    return tensors


def with_average(tensors: Tensors) -> Tensors:
    random = np.random.default_rng(9)
    near = {name: value + 0.01 * value.std() * random.standard_normal(value.shape) for name, value in tensors.items()}
    return tensors | {f"ema_model.{name}": value for name, value in near.items()}


def asked(folder: Path, ours: Tensors, theirs: Tensors, level: str) -> CompareAnswer:
    printed = [_printed(folder / f"{name}.safetensors", one, level) for name, one in (("one", ours), ("other", theirs))]
    return compare_fingerprints(*printed, a_name="one", b_name="other", controls={}, judge=ALONE)


def _printed(path: Path, tensors: Tensors, level: str) -> Fingerprint:
    safetensors.numpy.save_file({name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}, path)
    return fingerprint_source(open_source(path), level=level)


@pytest.mark.parametrize("level", ["full", "probe"])
def test_a_network_is_found_beside_its_running_average(tmp_path: Path, level: str) -> None:
    answer = asked(tmp_path, network(1), with_average(network(1)), level)
    assert (answer.relation != "unrelated", answer.shared) == (True, 1.0)
    assert not any("than between strangers" in sentence for sentence in answer.explanation)


@pytest.mark.parametrize("level", ["full", "probe"])
def test_strangers_stay_strangers_whatever_is_held_twice(tmp_path: Path, level: str) -> None:
    assert asked(tmp_path, network(1), with_average(network(2)), level).relation == "unrelated"
    assert asked(tmp_path, network(1, common=5), network(2, common=5), level).relation == "unrelated"


def test_layers_that_start_alike_in_one_role_are_no_twins(tmp_path: Path) -> None:
    twice = _printed(tmp_path / "twice.safetensors", with_average(network(1)), "full")
    alike = _printed(tmp_path / "alike.safetensors", network(1, common=5), "full")
    assert len(twin_layers(twice.matrices, "text")) == 2 * (len(WIDTHS) - 1)
    assert not twin_layers(alike.matrices, "text")


def test_a_network_beside_an_optimizers_state_is_found_by_its_own_names(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    shapes = {f"flow.flows.{at}.enc.in_layers.{part}.weight": (96, 48, 5) for at in range(0, 8, 2) for part in range(3)}
    shapes |= {f"flow.flows.{at}.enc.res_skip_layers.{part}.weight": (96, 48, 1) for at in range(0, 8, 2) for part in range(3)}
    own = {name: np.exp(0.3 * random.standard_normal((96, 1, 1))) * random.standard_normal(shape) for name, shape in shapes.items()}
    state = {
        f"optimizer.{what}.{name}": scale * random.standard_normal(value.shape) ** power
        for what, scale, power in (("exp_avg", 1e-3, 1), ("exp_avg_sq", 1e-6, 2))
        for name, value in own.items()
    }
    answer = asked(tmp_path, {f"model.{name}": value for name, value in own.items()} | state, own, "full")
    assert answer.relation != "unrelated"
    assert answer.shared_of_all == pytest.approx(1 / 3, abs=0.01)


def test_twins_cost_by_how_many_layers_there_are_not_by_their_numbers(tmp_path: Path) -> None:
    far = {name.replace("layers.", "layers.2000"): value for name, value in network(1).items()}
    table = _printed(tmp_path / "far.safetensors", network(1) | far, "full").matrices
    tracemalloc.start()
    found = twin_layers(table, "text")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == {pair for at in range(len(WIDTHS) - 1) for pair in ((at, 20000 + at), (20000 + at, at))}
    assert peak < 10_000_000  # a matrix of 20,000 by 20,000 would take 3 GB
