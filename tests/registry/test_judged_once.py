"""What is worked out once, or of all places together, is what comes out of each by itself."""

from __future__ import annotations

import pickle
from itertools import combinations

import numpy as np
import pytest
from msgspec.structs import replace

from benchmarks.common.sketch_families import families, strangers
from modelkin_indexer.results.fingerprint import Fingerprint, Matrices
from modelkin_indexer.results.once import once
from modelkin_registry.batches.mirrored import mirrored
from modelkin_registry.batches.pairs import groups, screened, screened_both_ways
from modelkin_registry.counterparts.copying import alike
from modelkin_registry.counterparts.copying.faces import Unit, united
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.evidence.nulls import FEWEST_MISMATCHES, crossing_nulls, typical
from modelkin_registry.relations.pairs import hold

worked: list[tuple[int, int]] = []


@once
def times(table: Matrices, factor: int) -> int:
    worked.append((len(table), factor))
    return len(table) * factor


@pytest.fixture(scope="module")
def family() -> list[Fingerprint]:
    return [one for _, one in families(6, 6, full=True)]


def test_a_table_is_asked_once_for_each_question(family: list[Fingerprint]) -> None:
    model = replace(family[0], matrices=replace(family[0].matrices))
    worked.clear()
    rows = len(model.matrices)
    assert [times(model.matrices, factor) for factor in (2, 3, 2)] == [2 * rows, 3 * rows, 2 * rows]
    assert worked == [(rows, 2), (rows, 3)]
    assert times(replace(model.matrices, scale=model.matrices.scale * 2), 2) == 2 * rows  # another table knows nothing of this one
    assert len(worked) == 3
    again = pickle.loads(pickle.dumps(model))
    assert times(again.matrices, 3) == 3 * rows


def test_a_model_that_was_held_before_is_judged_as_a_fresh_one(family: list[Fingerprint]) -> None:
    first = [repr(hold(one, other, "", ALONE).kin()) for one, other in combinations(family, 2)]
    fresh = [
        [Fingerprint(one.about, replace(one.matrices), replace(one.vectors), replace(one.experts)) for one in pair]
        for pair in combinations(family, 2)
    ]
    assert first == [repr(hold(one, other, "", ALONE).kin()) for one, other in fresh]


def test_both_ways_at_once_show_what_each_shows(family: list[Fingerprint]) -> None:
    pairs = [*combinations([*family, *(one for _, one in families(4, 2))], 2)]
    back = screened([(second, first) for first, second in pairs], ALONE)
    assert screened_both_ways(pairs, ALONE) == [*zip(screened(pairs, ALONE), back, strict=True)]
    assert any(one.shared for one, _ in screened_both_ways(pairs, ALONE))


def test_what_is_the_same_either_way_is_worked_out_once() -> None:
    made = [one for _, one in (*families(8, 4), *strangers(3))]
    table = made[1].matrices
    layers = [place.layer for place in table.places]
    moved = np.argsort([layer if layer < 0 else (layer + 3) % (max(layers) + 1) for layer in layers], kind="stable")
    names = ("probe", "scale", "mean", "sd", "digest")
    made.append(replace(made[1], matrices=replace(table, **{name: getattr(table, name)[moved] for name in names})))
    pairs = [*combinations(made, 2)]
    back = screened([(second, first) for first, second in pairs], ALONE)
    assert screened_both_ways(pairs, ALONE) == [*zip(screened(pairs, ALONE), back, strict=True)]
    same = np.concatenate([mirrored(found, group.sides) for group in groups(pairs, ALONE) for found in group.measured.values()])
    assert same.any()
    assert not same.all()


@pytest.mark.parametrize("count", [2, FEWEST_MISMATCHES - 1, FEWEST_MISMATCHES, 40])
@pytest.mark.parametrize("holes", [0, 1])
def test_roles_together_have_the_nulls_that_each_has_alone(count: int, holes: int) -> None:
    random = np.random.default_rng(count)
    cells = random.standard_normal((5, count + holes))
    cells[1:, :holes] = np.nan
    noise = np.full(5, 0.1)
    for trust_few in (False, True):
        together = typical(cells, noise, trust_few=trust_few)
        alone = [typical(cells[[role]], noise[[role]], trust_few=trust_few) for role in range(5)]
        assert all((both == np.concatenate(each)).all() for both, each in zip(together, zip(*alone, strict=True), strict=True))


@pytest.mark.parametrize("layers", [3, 6])
@pytest.mark.parametrize("holes", [0, 1])
def test_roles_together_have_the_crossing_nulls_that_each_has_alone(layers: int, holes: int) -> None:
    random = np.random.default_rng(layers)
    cosines = random.uniform(-1, 1, (4, layers, layers))
    cosines[1, :holes] = np.nan
    matched, noise = np.eye(layers, dtype=bool), np.full(4, 0.05)
    means, spread = crossing_nulls(cosines, matched, noise)
    for role in range(4):
        alone = crossing_nulls(cosines[[role]], matched, noise[[role]])
        assert np.array_equal(means[[role]], alone[0])
        assert spread[role] == alone[1][0]


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_parts_are_found_among_many(parts: int) -> None:
    random = np.random.default_rng(parts)
    digests = [int(one) for one in random.integers(1, 1 << 63, 60, np.uint64)]
    theirs = [Unit(number, ((8, 64, digest),)) for number, digest in enumerate(digests)]
    chosen = sorted(random.choice(60, parts, replace=False).tolist())
    whole = sum(digests[number] for number in chosen) % (1 << 64)
    assert [(ours, sorted(found)) for ours, found in united([Unit(0, ((8 * parts, 64, whole),))], theirs)] == [([0], chosen)]
    assert united([Unit(0, ((8 * parts, 64, whole ^ 1),))], theirs) == []
    assert united([Unit(0, ((8 * parts + 1, 64, whole),))], theirs) == []  # of as many lines it is not


def test_matrices_that_agree_crosswise_are_found_by_a_rough_look_too(family: list[Fingerprint], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = family[0].matrices, family[1].matrices
    shared = np.random.default_rng(1).standard_normal(ours.probe.shape[1])
    tables = []
    for table, seed in ((ours, 2), (theirs, 3)):  # in every layer one table, and something of its own
        own = np.random.default_rng(seed).standard_normal(table.probe.shape)
        mixed = np.where(np.arange(len(table))[:, None] % 2, shared + 0.3 * own, table.probe)
        tables.append(replace(table, probe=(mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float16)))
    found = [alike.Agreeing(row, row, float(np.dot(*(t.probe[row].astype(float) for t in tables))), 0.09) for row in range(len(ours))]
    told = alike.told_apart(*tables, found)
    assert 0 < len(told) < len(found)
    assert alike.told_apart(ours, theirs, found[:1]) == [0]
    monkeypatch.setattr(alike, "_may_agree", lambda *given: np.ones((len(found), len(found)), np.bool_))
    assert told == alike.told_apart(*tables, found)
