"""A vocabulary in another order hides no copy in other coordinates: tokens are matched by string where both are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

import modelkin
import models
from benchmarks.hostile import transforms
from benchmarks.hostile.transforms import Net
from modelkin_indexer.beside.vocabulary import rows_by_string, tokens_of
from modelkin_registry.answers.parts import NOT_EXAMINED, NOTHING_FOUND
from modelkin_registry.answers.relations import is_descent

LAYERS, TOKENS = 4, 512


def net(seed: int) -> Net:
    """A model whose matrices have sizes of their own, with a token for each row."""
    random, tensors = np.random.default_rng(seed), models.llama(seed, LAYERS)
    tensors = {name: values[:TOKENS] if len(values) == models.VOCABULARY else values for name, values in tensors.items()}
    tensors = {name: values * np.float32(random.uniform(0.8, 1.2)) if values.ndim == 2 else values for name, values in tensors.items()}
    return Net(tensors, {**models.CONFIG, "num_hidden_layers": LAYERS, "vocab_size": TOKENS}, tuple(f"t{n}" for n in range(TOKENS)))


def written(folder: Path, of: Net) -> Path:
    models.write(folder, of.tensors, np.float32)
    if of.tokens is not None:
        vocabulary = {token: number for number, token in enumerate(of.tokens)}
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": []}))
    return folder


def moved(seed: int) -> Net:
    random = np.random.default_rng(7)
    return transforms.vocabulary_moved(transforms.rotated(net(seed), random), random)


def test_compare_matches_tokens_by_string(tmp_path: Path) -> None:
    original, copy = written(tmp_path / "original", net(1)), written(tmp_path / "copy", moved(1))
    assert modelkin.compare(copy, original).relation == "reparameterised"
    assert modelkin.compare(original, copy).relation == "reparameterised"
    (copy / "tokenizer.json").unlink()
    assert modelkin.compare(copy, original).verdict == NOT_EXAMINED


def test_query_matches_tokens_by_string(tmp_path: Path) -> None:
    copy = written(tmp_path / "copy", moved(1))
    with modelkin.open(tmp_path / "r.db", create=True, starter=False) as registry:
        registry.add(*(written(tmp_path / f"model-{seed}", net(seed)) for seed in (1, 2, 3)))
        found = [one.model for one in registry.query(copy).relatives if is_descent(one)]
        assert found == ["model-1"]
        assert registry.query(written(tmp_path / "stranger", moved(9))).verdict == NOTHING_FOUND
        (tmp_path / "model-1" / "tokenizer.json").unlink()
        answer = registry.query(copy)
        assert answer.examined is not None
        assert (answer.verdict, answer.examined.same_lengths) == (NOT_EXAMINED, ("model-1",))


@pytest.mark.parametrize("missing", [0.02, 0.5])
def test_a_vocabulary_that_is_mostly_another_is_no_order_of_this_one(tmp_path: Path, missing: float) -> None:
    copy = moved(1)
    assert copy.tokens is not None
    other = tuple(f"other {n}" if n < missing * TOKENS else token for n, token in enumerate(copy.tokens))
    found = modelkin.compare(written(tmp_path / "copy", replace(copy, tokens=other)), written(tmp_path / "original", net(1)))
    assert found.verdict == (NOT_EXAMINED if missing > 0.05 else "related")


def test_tokens_of_each_kind_of_file(tmp_path: Path) -> None:
    wanted = {"a": 0, "b": 1}
    said = {
        "vocab.json": json.dumps(wanted),
        "map.json": json.dumps({"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1, "content": "b"}]}),
        "list.json": json.dumps({"model": {"vocab": [["a", -1.0], ["b", -2.0]]}}),
        "vocab.txt": "a\nb\n",
    }
    for name, text in said.items():
        (tmp_path / name).write_text(text)
        assert tokens_of(tmp_path / name) == wanted
    assert rows_by_string({"b": 5, "a": 2}, {"a": 0, "c": 1, "b": 2}).tolist() == [2, -1, 5]


def test_forged_numbers_of_tokens_are_not_believed(tmp_path: Path) -> None:
    original, copy = written(tmp_path / "original", net(1)), written(tmp_path / "copy", moved(1))
    said = json.loads((copy / "tokenizer.json").read_text())
    said["model"]["vocab"]["t0"] = 1 << 40
    (copy / "tokenizer.json").write_text(json.dumps(said))
    assert modelkin.compare(copy, original).verdict == NOT_EXAMINED
