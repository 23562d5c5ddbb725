"""How the tensors of one model found those of another: counted, listed and told; what has no counterpart is not called foreign."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

import models
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import CompareAnswer
from modelkin_registry.answers.parts import Counterparts
from modelkin_registry.answers.relations import DESCENT_FREE
from modelkin_registry.counterparts import linear_assignment
from modelkin_registry.counterparts.linear_assignment import largest_sum
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.explanation.compare import compare_fingerprints
from modelkin_registry.registry import Registry
from models import Tensors


def shuffled(tensors: Tensors) -> Tensors:
    """The same tensors under names that tell nothing."""
    order = np.random.default_rng(5).permutation(len(tensors))
    return {f"p{number}": value for number, value in sorted(zip(order.tolist(), tensors.values(), strict=True))}


Printed = Callable[..., Fingerprint]


@pytest.fixture
def printed(tmp_path: Path) -> Printed:
    """A model's fingerprint; a file alone, without a config, unless its names are a Llama's."""

    def make(name: str, tensors: Tensors, level: str = "full") -> Fingerprint:
        if "lm_head.weight" in tensors:
            return models.fingerprint(tmp_path / name, tensors, level=level, dtype=np.float32)
        safetensors.numpy.save_file(tensors, tmp_path / f"{name}.safetensors")
        return fingerprint_source(open_source(tmp_path / f"{name}.safetensors"), level=level)

    return make


def held(ours: Fingerprint, theirs: Fingerprint, *, tensors: bool = True) -> tuple[CompareAnswer, Counterparts]:
    answer = compare_fingerprints(ours, theirs, a_name="a", b_name="b", controls={}, judge=ALONE, tensors=tensors)
    assert answer.counterparts is not None
    return answer, answer.counterparts


def test_a_copy_under_other_names_is_told_tensor_by_tensor(printed: Printed) -> None:
    base = models.llama(1)
    answer, found = held(printed("a", shuffled(base)), printed("b", base))
    assert answer.relation == "identical"
    assert (found.digest, found.none, found.renamed) == (len(base), 0, len(base))
    assert found.total == len(base)
    assert found.tensors is not None
    assert {(row.found, row.r) for row in found.tensors} == {("digest", 1.0)}
    assert len({row.relative for row in found.tensors}) == len(base)
    assert {"text.head.head", "text.3.attention.k", "text.norm.final"} <= {row.relative for row in found.tensors}
    assert f"The same tensors under other names: {len(base)} of {len(base)} by digest." in answer.explanation


def test_under_the_same_names_equal_numbers_are_told_too(printed: Printed) -> None:
    base = models.llama(1)
    mixed = models.part_from(models.trained_on(base, 2, 0.1), base, "mlp.up_proj")
    answer, found = held(printed("a", mixed), printed("b", base))
    assert answer.relation not in DESCENT_FREE
    assert (found.digest, found.name, found.renamed) == (models.LAYERS, len(base) - models.LAYERS, 0)
    assert found.tensors is not None
    near = [row.r for row in found.tensors if row.found == "name" and row.r is not None]
    assert 0.9 < min(near) < max(near) < 1
    assert not any("other names" in sentence for sentence in answer.explanation)


@pytest.mark.parametrize("level", ["full", "probe"])
def test_what_was_trained_on_is_found_by_sketch(level: str, printed: Printed) -> None:
    base = models.llama(1)
    ours = printed("a", shuffled(models.trained_on(base, 2, 0.2)), level)
    answer, found = held(ours, printed("b", base, level))
    assert (found.sketch, found.digest, found.none) == (len(base), 0, 0)
    count = len(base)
    words = f"{count} of {count} tensors of a bear other names in b: by what they hold {count} by sketch were found there."
    assert words in answer.explanation


def test_put_together_tensors_are_one_row(printed: Printed) -> None:
    base = models.llama(1)
    fused = {name: value for name, value in base.items() if not name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))}
    for layer in range(models.LAYERS):
        parts = [base[f"model.layers.{layer}.self_attn.{name}_proj.weight"] for name in "qkv"]
        fused[f"together{layer}"] = np.concatenate(parts)
    answer, found = held(printed("a", shuffled(fused)), printed("b", base))
    assert answer.relation == "identical"
    assert (found.digest, found.none) == (len(fused), 0)
    assert found.tensors is not None
    together = {row.relative for row in found.tensors if row.relative is not None and " + " in row.relative}
    assert together == {" + ".join(f"text.{layer}.attention.{name}" for name in "kqv") for layer in range(models.LAYERS)}


def vision_tower() -> Tensors:
    """Attention in one matrix and one bias, and a table of positions with an axis more, as timm stores them."""
    rng = np.random.default_rng(11)
    shapes = {"patch_embed.proj.weight": (32, 3, 4, 4), "pos_embed": (1, 17, 32), "norm.weight": (32,), "head.weight": (40, 32)}
    for layer in range(3):
        inside = {"attn.qkv.weight": (96, 32), "attn.qkv.bias": (96,), "attn.proj.weight": (32, 32), "norm1.weight": (32,)}
        inside |= {"mlp.fc1.weight": (128, 32), "mlp.fc2.weight": (32, 128), "mlp.fc1.bias": (128,), "norm2.weight": (32,)}
        shapes |= {f"blocks.{layer}.{name}": shape for name, shape in inside.items()}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def test_biases_put_together_and_a_table_with_an_axis_more_are_told_without_names(printed: Printed) -> None:
    base = vision_tower()
    answer, found = held(printed("a", shuffled(base)), printed("b", base))
    assert (answer.relation, found.none) == ("identical", 0)
    assert found.tensors is not None
    together = [row for row in found.tensors if row.parameters == 96]
    assert {row.relative for row in together} == {" + ".join(f"vision.{n}.bias.{part}" for part in "kqv") for n in range(3)}
    assert {(row.found, row.r) for row in together} == {("sketch", None)}
    assert not any("two numbers at most" in sentence for sentence in answer.explanation)


def test_halves_in_the_other_order_are_another_librarys_and_under_one_name_a_change(printed: Printed) -> None:
    rng = np.random.default_rng(8)
    names = ("norm_out.linear.weight", "norm_in.linear.weight")
    base = models.llama(1) | {name: rng.standard_normal((128, 64)).astype(np.float32) for name in names}

    def asked(name: str, changed: Tensors, *, nameless: bool = True) -> str:
        return held(printed(name, shuffled(base | changed) if nameless else base | changed), printed(f"{name}-base", base))[0].relation

    turned = {name: np.roll(base[name], 64, axis=0) for name in names}
    last = {names[0]: turned[names[0]]}
    assert asked("one", last) == "identical"
    assert asked("named", last, nameless=False) != "identical"
    assert asked("all", turned) != "identical"  # the order inside is not seen: of many matrices it is not said
    assert asked("rows", {names[0]: rng.permutation(base[names[0]])}) != "identical"


@pytest.mark.parametrize(
    ("one", "other"),
    [("0.self_attn.q_proj", "1.self_attn.q_proj"), ("1.mlp.gate_proj", "1.mlp.up_proj"), ("0.input_layernorm", "2.input_layernorm")],
)
def test_tensors_under_each_others_names_are_told(printed: Printed, one: str, other: str) -> None:
    base = models.llama(1)
    names = tuple(f"model.layers.{name}.weight" for name in (one, other))
    moved = base | {names[0]: base[names[1]], names[1]: base[names[0]]}
    answer, found = held(printed("a", moved), printed("b", base))
    assert (answer.relation, found.renamed) == ("identical", 2)
    assert any(sentence.startswith(f"2 of {len(base)} tensors of a bear other names in b") for sentence in answer.explanation)


def test_the_same_bytes_under_another_shape_are_the_same_numbers(printed: Printed) -> None:
    base = models.llama(1)
    positions = np.random.default_rng(4).standard_normal((48, 64)).astype(np.float32)
    flat = shuffled(base) | {"p900": positions.reshape(6, 8, 64)}
    answer, found = held(printed("a", flat), printed("b", base | {"model.embed_positions.weight": positions}))
    assert answer.relation == "identical"
    assert (found.none, found.digest) == (0, found.total)
    name = "model.layers.1.mlp.up_proj.weight"
    answer, found = held(printed("c", base | {name: base[name].reshape(base[name].shape[::-1])}), printed("d", base))
    assert (answer.relation, found.none) == ("identical", 0)
    assert not any("two numbers at most" in sentence for sentence in answer.explanation)


@pytest.mark.parametrize("level", ["full", "probe"])
def test_a_head_that_is_the_embedding_counts_once(level: str, printed: Printed) -> None:
    base = models.llama(1)
    base["lm_head.weight"] = base["model.embed_tokens.weight"]
    for ours, theirs in ((shuffled(base), base), (base, shuffled(base))):
        assert held(printed("a", ours, level), printed("b", theirs, level))[0].relation == "identical"


def test_another_library_counts_its_layers_in_its_own_way(printed: Printed) -> None:
    """Layers from the last to the first under other names are the same model; under the same names they are another."""
    base = models.llama(1)
    backwards = models.with_layers(base, [*range(models.LAYERS)][::-1])
    other = {name.replace("self_attn", "mixer").replace("_proj", "x").replace("layernorm", "scale"): v for name, v in backwards.items()}
    other["head.weight"] = other.pop("lm_head.weight")
    theirs = printed("b", base)
    answer = held(printed("a", other), theirs)[0]
    assert answer.relation == "identical"
    assert not any("strangers" in sentence and "no more alike" in sentence for sentence in answer.explanation)
    assert held(printed("c", backwards), theirs)[0].relation == "layers rearranged"


def test_without_a_counterpart_nothing_is_said(printed: Printed) -> None:
    base, rng = models.llama(1), np.random.default_rng(3)
    more = shuffled(base) | {f"own{at}": rng.standard_normal((70, 1500)).astype(np.float32) for at in range(3)}
    answer, found = held(printed("a", more), printed("b", base))
    assert answer.relation not in DESCENT_FREE
    assert found.none == 3
    assert found.tensors is not None
    lone = [row for row in found.tensors if row.relative is None]
    assert [(row.found, row.r, row.parameters) for row in lone] == [(None, None, 105_000)] * 3
    said = " ".join(answer.explanation)
    assert f"(3 of {len(more)} tensors have no counterpart there)" in said
    assert "of the rest nothing is said" in said
    assert "no more alike" not in said


@pytest.mark.parametrize("level", ["full", "probe"])
def test_strangers_have_counterparts_by_name_alone(level: str, printed: Printed) -> None:
    first = printed("a", models.llama(1), level)
    for seed in range(2, 6):
        answer, found = held(first, printed(f"b{seed}", models.llama(seed), level))
        assert answer.relation in DESCENT_FREE
        assert (found.digest, found.sketch, found.renamed) == (0, 0, 0)


def test_a_query_tells_it_of_each_relative(printed: Printed, tmp_path: Path) -> None:
    """Of a query whose names tell nothing by its own names, not by those under which it was asked again."""
    base = models.llama(1)
    with Registry.open(tmp_path / "r.db") as registry:
        registry.add("base", printed("base", base))
        registry.add("stranger", printed("stranger", models.llama(9)))
        query = printed("query", shuffled(base))
        plain, listed = registry.query(query, show_all=True), registry.query(query, show_all=True, tensors=True)
    assert [one.model for one in plain.relatives] == ["base", "stranger"]
    assert plain.relatives[0].counterparts is not None
    assert plain.relatives[0].counterparts.tensors is None
    assert plain.relatives[0].counterparts.digest == len(base)
    assert f"The same tensors under other names: {len(base)} of {len(base)} by digest." in plain.explanation
    assert listed.relatives[1].counterparts is None
    assert listed.relatives[0].counterparts is not None
    rows = listed.relatives[0].counterparts.rows()
    assert len(rows) == len(base)
    assert {row["query"].rpartition(".")[2] for row in rows} == {f"p{number}" for number in range(len(base))}


@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 999), ties=st.booleans())
def test_the_assignment_with_the_largest_sum_is_that_of_scipy(rows: int, columns: int, seed: int, ties: bool) -> None:
    values = np.random.default_rng(seed).standard_normal((rows, columns))
    values = values.round() if ties else values
    expected, found = linear_sum_assignment(values, maximize=True), largest_sum(values)
    assert values[found].sum() == pytest.approx(values[expected].sum())
    assert len(set(found[1].tolist())) == len(found[0]) == min(rows, columns)
    assert found[0].tolist() == sorted(found[0].tolist())
    assert ties or all((one == other).all() for one, other in zip(found, expected, strict=True))


def test_a_large_assignment_is_left_to_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).standard_normal((9, 11))
    here = largest_sum(values)
    monkeypatch.setattr(linear_assignment, "SMALL", 10)
    assert all((one == other).all() for one, other in zip(here, largest_sum(values), strict=True))
