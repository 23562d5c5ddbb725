"""Keyed projections: pure functions of the key and an index, with the invariances that matching needs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkin_indexer import sketch, spec
from modelkin_indexer.fingerprinting import channels
from modelkin_indexer.gram_vectors import without_leading
from modelkin_indexer.spec import PUBLIC_KEY, private_key

sizes = st.integers(1, 200_000)


@given(short=st.integers(1, 3000), long=st.integers(1, 3000))
def test_signs_of_a_longer_row_keep_their_prefix(short: int, long: int) -> None:
    shared = min(short, long)
    assert (sketch.signs(PUBLIC_KEY, "t", short, 16)[:shared] == sketch.signs(PUBLIC_KEY, "t", long, 16)[:shared]).all()


def test_signs_are_balanced_and_differ_by_purpose_and_key() -> None:
    first = sketch.signs(PUBLIC_KEY, "probe", 4096, 128)
    assert set(np.unique(first)) == {-1.0, 1.0}
    assert abs(first.mean()) < 0.01
    for other in (sketch.signs(PUBLIC_KEY, "gram", 4096, 128), sketch.signs(private_key(b"1" * 32), "probe", 4096, 128)):
        assert abs((first * other).mean()) < 0.01


@given(rows=sizes)
def test_rows_lie_in_the_matrix(rows: int) -> None:
    blocks = sketch.matrix_rows(PUBLIC_KEY, "mlp", "up", rows)
    chosen = [row for start, stop in blocks for row in range(start, stop)]
    assert len(chosen) == len(set(chosen)) == min(rows, spec.MATRIX_BLOCKS * spec.MATRIX_BLOCK_ROWS)
    assert min(chosen) >= 0
    assert max(chosen) < rows


@given(tokens=st.integers(spec.TOKEN_WINDOW, 300_000), added=st.integers(0, 100_000))
def test_a_grown_vocabulary_keeps_the_choice(tokens: int, added: int) -> None:
    assert sketch.token_rows(PUBLIC_KEY, tokens) == sketch.token_rows(PUBLIC_KEY, tokens + added)
    assert (sketch.anchor_tokens(PUBLIC_KEY, tokens) == sketch.anchor_tokens(PUBLIC_KEY, tokens + added)).all()


@given(experts=st.integers(1, 512), rows=st.integers(1, 20_000))
def test_expert_rows_lie_in_the_stack(experts: int, rows: int) -> None:
    for expert, start, stop in sketch.expert_rows(PUBLIC_KEY, "up", experts, rows):
        assert 0 <= expert < experts
        assert 0 <= start < stop <= rows


def gram(weights: np.ndarray, directions: np.ndarray, side: str) -> np.ndarray:  # type: ignore[type-arg]
    accumulator = channels.GramAccumulator(directions, side, weights.shape[1])
    for start in range(0, len(weights), 7):
        accumulator.add(start, weights[start : start + 7])
    accumulator.end_matrix()
    return channels.gram_vector(accumulator.total, directions)


@pytest.mark.parametrize("side", ["in", "out"])
def test_gram_does_not_see_the_order_or_rotation_of_the_other_side(side: str) -> None:
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((60, 48)).astype(np.float32)
    directions = sketch.signs(PUBLIC_KEY, "gram", 48 if side == "in" else 60, spec.DIRECTIONS)
    turned = np.linalg.qr(rng.standard_normal((60, 60)))[0] if side == "in" else np.linalg.qr(rng.standard_normal((48, 48)))[0]
    other = (turned @ weights if side == "in" else weights @ turned).astype(np.float32)
    assert gram(weights, directions, side) @ gram(other, directions, side) == pytest.approx(1, abs=1e-5)
    assert abs(gram(weights, directions, side) @ gram(rng.standard_normal((60, 48)).astype(np.float32), directions, side)) < 0.5


@pytest.mark.parametrize("tokens", [30, 200])
def test_token_frame_turns_with_the_stream(tokens: int) -> None:
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((tokens, 48)).astype(np.float32) * np.linspace(0.1, 2, 48, dtype=np.float32)
    turn = np.linalg.qr(rng.standard_normal((48, 48)))[0].astype(np.float32)
    frame, turned = channels.token_frame(rows, PUBLIC_KEY), channels.token_frame(rows @ turn, PUBLIC_KEY)
    assert np.abs(turn.T @ frame - turned).max() < 1e-3 * np.abs(frame).max()
    covariance = frame.T @ frame
    assert np.abs(covariance / covariance.diagonal().mean() - np.eye(spec.DIRECTIONS)).max() < 1


def test_distinct_share() -> None:
    rng = np.random.default_rng(3)
    values = rng.standard_normal((8, 1000)).astype(np.float32)
    assert channels.distinct_share(values) == 1
    assert channels.distinct_share(np.rint(values * 2) / 2) < 0.1
    assert channels.distinct_share(np.zeros((8, 100), np.float32)) == 1


def test_grams_that_share_one_direction_only_differ_without_it() -> None:
    random = np.random.default_rng(8)
    frame = random.standard_normal((256, spec.DIRECTIONS))
    lean = 0.5 * random.standard_normal(256)

    def gram(matrix: np.ndarray) -> np.ndarray:
        return channels.gram_vector((matrix @ frame).T @ (matrix @ frame), frame)

    weights = random.standard_normal((3, 512, 256)) + lean
    noised = weights[0] + 0.3 * random.standard_normal(weights[0].shape)
    before = np.stack([gram(one) for one in (*weights, noised)])
    assert before[0] @ before[1] > 0.8
    after = without_leading(before)
    after /= np.linalg.norm(after, axis=1, keepdims=True)
    assert abs(after[0] @ after[1]) < 0.4  # 4 sd of what is left
    assert abs(after[1] @ after[2]) < 0.4
    assert after[0] @ after[3] > 0.8


def test_a_gram_of_nothing_stays_nothing() -> None:
    assert not without_leading(np.zeros((2, spec.GRAM_NUMBERS), np.float16)).any()
