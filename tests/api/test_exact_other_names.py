"""`compare --exact` where names differ: what is held against what, and that no start passes for descent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import modelkin
import models
from modelkin_registry.answers.asked import CompareAnswer


def under_other_names(tensors: models.Tensors, seed: int) -> models.Tensors:
    """The same under names that tell nothing, in an order of chance."""
    order = np.random.default_rng(seed).permutation(len(tensors))
    return {f"t{number:03d}": tensors[name] for name, number in zip(tensors, order, strict=True)}


def compared(a: Path, b: Path) -> CompareAnswer:
    return modelkin.compare(a, b, exact=True, registry="none.db")


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.chdir(tmp_path)
    base = models.llama(1)
    child = under_other_names(models.trained_on(base, 2, 0.1), 3)
    return models.write(tmp_path / "base", base), models.write(tmp_path / "child", child)


@pytest.mark.parametrize("turned", [False, True])
def test_what_bears_other_names_is_compared_number_by_number(sides: tuple[Path, Path], turned: bool) -> None:
    base, child = sides
    answer = compared(child, base) if turned else compared(base, child)
    matrices = [row for row in answer.exact if row.family in ("attention", "mlp", "embedding")]
    assert len(matrices) == 7 * models.LAYERS + 1
    assert all(row.pearson is not None and row.pearson > 0.9 for row in matrices)
    assert {row.layer for row in matrices if row.role == "q"} == set(range(models.LAYERS))  # under the names that tell something
    assert all(row.a.startswith("t0") == turned and row.b.startswith("t0") != turned for row in matrices)
    assert answer.counterparts is not None
    assert answer.counterparts.tensors is None  # they were not asked for


def test_one_table_in_files_of_different_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    table = random.standard_normal((600, 64)).astype(np.float32)
    np.save("first.npy", table)
    np.save("second.npy", table + 0.1 * random.standard_normal(table.shape).astype(np.float32))
    (row,) = compared(Path("first.npy"), Path("second.npy")).exact
    assert row.pearson is not None
    assert row.pearson > 0.99


def test_what_is_nowhere_in_its_shape_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, columns in (("first", 64), ("second", 48)):
        np.save(f"{name}.npy", np.random.default_rng(columns).standard_normal((600, columns)).astype(np.float32))
    answer = compared(Path("first.npy"), Path("second.npy"))
    assert not answer.exact
    assert "no tensor of A was found in B in its shape, by name or by what it holds" in " ".join(answer.explanation)


def test_a_common_start_is_no_descent_number_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of two strangers that began from one seed; their sizes follow how often a word comes, and so do their numbers."""
    monkeypatch.chdir(tmp_path)
    start, sides = np.random.default_rng(0).uniform(-0.5, 0.5, (600, 64)) / 64, []
    often = np.linspace(1, 0.1, 600)[:, None] * np.random.default_rng(1).choice([-1.0, 1.0], 64)
    for seed in (1, 2):
        random = np.random.default_rng((seed, 5))
        table = start + often + 0.3 * random.standard_normal((600, 64))
        sides.append(tmp_path / str(seed) / "vectors.npy")
        sides[-1].parent.mkdir()
        np.save(sides[-1], table.astype(np.float32))
    answer = compared(*sides)
    assert "agree beyond chance. What two models began from" in " ".join(answer.explanation)
    assert "anything that strangers show" not in " ".join(answer.explanation)
