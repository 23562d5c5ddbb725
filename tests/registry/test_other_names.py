"""Tensors that an exporter renamed are found again by what they hold; strangers' are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.relations import DESCENT_FREE
from modelkin_registry.counterparts.common_names import under_common_names
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.explanation.compare import compare_fingerprints

Arrays = dict[str, npt.NDArray[np.float32]]
PLAIN = {"conv1": (24, 3, 3, 3), "conv2": (48, 24, 3, 3), "conv3": (48, 48, 3, 3), "dense4": (64, 192), "dense5_1": (4, 64)}
EXPORTED = {
    "conv1": "conv2d_5/kernel:0",
    "conv2": "conv2d_6/kernel:0",
    "conv3": "conv2d_7/kernel:0",
    "dense4": "dense/kernel:0",
    "dense5_1": "dense_1/kernel:0",
}
BIASES = {name: f"{other.partition('/')[0]}/bias:0" for name, other in EXPORTED.items()}


def weights(seed: int) -> Arrays:
    """Rows of uneven size, as training leaves them: of numbers that a seed could have drawn no descent is told."""
    rng = np.random.default_rng(seed)
    found: Arrays = {}
    for name, shape in PLAIN.items():
        sizes = np.exp(0.4 * rng.standard_normal((shape[0], *[1] * (len(shape) - 1))))
        found[f"{name}.weight"] = (sizes * rng.standard_normal(shape)).astype(np.float32)
        found[f"{name}.bias"] = rng.standard_normal(shape[0]).astype(np.float32)
    return found


def exported(tensors: Arrays) -> Arrays:
    """The same tensors as another framework calls them."""
    names = {f"{name}.weight": other for name, other in EXPORTED.items()} | {f"{name}.bias": other for name, other in BIASES.items()}
    return {names[name]: tensor for name, tensor in tensors.items()}


@pytest.fixture
def printed(tmp_path: Path) -> Callable[[Arrays, str], Fingerprint]:
    def make(tensors: Arrays, level: str) -> Fingerprint:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.safetensors"
        safetensors.numpy.save_file(tensors, path)
        source = open_source(path)
        try:
            return fingerprint_source(source, level=level)
        finally:
            source.close()

    return make


def relation(query: Fingerprint, relative: Fingerprint) -> str:
    return compare_fingerprints(query, relative, a_name="query", b_name="relative", controls={}, judge=ALONE).relation


@pytest.mark.parametrize("level", ["full", "probe"])
def test_a_renamed_copy_is_found(level: str, printed: Callable[[Arrays, str], Fingerprint]) -> None:
    plain, other = printed(weights(0), level), printed(exported(weights(0)), level)
    assert not {p.role for p in plain.matrices.places} & {p.role for p in other.matrices.places}
    assert {relation(plain, other), relation(other, plain)} == {"identical"}


@pytest.mark.parametrize("level", ["full", "probe"])
def test_a_renamed_fine_tune_is_found(level: str, printed: Callable[[Arrays, str], Fingerprint]) -> None:
    rng = np.random.default_rng(1)
    tuned = {name: value + 0.3 * rng.uniform() * rng.standard_normal(value.shape).astype(np.float32) for name, value in weights(0).items()}
    assert relation(printed(exported(tuned), level), printed(weights(0), level)) not in DESCENT_FREE


@pytest.mark.parametrize("level", ["full", "probe"])
def test_of_strangers_no_pair_is_made(level: str, printed: Callable[[Arrays, str], Fingerprint]) -> None:
    """Forty strangers under other names, and one that shares smooth kernels and constant tensors as all such models do."""
    query = printed(weights(0), level)
    for seed in range(1, 41):
        stranger = exported(weights(seed))
        stranger["dense_1/bias:0"] = np.zeros(4, np.float32)
        found = printed(stranger, level)
        assert under_common_names(query, found, ALONE).relative.matrices.places == found.matrices.places
        assert relation(query, found) in DESCENT_FREE


def test_the_relative_itself_is_not_changed(printed: Callable[[Arrays, str], Fingerprint]) -> None:
    plain, other = printed(weights(0), "full"), printed(exported(weights(0)), "full")
    before = other.matrices.places
    renamed = under_common_names(plain, other, ALONE).relative
    assert other.matrices.places == before
    assert {p.role for p in renamed.matrices.places} == {p.role for p in plain.matrices.places}
    assert under_common_names(plain, plain, ALONE).relative is plain


def test_smooth_kernels_of_strangers_are_no_evidence(printed: Callable[[Arrays, str], Fingerprint]) -> None:
    """Kernels of one sign and form, as trained ones are: their Gram matrices agree, their numbers do not."""
    made = []
    for seed, width in ((0, 32), (1, 64)):
        rng = np.random.default_rng(seed)
        shared = np.random.default_rng(9).standard_normal((48, 1, 1, 1))
        kernels = shared + 2.5 * rng.standard_normal((48, width, 3, 3))
        made.append(printed({"conv2d_9/kernel:0": kernels.astype(np.float32)}, "full"))
    gram = float(made[0].matrices.gram[0].astype(float) @ made[1].matrices.gram[0].astype(float))
    assert 0.7 < gram < 0.95
    assert {relation(*made), relation(*made[::-1])} <= set(DESCENT_FREE)
