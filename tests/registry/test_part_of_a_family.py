"""Of one family some matrices may be another model's, and the others its own: the share told is that of those that agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import CompareAnswer
from modelkin_registry.answers.relations import DESCENT_FREE
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.evidence.nulls import Null
from modelkin_registry.evidence.places import PlaceCosine
from modelkin_registry.evidence.standing import strong_alone
from modelkin_registry.explanation.compare import compare_fingerprints

Tensors = dict[str, npt.NDArray[np.float32]]
Ask = Callable[..., CompareAnswer]
LEVELS = ("full", "probe")
WIDTH, KERNEL = 40, 9


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """What `compare` says of two sets of tensors; `half`: the first is stored in bfloat16."""

    def printed(name: str, tensors: Tensors, level: str, dtype: type) -> Fingerprint:
        path = tmp_path / f"{name}.safetensors"
        safetensors.numpy.save_file({key: np.ascontiguousarray(value.astype(dtype)) for key, value in tensors.items()}, path)
        source = open_source(path)
        try:
            return fingerprint_source(source, level=level)
        finally:
            source.close()

    def asked(a: Tensors, b: Tensors, level: str, *, half: bool = False) -> CompareAnswer:
        sides = printed("a", a, level, ml_dtypes.bfloat16 if half else np.float32), printed("b", b, level, np.float32)
        return compare_fingerprints(*sides, a_name="a", b_name="b", controls={}, judge=ALONE)

    return asked


def learned(rng: np.random.Generator, rows: int, columns: int, size: float = 0.6) -> npt.NDArray[np.float32]:
    """Noise and a few directions, in rows that differ, as training leaves them."""
    rows_of = np.exp(0.3 * rng.standard_normal((rows, 1)))
    directions = rng.standard_normal((rows, 4)) @ rng.standard_normal((4, columns)) / 2
    return (0.05 * rows_of * (rng.standard_normal((rows, columns)) + size * directions)).astype(np.float32)


def kernels(seed: int, name: str, count: int) -> Tensors:
    rng = np.random.default_rng(seed)
    return {f"{name}.{i}.weight": learned(rng, WIDTH, WIDTH * KERNEL).reshape(WIDTH, WIDTH, 3, 3) for i in range(count)}


def with_common_part(seed: int, common: int, own: int, change: float = 0.0) -> Tensors:
    """A network of its own kernels beside those of a public one, which may have been trained on a little."""
    rng = np.random.default_rng(seed)
    public = {k: v + change * v.std() * rng.standard_normal(v.shape).astype(np.float32) for k, v in kernels(1, "loss.net", common).items()}
    return {**public, **kernels(seed, "decoder.blocks", own)}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("change", [0.0, 0.1])
@pytest.mark.parametrize(("common", "own"), [(6, 6), (6, 2), (3, 9)])
def test_kernels_of_ones_own_beside_common_ones_do_not_count(ask: Ask, common: int, own: int, change: float, level: str) -> None:
    answer = ask(with_common_part(11, common, own), with_common_part(12, common, own, change), level)
    assert answer.relation == "transplanted"
    assert answer.shared == pytest.approx(common / (common + own), abs=0.01)
    assert f"in {common} of {common + own} matrices" in " ".join(answer.explanation)


@pytest.mark.parametrize(
    ("others", "alone"),
    [([0.02, -0.1, 0.05], True), ([0.25, 0.2, 0.3], False), ([0.35, -0.3, 0.0], False), ([0.35], True), ([0.45], False), ([], False)],
)
def test_the_others_have_to_show_nothing_by_their_sum_or_spread(others: list[float], *, alone: bool) -> None:
    """A lone one within four standard deviations may be chance; several that lean one way, or spread far, are not."""
    null = Null(0.0, 0.09)
    places = [PlaceCosine("mlp", "up", "probe", (at, at), at, at, r, null) for at, r in enumerate([0.95, 0.9, 0.92, *others])]
    assert (strong_alone("mlp", places, ALONE) == places[:3]) == alone
    weak = PlaceCosine("mlp", "up", "probe", (0, 0), 0, 0, 0.6, null)
    assert strong_alone("mlp", [weak, *places[3:]], ALONE) == []  # a single one has to be close


def of_three_stages(seed: int) -> Tensors:
    """Two layers of each width, and between them some of another kind."""
    rng = np.random.default_rng(seed)
    model: Tensors = {}
    for stage, width in enumerate((48, 64, 80)):
        for layer, (name, rows, columns) in enumerate(
            [("attention.qkv", 4 * width, width), ("mlp.up", 96, 48)] * 2,
        ):
            model[f"blocks.{4 * stage + layer}.{name}.weight"] = learned(rng, rows, columns)
    return model


@pytest.mark.parametrize("level", LEVELS)
def test_layers_of_stages_with_two_of_each_width_are_found(ask: Ask, level: str) -> None:
    """Half of the cells that can be compared are matches: the typical one is no mismatch."""
    model = of_three_stages(3)
    copy = ask(model, model, level, half=True)
    assert (copy.relation, copy.shared, copy.shared_of_all) == ("recast", 1.0, 1.0)
    rng = np.random.default_rng(4)
    child = ask({k: v + rng.uniform(0.03, 0.3) * v.std() * rng.standard_normal(v.shape) for k, v in model.items()}, model, level)
    assert (child.relation, child.shared) == ("fine-tuned", 1.0)
    assert ask(of_three_stages(5), model, level).relation == "unrelated"


@pytest.mark.parametrize("level", LEVELS)
def test_a_small_head_that_nobody_trained_is_no_copy_in_other_coordinates(ask: Ask, level: str) -> None:
    """A seed gave it to both, one of them without names: equal to the last bit, it stands in the gram channel, and is learned by nobody."""
    shapes = {"h.0.mlp.c_proj": (256, 64), "h.1.mlp.c_fc": (64, 256), "h.0.mlp.c_fc": (64, 256)}
    seed = np.random.default_rng(7)
    heads = {"predict_return.weight": seed.uniform(-0.1, 0.1, (1, 64)), "predict_action.0.weight": seed.uniform(-0.1, 0.1, (3, 64))}
    sides = []
    for number in (1, 2):
        rng = np.random.default_rng(number)
        own = {f"encoder.{name}.weight": 0.02 * rng.standard_normal(shape) for name, shape in shapes.items()}
        sides.append({**own, **heads, "encoder.h.2.ln_1.weight": 1 + 0.01 * rng.standard_normal(64)})
    nameless = {f"{at}c6f": value for at, value in enumerate(sides[0].values())}
    assert ask(nameless, sides[1], level).relation in DESCENT_FREE


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("own", [1, 8])
def test_one_matrix_among_ones_own_is_told_and_decides_nothing(ask: Ask, own: int, level: str) -> None:
    """Vectors of the names of classes, as a public encoder gives them, in two classifiers."""
    head = {"out.weight": learned(np.random.default_rng(1), 120, 64)}
    sides = []
    for seed in (2, 3):
        rng = np.random.default_rng(seed)
        sides.append({**{f"body.{i}.weight": learned(rng, 64, 64) for i in range(own)}, **head})
    answer = ask(*sides, level)
    assert answer.relation == "shared initialisation"
    assert [one.r for one in answer.lone] == [1.0]
    assert "agree in one matrix" in answer.explanation[0]
