"""Models whose names tell nothing, in other coordinates: found by their readings; of strangers no pair is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from msgspec.structs import replace

import models
from benchmarks.hostile import transforms
from benchmarks.hostile.transforms import Net, Transform
from modelkin_indexer import spec
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.parts import NOT_EXAMINED, NOTHING_FOUND
from modelkin_registry.answers.relations import is_descent
from modelkin_registry.counterparts.matching import matched
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.registry import Registry
from modelkin_registry.relations.pairs import measure_kin
from modelkin_registry.search.candidates import find_candidates, index_rows
from modelkin_registry.store.rows import encode

LAYERS, TOKENS = 4, 512
LETTERS = "abcdefghijklmnopqrstuvwxyz"
Printed = Callable[[Net | models.Tensors], Fingerprint]


def net(seed: int) -> Net:
    tensors = {name: values[:TOKENS] if len(values) == models.VOCABULARY else values for name, values in models.llama(seed, LAYERS).items()}
    return Net(tensors, {**models.CONFIG, "num_hidden_layers": LAYERS, "vocab_size": TOKENS}, None)


def shuffled(tensors: models.Tensors, seed: int = 5) -> models.Tensors:
    """The same tensors under random letters, in another order."""
    random = np.random.default_rng(seed)
    named = {"".join(random.choice(list(LETTERS), 12)): values for values in tensors.values()}
    return dict(sorted(named.items()))


@pytest.fixture
def printed(tmp_path: Path) -> Printed:
    """A fingerprint of level full: of a model's folder, or of tensors alone."""

    def make(of: Net | models.Tensors) -> Fingerprint:
        if isinstance(of, Net):
            return models.fingerprint(tmp_path / "named", of.tensors, dtype=np.float32)
        path = tmp_path / "nameless.safetensors"
        safetensors.numpy.save_file({name: np.ascontiguousarray(values) for name, values in of.items()}, path)
        return fingerprint_source(open_source(path))

    return make


def test_a_model_with_names_has_no_readings(printed: Printed) -> None:
    found = printed(net(1))
    assert found.matrices.readings.shape == (len(found.matrices), 0)
    assert b"matrices.readings" not in found.to_bytes()


def test_the_right_reading_is_what_names_would_have_told(printed: Printed) -> None:
    model = net(1)
    named, nameless = printed(model), printed(shuffled(transforms.untied(model).tensors))
    assert nameless.matrices.readings.shape[1] == 2 * 2 * spec.GRAM_NUMBERS  # two tables, two sides
    assert (fingerprints.from_bytes(nameless.to_bytes()).matrices.readings == nameless.matrices.readings).all()
    rows = {digest.tobytes(): row for row, digest in enumerate(named.matrices.digest)}
    readings = nameless.matrices.readings.reshape(len(nameless.matrices), -1, spec.GRAM_NUMBERS).astype(float)
    for row, digest in enumerate(nameless.matrices.digest):
        told = named.matrices.anchored[rows[digest.tobytes()]].astype(float)
        if told.any():
            lengths = np.maximum(np.linalg.norm(readings[row], axis=1), 1e-9)
            assert (readings[row] @ told / lengths).max() > 0.9  # gains are not folded in


@pytest.mark.parametrize("turn", [transforms.rotated, transforms.channels_permuted, transforms.signs_flipped])
@pytest.mark.parametrize("also", [(), (transforms.neurons_permuted, transforms.heads_permuted)])
def test_a_copy_in_other_coordinates_is_found_without_names(printed: Printed, turn: Transform, also: tuple[Transform, ...]) -> None:
    moved, random = net(1), np.random.default_rng(7)
    for step in (turn, *also):
        moved = step(moved, random)
    original, copy = printed(net(1)), printed(shuffled(moved.tensors))
    for query, relative in ((copy, original), (original, copy)):
        found = measure_kin(query, relative, "other", ALONE).relative
        assert (found.relation, is_descent(found)) == ("reparameterised", True)
        assert found.compared > 0.95


def test_matrices_that_are_stored_the_other_way_round_are_found_too(printed: Printed) -> None:
    moved = transforms.rotated(net(1), np.random.default_rng(7))
    stored = {name: values.T if values.ndim == 2 and name not in transforms.TABLES else values for name, values in moved.tensors.items()}
    found = measure_kin(printed(shuffled(stored)), printed(net(1)), "other", ALONE).relative
    assert (found.relation, is_descent(found)) == ("reparameterised", True)


def test_a_model_without_names_keeps_the_budget(printed: Printed) -> None:
    """As one with names: 320 KB for 32 layers, rows to search by among it."""
    random = np.random.default_rng(1)
    deep = models.with_layers(models.llama(1, layers=1), [0] * 32)
    found = printed(shuffled({name: (v + 0.01 * random.standard_normal(v.shape)).astype(np.float32) for name, v in deep.items()}))
    assert len(found.to_bytes()) + sum(encode(rows).data.nbytes for rows in index_rows(found)) <= 320 << 10


def test_it_is_among_the_candidates_of_a_search(printed: Printed, tmp_path: Path) -> None:
    moved = transforms.rotated(net(1), np.random.default_rng(7))
    with Registry.open(tmp_path / "r.db") as registry:
        for seed in (1, 2, 3):
            registry.add(f"model-{seed}", printed(net(seed)))
        asked = printed(shuffled(moved.tensors))
        voted = registry.store.names_of(find_candidates(registry.index, asked, nearest=0))
        assert "model-1" in voted.values()
        answer = registry.query(asked, source="copy")
        assert [one.model for one in answer.relatives if is_descent(one)] == ["model-1"]


def test_of_strangers_no_pair_is_made(printed: Printed) -> None:
    named = [printed(net(seed)) for seed in range(1, 5)]
    nameless = [printed(shuffled(transforms.rotated(net(seed), np.random.default_rng(seed)).tensors)) for seed in range(11, 15)]
    for ours in nameless:
        for theirs in named:
            assert not matched(ours, theirs, ALONE)
            assert not is_descent(measure_kin(ours, theirs, "other", ALONE).relative)


def test_with_its_tokens_in_another_order_it_is_not_examined(printed: Printed, tmp_path: Path) -> None:
    random = np.random.default_rng(7)

    def uneven(seed: int) -> Net:
        sizes, of = np.random.default_rng(seed), net(seed)
        return of.of({name: values * np.float32(sizes.uniform(0.8, 1.2)) for name, values in of.tensors.items() if values.ndim == 2})

    moved = transforms.vocabulary_moved(transforms.rotated(uneven(1), random), random)
    with Registry.open(tmp_path / "r.db") as registry:
        for seed in (1, 2, 3):
            registry.add(f"model-{seed}", printed(uneven(seed)))
        answer = registry.query(printed(shuffled(moved.tensors)), source="moved")
        assert answer.examined is not None
        assert (answer.verdict, answer.examined.same_lengths) == (NOT_EXAMINED, ("model-1",))
        stranger = registry.query(printed(shuffled(uneven(9).tensors)), source="stranger")
        assert stranger.verdict == NOTHING_FOUND


def test_forged_readings_are_refused(printed: Printed) -> None:
    found = printed(shuffled(net(1).tensors))
    wide = replace(found.matrices, readings=found.matrices.readings[:, :100])
    with pytest.raises(fingerprints.FingerprintError, match="readings"):
        fingerprints.from_bytes(replace(found, matrices=wide).to_bytes())


def test_without_a_residual_stream_there_is_nothing_to_read(printed: Printed) -> None:
    random = np.random.default_rng(1)
    tensors = {f"x{n}": random.standard_normal((400, 20)).astype(np.float32) for n in range(4)}
    assert not printed(tensors).matrices.readings.size
