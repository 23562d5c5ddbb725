"""Keyed projections: pure functions of the key and an index, with the invariances that matching needs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkin_indexer import sketch, spec
from modelkin_indexer.fingerprinting import channels, grams
from modelkin_indexer.gram_vectors import without_leading
from modelkin_indexer.spec import PUBLIC_KEY, Key, private_key

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


@given(rows=sizes, columns=sizes)
def test_rows_lie_in_the_matrix_and_each_has_a_slot(rows: int, columns: int) -> None:
    blocks = sketch.chosen_rows(PUBLIC_KEY, rows, columns)
    chosen = [row for block in blocks for row in range(block.start, block.stop)]
    filled = [slot for block in blocks for slot in range(block.slot, block.slot + block.stop - block.start)]
    slots = sketch.slots(rows, columns)
    assert len(chosen) == len(set(chosen)) == len(set(filled)) == min(rows, slots) == sketch.sampled_rows(rows, columns)
    assert min(chosen) >= 0
    assert max(chosen) < rows
    assert max(filled) < slots
    assert len(blocks) <= (spec.TALL_BLOCKS if sketch.is_tall(rows, columns) else spec.MATRIX_BLOCKS)


def slot_rows(rows: int, columns: int) -> dict[int, int]:
    """The row in each slot."""
    blocks = sketch.chosen_rows(PUBLIC_KEY, rows, columns)
    return {block.slot + n: block.start + n for block in blocks for n in range(block.stop - block.start)}


@given(tokens=st.integers(2 * spec.TOKEN_WINDOW, 300_000), added=st.integers(0, 100_000))
def test_a_grown_vocabulary_keeps_the_choice(tokens: int, added: int) -> None:
    assert slot_rows(tokens, 64) == slot_rows(tokens + added, 64)
    assert (sketch.anchor_tokens(PUBLIC_KEY, tokens) == sketch.anchor_tokens(PUBLIC_KEY, tokens + added)).all()


@given(rows=st.integers(64, 5000), added=st.integers(0, 200), columns=st.sampled_from([8, 100_000]))
def test_a_small_table_that_grows_keeps_most_rows_in_their_slots(rows: int, added: int, columns: int) -> None:
    """Whatever power of two it passes; and what both hold is what `shared_numbers` says."""
    before, after = slot_rows(rows, columns), slot_rows(rows + added, columns)
    kept = [slot for slot in before if after.get(slot) == before[slot]]
    tops = [(count, sketch.top_block(PUBLIC_KEY, count, columns)) for count in (rows, rows + added)]
    shared = sketch.shared_numbers(tops[0], tops[1], columns)
    width = spec.PROBE_NUMBERS // sketch.slots(rows, columns)
    assert sorted(kept) == sorted(set((np.flatnonzero(shared) // width).tolist()))
    if added < rows / 6:
        assert len(kept) >= (24 if columns == 8 else 4)


@given(small=st.integers(1, 4096), added=st.integers(0, 40))
def test_anchors_of_a_small_vocabulary_that_grows_hardly_change(small: int, added: int) -> None:
    before, after = (set(sketch.anchor_tokens(PUBLIC_KEY, rows).tolist()) for rows in (small, small + added))
    assert len(before) == min(small, spec.ANCHOR_TOKENS)
    assert len(before - after) <= added


@given(experts=st.integers(2, 512), rows=st.integers(1, 20_000))
def test_expert_rows_lie_in_the_stack(experts: int, rows: int) -> None:
    for block in sketch.chosen_rows(PUBLIC_KEY, rows, 64, experts):
        assert 0 <= block.expert < experts
        assert 0 <= block.start < block.stop <= rows


def gram(weights: np.ndarray, directions: np.ndarray, side: str) -> np.ndarray:  # type: ignore[type-arg]
    accumulator = grams.GramAccumulator(directions, side, weights.shape[1])
    for start in range(0, len(weights), 7):
        accumulator.add(start, weights[start : start + 7])
    accumulator.end_matrix()
    return grams.gram_vector(accumulator.total, directions)


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
    frame, turned = (channels.token_frame(some, np.arange(tokens), PUBLIC_KEY) for some in (rows, rows @ turn))
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
        return grams.gram_vector((matrix @ frame).T @ (matrix @ frame), frame)

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


@pytest.mark.parametrize("key", [PUBLIC_KEY, private_key(bytes(range(32)))])
def test_many_keyed_numbers_are_those_asked_for_one_by_one(key: Key) -> None:
    assert sketch._uniforms(key, "anchor", 1200).tolist() == [sketch.uniform(key, "anchor", number) for number in range(1200)]
