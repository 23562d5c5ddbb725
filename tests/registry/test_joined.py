"""Several registries asked as one answer as one registry does that holds the models of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.common.sketch_space import Model, child, fingerprint, fresh
from modelkin_indexer.errors import RegistryError, UnknownModel
from modelkin_indexer.results.beside import Claim
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import QueryAnswer
from modelkin_registry.answers.upkeep import OwnBackground
from modelkin_registry.joined.registry import CALIBRATED, Joined
from modelkin_registry.registry import Registry
from modelkin_registry.search import index as vectors
from modelkin_registry.store.address import Place
from modelkin_registry.store.filters import parse_where

FAMILIES, LONE = 3, 14
Models = Mapping[str, Fingerprint]


def random(*numbers: int) -> np.random.Generator:
    return np.random.default_rng(numbers)


@pytest.fixture(scope="module")
def weights() -> dict[str, Model]:
    """Three bases with two children each, and strangers."""
    found: dict[str, Model] = {}
    for number in range(FAMILIES):
        base = fresh(random(1, number), layers=4)
        found[f"base-{number}"] = base
        found |= {f"child-{number}-{at}": child(random(2, number, at), base, cosine) for at, cosine in enumerate((0.8, 0.5))}
    return found | {f"lone-{number}": fresh(random(3, number), layers=4) for number in range(LONE)}


@pytest.fixture(scope="module")
def models(weights: dict[str, Model]) -> dict[str, Fingerprint]:
    return {name: fingerprint(model, random(4, at)) for at, (name, model) in enumerate(weights.items())}


@pytest.fixture(scope="module")
def queries(weights: dict[str, Model]) -> dict[str, Fingerprint]:
    """A sibling, a copy, a merge of two that lie in different registries, a model with one layer of another one, a stranger."""
    one, two = weights["base-0"]["text"], weights["base-1"]["text"]
    made: dict[str, Model] = {
        "sibling": child(random(5), weights["base-0"], 0.6),
        "far": child(random(6), weights["base-2"], 0.35),
        "graft": {"text": child(random(7), weights["base-1"], 0.7)["text"].with_layer(2, weights["lone-3"]["text"], 1)},
        "merge": {"text": type(one)(0.5 * one.layers + 0.5 * two.layers, 0.5 * one.tables + 0.5 * two.tables, one.norms)},
        "stranger": fresh(random(8), layers=4),
    }
    return {name: fingerprint(model, random(9, at)) for at, (name, model) in enumerate(made.items())}


Opened = Callable[[str, Models], Registry]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Makes a registry of models, under a name or at an address."""
    with ExitStack() as stack:

        def made(place: str | Place, given: Models) -> Registry:
            found = stack.enter_context(Registry.open(tmp_path / place if isinstance(place, str) and "://" not in place else place))
            for name, one in given.items():
                found.add(name, one, origin=f"/models/{name}")
            found.refresh()
            return found

        yield made


def parts(models: Models, count: int) -> list[dict[str, Fingerprint]]:
    """The models dealt out: members of one family lie in different registries."""
    return [{name: one for at, (name, one) in enumerate(models.items()) if at % count == place} for place in range(count)]


def shown(answer: QueryAnswer) -> list[Any]:
    """What an answer says of models."""
    rows: list[Any] = [answer.verdict, answer.registry.models, answer.examined and answer.examined.models_comparable]
    for one in answer.relatives:
        families = [(f.family, f.r, f.null_sd, f.p_value) for component in one.components for f in component.families]
        rows.append((one.model, one.relation, one.also, one.shared, one.shared_of_all, one.p_value, families))
    rows.append(answer.merge and sorted((parent.model, round(parent.weight, 4)) for parent in answer.merge.parents))
    return rows


def asked(registry: Registry | Joined, queries: Models, **how: Any) -> dict[str, list[Any]]:
    return {name: shown(registry.query(one, source=name, show_all=True, **how)) for name, one in queries.items()}


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("how", [{}, {"exact": True}, {"k": 3}])
def test_several_answer_as_one_that_holds_all(models: Models, queries: Models, opened: Opened, count: int, how: dict[str, Any]) -> None:
    whole = opened("whole.db", models)
    joined = Joined([opened(f"{number}.db", part) for number, part in enumerate(parts(models, count))])
    answers = asked(joined, queries, **how)
    assert answers == asked(whole, queries, **how)
    relations = {row[1] for rows in answers.values() for row in rows[3:-1]}
    assert "unrelated" in relations
    assert len(relations) > 1
    assert answers["merge"][-1] is not None


@pytest.mark.parametrize("seed", range(4))
def test_however_models_are_dealt_out(models: Models, queries: Models, opened: Opened, seed: int) -> None:
    """Into two to four registries by chance, some models into several of them, and none of a registry's into its own order."""
    deal = random(50, seed)
    count = int(deal.integers(2, 5))
    homes = {name: deal.choice(count, int(deal.integers(1, count + 1)), replace=False).tolist() for name in models}
    order = deal.permutation([*models]).tolist()
    dealt = [{name: models[name] for name in order if place in homes[name]} for place in range(count)]
    joined = Joined([opened(f"{number}.db", part) for number, part in enumerate(dealt)])
    assert asked(joined, queries) == asked(opened("whole.db", models), queries)
    held = {one.model: len(one.held_by) for one in joined.query(queries["sibling"], show_all=True, k=50).relatives}
    assert held == {name: len(homes[name]) for name in held}


def test_an_index_beside_each_changes_nothing(models: Models, queries: Models, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "TAIL_REVISIONS", 4)
    joined = Joined([opened(f"{number}.db", part) for number, part in enumerate(parts(models, 2))])
    assert asked(joined, queries) == asked(opened("whole.db", models), queries)


def test_their_order_does_not_matter(models: Models, queries: Models, opened: Opened) -> None:
    found = [opened(f"{number}.db", part) for number, part in enumerate(parts(models, 3))]
    answers = [[Joined(order).query(one, source=name) for name, one in queries.items()] for order in permutations(found)]
    assert all(one == answers[0] for one in answers)


def test_postgresql_beside_a_file(models: Models, queries: Models, opened: Opened, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("postgres")
    first, second = parts(models, 2)
    joined = Joined([opened("a.db", first), opened(server.address(), second)])
    assert asked(joined, queries) == asked(opened("whole.db", models), queries)


def test_each_relative_is_told_with_the_registries_that_have_it(models: Models, queries: Models, opened: Opened) -> None:
    first, second = parts(models, 2)
    a, b = (
        opened("a.db", first | {"lone-0": models["lone-0"]}),
        opened("b.db", second | {"base-0": models["base-0"], "the same": models["base-0"]}),
    )
    answer = Joined([a, b]).query(queries["sibling"], source="sibling")
    assert answer.registry.models == len(models)
    places = {one.model: [(held.registry, held.model) for held in one.held_by] for one in answer.relatives}
    in_a, in_b = a.store.name, b.store.name
    assert places["base-0"] == [(in_a, "base-0"), (in_b, "base-0"), (in_b, "the same")]
    assert places["child-0-0"] == [(in_b, "child-0-0")]
    assert "the same" not in places
    assert [(one.name, one.models) for one in answer.registry.registries] == [(in_a, len(a.store.names())), (in_b, len(b.store.names()))]
    assert answer.explanation[1].startswith(f"2 registries were asked as one ({in_a}, {in_b}): ")
    assert f"base-0 is in {in_a} and {in_b} and {in_b} as the same" in answer.explanation[1]
    assert all(one.held_by == () for one in a.query(queries["sibling"]).relatives)


def test_what_both_have_is_counted_and_looked_at_once(models: Models, queries: Models, opened: Opened) -> None:
    """As in one registry, in which the same content under the same name is nothing new."""
    first, second = parts(models, 2)
    common = {name: models[name] for name in ("base-0", "child-1-1", "lone-4", "lone-5")}
    joined = Joined([opened("a.db", first | common), opened("b.db", second | common)])
    whole = opened("whole.db", models)
    assert asked(joined, queries) == asked(whole, queries)
    assert joined.store.names() == sorted(whole.store.names())
    assert len(joined.store.numbers()) == joined.store.count_revisions() == whole.store.count_revisions()


def test_different_models_of_one_name_are_told_apart(weights: dict[str, Model], models: Models, queries: Models, opened: Opened) -> None:
    other = fingerprint(child(random(20), weights["base-0"], 0.9), random(21))
    first, second = parts({name: one for name, one in models.items() if name != "base-0"}, 2)
    joined = Joined([opened("a.db", first | {"llama": models["base-0"]}), opened("b.db", second | {"llama": other})])
    answer = joined.query(queries["sibling"], k=20)
    held = {one.model: [(Path(at.registry).name, at.model) for at in one.held_by] for one in answer.relatives}
    assert held["llama [a.db]"] == [("a.db", "llama")]
    assert held["llama [b.db]"] == [("b.db", "llama")]
    assert "llama" not in held
    assert joined.get("llama [b.db]").to_bytes() == other.to_bytes()
    assert "llama" in joined.store
    with pytest.raises(
        RegistryError, match=r"in .*a\.db and .*b\.db, with different weights\. Say which: 'llama \[a\.db\]' or 'llama \[b\.db\]'"
    ):
        joined.get("llama")
    with pytest.raises(UnknownModel, match=r"no model 'nobody \[a\.db\]' in .*a\.db and .*b\.db"):
        joined.get("nobody [a.db]")


def test_nobody_can_take_the_name_that_a_model_is_told_under(weights: dict[str, Model], models: Models, opened: Opened) -> None:
    a = opened("a.db", {"llama": models["base-0"]})
    b = opened("b.db", {"llama": models["base-1"], "llama [a.db]": models["base-2"]})
    joined = Joined([a, b])
    assert joined.store.names() == ["llama [[a.db]]", "llama [a.db]", "llama [b.db]"]
    assert joined.get("llama [a.db]").to_bytes() == models["base-2"].to_bytes()
    assert joined.get("llama [[a.db]]").to_bytes() == models["base-0"].to_bytes()
    answer = joined.query(fingerprint(child(random(30), weights["base-0"], 0.8), random(31)))
    assert [one.model for one in answer.relatives] == ["llama [[a.db]]"]


def test_claims_mean_models_of_all_and_are_those_of_all(weights: dict[str, Model], models: Models, opened: Opened) -> None:
    first, second = parts(models, 2)
    a, b = opened("a.db", first), opened("b.db", second | {"base-0": models["base-0"]})
    a.add("base-0", models["base-0"], claims=[Claim("license", "mit", "README.md")])
    b.add("base-0", models["base-0"], claims=[Claim("license", "apache-2.0", "README.md")])
    joined = Joined([a, b])
    assert sorted(claim.value for claim in joined.claims_of("base-0")) == ["apache-2.0", "mit"]
    claims = [Claim("base_model", "org/base-0", "README.md"), Claim("base_model", "child-1-0", "README.md")]
    answer = joined.query(fingerprint(child(random(40), weights["base-0"], 0.98), random(41)), claims=claims)
    assert [(one.model, one.verdict) for one in answer.claims] == [("base-0", "consistent"), ("child-1-0", "nothing")]


def test_some_alone_are_asked_in_all(models: Models, queries: Models, opened: Opened) -> None:
    first, second = parts(models, 2)
    joined, whole = Joined([opened("a.db", first), opened("b.db", second)]), opened("whole.db", models)
    for text in ("name=*-0*", "name=lone*", "name=nobody"):
        answers = [asked(one, queries, among=one.store.matching(parse_where([text]))) for one in (joined, whole)]
        assert answers[0] == answers[1]


def test_a_change_of_either_is_seen(models: Models, queries: Models, opened: Opened) -> None:
    first, second = parts(models, 2)
    a, b = opened("a.db", first), opened("b.db", second)
    joined = Joined([a, b])
    assert "child-0-0" in {one.model for one in joined.query(queries["sibling"]).relatives}
    b.remove("child-0-0")
    b.add("base-0", models["base-0"])
    answer = joined.query(queries["sibling"])
    assert "child-0-0" not in {one.model for one in answer.relatives}
    assert answer.registry.models == len(models) - 1
    assert len(next(one for one in answer.relatives if one.model == "base-0").held_by) == 2


def test_evidence_is_judged_by_the_widest_that_any_of_them_would_judge_by(models: Models, queries: Models, opened: Opened) -> None:
    first, second = parts(models, 2)
    a, b = opened("a.db", first), opened("b.db", second)
    shipped = a.judge(1).between_models("attention", "probe")
    for registry, spread in ((a, 4 * shipped), (b, shipped / 2)):
        found = [
            OwnBackground("probe", "attention", spread, shipped, 50, 12, True),
            OwnBackground("probe", "mlp", 0.0, shipped, 50, 12, True),
        ]
        registry._keep_backgrounds(tuple(found))
    joined = Joined([a, b])
    assert joined.judge(1).between_models("attention", "probe") == pytest.approx(4 * shipped)
    assert joined.judge(1).between_models("mlp", "probe") == 0.0
    answer = joined.query(queries["far"])
    assert CALIBRATED in answer.warnings
    assert [one.calibrated and one.calibrated.used for one in answer.registry.registries] == [2, 2]
    b.forget_backgrounds()
    assert Joined([a, b]).judge(1).between_models("mlp", "probe") == shipped_spread("mlp")
    a.forget_backgrounds()
    assert CALIBRATED not in Joined([a, b]).query(queries["far"]).warnings


def shipped_spread(family: str) -> float:
    from modelkin_registry.evidence.judge import ALONE

    return ALONE.between_models(family, "probe")


def test_what_cannot_be_asked_as_one_is_refused_by_name(models: Models, opened: Opened, tmp_path: Path) -> None:
    a = opened("a.db", {"base-0": models["base-0"]})
    with Registry.open(tmp_path / "private.db", key_name="private-1") as private:
        with pytest.raises(RegistryError, match=r"a\.db is of key 'public' and .*private\.db of 'private-1'.*modelkin refresh"):
            Joined([a, private])
        with pytest.raises(RegistryError, match=r"a\.db: was given twice"):
            Joined([a, a])
    b = opened("b.db", {"base-1": models["base-1"]})
    b.store.run("UPDATE fingerprint SET spec = '1'")  # type: ignore[attr-defined]
    with pytest.raises(RegistryError, match=r"b\.db: all its fingerprints are of an older spec.*modelkin upgrade --registry .*b\.db"):
        Joined([a, b])


def parents(answer: Any) -> Sequence[str]:
    return sorted(one.model for one in answer.merge.parents)


def test_a_merge_is_taken_apart_into_parents_of_different_registries(models: Models, queries: Models, opened: Opened) -> None:
    first, second = parts(models, 2)
    joined, whole = Joined([opened("a.db", first), opened("b.db", second)]), opened("whole.db", models)
    answers = [one.decompose(queries["merge"], source="merge") for one in (joined, whole)]
    assert parents(answers[0]) == parents(answers[1])
    assert "2 registries were asked as one" in answers[0].explanation[1]
