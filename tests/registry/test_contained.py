"""A model whose every number is in another one that holds more: named as what it is, and told with how much more the other holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import models
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import CompareAnswer
from modelkin_registry.answers.relations import COPIES, DESCENT_FREE
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.explanation.compare import compare_fingerprints
from modelkin_registry.registry import Registry
from models import Tensors

SHAPES = ((96, 24), (96, 24), (48, 96), (96, 80))
Printed = Callable[..., Fingerprint]


@pytest.fixture
def printed(tmp_path: Path) -> Printed:
    def make(name: str, tensors: Tensors, level: str = "full") -> Fingerprint:
        path = tmp_path / f"{name}.safetensors"
        safetensors.numpy.save_file({key: np.ascontiguousarray(value, np.float32) for key, value in tensors.items()}, path)
        return fingerprint_source(open_source(path), level=level)

    return make


def branch(name: str, seed: int) -> Tensors:
    """One of several nets in one file: two recurrent matrices of one shape, kernels and biases, with learned columns."""
    rng = np.random.default_rng(seed)
    found: Tensors = {}
    for number, (rows, columns) in enumerate(SHAPES):
        learned = rng.standard_normal((rows, 3)) @ rng.standard_normal((3, columns))
        found[f"{name}.part_{'abcd'[number]}.weight"] = rng.laplace(size=(rows, columns)) + 0.5 * learned
        found[f"{name}.part_{'abcd'[number]}.bias"] = rng.laplace(size=rows)
    return found


def asked(ours: Fingerprint, theirs: Fingerprint) -> CompareAnswer:
    return compare_fingerprints(ours, theirs, a_name="small", b_name="large", controls={}, judge=ALONE)


@pytest.mark.parametrize("level", ["full", "probe"])
def test_a_branch_is_contained_in_the_file_of_both(printed: Printed, level: str) -> None:
    one, other = branch("wide", 1), branch("narrow", 2)
    large = {f"net.{name}": value for name, value in {**one, **other}.items()}
    answer = asked(printed("small", one, level), printed("large", large, level))
    assert (answer.relation, answer.shared, answer.shared_of_all) == ("identical", 1.0, 1.0)
    assert answer.extra == pytest.approx(0.5, abs=0.01)
    assert "large holds more: 50 % of its weights have no counterpart in small" in answer.explanation[0]
    assert "in everything it holds" not in answer.explanation[0]
    assert answer.explanation[0].startswith("small is wholly contained in large, weight for weight" if level == "full" else "small agrees")
    back = asked(printed("large", large, level), printed("small", one, level))
    assert back.relation not in COPIES | DESCENT_FREE
    assert back.shared_of_all == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("whole", [True, False])
def test_of_what_is_not_understood_nothing_is_said(printed: Printed, whole: bool) -> None:
    """Numbers cut into vectors: the copy beside them is told as one, and not as all that the file holds."""
    one, other = branch("wide", 1), branch("narrow", 2)
    cut = {f"wide.cut{number}.k_scale": values for number, values in enumerate(np.random.default_rng(3).standard_normal((200, 96)))}
    small = printed("small", {**one, **cut})
    answer = asked(small, printed("large", one if whole else {**one, **other}))
    assert small.about.coverage < 0.7
    assert answer.relation in COPIES
    assert answer.shared_of_all == pytest.approx(small.about.coverage, abs=0.01)
    told = "in everything of it that is understood" if whole else "is contained, as far as it is understood, in large"
    assert told in answer.explanation[0]


def test_a_changed_branch_is_not_contained(printed: Printed) -> None:
    one = branch("wide", 1)
    changed = dict(one)
    changed["wide.part_b.weight"] = one["wide.part_b.weight"] + np.random.default_rng(4).standard_normal((96, 24)) * 0.3
    answer = asked(printed("small", changed), printed("large", {**one, **branch("narrow", 2)}))
    assert answer.relation not in COPIES
    assert answer.extra == 0


def test_of_two_copies_the_one_that_holds_least_besides_comes_first(printed: Printed, tmp_path: Path) -> None:
    one = branch("wide", 1)
    both = {**one, **branch("narrow", 2)}
    with Registry.open(tmp_path / "r.db") as registry:
        registry.add("a-both", printed("a", both))
        registry.add("b-same", printed("b", one))
        found = registry.query(printed("query", one), source="query").relatives
    assert [(one.model, one.relation) for one in found] == [("b-same", "identical"), ("a-both", "identical")]


@pytest.mark.parametrize("level", ["full", "probe"])
def test_layers_left_out_are_told_as_that(tmp_path: Path, level: str) -> None:
    base = models.llama(1, layers=6)
    kept = {name: value for name, value in base.items() if not any(f"layers.{number}." in name for number in (2, 3, 4, 5))}
    sides = [models.fingerprint(tmp_path / name, tensors, level=level) for name, tensors in (("small", kept), ("large", base))]
    answer = asked(sides[0], sides[1])
    assert answer.relation == "layers rearranged"
    assert answer.extra == 0


def folded(tensors: Tensors, order: int) -> Tensors:
    """A normalisation folded into every kernel, in one of two orders of arithmetic, as two converters have it."""
    found: Tensors = {}
    for name, value in tensors.items():
        if not name.endswith("weight"):
            found[name] = value.astype(np.float32)
            continue
        rng = np.random.default_rng(len(name))
        gain, spread = (rng.uniform(0.5, 2, (len(value), 1)).astype(np.float32) for _ in range(2))
        single = value.astype(np.float32)
        found[name] = single * (gain / spread) if order else single * gain / spread
    return found


@pytest.mark.parametrize("level", ["full", "probe"])
def test_rounding_of_another_converter_is_no_training(printed: Printed, level: str) -> None:
    one = branch("wide", 1)
    a, b = folded(one, 0), folded(one, 1)
    assert sum((a[name] != b[name]).any() for name in a) == len(SHAPES)
    answer = asked(printed("small", a, level), printed("large", b, level))
    assert answer.relation == "recast"
    assert answer.rounded
    if level == "full":
        assert "but for rounding in the last digits" in answer.explanation[0]


@pytest.mark.parametrize("size", [1e-4, 1e-3])
def test_what_is_more_than_rounding_is_no_copy(printed: Printed, size: float) -> None:
    one = folded(branch("wide", 1), 0)
    rng = np.random.default_rng(7)
    moved = {name: value * (1 + size * rng.standard_normal(value.shape)) for name, value in one.items()}
    assert asked(printed("small", moved), printed("large", one)).relation not in COPIES


def test_a_single_number_that_was_changed_is_no_rounding(printed: Printed) -> None:
    one = folded(branch("wide", 1), 0)
    rounded = {name: value * np.float32(1 + 2**-23) for name, value in one.items()}
    rounded["wide.part_d.weight"][90, 70] += 0.5
    assert asked(printed("small", rounded), printed("large", one)).relation not in COPIES


def reset(tensors: Tensors, part: str, number: float) -> Tensors:
    """Every tensor whose name contains `part` set to one number."""
    return {name: np.full_like(value, number) if part in name else value for name, value in tensors.items()}


@pytest.mark.parametrize("level", ["full", "probe"])
@pytest.mark.parametrize(
    ("part", "number"), [("norm", 1), ("layers.2.input_layernorm", 0), ("model.norm", 2), ("layers.2.mlp.down_proj", 0), ("lm_head", 0)]
)
def test_learned_tensors_set_to_one_number_are_no_copy(tmp_path: Path, level: str, part: str, number: float) -> None:
    base = models.llama(1)
    sides = [
        models.fingerprint(tmp_path / name, tensors, dtype=np.float32, level=level)
        for name, tensors in (("small", reset(base, part, number)), ("large", base))
    ]
    answer = asked(sides[0], sides[1])
    assert answer.relation not in COPIES | DESCENT_FREE
    assert answer.extra == 0


def test_biases_of_zeros_that_another_file_lacks_change_no_copy(tmp_path: Path) -> None:
    base = models.llama(1)
    biases = {f"model.layers.{n}.self_attn.q_proj.bias": np.zeros(models.HIDDEN, np.float32) for n in range(models.LAYERS)}
    sides = [
        models.fingerprint(tmp_path / name, tensors, dtype=np.float32) for name, tensors in (("small", {**base, **biases}), ("large", base))
    ]
    assert asked(sides[0], sides[1]).relation == "identical"


@pytest.mark.parametrize("rows", [(90, 91), (3, 60)])
def test_rows_of_one_matrix_in_another_order_are_no_copy_as_it_is(printed: Printed, rows: tuple[int, int]) -> None:
    """Wherever they stand: most rows are not among those that are sampled."""
    one = branch("wide", 1)
    moved = {name: value.copy() for name, value in one.items()}
    moved["wide.part_d.weight"][list(rows)] = one["wide.part_d.weight"][list(reversed(rows))]
    answer = asked(printed("small", moved), printed("large", one))
    assert answer.relation not in COPIES | DESCENT_FREE
    assert "weight for weight" not in answer.explanation[0]


@pytest.mark.parametrize("count", [1, 3])
def test_a_few_changed_numbers_of_a_large_matrix_are_no_rounding(printed: Printed, count: int) -> None:
    """So few that they move neither mean nor spread by more than rounding does."""
    rng = np.random.default_rng(1)
    one = {f"{name}.weight": (rng.laplace(size=(1024, 2048)) + 0.5 * rng.standard_normal((1024, 1))).astype(np.float32) for name in "ab"}
    changed = {name: value.copy() for name, value in one.items()}
    changed["a.weight"].flat[rng.choice(1 << 21, count, replace=False)] += np.float32(0.05)
    answer = asked(printed("small", changed), printed("large", one))
    assert answer.relation not in COPIES


def test_a_shard_says_nothing_of_the_whole(printed: Printed) -> None:
    one, other = branch("wide", 1), branch("narrow", 2)
    answer = asked(printed("model-00002-of-00003", one), printed("large", {**one, **other}))
    assert answer.relation not in COPIES
    assert "wholly contained" not in " ".join(answer.explanation)


SPELT: dict[str, Callable[[int, str, str], str]] = {
    "short": lambda number, module, leaf: f"tok2vec.{number}.{module}>>it.{'W' if leaf == 'weight' else 'b'}",
    "flat": lambda number, module, leaf: f"{module}_{leaf[0]}_{number}",
    "none": lambda number, module, leaf: f"p{(number * 7 + len(module) * 2 + len(leaf)) % 97}",
}


def maxout(spelt: Callable[[int, str, str], str]) -> Tensors:
    """Layers of pieces: biases of two axes, [outputs, pieces], which are vectors where names tell that they are biases."""
    rng, found = np.random.default_rng(3), dict[str, np.ndarray]()
    for number in range(3):
        found[spelt(number, "maxout", "weight")] = rng.laplace(size=(64, 3, 48))
        found[spelt(number, "maxout", "bias")] = rng.laplace(size=(64, 3))
        found[spelt(number, "norm", "weight")] = 1 + 0.1 * rng.laplace(size=64)
    return found


@pytest.mark.parametrize("spelt", SPELT)
def test_biases_of_two_axes_are_equal_whatever_they_are_called(printed: Printed, spelt: str) -> None:
    named, other = maxout(lambda number, module, leaf: f"{module}.{number}.{leaf}"), maxout(SPELT[spelt])
    assert len(other) == len(named)
    sides = printed("small", other), printed("large", named)
    assert sorted(map(len, (side.vectors for side in sides))) == [3, 6]
    for ours, theirs in (sides, sides[::-1]):
        answer = asked(ours, theirs)
        assert (answer.relation, answer.shared, answer.extra) == ("identical", 1.0, 0)


@pytest.mark.parametrize("spelt", SPELT)
def test_a_number_changed_in_a_bias_of_two_axes_is_no_copy(printed: Printed, spelt: str) -> None:
    named, other = maxout(lambda number, module, leaf: f"{module}.{number}.{leaf}"), maxout(SPELT[spelt])
    other[SPELT[spelt](1, "maxout", "bias")][5, 1] += 0.01
    assert asked(printed("small", other), printed("large", named)).relation not in COPIES
    assert asked(printed("large", named), printed("small", other)).relation not in COPIES


@pytest.mark.parametrize("level", ["full", "probe"])
def test_a_stack_without_its_first_layers_is_found_whatever_its_weights_look_like(printed: Printed, level: str) -> None:
    """All layers have moved on: by place none is equal. Drawn weights show nothing learned, yet to the last bit nobody draws them again."""
    rng = np.random.default_rng(5)
    whole: Tensors = {}
    for layer in range(10):
        whole[f"encoder.blocks.{layer}.weight"] = rng.standard_normal((40, 40, 1, 7)) / 16
        whole[f"encoder.blocks.{layer}.bias"] = rng.standard_normal(40) / 10
    cut = {name.replace(f".{layer}.", f".{layer - 2}."): whole[name] for layer in range(2, 10) for name in whole if f".{layer}." in name}
    answer = asked(printed("small", cut, level), printed("large", whole, level))
    assert (answer.relation, answer.also, answer.shared) == ("layers rearranged", (), 1.0)
    assert asked(printed("large", whole, level), printed("small", cut, level)).relation == "layers rearranged"
    other = {name: rng.permutation(value.ravel()).reshape(value.shape) for name, value in cut.items()}
    assert asked(printed("other", other, level), printed("large", whole, level)).relation in DESCENT_FREE


@pytest.mark.parametrize("level", ["full", "probe"])
@pytest.mark.parametrize("moved", [0, 2])
def test_frozen_draws_of_a_public_seed_beside_vectors_of_their_own_are_no_descent(printed: Printed, level: str, moved: int) -> None:
    """Anybody draws the matrices again; what was learned are the gains and biases, which differ."""

    def trained(seed: int, layers: int, first: int) -> Tensors:
        found: Tensors = {}
        for layer in range(layers):
            drawn, own = np.random.default_rng(100 + layer + first), np.random.default_rng(seed + 1000 * layer)
            for name, shape in (("q_proj", (96, 96)), ("up_proj", (192, 96)), ("down_proj", (96, 192))):
                found[f"layers.{layer}.{name}.weight"] = drawn.standard_normal(shape) / 50
            found[f"layers.{layer}.q_proj.bias"] = own.laplace(size=96)
            found[f"layers.{layer}.norm.weight"] = 1 + 0.1 * own.standard_normal(96)
        return found

    small, large = printed("small", trained(1, 4, moved), level), printed("large", trained(2, 6, 0), level)
    assert asked(small, large).relation in DESCENT_FREE
    assert asked(large, small).relation in DESCENT_FREE


@pytest.mark.parametrize("level", ["full", "probe"])
def test_a_readout_that_one_side_learned_beside_frozen_draws_says_nothing_of_the_other(printed: Printed, level: str) -> None:
    def reservoir(seed: int, outputs: int) -> Tensors:
        drawn, own = np.random.default_rng(0), np.random.default_rng(seed)
        shapes = {"w_in": (256, 64), "w_res": (256, 256), "w_fb": (256, 32), "w_skip": (256, 96)}
        found: Tensors = {f"reservoir.{name}": drawn.standard_normal(shape) for name, shape in shapes.items()}
        return found | {"readout.weight": own.laplace(size=(outputs, 256)), "reservoir.gain": 1 + 0.1 * own.standard_normal(256)}

    small, large = printed("small", reservoir(1, 1), level), printed("large", reservoir(2, 64), level)
    assert asked(small, large).relation in DESCENT_FREE
    assert asked(large, small).relation in DESCENT_FREE


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize("change", [lambda b: b[::-1], lambda b: np.concatenate([b[:9], b[9:][np.argsort(b[9:])]])])
def test_a_bias_in_another_order_beside_matrices_in_theirs_is_no_copy(
    printed: Printed, renamed: bool, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    one = branch("wide", 1)
    other = one | {"wide.part_d.bias": change(one["wide.part_d.bias"])}
    ours = printed("small", {name.replace("wide", "net.other") if renamed else name: value for name, value in other.items()})
    assert asked(ours, printed("large", one)).relation not in COPIES
    assert asked(printed("large", one), ours).relation not in COPIES
    order = np.random.default_rng(4).permutation(96)
    turned = other | {"wide.part_d.weight": one["wide.part_d.weight"][order], "wide.part_d.bias": one["wide.part_d.bias"][order]}
    assert asked(printed("small", turned), printed("large", one)).relation == "reparameterised"


@pytest.mark.parametrize("size", [0.0, 0.01])
def test_a_number_changed_in_a_bias_of_several_is_no_copy(printed: Printed, size: float) -> None:
    """q, k and v in one, in a layout that no table knows: sums tell what a bias was put together of, in single precision."""
    rng = np.random.default_rng(8)
    parts = {name: (rng.laplace(size=(64, 64)) + rng.laplace(size=(64, 1)), rng.laplace(size=64)) for name in "abc"}
    rest = {"f.weight": rng.laplace(size=(128, 64)), "f.bias": rng.laplace(size=128)}
    whole = {"p.weight": np.concatenate([w for w, _ in parts.values()]), "p.bias": np.concatenate([b for _, b in parts.values()])}
    apart = {f"{name}.weight": w for name, (w, _) in parts.items()} | {f"{name}.bias": b for name, (_, b) in parts.items()}
    apart["a.bias"] = apart["a.bias"] + size * np.eye(64)[np.abs(apart["a.bias"]).argmin()]
    small, large = printed("small", {**apart, **rest}), printed("large", {**whole, **rest})
    assert (asked(small, large).relation in COPIES) == (size == 0)
    assert (asked(large, small).relation in COPIES) == (size == 0)


@pytest.mark.parametrize("level", ["full", "probe"])
def test_a_frozen_part_that_a_public_seed_gives_is_no_part_reused(printed: Printed, level: str) -> None:
    """Default starts: matrices drawn, gains one and biases zero. Of a part that shows training the same is a part reused."""

    def both(seed: int, learned: float) -> Tensors:
        drawn, own = np.random.default_rng(0), np.random.default_rng(seed)
        found: Tensors = {}
        for layer in range(4):
            outer = drawn.standard_normal((128, 1)) * drawn.standard_normal(128)
            found[f"encoder.layers.{layer}.fc.weight"] = drawn.uniform(-0.09, 0.09, (128, 128)) + learned * outer
            found[f"encoder.layers.{layer}.norm.weight"] = np.ones(128)
            found[f"decoder.layers.{layer}.fc.weight"] = own.laplace(size=(128, 128)) + own.laplace(size=(128, 1))
            found[f"decoder.layers.{layer}.norm.weight"] = 1 + 0.1 * own.standard_normal(128)
        return found

    def relation(learned: float) -> str:
        return asked(printed("small", both(1, learned), level), printed("large", both(2, learned), level)).relation

    assert relation(0.0) in DESCENT_FREE
    assert relation(0.02) == "component reused"


def test_a_file_of_vectors_alone_is_itself_and_no_strangers(printed: Printed) -> None:
    """Control vectors, one a layer: there are no matrices whose sides could bound how many a model has."""
    rng = np.random.default_rng(6)
    ours, theirs = ({f"direction.{layer}": rng.standard_normal(512) for layer in range(31)} for _ in range(2))
    one, other = printed("small", ours), printed("large", theirs)
    assert one.about.coverage == 1.0
    assert asked(one, one).relation == "identical"
    assert asked(one, other).relation == "not comparable"
