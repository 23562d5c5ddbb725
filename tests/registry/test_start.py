"""What a matrix shows of itself: draws of every law hold no learned share, trained ones never more than was learned."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_registry.evidence.initialisation import examine_start
from modelkin_registry.evidence.side import Side
from modelkin_registry.evidence.start import learned_shares, sampled_shares

Matrix = npt.NDArray[np.float64]
SHAPES = ((64, 64), (96, 256), (256, 96), (12, 128), (800, 64))
LEVELS = ("full", "probe")


def draws(law: str, shape: tuple[int, int], rng: np.random.Generator) -> Matrix:
    if law == "orthogonal":
        tall = rng.standard_normal((max(shape), min(shape)))
        rows = np.linalg.qr(tall)[0]
        return rows if shape[0] >= shape[1] else rows.T
    if law == "truncated":
        pool = rng.standard_normal(2 * shape[0] * shape[1])
        return pool[np.abs(pool) < 2][: shape[0] * shape[1]].reshape(shape)
    return rng.uniform(-1, 1, shape) if law == "uniform" else rng.standard_normal(shape)


def shares(folder: Path, matrices: dict[str, Matrix], level: str) -> tuple[Matrix, Matrix]:
    """Learned shares of the whole matrices and of their samples, in the order of the places."""
    folder.mkdir(exist_ok=True)
    tensors = {f"model.layers.{n}.mlp.fc_{name}.weight": value.astype(np.float32) for n, (name, value) in enumerate(matrices.items())}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    source = open_source(folder)
    try:
        model = fingerprint_source(source, level=level)
    finally:
        source.close()
    side, rows = Side(model, model.about.components[0]), list(range(len(model.matrices)))
    assert len(rows) == len(matrices)
    return learned_shares(side, rows), sampled_shares(side, rows)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("law", ["normal", "uniform", "truncated", "orthogonal"])
def test_a_start_holds_nothing_learned(tmp_path: Path, law: str, level: str) -> None:
    rng = np.random.default_rng(1)
    made = {f"{n}{a}x{b}": 0.05 * draws(law, (a, b), rng) for n in "abcd" for a, b in SHAPES}
    whole, sampled = shares(tmp_path / "m", made, level)
    assert (whole == 0).all()
    assert (sampled == 0).all()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("learned", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("law", ["normal", "uniform"])
def test_what_was_learned_is_a_lower_bound(tmp_path: Path, law: str, learned: float, level: str) -> None:
    """A start plus changes of few directions: never more than their share of the energy, and seen where it is large."""
    rng, made = np.random.default_rng(2), {}
    for a, b in ((128, 128), (256, 96), (96, 256)):
        start, change = draws(law, (a, b), rng), rng.standard_normal((a, 4)) @ rng.standard_normal((4, b))
        made[f"{a}x{b}"] = math.sqrt(1 - learned) * start / start.std() + math.sqrt(learned) * change / change.std()
    whole, sampled = shares(tmp_path / "m", made, level)
    assert (whole <= learned * 1.25).all()
    assert (sampled <= learned * 1.25).all()
    assert (whole > 0).all() or learned < 0.3


def test_rows_that_did_not_move_hold_nothing_learned(tmp_path: Path) -> None:
    """A token table of which every fifth row was trained: the whole shows it, the sample holds no more of it than its energy allows."""
    rng = np.random.default_rng(3)
    table = rng.standard_normal((1000, 64))
    moved = table.copy()
    moved[::5] += 2 * rng.standard_normal((200, 1)) @ rng.standard_normal((1, 64))
    _, sampled = shares(tmp_path / "m", {"still": table, "moved": moved}, "full")
    assert sampled[0] == 0
    assert sampled[1] <= 0.5  # 44 % of the energy


def test_starts_are_told_from_trained_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    for name, sizes, passed in (("start", 0.0, True), ("trained", 0.3, False)):
        matrices = {f"{n}": np.exp(sizes * rng.standard_normal((96, 1))) * rng.uniform(-0.1, 0.1, (96, 64)) for n in range(4)}
        folder = tmp_path / name
        folder.mkdir()
        tensors = {f"model.layers.{n}.mlp.fc.weight": value.astype(np.float32) for n, value in matrices.items()}
        safetensors.numpy.save_file(tensors, folder / "model.safetensors")
        source = open_source(folder)
        assert examine_start(fingerprint_source(source)).passed is passed
        source.close()
