"""Rows that were put in from another model: agreement in some of the sampled rows alone supports no relation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelkin_indexer import sketch, spec
from modelkin_indexer.spec import PUBLIC_KEY
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.relations import is_descent
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.relations.pairs import measure_kin
from models import Tensors, fingerprint, llama, trained_on


def with_rows_of(stranger: Tensors, innocent: Tensors, blocks: int) -> Tensors:
    """A stranger with some of an innocent model's sampled rows, as another key's rows that fall together with ours, and its gains."""
    found = {name: values.copy() for name, values in stranger.items()}
    for name, values in found.items():
        if values.ndim == 1:
            found[name] = innocent[name]
            continue
        for block in sketch.chosen_rows(PUBLIC_KEY, *values.shape)[:blocks]:
            values[block.start : block.stop] = innocent[name][block.start : block.stop]
    return found


def held(tmp_path: Path, ours: Tensors, theirs: Tensors, level: str) -> Relative:
    one, other = (fingerprint(tmp_path / name, model, level=level) for name, model in (("ours", ours), ("theirs", theirs)))
    return measure_kin(one, other, "theirs", ALONE).relative


@pytest.mark.parametrize("level", spec.LEVELS)
def test_rows_put_in_make_no_relative(tmp_path: Path, level: str) -> None:
    innocent = llama(1)
    found = held(tmp_path, innocent, with_rows_of(llama(2), innocent, blocks=1), level)
    assert not is_descent(found)
    families = {family.family: family for component in found.components for family in component.families}
    assert families["attention"].contradicted
    assert families["attention"].r > 0.3


@pytest.mark.parametrize("level", spec.LEVELS)
@pytest.mark.parametrize("size", [0.3, 1.0])
def test_training_changes_all_rows_alike(tmp_path: Path, level: str, size: float) -> None:
    parent = llama(1)
    found = held(tmp_path, trained_on(parent, 5, size), parent, level)
    assert is_descent(found)
    assert not any(family.contradicted for component in found.components for family in component.families)


def test_a_matrix_of_which_half_was_replaced_in_all_layers_is_such_a_case(tmp_path: Path) -> None:
    """Nobody can tell it from rows put in by what was sampled; at level full the whole matrices are seen too."""
    parent, random = llama(1), np.random.default_rng(3)
    child = {name: values.copy() for name, values in parent.items()}
    for name, values in child.items():
        if values.ndim == 2 and "embed" not in name and "head" not in name:
            half = slice(len(values) // 2, None)
            values[half] = values.std() * random.standard_normal(values[half].shape)
    assert is_descent(held(tmp_path, child, parent, "full"))
