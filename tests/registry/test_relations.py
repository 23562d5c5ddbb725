"""What is done to a model is what the answer says; what is not related is not accused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

import models
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.evidence.places import FAMILY_P
from modelkin_registry.relations.decisions import COVERAGE_FLOOR
from modelkin_registry.relations.pairs import Kin, measure_kin, order

Ask = Callable[..., Kin]


@pytest.fixture(scope="module")
def parent() -> models.Tensors:
    return models.llama(1)


@pytest.fixture(scope="module")
def stranger() -> models.Tensors:
    return models.llama(2)


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    def measured(child: models.Tensors, other: models.Tensors, level: str = "full", dtype: type = np.float32) -> Kin:
        a = models.fingerprint(tmp_path / "a", child, level=level, dtype=dtype)
        return measure_kin(a, models.fingerprint(tmp_path / "b", other, level=level, dtype=np.float32), "parent", ALONE)

    return measured


def inherited(kin: Kin) -> set[str]:
    return {f.family for c in kin.relative.components for f in c.families if f.inherited}


def layer_map(kin: Kin) -> list[tuple[int, int]]:
    return list(kin.relative.components[0].layer_map)


@pytest.mark.parametrize("level", ["full", "probe"])
def test_copies(ask: Ask, parent: models.Tensors, level: str) -> None:
    assert ask(parent, parent, level).relative.relation == "identical"
    assert ask(parent, parent, level, np.float16).relative.relation == "recast"


@pytest.mark.parametrize("level", ["full", "probe"])
@pytest.mark.parametrize("understood", [0.9, 0.3])
def test_a_copy_beside_what_nobody_understands_is_found(
    tmp_path: Path, parent: models.Tensors, stranger: models.Tensors, level: str, understood: float
) -> None:
    """Or whoever adds enough of it hides a copy. Of a stranger nothing is said then, not even that it is none."""

    def kin(tensors: models.Tensors) -> Kin:
        a = models.fingerprint(tmp_path / "a", tensors, level=level, dtype=np.float32)
        b = models.fingerprint(tmp_path / "b", parent, level=level, dtype=np.float32)
        more = round(a.about.bytes_total * (1 / understood - 1))
        unread = ({"what": "anything", "bytes": more},)
        about = replace(a.about, coverage=understood, bytes_total=a.about.bytes_total + more, unread=unread)
        return measure_kin(replace(a, about=about), b, "parent", ALONE)

    found = kin(models.noised(parent, 5, 0.05)).relative
    assert found.relation == "transplanted"
    assert found.compared == pytest.approx(understood)
    assert kin(stranger).relative.relation == ("unrelated" if understood > COVERAGE_FLOOR else "not comparable")


@pytest.mark.parametrize("level", ["full", "probe"])
def test_a_copy_with_a_small_component_of_its_own_is_no_copy_of_the_whole(ask: Ask, parent: models.Tensors, level: str) -> None:
    own = {"vision_tower.projector.linear.weight": np.random.default_rng(5).standard_normal((16, 16))}
    kin = ask({**parent, **own}, parent, level)
    assert (kin.relative.relation, kin.relative.also) == ("component reused", ("identical",))
    assert ask(parent, {**parent, **own}, level).relative.relation == "identical"


@pytest.mark.parametrize("level", ["full", "probe"])
def test_strangers_are_not_accused(ask: Ask, parent: models.Tensors, stranger: models.Tensors, level: str) -> None:
    kin = ask(stranger, parent, level)
    assert kin.relative.relation == "unrelated"
    assert kin.relative.shared == 0
    assert not inherited(kin)


@pytest.mark.parametrize("level", ["full", "probe"])
@pytest.mark.parametrize(("size", "relation"), [(0.1, "fine-tuned"), (1.2, "continued")])
def test_further_training(ask: Ask, parent: models.Tensors, level: str, size: float, relation: str) -> None:
    kin = ask(models.trained_on(parent, 3, size), parent, level)
    assert kin.relative.relation == relation
    assert inherited(kin) == {"attention", "mlp", "embedding", "norm"}
    assert kin.relative.shared == 1


def test_even_noise(ask: Ask, parent: models.Tensors) -> None:
    assert ask(models.noised(parent, 3, 0.3), parent).relative.relation == "noised"


def test_half_pruned(ask: Ask, parent: models.Tensors) -> None:
    pruned = {k: np.where(np.abs(v) >= np.median(np.abs(v)), v, 0).astype(np.float32) if "_proj" in k else v for k, v in parent.items()}
    assert ask(pruned, parent).relative.relation == "pruned"


def test_rounded_to_a_grid(ask: Ask, parent: models.Tensors) -> None:
    rounded = {
        k: (np.rint(v / np.abs(v).max() * 7) / 7 * np.abs(v).max()).astype(np.float32) if "_proj" in k else v for k, v in parent.items()
    }
    kin = ask(rounded, parent)
    assert kin.relative.relation in ("quantized", "pruned")  # a coarse symmetric grid also makes new zeros
    fine = {
        k: (np.rint(v / np.abs(v).max() * 127) / 127 * np.abs(v).max()).astype(np.float32) if "_proj" in k else v for k, v in parent.items()
    }
    assert ask(fine, parent).relative.relation == "quantized"


def test_only_norms_carried_over(ask: Ask, parent: models.Tensors, stranger: models.Tensors) -> None:
    kin = ask(models.part_from(stranger, parent, "norm"), parent)
    assert kin.relative.relation == "norms only"
    assert kin.relative.shared == 0
    norm = next(f for c in kin.relative.components for f in c.families if f.family == "norm")
    assert norm.raw_cosine is not None
    assert norm.raw_cosine > 0.999
    assert not norm.informative


def test_norms_of_strangers_match_their_floor(ask: Ask, parent: models.Tensors, stranger: models.Tensors) -> None:
    norm = next(f for c in ask(stranger, parent).relative.components for f in c.families if f.family == "norm")
    assert norm.raw_cosine == pytest.approx(norm.raw_cosine_floor, abs=0.003)
    assert norm.raw_cosine_floor == pytest.approx(1 / 1.01, abs=0.003)  # gains of mean 1 and sd 0.1


@pytest.mark.parametrize(("part", "families"), [("self_attn", {"attention"}), ("mlp", {"mlp"})])
def test_transplanted_family(ask: Ask, parent: models.Tensors, stranger: models.Tensors, part: str, families: set[str]) -> None:
    child = models.part_from(stranger, parent, part)
    donor, host = ask(child, parent), ask(child, stranger)
    assert donor.relative.relation == host.relative.relation == "transplanted"
    assert inherited(donor) == families
    assert inherited(host) == {"attention", "mlp", "embedding", "norm"} - families


@pytest.mark.parametrize("level", ["full", "probe"])
def test_single_layer(ask: Ask, parent: models.Tensors, stranger: models.Tensors, level: str) -> None:
    kin = ask(models.part_from(stranger, parent, ".layers.3."), parent, level)
    assert kin.relative.relation == "transplanted"
    assert layer_map(kin) == [(3, 3)]
    assert kin.relative.shared < 0.2


@pytest.mark.parametrize("level", ["full", "probe"])
@pytest.mark.parametrize("layers", [[0, 1, 2, 3, 1, 2, 3, 4, 5], [0, 2, 3, 5], [5, 4, 3, 2, 1, 0]])
def test_layers_rearranged(ask: Ask, parent: models.Tensors, level: str, layers: list[int]) -> None:
    kin = ask(models.trained_on(models.with_layers(parent, layers), 5, 0.2), parent, level)
    assert kin.relative.relation == "layers rearranged"
    assert layer_map(kin) == list(enumerate(layers))


def test_a_network_may_have_been_taken_out_of_a_file_that_holds_it_twice(ask: Ask, parent: models.Tensors) -> None:
    twice = ask(models.with_layers(parent, [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]), parent).relative
    assert twice.relation == "layers rearranged"
    assert twice.alternatives == ("query from relative", "relative from query", "both from a third")


def test_new_embeddings(ask: Ask, parent: models.Tensors, stranger: models.Tensors) -> None:
    child = models.part_from(models.part_from(parent, stranger, "embed_tokens"), stranger, "lm_head")
    kin = ask(child, parent)
    assert kin.relative.relation == "vocabulary changed"
    assert "embedding" not in inherited(kin)
    told = " ".join(sentence for part in kin.relative.components for sentence in part.changes)
    assert "show nothing in common row by row" in told
    assert "not inherited" not in told


@pytest.mark.parametrize("level", ["full", "probe"])
def test_grown_vocabulary(ask: Ask, parent: models.Tensors, level: str) -> None:
    rows = 0.02 * np.random.default_rng(9).standard_normal((77, models.HIDDEN)).astype(np.float32)
    child = {k: np.vstack([v, rows]) if v.shape[0] == models.VOCABULARY else v for k, v in parent.items()}
    kin = ask(child, parent, level)
    assert kin.relative.relation == "vocabulary changed"
    assert "embedding" in inherited(kin)


def test_other_coordinates(ask: Ask, parent: models.Tensors) -> None:
    for child in (models.neurons_permuted(parent, 4), models.channels_permuted(parent, 4), models.gains_folded(parent)):
        kin = ask(child, parent)
        assert kin.relative.relation == "reparameterised"
        assert {"attention", "mlp", "embedding"} <= inherited(kin)


def test_scales_moved_between_matrices(ask: Ask, parent: models.Tensors) -> None:
    kin = ask(models.scales_moved(parent, 4), parent)
    assert kin.relative.relation == "reparameterised"
    assert ask(models.trained_on(models.scales_moved(parent, 4), 5, 0.1), parent).relative.relation == "reparameterised"


def test_merged_adapter(ask: Ask, parent: models.Tensors) -> None:
    assert ask(models.adapter_merged(parent, 4), parent).relative.relation == "low-rank delta"
    tuned = models.trained_on(models.adapter_merged(parent, 4), 5, 0.1)
    assert ask(tuned, parent).relative.relation == "fine-tuned"


def test_narrower_copy(ask: Ask, parent: models.Tensors, stranger: models.Tensors) -> None:
    kin = ask(models.narrowed(parent, 84, 120), parent)
    assert kin.relative.relation == "pruned"
    assert inherited(kin) == {"attention", "mlp", "embedding"}
    assert ask(models.narrowed(stranger, 84, 120), parent).relative.relation == "unrelated"


def test_weak_traces_in_several_families_count_together(ask: Ask) -> None:
    start = models.initialised(7)
    first, second = (models.trained_on(start, seed, 3.0) for seed in (8, 9))
    for tensors, seed in ((first, 10), (second, 11)):
        gains = models.llama(seed)
        tensors.update({k: gains[k] for k, v in tensors.items() if v.ndim == 1})
    kin = ask(first, second)
    assert kin.relative.relation == "shared initialisation"
    assert min(f.p_value or 0.0 for c in kin.relative.components for f in c.families if f.informative) > FAMILY_P


def test_permuted_copy_of_a_stranger_is_a_stranger(ask: Ask, parent: models.Tensors, stranger: models.Tensors) -> None:
    assert ask(models.channels_permuted(stranger, 4), parent).relative.relation == "unrelated"


def test_two_trainings_from_one_initialisation(ask: Ask) -> None:
    start = models.initialised(7)
    first, second = (models.trained_on(start, seed, 1.2) for seed in (8, 9))
    for tensors, seed in ((first, 10), (second, 11)):
        gains = models.llama(seed)
        tensors.update({k: gains[k] for k, v in tensors.items() if v.ndim == 1})
    assert ask(first, second).relative.relation == "shared initialisation"
    assert ask(first, start).relative.relation == "shared initialisation"  # anybody who sets the seed has that start


def test_nothing_in_common_to_compare(ask: Ask, parent: models.Tensors) -> None:
    narrow = {k: v[..., : models.HIDDEN // 2].copy() for k, v in parent.items() if "o_proj" not in k and "down_proj" not in k}
    kin = ask(narrow, parent, "probe")
    assert kin.relative.relation == "not comparable"
    assert kin.relative.p_value is None


def test_a_low_rank_change_names_its_base_though_a_sibling_is_nearer(ask: Ask, parent: models.Tensors) -> None:
    child = models.adapter_merged(parent, 4)
    sibling = models.trained_on({k: 0.3 * parent[k] + 0.7 * child[k] for k in parent}, 6, 0.02)
    from_base, from_sibling = ask(child, parent), ask(child, sibling)
    assert (from_base.relative.relation, from_sibling.relative.relation) == ("low-rank delta", "fine-tuned")
    assert from_sibling.closeness > from_base.closeness
    assert order(from_base) < order(from_sibling)
