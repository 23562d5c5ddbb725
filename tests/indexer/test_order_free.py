"""A matrix is the same under another name, in another order, turned round, in parts and in another type; how the fingerprint shows it."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

import models
from modelkin_indexer import sketch, spec
from modelkin_indexer.fingerprinting import word_sums
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.fingerprinting.word_sums import Digests, WordSums
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import EXPERT_ROLES, Fingerprint
from modelkin_indexer.spec import PUBLIC_KEY

Singles = npt.NDArray[np.float32]
OWN = ("rows", "columns", "seen", "kurtosis", "column_spread", "row_spread", "scale", "probe", "top", "numbers", "blocks", "digest")


def written(folder: Path, tensors: dict[str, Singles], level: str = "full") -> Fingerprint:
    folder.mkdir(exist_ok=True)
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / "model.safetensors")
    return fingerprint_source(open_source(folder), level=level)


def own(found: Fingerprint) -> list[bytes]:
    """What a matrix says of itself, whatever its place: all of it, in an order of its own."""
    columns = [getattr(found.matrices, name) for name in OWN]
    return sorted(b"".join(np.ascontiguousarray(column[row]).tobytes() for column in columns) for row in range(len(found.matrices)))


def networks() -> dict[str, Singles]:
    """A language model, convolutions and an LSTM under the names of their libraries."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = {
            "features.0": torch.nn.Conv2d(3, 24, 3),
            "encoder.layer1.conv1": torch.nn.Conv2d(24, 40, 3),
            "encoder.layer1.depthwise": torch.nn.Conv1d(96, 96, 7, groups=96),
            "lstm": torch.nn.LSTM(20, 32, 2),
            "fc": torch.nn.Linear(32, 10),
        }
        state = {f"{name}.{key}": value.numpy().copy() for name, part in parts.items() for key, value in part.state_dict().items()}
    return models.llama(1, layers=2) | state


@pytest.mark.parametrize("level", spec.LEVELS)
def test_lost_names_change_nothing_of_a_matrix(tmp_path: Path, level: str) -> None:
    named = networks()
    lost = {f"constant.{number}.weight": value for number, value in enumerate(named[name] for name in sorted(named, key=hash))}
    before, after = written(tmp_path / "named", named, level), written(tmp_path / "lost", lost, level)
    assert len(before.matrices) == sum(value.ndim > 1 for value in named.values())
    assert own(before) == own(after)


def test_a_stack_and_its_single_experts(tmp_path: Path) -> None:
    """A single expert's matrix under a name that says nothing has what the stack keeps of this expert."""
    rng = np.random.default_rng(3)
    experts = rng.standard_normal((3, 4, 48, 64)).astype(np.float32)
    front = "model.layers.0.mlp.experts"
    stacked = {f"{front}.{e}.{role}_proj.weight": experts[n, e] for n, role in enumerate(("gate", "up")) for e in range(4)}
    stacked |= {f"{front}.{e}.down_proj.weight": experts[2, e].T for e in range(4)}
    mixture = written(tmp_path / "mixture", stacked)
    table = {place.role: row for row, place in enumerate(mixture.matrices.places)}
    for number, role in enumerate(("gate", "up", "down")):
        slot = EXPERT_ROLES.index(role)
        total = np.uint64(0)
        for expert in range(4):
            weights = experts[number, expert].T if role == "down" else experts[number, expert]
            alone = written(tmp_path / "alone", {"constant.weight": weights}).matrices
            folded = sketch.unit(sketch.folded(alone.probe[0].astype(float)))[0]
            kept = mixture.experts.sketch[expert, slot * spec.EXPERT_NUMBERS : (slot + 1) * spec.EXPERT_NUMBERS].astype(float)
            assert np.abs(folded - kept).max() < 2e-3
            assert mixture.experts.numbers[expert, slot] == alone.numbers[0, 0]
            with np.errstate(over="ignore"):
                total += alone.numbers[0, 0]
        assert total == mixture.matrices.numbers[table[role], 0]


def digests(matrix: Singles, cuts: int = 3) -> Digests:
    sums = WordSums(matrix.shape[1])
    for part in np.array_split(matrix, cuts):
        sums.add(np.ascontiguousarray(part))
    return sums.digests()


def drawn(rows: int, columns: int) -> Singles:
    return np.random.default_rng([rows, columns]).standard_normal((rows, columns)).astype(np.float32)


needs_core = pytest.mark.skipif(word_sums.CORE is None, reason="no C compiler was at hand when modelkin was installed")
shapes = st.integers(1, 40)


@needs_core
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (33, 17), (256, 100), (7, 5001)])
def test_the_compiled_form_adds_up_what_numpy_does(dtype: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    stored = (drawn(*shape) * 100).astype({"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}[dtype])
    found = []
    for core in (word_sums.CORE, None):
        monkeypatch.setattr(word_sums, "CORE", core)
        sums, room = WordSums(shape[1]), np.full(shape, np.nan, np.float32)
        for _ in range(2):
            block = sums.read(dtype, stored.reshape(-1).view(np.uint8), room)
        assert (block == stored.astype(np.float32)).all()
        found.append(sums.digests())
    for field in ("numbers", "blocks", "rows"):
        assert (getattr(found[0], field) == getattr(found[1], field)).all()


@needs_core
def test_the_compiled_form_refuses_buffers_of_other_sizes() -> None:
    words, sums = np.zeros((3, 4), np.uint16), np.zeros((3, 4), np.uint32)
    for singles, rows, columns in ((np.zeros(11, np.float32), 3, 4), (np.zeros(12, np.float32), 3, 5), (np.zeros(12, np.float32), 4, 4)):
        with pytest.raises(ValueError, match="sizes"):
            word_sums.CORE.add(words, singles, np.zeros(rows, np.uint16), np.zeros(columns, np.uint16))
    with pytest.raises(ValueError, match="sizes"):
        word_sums.CORE.add(sums, None, np.zeros(2, np.uint32), np.zeros(4, np.uint32))
    readonly = np.zeros(12, np.float32)
    readonly.setflags(write=False)
    with pytest.raises((ValueError, BufferError)):
        word_sums.CORE.add(words, readonly, np.zeros(3, np.uint16), np.zeros(4, np.uint16))


@given(rows=shapes, columns=shapes, seed=st.integers(0, 99))
def test_order_and_orientation_do_not_matter(rows: int, columns: int, seed: int) -> None:
    matrix, rng = drawn(rows, columns), np.random.default_rng(seed)
    numbers = digests(matrix).numbers
    shuffled = matrix[rng.permutation(rows)][:, rng.permutation(columns)]
    assert (digests(shuffled).numbers == numbers).all()
    assert (digests(matrix.T).numbers == numbers[::-1]).all()
    padded = np.pad(matrix, ((0, 3), (0, 5)))
    assert (digests(padded).numbers == numbers).all()


@given(rows=shapes, columns=shapes, at=st.integers(0, 1599))
def test_one_other_bit_is_other_numbers(rows: int, columns: int, at: int) -> None:
    matrix = drawn(rows, columns)
    other = matrix.copy()
    other.view(np.uint32).ravel()[at % matrix.size] ^= 1
    assert (digests(other).numbers != digests(matrix).numbers).all()


@given(rows=st.integers(2, 40), columns=shapes, cut=st.integers(1, 39))
def test_parts_add_up(rows: int, columns: int, cut: int) -> None:
    matrix, cut = drawn(rows, columns), min(cut, rows - 1)
    upper, lower = digests(matrix[:cut]), digests(matrix[cut:])
    with np.errstate(over="ignore"):
        assert upper.numbers[0] + lower.numbers[0] == digests(matrix).numbers[0]
        assert digests(matrix[:cut].T).numbers[1] + digests(matrix[cut:].T).numbers[1] == digests(matrix.T).numbers[1]
        assert digests(matrix).blocks[: spec.EIGHTHS].sum(dtype=np.uint64) == digests(matrix).numbers[0]


def test_halves_are_eighths_put_together() -> None:
    matrix = drawn(64, 12)
    blocks, gate = digests(matrix).blocks, digests(matrix[:32])
    assert blocks[:4].sum(dtype=np.uint64) == gate.numbers[0]
    assert blocks[:4].tolist() == [gate.blocks[n : n + 2].sum(dtype=np.uint64) for n in (0, 2, 4, 6)]


@pytest.mark.parametrize(("rows", "grown"), [(1000, 1020), (1000, 1040), (1024, 1025), (300, 500), (5, 7)])
def test_a_grown_table_keeps_the_digest_of_its_first_rows(rows: int, grown: int) -> None:
    table = drawn(grown, 16)
    before, after = digests(table[:rows]).blocks[spec.EIGHTHS :], digests(table).blocks[spec.EIGHTHS :]
    assert set(before.tolist()) & set(after.tolist())


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_stored_types_of_equal_values_have_equal_numbers(tmp_path: Path, dtype: type) -> None:
    rounded = {k: v.astype(dtype).astype(np.float32) for k, v in models.llama(1, layers=1).items()}
    single, short = (models.fingerprint(tmp_path / "t", rounded, dtype=stored).matrices for stored in (np.float32, dtype))
    for column in ("numbers", "blocks"):
        assert (getattr(single, column) == getattr(short, column)).all()
    assert not (single.digest == short.digest).all()


def test_probe_level_has_none(tmp_path: Path) -> None:
    found = models.fingerprint(tmp_path / "p", models.llama(1, layers=1), level="probe")
    assert found.matrices.numbers.shape == found.matrices.blocks.shape == (len(found.matrices), 0)
    assert found.matrices.top.tolist() == [
        sketch.top_block(PUBLIC_KEY, rows, columns) for rows, columns in zip(found.matrices.rows, found.matrices.columns, strict=True)
    ]
