"""Where leading relatives are equally near, the one in the middle of the others comes first; nothing else moves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import models
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.registry import Registry
from modelkin_registry.relations.pairs import hold
from modelkin_registry.search.ties import middle_first

NOISE = 1.2  # beside the spread of the weights
CHILDREN = ("a child", "b child", "c child")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fingerprint]:
    """A parent, three children of it, and a grandchild."""
    folder, parent = tmp_path_factory.mktemp("ties"), models.llama(1)
    tensors = {"parent": parent, **{name: models.trained_on(parent, seed, 0.02) for seed, name in enumerate(CHILDREN, 2)}}
    tensors["of a"] = models.trained_on(tensors["a child"], 9, 0.02)
    return {name: models.fingerprint(folder / name, value) for name, value in tensors.items()}


def asked(query: Fingerprint, known: dict[str, Fingerprint], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Relatives by closeness alone, and as they are told."""
    found = {name: hold(query, known[name], name, ALONE) for name in names}
    kin = sorted((held.kin() for held in found.values()), key=lambda one: -one.closeness)
    before = [one.relative for one in kin]
    return [one.model for one in before], [one.model for one in middle_first(before, found.values(), ALONE)]


def test_of_a_tie_the_common_ancestor_comes_first(known: dict[str, Fingerprint], tmp_path: Path) -> None:
    """Noise larger than the weights leaves all candidates about equally near; which is the nearest then is chance."""
    by_chance, by_middle = 0, 0
    for seed in range(8):
        query = models.fingerprint(tmp_path / "query", models.noised(models.llama(1), 100 + seed, NOISE))
        before, after = asked(query, known, list(known))
        assert after[1:] == [name for name in before if name != after[0]]
        by_chance, by_middle = by_chance + (before[0] == "parent"), by_middle + (after[0] == "parent")
    assert by_chance <= 4
    assert by_middle >= 6


def test_what_is_nearer_stays_first(known: dict[str, Fingerprint], tmp_path: Path) -> None:
    """A child of a child, of a merge's parents and of a copy: the difference is no error of measurement."""
    before, after = asked(known["of a"], known, ("parent", *CHILDREN))
    assert after == before
    assert after[0] == "a child"
    copy = models.fingerprint(tmp_path / "copy", models.trained_on(models.llama(1), 2, 0.02))
    assert asked(copy, known, ("parent", *CHILDREN))[1][0] == "a child"


def test_of_two_neither_is_in_the_middle(known: dict[str, Fingerprint], tmp_path: Path) -> None:
    for seed in range(4):
        query = models.fingerprint(tmp_path / "query", models.noised(models.llama(1), 100 + seed, NOISE))
        before, after = asked(query, known, ("parent", "a child"))
        assert after == before


def test_a_query_tells_the_one_in_the_middle_first(known: dict[str, Fingerprint], tmp_path: Path) -> None:
    with Registry.open(tmp_path / "r.db") as registry:
        for name, fingerprint in known.items():
            registry.add(name, fingerprint)
        for seed in range(4):
            query = models.fingerprint(tmp_path / "query", models.noised(models.llama(1), 100 + seed, NOISE))
            told = [one.model for one in registry.query(query).relatives]
            assert told == asked(query, known, list(known))[1]
