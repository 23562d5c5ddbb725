"""A hundred fingerprints planted around a query hide no relative of it, whether they are a little like each other or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import models
from benchmarks.hostile.poison import COSINES, SHARED, planted
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.relations import is_descent
from modelkin_registry.registry import Registry
from modelkin_registry.search import candidates

PLANTED = 100


@pytest.fixture(scope="module")
def query(tmp_path_factory: pytest.TempPathFactory) -> Fingerprint:
    """Of a child that was trained on so far that it agrees with its parent at 0.6."""
    return models.fingerprint(tmp_path_factory.mktemp("query"), models.trained_on(models.llama(1, 4), 5, 1.0))


@pytest.mark.parametrize("alike", [False, True])
def test_what_is_planted_is_as_like_as_it_says(query: Fingerprint, alike: bool) -> None:
    made = [fingerprints.from_bytes(planted(query, 0, number, alike=alike).to_bytes()) for number in range(30)]
    probes = [one.matrices.probe.astype(np.float64).ravel() for one in made]
    with_query = [float(probe @ query.matrices.probe.astype(np.float64).ravel()) / len(query.matrices) for probe in probes]
    np.testing.assert_allclose(np.reshape(with_query, (-1, 3)).mean(0), COSINES, atol=0.02)
    among = np.mean([probes[a] @ probes[b] for a in range(30) for b in range(a)]) / len(query.matrices)
    assert among == pytest.approx(np.mean(COSINES) ** 2 + (SHARED if alike else 0.0), abs=0.02)


@pytest.mark.parametrize("alike", [False, True])
def test_a_distant_parent_is_found_among_them(query: Fingerprint, tmp_path: Path, alike: bool) -> None:
    with Registry.open(tmp_path / "r.db") as registry:
        registry.add("parent", models.fingerprint(tmp_path / "parent", models.llama(1, 4)))
        assert [one.model for one in registry.query(query).relatives if is_descent(one)] == ["parent"]
        with registry.store.batch():
            for number in range(PLANTED):
                registry.add(f"planted-{number}", planted(query, 0, number, alike=alike))
        assert "parent" in [one.model for one in registry.query(query).relatives if is_descent(one)]


def test_what_one_family_alone_came_from_is_not_crowded_out(tmp_path: Path) -> None:
    """Its single vote is less than those of a hundred models that are a little like all of the query, and nearer than theirs."""
    donor, body = models.llama(1, 4), models.llama(2, 4)
    child = models.fingerprint(tmp_path / "child", body | {"model.embed_tokens.weight": donor["model.embed_tokens.weight"]})
    with Registry.open(tmp_path / "r.db") as registry:
        registry.add("donor", models.fingerprint(tmp_path / "donor", donor))
        with registry.store.batch():
            for number in range(PLANTED):
                registry.add(f"planted-{number}", planted(child, 3, number, alike=False))
        found = registry.store.names_of(candidates.find_candidates(registry.index, child, nearest=0))
        assert len(found) <= candidates.SEARCHED + 12 * candidates.FIRST
        assert "donor" in found.values()
