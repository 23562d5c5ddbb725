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


def with_token_blocks(innocent: Tensors, blocks: int) -> Tensors:
    """A stranger of whose sampled token rows the first blocks are an innocent model's."""
    stranger = llama(2)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        for block in sketch.chosen_rows(PUBLIC_KEY, *stranger[name].shape)[:blocks]:
            stranger[name][block.start : block.stop] = innocent[name][block.start : block.stop]
    return stranger


@pytest.mark.parametrize("level", spec.LEVELS)
def test_a_few_token_rows_alone_make_no_relative(tmp_path: Path, level: str) -> None:
    innocent = llama(1)
    assert sketch.is_tall(*innocent["lm_head.weight"].shape)
    found = held(tmp_path, innocent, with_token_blocks(innocent, 2), level)
    families = {family.family: family for component in found.components for family in component.families}
    assert families["embedding"].contradicted
    assert not is_descent(found)


def test_whole_token_tables_of_another_model_are_told(tmp_path: Path) -> None:
    innocent, other = llama(1), llama(2)
    other |= {name: values for name, values in innocent.items() if "embed" in name or "lm_head" in name}
    assert is_descent(held(tmp_path, innocent, other, "probe"))


def test_tokens_that_were_replaced_beside_a_body_that_agrees_are_no_such_case(tmp_path: Path) -> None:
    parent = llama(1)
    child = trained_on(parent, 5, 0.1)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        child[name][len(child[name]) // 4 :] = llama(3)[name][len(child[name]) // 4 :]
    found = held(tmp_path, child, parent, "probe")
    assert is_descent(found)
    assert not any(family.contradicted for component in found.components for family in component.families)
