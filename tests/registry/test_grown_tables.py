"""Token tables that grew: their sketches are compared in the rows that both hold, whatever power of two they passed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import models
from modelkin_registry.evidence.side import Side
from modelkin_registry.evidence.similarity import Similarities, matrix_similarities


def embedding(tmp_path: Path, rows: int, grown: int, width: int, seeds: tuple[int, int] = (1, 1)) -> Similarities:
    """The embeddings of two models in the probe channel."""
    sides = []
    for seed, count in zip(seeds, (rows, grown), strict=True):
        table = np.random.default_rng(seed).standard_normal((max(rows, grown), width)).astype(np.float32)
        sides.append(models.fingerprint(tmp_path / f"{len(sides)}", {"model.embed_tokens.weight": table[:count]}, level="probe"))
    found = matrix_similarities(*(Side(side, "text") for side in sides))
    return next(one for one in found if ("embedding", "token") in one.roles and one.channel == "probe")


@pytest.mark.parametrize(
    ("rows", "grown", "width"), [(1000, 1040, 64), (2047, 2049, 64), (4000, 4100, 64), (32000, 32064, 64), (500, 520, 64)]
)
def test_a_table_that_grew_is_the_same_in_the_rows_that_it_had(tmp_path: Path, rows: int, grown: int, width: int) -> None:
    assert embedding(tmp_path, rows, grown, width).cosines.item() > 0.999
    assert embedding(tmp_path, grown, rows, width).cosines.item() > 0.999


@pytest.mark.parametrize(("rows", "grown"), [(250, 260), (500, 540), (1000, 1100)])
def test_a_wide_table_that_grew_is_nearly_so(tmp_path: Path, rows: int, grown: int) -> None:
    """Its few rows are centred together, so that a new block changes the others by the mean: 0.94 at least on average."""
    assert embedding(tmp_path, rows, grown, 256).cosines.item() > 0.85


def test_of_strangers_that_share_few_rows_little_is_expected(tmp_path: Path) -> None:
    """Half of the numbers are compared, and the noise is told accordingly."""
    found = [embedding(tmp_path / f"{n}", 250, 400, 256, (2 * n, 2 * n + 1)) for n in range(40)]
    assert {one.numbers for one in found} == {(64,)}
    assert np.std([one.cosines.item() for one in found]) < 1.5 / np.sqrt(64)


def test_tables_of_many_sizes_are_told_by_those_of_their_own(tmp_path: Path) -> None:
    """A denoiser's layers project the time step to their own widths: tables of other sizes share no rows, and must not hide these."""
    rng = np.random.default_rng(3)
    tensors = {}
    for layer, width in enumerate((16, 32, 64, 64, 32, 16)):
        tensors[f"model.diffusion_model.input_blocks.{layer}.0.in_layers.2.weight"] = (width, width, 3, 3)
        tensors[f"model.diffusion_model.input_blocks.{layer}.0.emb_layers.1.weight"] = (width, 128)
    base = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in tensors.items()}
    tuned = {name: w + 0.05 * rng.standard_normal(w.shape).astype(np.float32) for name, w in base.items()}
    held = [models.fingerprint(tmp_path / name, state, level="probe") for name, state in (("a", tuned), ("b", base))]
    component, role = next((place.component, place.role) for place in held[0].matrices.places if place.family == "embedding")
    groups = matrix_similarities(*(Side(one, component) for one in held))
    found = next(one for one in groups if ("embedding", role) in one.roles and one.channel == "probe")
    at = found.roles.index(("embedding", role))
    assert len(found.query_layers) == 6
    assert np.diagonal(found.cosines[at]).min() > 0.99
    assert found.numbers[at] > 500
