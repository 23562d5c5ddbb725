"""Search at small scale: the arithmetic that was made fast against the plain one, the candidates, and what a query has to import."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from modelkin_indexer.places import Place
from modelkin_indexer.results.beside import Claim
from modelkin_indexer.results.channels import CHANNELS
from modelkin_indexer.results.fingerprint import Fingerprint, Matrices
from modelkin_registry.answers.relations import RELATIONS, has_evidence
from modelkin_registry.evidence import nulls
from modelkin_registry.evidence.judge import ALONE, Judge
from modelkin_registry.evidence.side import Side
from modelkin_registry.evidence.similarity import Similarities, matrix_similarities, vector_similarities
from modelkin_registry.registry import Registry
from modelkin_registry.relations.pairs import Held, hold, measure_kin, nearest_kin
from modelkin_registry.relations.strangers import background, own_strangers
from modelkin_registry.search import candidates, ranking
from modelkin_registry.store import rows

ROOT = Path(__file__).parents[2]
PARTS = ("indexer", "registry", "api", "cli", "data")
STRANGERS = 40
NUMBERS = count()  # of fingerprints made


@pytest.fixture(scope="module")
def space() -> Iterator[Any]:
    """The benchmarks' sketch space; their folder is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        from benchmarks.common import sketch_space

        yield sketch_space


@pytest.fixture(scope="module")
def zoo(space: Any) -> Any:
    """The benchmarks' models and questions."""
    from benchmarks.speed import search_zoo

    return search_zoo.Zoo(100)


@pytest.fixture(scope="module")
def parent(space: Any) -> Any:
    return space.fresh(np.random.default_rng(1), layers=6)


def printed(space: Any, model: Any, *, full: bool = False) -> Fingerprint:
    found: Fingerprint = space.fingerprint(model, np.random.default_rng([2, next(NUMBERS)]), full=full)  # digests of its own
    return found


# arithmetic


@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_medians_are_those_of_numpy(count: int, groups: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((groups, count))
    assert np.array_equal(nulls.medians(values), np.median(values, axis=1))
    assert nulls.median(values[0].tolist()) == np.median(values[0])
    assert np.isnan(nulls.median([]))


def test_typical_passes_over_missing_cells_role_by_role() -> None:
    cells = np.random.default_rng(3).standard_normal((3, 40))
    cells[1, ::2] = np.nan
    cells[2, nulls.FEWEST_MISMATCHES - 1 :] = np.nan
    middle, spread = nulls.typical(cells, np.array([1e-3, 1e-3, 0.5]))
    for role in (0, 1):
        known = cells[role][np.isfinite(cells[role])]
        assert middle[role] == np.median(known)
        assert spread[role] == pytest.approx(nulls.NORMAL_PER_MAD * np.median(np.abs(known - np.median(known))))
    assert (middle[2], spread[2]) == (0.0, 0.5)
    assert nulls.typical(cells[:2], np.full(2, 9.0))[1].tolist() == [9.0, 9.0]


def test_crossing_nulls_leave_matched_and_missing_cells_out() -> None:
    random = np.random.default_rng(4)
    cosines, matched = random.standard_normal((2, 5, 6)), np.eye(5, 6, dtype=bool)
    cosines[0, 1, 3] = np.nan
    means, spread = nulls.crossing_nulls(cosines, matched, np.array([0.1, 9.0]))
    for role, layer in product(range(2), range(5)):
        across = [cosines[role, layer, other] for other in range(6) if other != layer]
        along = [cosines[role, other, layer] for other in range(5) if other != layer]
        assert means[role, layer, layer] == pytest.approx(np.nanmean(across + along))
    assert 0.5 < spread[0] < 2.0  # standard normal cells
    assert spread[1] == 9.0  # never below the noise
    means, spread = nulls.crossing_nulls(cosines, np.ones((5, 6), bool), np.array([0.1, 0.2]))
    assert not means.any()
    assert spread.tolist() == [0.1, 0.2]


def test_roles_compared_together_have_the_cosines_of_each_alone(space: Any, parent: Any) -> None:
    ours = printed(space, parent, full=True)
    theirs = printed(space, {"text": parent["text"].at_layers([0, 0, 2, 5])}, full=True)
    found = matrix_similarities(Side(ours, "text"), Side(theirs, "text"))
    assert {role for s in found for role in s.roles} == {(place.family, place.role) for place in ours.matrices.places}
    assert {s.channel for s in found} == set(CHANNELS)
    for s in found:
        ours_table, theirs_table = (side.matrices.sketches[s.channel][0].astype(float) for side in (ours, theirs))
        check_cells(s, ours.matrices.places, theirs.matrices.places, ours_table, theirs_table)
    for s in vector_similarities(Side(ours, "text"), Side(theirs, "text")):
        check_cells(s, ours.vectors.places, theirs.vectors.places, ours.vectors.sketch.astype(float), theirs.vectors.sketch.astype(float))


def check_cells(s: Similarities, our_places: Any, their_places: Any, ours: Any, theirs: Any) -> None:
    """Every cell is the cosine of the rows it names, and those rows are of its role and layers."""
    for role, a, b in product(range(len(s.roles)), range(len(s.query_layers)), range(len(s.relative_layers))):
        x, y = s.query_rows[role, a], s.relative_rows[role, b]
        assert (our_places[x].family, our_places[x].role, our_places[x].layer) == (*s.roles[role], s.query_layers[a])
        assert (their_places[y].family, their_places[y].role, their_places[y].layer) == (*s.roles[role], s.relative_layers[b])
        cosine = ours[x] @ theirs[y] / np.linalg.norm(ours[x]) / np.linalg.norm(theirs[y])
        assert s.cosines[role, a, b] == pytest.approx(cosine, abs=1e-6)


def test_some_roles_of_a_comparison_are_the_same_as_before(space: Any, parent: Any) -> None:
    print_of = printed(space, parent)
    side = Side(print_of, "text")
    whole = next(s for s in matrix_similarities(side, side) if len(s.roles) > 2)
    part = whole.of([2, 0])
    assert part.roles == (whole.roles[2], whole.roles[0])
    assert np.array_equal(part.cosines, whole.cosines[[2, 0]])
    assert np.array_equal(part.query_rows, whole.query_rows[[2, 0]])
    assert whole.of(range(len(whole.roles))) is whole


def test_sign_codes_are_the_signs_of_the_projections() -> None:
    values = np.random.default_rng(5).standard_normal((7, 40)).astype(np.float16)
    plain = values.astype(np.float64) @ rows.projection(40) > 0
    assert np.array_equal(np.unpackbits(rows.sign_codes(values), axis=1).astype(bool), plain)


FIFTY = Judge(50, {}, {})


def test_judging_again_is_judging_with_that_background(space: Any, parent: Any) -> None:
    child = printed(space, space.child(np.random.default_rng(6), parent, 0.3))
    known = printed(space, parent)
    held = hold(child, known, "parent", FIFTY)
    wide = {(family, "probe"): 0.2 for family in ("attention", "mlp", "embedding", "norm")}
    assert held.kin() == measure_kin(child, known, "parent", FIFTY)
    again = held.widened(wide).kin()
    assert again == measure_kin(child, known, "parent", FIFTY.widened(wide))
    assert again.relative.components[0].families[0].null_sd > held.kin().relative.components[0].families[0].null_sd


def test_judging_again_is_left_out_where_it_says_the_same(space: Any, parent: Any) -> None:
    held = hold(printed(space, space.child(np.random.default_rng(6), parent, 0.3)), printed(space, parent), "parent", FIFTY)
    first, kept = held.kin(), []
    for family, channel in [(f.family, f.channel) for f in first.relative.components[0].families]:
        for spread in np.linspace(0.0, 0.3, 31).tolist():
            strangers = {(family, channel): spread}
            again = held.kin_beside(strangers, first)
            assert again == held.widened(strangers).kin()
            kept.append(again is first)
    assert 0 < sum(kept) < len(kept)


def test_the_second_look_changes_nothing_but_how_far_down_it_goes(space: Any, parent: Any) -> None:
    """As if all with evidence had been judged again and then put in order; a little evidence among wide strangers goes."""
    query = printed(space, parent)
    kept = {f"kept-{at}": space.child(np.random.default_rng(20 + at), parent, cosine) for at, cosine in enumerate((0.15, 0.16, 0.5, 0.9))}
    lone = {f"stranger-{at}": space.fresh(np.random.default_rng(30 + at), layers=6) for at in range(nulls.FEWEST_STRANGERS)}
    held = {at: hold(query, printed(space, model), name, ALONE, model_id=at) for at, (name, model) in enumerate((kept | lone).items())}
    first = [one.kin() for one in held.values()]
    evident = {at: held[at] for at, one in enumerate(first) if has_evidence(one.relative)}
    strangers, _ = own_strangers(first)
    assert evident.keys() == {0, 1, 2, 3}
    assert any(strangers.values())
    again = [evident[at].widened(strangers).kin() if at in evident else one for at, one in enumerate(first)]
    order = sorted(again, key=lambda one: (-RELATIONS[one.relative.relation].rank, -round(one.closeness, 9), one.relative.model))
    for k in (1, 3, 20):
        assert nearest_kin(first, evident, strangers, k, show_all=True) == [one.relative for one in order][:k]
        assert nearest_kin(first, evident, strangers, k) == [one.relative for one in order if has_evidence(one.relative)][:k]


def judged_among(query: Fingerprint, parent: Fingerprint, others: list[Fingerprint]) -> tuple[list[str], list[str], str]:
    """What is found of a parent among others: by all that they show of the query, by what they show of one another too; and the note."""
    held: dict[int, Held] = {at: hold(query, model, f"m{at}", ALONE, model_id=at) for at, model in enumerate([parent, *others])}
    first = [one.kin() for one in held.values()]
    evident = {at: held[at] for at, one in enumerate(first) if has_evidence(one.relative)}
    assert evident.keys() == {0}
    found = background(first, iter(others), ALONE)
    spreads = (own_strangers(first)[0], found.spread)
    return *([one.model for one in nearest_kin(first, evident, spread, 3)] for spread in spreads), found.note  # type: ignore[return-value]


def test_models_planted_around_a_query_hide_no_relative(space: Any, parent: Any) -> None:
    child = space.child(np.random.default_rng(60), parent, 0.3)
    query, known = printed(space, child), printed(space, parent)
    planted = [printed(space, space.child(np.random.default_rng(70 + at), child, 0.1)) for at in range(20)]
    assert judged_among(query, known, planted) == ([], ["m0"], "")


# candidates


@pytest.fixture(scope="module")
def registry(space: Any, parent: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A parent, a child of it, and strangers."""
    with Registry.open(tmp_path_factory.mktemp("search") / "registry.sqlite") as opened:
        with opened.store.batch():
            for number in range(STRANGERS):
                opened.add(f"stranger-{number}", printed(space, space.fresh(np.random.default_rng(100 + number), layers=6)))
            opened.add("parent", printed(space, parent))
            opened.add("child", printed(space, space.child(np.random.default_rng(7), parent, 0.6)))
        yield opened


def names(registry: Registry, found: list[int]) -> list[str]:
    by_number = registry.store.names_of(found)
    return [by_number[number] for number in found]


def test_the_voted_come_first_and_few_others_follow(space: Any, parent: Any, registry: Registry) -> None:
    query = printed(space, space.child(np.random.default_rng(8), parent, 0.9))
    found = names(registry, candidates.find_candidates(registry.index, query))
    assert found[:2] == ["parent", "child"]
    assert len(found) == 2 + candidates.NEAREST
    few = names(registry, candidates.find_candidates(registry.index, query, limit=1, nearest=3))
    assert (few[:2], len(few)) == (["parent", "child"], 1 + 1 + 3)  # beyond the limit those that come first in a kind


def test_one_layer_of_a_stranger_is_enough_for_a_vote(space: Any, parent: Any, registry: Registry) -> None:
    other = space.fresh(np.random.default_rng(9), layers=6)
    query = printed(space, {"text": other["text"].with_layer(4, parent["text"], 1)})
    assert names(registry, candidates.find_candidates(registry.index, query, nearest=0))[0] == "parent"


def nameless(model: Fingerprint) -> Fingerprint:
    """The same without any name: each tensor of family `mlp`, outside all layers, in an order that tells nothing."""
    order = np.random.default_rng(13).permutation(len(model.matrices))
    columns = {field: getattr(model.matrices, field)[order] for field in model.matrices.__struct_fields__ if field != "places"}
    matrices = Matrices(tuple(Place("text", -1, "mlp", f"tensor {at}") for at in range(len(order))), **columns)
    vectors = replace(model.vectors, places=tuple(Place("text", -1, "bias", f"vector {at}") for at in range(len(model.vectors))))
    return replace(model, matrices=matrices, vectors=vectors, about=replace(model.about, guessed=1.0, layers={}))


def voted(registry: Registry, query: Fingerprint) -> list[str]:
    return names(registry, candidates.find_candidates(registry.index, query, nearest=0))


def test_what_bears_no_name_is_found_by_what_it_holds(space: Any, parent: Any, registry: Registry) -> None:
    for cosine in (1.0, 0.9, 0.6):
        query = nameless(printed(space, space.child(np.random.default_rng(14), parent, cosine)))
        assert {rows.kind for rows in candidates.index_rows(query)} >= {"shaped", "contents"}
        assert voted(registry, query)[0] == "parent"
    strangers = [nameless(printed(space, space.fresh(np.random.default_rng(200 + at), layers=6))) for at in range(20)]
    assert [name for query in strangers for name in voted(registry, query)] == []


def test_equal_numbers_are_found_turned_round_too(space: Any, parent: Any, tmp_path: Path) -> None:
    """Turned matrices have other rows, so other sketches; their two digests are exchanged."""
    known = printed(space, parent, full=True)
    other = nameless(printed(space, space.fresh(np.random.default_rng(15), layers=6), full=True))
    with Registry.open(tmp_path / "registry.sqlite") as registry:
        registry.add("known", known)
        assert voted(registry, other) == []
        table = nameless(known).matrices
        turned = replace(other.matrices, rows=table.columns, columns=table.rows, numbers=table.numbers[:, ::-1])
        assert voted(registry, replace(other, matrices=turned)) == ["known"]


def test_nearest_without_a_vote_are_ordered_by_all_families_together(space: Any, registry: Registry) -> None:
    """A model that is a little near in two families comes before one that is a little nearer in one of them."""
    query = printed(space, space.fresh(np.random.default_rng(10), layers=6))
    scores = {"sum/attention": {1: 0.1, 2: 0.13}, "sum/mlp": {1: 0.1}}

    class Scripted:
        def search(self, kind: str, queries: Any, k: int) -> ranking.Hits:
            hits = scores.get(kind, {})
            nothing = np.full((1, len(hits)), -1)
            return ranking.Hits(np.array([[*hits]], int), nothing.astype(str), nothing, np.array([[*hits.values()]], np.float32))

        search_exact = search

        def models_of(self, revisions: Iterable[int]) -> dict[int, int]:
            return {number: number for number in revisions}

    assert candidates.find_candidates(Scripted(), query) == [1, 2]
    scores["sum/mlp"] = {}
    assert candidates.find_candidates(Scripted(), query) == [2, 1]


def test_a_question_about_some_models_is_answered_as_if_there_were_no_others(space: Any, parent: Any, registry: Registry) -> None:
    query = printed(space, space.child(np.random.default_rng(90), parent, 0.9))
    every = registry.store.numbers()
    child = registry.store.revisions_of(registry.store.get("child").model_id)
    for exact in (False, True):
        assert [one.model for one in registry.query(query, exact=exact, among=every).relatives][:2] == ["parent", "child"]
        answer = registry.query(query, exact=exact, among=[*child, *every[:3], 999])
        assert [one.model for one in answer.relatives] == ["child"]
        assert answer.registry.models == 4
        assert registry.query(query, exact=exact, among=every[:5]).relatives == ()
        assert registry.query(query, exact=exact, among=[]).relatives == ()
        assert registry.query(query, exact=exact, among=child, besides="child").relatives == ()


def test_of_some_models_chance_is_told_as_of_so_few(space: Any, parent: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    searched, judge = list[int](), registry.judge
    monkeypatch.setattr(registry._asking, "_judge", lambda count: searched.append(count) or judge(count))
    query = printed(space, space.child(np.random.default_rng(91), parent, 0.9))
    registry.query(query)
    assert set(searched) == {1, STRANGERS + 2}
    searched.clear()
    registry.query(query, among=registry.store.numbers()[-7:])
    assert set(searched) == {1, 7}


@pytest.mark.parametrize("chosen", [0, 7])
def test_a_declared_base_that_is_not_chosen_is_looked_at_too_and_counted(space: Any, parent: Any, registry: Registry, chosen: int) -> None:
    """Of no model searched chance would be said to do nothing: a stranger would have a p-value of nought."""
    among = registry.store.numbers()[:chosen]
    stranger = printed(space, space.fresh(np.random.default_rng(92), layers=6))
    says = [Claim("base_model", "parent", "README.md")]
    answer = registry.query(stranger, among=among, claims=says, show_all=True)
    (base,) = [one for one in answer.relatives if one.model == "parent"]
    (alone,) = registry.query(stranger, among=registry.store.revisions_of(registry.store.get("parent").model_id), show_all=True).relatives
    assert (base.relation, answer.examined.models, answer.registry.models) == ("unrelated", chosen + 1, chosen + 1)
    assert base.p_value >= alone.p_value > 1e-3
    assert answer.examined.same_lengths == ()


def test_many_revisions_of_one_model_do_not_hide_what_is_near_besides(space: Any, parent: Any) -> None:
    query, first, count = printed(space, parent), 200, 230

    class Scripted:
        """The first 200 of what is near are revisions of one model."""

        def search(self, kind: str, queries: Any, k: int) -> ranking.Hits:
            scores = np.tile(np.linspace(0.01, 0.001, count, dtype=np.float32), (len(queries), 1))
            revisions = np.tile(np.arange(1, count + 1), (len(queries), 1))
            nothing = np.zeros_like(revisions)
            return ranking.Hits(revisions, nothing, nothing, scores)

        search_exact = search

        def models_of(self, revisions: Iterable[int]) -> dict[int, int]:
            return {number: max(number, first) for number in revisions}

    wanted = [1, *range(first + 1, first + candidates.NEAREST)]
    assert candidates.find_candidates(Scripted(), query) == wanted


def test_all_shows_as_many_as_asked_for(space: Any, registry: Registry) -> None:
    query = printed(space, space.fresh(np.random.default_rng(11), layers=6))
    shown = registry.query(query, k=30, show_all=True).relatives
    assert len(shown) == 30
    assert {relative.relation for relative in shown} == {"unrelated"}


def test_the_index_finds_what_exact_search_finds(space: Any, parent: Any, registry: Registry) -> None:
    query = printed(space, space.child(np.random.default_rng(12), parent, 0.5))
    near, exact = registry.query(query), registry.query(query, exact=True)
    assert [relative.model for relative in near.relatives] == [relative.model for relative in exact.relatives] == ["parent", "child"]


# the benchmark's models


def test_the_zoo_has_the_cosines_it_says(zoo: Any) -> None:
    number = next(n for n in range(zoo.lone_from) if zoo.base_of(n) != n and not zoo.is_rearranged(n))
    ours, base = (zoo.model(n)["text"].layers for n in (number, zoo.base_of(number)))
    cosines = (ours * base).sum(-1) / np.linalg.norm(ours, axis=-1) / np.linalg.norm(base, axis=-1)
    assert cosines.mean() == pytest.approx(zoo.cosine_to_base(number), abs=0.03)
    assert zoo.fingerprint(number).to_bytes() == zoo.fingerprint(number).to_bytes()


# imports


def test_a_query_of_a_small_registry_imports_little(space: Any, parent: Any, registry: Registry, tmp_path: Path) -> None:
    """Neither torch nor what indexing, an index file or a migration needs: they take longer to import than the query takes."""
    written = tmp_path / "query.modelkin"
    printed(space, parent).save(written)
    arguments = ["query", str(written), "--registry", str(registry.store.path), "--quiet"]
    code = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); from modelkin_cli.main import main; main()"
    paths = os.pathsep.join(str(ROOT / part) for part in PARTS)
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert done.stdout.splitlines()[0] == "parent"
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "modelkin_registry.registry" in loaded
    assert not loaded & {"torch", "faiss", "sqlite_utils", "numpy.ma", "importlib.metadata", "modelkin_indexer.fingerprinting.indexing"}
