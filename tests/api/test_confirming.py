"""An answer asked again of the weights, under a key drawn for it: what was prepared for the registry's key does not hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

import modelkin
from calls import run
from modelkin_indexer import sketch
from modelkin_indexer.spec import PUBLIC_KEY
from modelkin_registry.answers.parts import NOTHING_FOUND, RELATED


def test_a_relative_is_confirmed_by_its_weights(filled: Path) -> None:
    answer = modelkin.query("child", registry="r.db", confirm=True)
    plain = modelkin.query("child", registry="r.db")
    assert answer.confirmed is not None
    row = answer.confirmed[0]
    assert (row.model, row.told, row.found, row.reason) == ("parent", plain.relatives[0].relation, answer.relatives[0].relation, None)
    assert (answer.verdict, answer.relatives[0].model) == (RELATED, "parent")
    assert answer.relatives[0].components[0].families[0].r != plain.relatives[0].components[0].families[0].r  # other rows were looked at
    assert any("key drawn for this question: 2 of 2" in sentence for sentence in answer.explanation)
    assert plain.confirmed is None


def test_what_was_changed_where_the_registry_looks_is_found_by_a_fresh_key(filled: Path) -> None:
    """Level probe under the public key looks at eight rows of each matrix, which anybody can name."""
    assert run("add", "parent", "--level", "probe", registry="probe.db").exit_code == 0
    weights, random = load_file("child/model.safetensors"), np.random.default_rng(5)
    for values in weights.values():
        for block in sketch.chosen_rows(PUBLIC_KEY, *values.shape) if values.ndim == 2 else ():
            rows = slice(block.start, block.stop)
            values[rows] = values.std() * random.standard_normal(values[rows].shape)
    Path("hidden").mkdir()
    save_file(weights, "hidden/model.safetensors")
    plain, fresh = (modelkin.query("hidden", registry="probe.db", level="probe", confirm=confirm) for confirm in (False, True))
    assert plain.verdict == NOTHING_FOUND
    assert fresh.verdict == RELATED
    assert fresh.confirmed is not None
    assert any(warning.startswith("parent: ") and "under a fresh key" in warning for warning in fresh.warnings)


def test_weights_that_are_gone_are_told_and_the_answer_stands(filled: Path) -> None:
    shutil.rmtree("parent")
    said = run("query", "child", "--confirm", "--json")
    answer = json.loads(said.stdout)
    assert said.exit_code == 0
    assert (answer["relatives"][0]["model"], answer["verdict"]) == ("parent", RELATED)
    assert not answer["explanation"][0].startswith("No relative")
    told = {one["model"]: one for one in answer["confirmed"]}
    assert (told["parent"]["found"], told["parent"]["reason"]) == (None, "its weights are not where they were read")
    assert any("parent was not confirmed" in warning for warning in answer["warnings"])


def test_other_weights_in_a_models_place_confirm_nothing(filled: Path) -> None:
    shutil.rmtree("parent")
    shutil.copytree("stranger", "parent")
    answer = modelkin.query("child", registry="r.db", confirm=True)
    told = {row.model: row for row in answer.confirmed or ()}
    assert (answer.verdict, told["parent"].found) == (RELATED, None)
    assert "other weights are there now" in str(told["parent"].reason)


def test_with_no_weights_at_hand_nothing_is_said_to_be_confirmed(filled: Path) -> None:
    shutil.rmtree("parent")
    shutil.rmtree("stranger")
    answer = modelkin.query("child", registry="r.db", confirm=True)
    assert (answer.verdict, answer.explanation[1].split(":")[0]) == (RELATED, "Not confirmed")
    assert {row.found for row in answer.confirmed or ()} == {None}


def test_a_fingerprint_has_no_weights_to_confirm_by(filled: Path) -> None:
    assert run("fingerprint", "child", "-o", "child.modelkin").exit_code == 0
    said = run("query", "child.modelkin", "--confirm")
    assert said.exit_code == 3
    assert "child.modelkin: has no weights here to confirm an answer by. Give a file or folder of weights" in said.stderr
