"""Who knows a key can hide a copy from it, and make a stranger show it what he likes; under a key unknown to him he can do neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.hostile.adversary import TENFOLD, learned, told
from benchmarks.hostile.attacks import Tensors, framing, hidden, noised, pieces_of, read, relative_change, rows_drawn
from modelkin_indexer.places import Piece
from modelkin_indexer.spec import LEVELS, PUBLIC_KEY, private_key
from modelkin_registry.answers.parts import NOT_EXAMINED, RELATED
from modelkin_registry.answers.relations import RELATIONS
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.explanation.compare import compare_fingerprints
from modelkin_registry.explanation.parts import FORGEABLE
from modelkin_registry.registry import Registry

WIDTH, SECRET = 128, private_key(bytes(range(32)))
BARELY = 0.3  # relative change that hides a model of this width at level full; wider ones take less


def is_descent(relation: str) -> bool:
    return relation in RELATIONS and RELATIONS[relation].descent


@pytest.fixture(scope="module")
def original() -> Tensors:
    return learned(WIDTH, 1, layers=2)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory, original: Tensors) -> list[Piece]:
    return pieces_of(tmp_path_factory.mktemp("pieces"), original)


@pytest.mark.parametrize("level", LEVELS)
def test_a_copy_hides_from_the_known_key_alone(tmp_path: Path, original: Tensors, pieces: list[Piece], level: str) -> None:
    copy = hidden(original, pieces, PUBLIC_KEY, level, 5)
    change = relative_change(copy, original)
    assert 0 < change < BARELY
    assert not is_descent(told(read(tmp_path, copy, PUBLIC_KEY, level), read(tmp_path, original, PUBLIC_KEY, level)))
    for changed in (copy, noised(original, TENFOLD * change, 6)):
        assert is_descent(told(read(tmp_path, changed, SECRET, level), read(tmp_path, original, SECRET, level)))


@pytest.mark.parametrize("level", LEVELS)
def test_a_stranger_is_framed_under_the_known_key_alone(tmp_path: Path, original: Tensors, pieces: list[Piece], level: str) -> None:
    stranger = learned(WIDTH, 2, layers=2)
    fake = framing(original, stranger, pieces, PUBLIC_KEY, level)
    assert relative_change(fake, stranger) < BARELY
    # what the key looks at is the same, so that no answer under it can tell: it says what it is worth
    known, shown = (read(tmp_path, one, PUBLIC_KEY, level) for one in (original, fake))
    assert is_descent(told(known, shown))
    said = compare_fingerprints(known, shown, a_name="innocent", b_name="fake", controls={}, judge=ALONE).warnings
    assert any("anybody can know which rows" in one or one == FORGEABLE for one in said)
    hidden_from = [read(tmp_path, one, SECRET, level) for one in (original, fake)]
    assert not is_descent(told(*hidden_from))


def test_rows_that_contradict_each_other_are_not_nothing_found(tmp_path: Path, pieces: list[Piece]) -> None:
    """Where a private key samples half of the rows that were drawn anew for the known one, nothing but level full can tell."""
    number = 48  # of the benchmark's pairs one of which this is so
    original, secret = learned(WIDTH, 10 * number), private_key(np.random.default_rng(10 * number).bytes(32))
    copy = rows_drawn(original, pieces, PUBLIC_KEY, 10 * number + 2)
    for level, verdict in (("probe", NOT_EXAMINED), ("full", RELATED)):
        with Registry.open(tmp_path / f"{level}.db", key_name=secret.name) as registry:
            registry.add("original", read(tmp_path, original, secret, level))
            registry.add("stranger", read(tmp_path, learned(WIDTH, 5), secret, level))
            answer = registry.query(read(tmp_path, copy, secret, level), source="copy")
            assert answer.verdict == verdict
            assert answer.examined is not None
            assert answer.examined.doubtful == (("original",) if level == "probe" else ())
            assert answer.explanation[0].startswith("copy was not examined to the end: some of the rows") == (level == "probe")
            fingerprints = [read(tmp_path, one, secret, level) for one in (copy, original)]
        compared = compare_fingerprints(*fingerprints, a_name="copy", b_name="original", controls={}, judge=ALONE)
        assert compared.verdict == verdict
        assert compared.explanation[0] in answer.explanation[0] or level == "full"


def test_what_rests_on_the_public_key_says_so(tmp_path: Path, original: Tensors) -> None:
    changed = noised(original, 0.1, 3)
    for key, level, doubted in ((PUBLIC_KEY, "full", True), (PUBLIC_KEY, "probe", False), (SECRET, "full", False)):
        with Registry.open(tmp_path / f"{key.name}-{level}.db", key_name=key.name) as registry:
            registry.add("original", read(tmp_path, original, key, level))
            answers = [registry.query(read(tmp_path, one, key, level)) for one in (original, changed)]
        relations = [answer.relatives[0].relation for answer in answers]
        assert relations[0] == "identical"
        assert is_descent(relations[1])
        assert relations[1] != "identical"
        assert [FORGEABLE in answer.warnings for answer in answers] == [False, doubted]
