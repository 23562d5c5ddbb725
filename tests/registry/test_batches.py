"""Many pairs at once show what each shows alone: the same figures, and the same answers."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from benchmarks.common import sketch_space
from benchmarks.common.sketch_families import families, strangers
from benchmarks.common.sketch_space import Model, child, fresh
from modelkin_indexer.results.beside import Claim
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.relations import RELATIONS
from modelkin_registry.batches.pairs import MATRICES, NOTHING, UNTOLD, groups, screened
from modelkin_registry.batches.registered import relations, standing_out
from modelkin_registry.evidence.families import by_family, judge_components
from modelkin_registry.evidence.judge import ALONE, Judge
from modelkin_registry.evidence.places import ComponentPair
from modelkin_registry.evidence.standing import channel_result, matrix_result
from modelkin_registry.registry import Registry
from modelkin_registry.relations.pairs import Held, hold
from models import fingerprint, llama, trained_on, with_layers

SAME = 1e-6  # of figures
Pair = tuple[Fingerprint, Fingerprint]


def zoo(full: bool) -> list[Fingerprint]:
    """Two families, strangers, layers dropped and repeated, one layer and one component taken over, a far child, another shape."""
    random = np.random.default_rng(3)
    base = fresh(random)
    made: list[Model] = [
        base,
        child(random, base, 0.5),
        child(random, base, 0.3),
        {"text": child(random, base, 0.9)["text"].at_layers([0, 1, 2, 3, 4, 5, 3, 4, 5, 8, 9, 10])},
        {"text": base["text"].at_layers(range(8))},
        {"text": fresh(random)["text"].with_layer(3, base["text"], 7)},
        fresh(random, ("text", "vision")),
    ]
    made.append(fresh(random) | {"vision": child(random, made[-1], 0.95)["vision"]})
    found = [sketch_space.fingerprint(model, random, full=full) for model in made]
    return [*found, *(one for _, one in families(6, 4, full=full)), *(one for _, one in strangers(3, full=full))]


def trained(folder: Path) -> list[Fingerprint]:
    """Real matrices at level full: with Gram channels that agree or do not, and digests that are equal."""
    base = llama(1)
    made = (base, base, trained_on(base, 3, 0.1), trained_on(base, 4, 0.5), llama(2), llama(3), with_layers(base, [0, 1, 1]))
    return [fingerprint(folder / str(number), tensors) for number, tensors in enumerate(made)]


SETS = {"probe": lambda _: zoo(False), "full": lambda _: zoo(True), "trained": trained}


@pytest.fixture(scope="module", params=SETS)
def held(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Pair], list[Held]]:
    """All pairs of a set in both directions, and each of them held alone."""
    pairs = list(permutations(SETS[request.param](tmp_path_factory.mktemp("models")), 2))
    return pairs, [hold(*pair, "", JUDGE) for pair in pairs]


JUDGE = Judge(40, {}, {})


def test_the_answers_are_those_of_each_pair_alone(held: tuple[list[Pair], list[Held]]) -> None:
    pairs, alone = held
    found = screened(pairs, JUDGE)
    told = [(seen, one.kin()) for seen, one in zip(found, alone, strict=True) if seen.shows != UNTOLD]
    assert len(told) > len(pairs) / 2
    for seen, kin in told:
        assert seen.shows == RELATIONS[kin.relative.relation].shows
        assert seen.comparable == kin.comparable_parameters
        if seen.shows == MATRICES:
            assert seen.closeness == pytest.approx(kin.closeness, abs=SAME)
            assert not kin.relative.shared or seen.shared == pytest.approx(kin.relative.shared, abs=1e-4)
            inherited = {(c.query, f.family) for c in kin.relative.components for f in c.families if f.informative and f.inherited}
            assert seen.parts == inherited or not kin.relative.shared
    assert {seen.shows for seen, _ in told} >= {MATRICES, NOTHING}


def test_r_and_z_are_those_of_each_pair_alone(held: tuple[list[Pair], list[Held]]) -> None:
    pairs, alone = held
    compared = 0
    for group in groups(pairs, JUDGE):
        for names, measured in group.measured.items():
            for at, number in enumerate(group.numbers):
                if not group.told[at]:
                    continue
                expected = figures(alone[number], names)
                found = {key: (float(f.r[at]), float(f.z[at]), bool(f.strong[at])) for key, f in measured.families.items() if f.places[at]}
                assert found.keys() == expected.keys()
                for key, (r, z, strong) in found.items():
                    assert (r, z) == pytest.approx(expected[key][:2], abs=SAME, rel=SAME), key
                    assert strong == expected[key][2] or key[1] == "vector"
                compared += len(found)
    assert compared > 100


def figures(held: Held, names: tuple[str, str]) -> dict[tuple[str, str], tuple[float, float, bool]]:
    """r, z and whether they are enough, by family and channel, of one pair alone."""
    measured = next(one for one in held.measured if (one.query.component, one.relative.component) == names)
    found = {}
    for family, places in by_family(measured.places).items():
        for channel in dict.fromkeys(place.channel for place in places):
            result = matrix_result(family, channel, [p for p in places if p.channel == channel], measured, JUDGE, 1)
            found[family, channel] = result.r, result.z, result.strong
    for family, places in by_family(measured.vectors).items():
        result = channel_result(family, "probe", places, JUDGE)
        found[family, "vector"] = result.r, result.z, result.strong
    return found


def test_claims_of_all_models_are_those_of_each(tmp_path: Path) -> None:
    """Of a child that says so, a liar, one of two bases of which one is not here, and models that name none that is here."""
    made = dict(families(6, 3))
    said = {"m00001": ["m00000"], "m00004": ["m00000"], "m00002": ["m00000", "elsewhere/base"], "m00005": ["nobody"], "m00003": []}
    with Registry.open(tmp_path / "r.db") as registry:
        for name, one in made.items():
            registry.add(name, one, claims=[Claim("base_model", value, "README.md") for value in said.get(name, ())])
        found = registry.all_weighed_claims()
        assert found == {name: registry.weighed_claims(name) for name in ("m00001", "m00002", "m00004")}
    assert [one.verdict for one in found["m00001"]] == ["consistent"]
    assert [one.verdict for one in found["m00004"]] == ["nothing"]
    assert {one.verdict for one in found["m00002"]} == {"consistent", "not registered"}


def test_registered_pairs_that_stand_out(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "r.db") as registry:
        for name, one in (*families(4, 4), *((f"s{name}", one) for name, one in strangers(3))):
            registry.add(name, one)
        names = dict(registry.store.names_of(registry.store.numbers()))
        pairs = list(permutations(sorted(names), 2))
        found = list(standing_out(registry.known, pairs, JUDGE))
        told = dict(relations(registry.known, pairs, JUDGE))
        alone = {pair: hold(*map(registry.known.numbered, pair), "", JUDGE).kin().relative.relation for pair in pairs}
    assert {(names[a], names[b]) for a, b in found} == set(permutations([f"m0000{number}" for number in range(4)], 2))
    assert told == alone


def test_rows_that_were_put_in_are_looked_at_alone() -> None:
    """Half of the sampled rows are another model's: their mean says kinship, and rows one by one that it is not."""
    random = np.random.default_rng(5)
    ours, theirs = fresh(random), fresh(random)
    mixed = ours["text"].layers.copy()
    mixed[..., :48] = theirs["text"].layers[..., :48]
    forged = {"text": replace(ours["text"], layers=mixed)}
    pair = sketch_space.fingerprint(forged, random), sketch_space.fingerprint(theirs, random)
    assert [seen.shows for seen in screened([pair], ALONE)] == [UNTOLD]
    alone: ComponentPair = judge_components(hold(*pair, "", ALONE).measured[0], ALONE)
    assert any(family.contradicted for family in alone.families)


def test_copies_are_looked_at_alone(tmp_path: Path) -> None:
    base = fingerprint(tmp_path / "base", llama(1))
    again = fingerprint(tmp_path / "again", llama(1))
    assert [seen.shows for seen in screened([(base, again), (base, base)], ALONE)] == [UNTOLD, UNTOLD]
