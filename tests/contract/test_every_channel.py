"""What holds of every channel in the table: its cases come from there, so that a new one cannot be left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import models
from modelkin_data.backgrounds import between_models
from modelkin_indexer.results.channels import CHANNELS, NEURONS, STREAM, TABLE, Channel
from modelkin_indexer.results.fingerprint import Fingerprint, Matrices, from_bytes
from modelkin_registry.evidence.nulls import sketch_noise
from modelkin_registry.evidence.places import INFORMATIVE

every_channel = pytest.mark.parametrize("channel", TABLE, ids=CHANNELS)
# Changes that leave a model what it is, and the roles whose numbers they move.
MOVES: dict[str, Callable[[models.Tensors, int], models.Tensors]] = {NEURONS: models.neurons_permuted, STREAM: models.channels_permuted}
SEEN = 0.5  # r of a moved matrix in a channel that sees the move stays below: strangers' is near 0, a part may stay in its place
STILL = 0.99  # and in a channel that is blind to it reaches this


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fingerprint]:
    """A model at both levels, and after each move."""
    folder, tensors = tmp_path_factory.mktemp("channels"), models.gains_folded(models.llama(1))
    found = {level: models.fingerprint(folder / level, tensors, level=level, dtype=np.float32) for level in ("probe", "full")}
    for at, (what, move) in enumerate(MOVES.items()):
        found[what] = models.fingerprint(folder / str(at), move(tensors, 2), dtype=np.float32)
    return found


def test_each_is_a_column_and_a_move_is_known_of_each_that_they_are_blind_to() -> None:
    assert set(CHANNELS) <= set(Matrices.__struct_fields__)
    assert {what for channel in TABLE for what in channel.blind_to} == set(MOVES)


@every_channel
def test_it_is_as_wide_as_it_says_at_its_level(channel: Channel, made: dict[str, Fingerprint]) -> None:
    for level in ("probe", "full"):
        read = from_bytes(made[level].to_bytes())
        width = 0 if channel.full and level == "probe" else channel.numbers
        assert getattr(read.matrices, channel.name).shape == (len(read.matrices.places), width)
        assert read.matrices.sketches[channel.name][0].shape[1] == width


@every_channel
def test_it_has_a_null_and_a_background(channel: Channel) -> None:
    assert 0 < channel.free <= channel.numbers
    assert sketch_noise(channel.name, 10**6) == pytest.approx(channel.free**-0.5, rel=0.01)
    for family in INFORMATIVE:
        assert 0 <= between_models(family, channel.name) < channel.least_r


@every_channel
@pytest.mark.parametrize("what", MOVES)
def test_it_is_blind_to_what_it_says_and_to_nothing_else(channel: Channel, what: str, made: dict[str, Fingerprint]) -> None:
    ours, theirs = (one.matrices for one in (made["full"], made[what]))
    assert ours.places == theirs.places
    inside = [at for at, place in enumerate(ours.places) if place.family == "mlp" and place.role == "down"]
    (x, long), (y, other) = (one.sketches[channel.name] for one in (ours, theirs))
    r = np.einsum("ij,ij->i", x, y)[inside] / (long * other)[inside]
    assert r.min() >= STILL if what in channel.blind_to else r.max() <= SEEN, r
