"""The compiled core never says noise of what the formulas would take for a table."""

from __future__ import annotations

from collections.abc import Iterator

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from modelkin_indexer.anatomy.constants import noise
from modelkin_indexer.anatomy.constants.fixed_tables import looks_fixed
from modelkin_indexer.anatomy.constants.formulas.rounding import rounding

Singles = npt.NDArray[np.float32]
SHAPES = ((64, 128), (33, 48), (100, 17), (5, 512), (24, 300), (8, 8), (1, 256))
NOISES = (0.0, 1e-3, 0.02, 0.1, 0.3, 1.0)


def tables(rows: int, columns: int, random: np.random.Generator) -> dict[str, Singles]:
    """Tables that formulas give, and others that lie near them."""
    at, index = np.arange(rows)[:, None], np.arange(columns)[None, :]
    angle = at * 10000.0 ** (-2 * (index // 2) / columns)
    walk = random.standard_normal((rows, columns)).cumsum(axis=1)
    return {
        "sinusoids": np.where(index % 2 == 0, np.sin(angle), np.cos(angle)),
        "waves along rows": np.cos(np.pi * (at + 0.5) * index / columns),
        "windowed": np.hanning(columns + 2)[1:-1] * np.cos((0.3 + at) * index * 3.1 / rows),
        "circles": np.concatenate([np.cos(at * (index + 1.0)), np.sin(at * (index + 1.0))], axis=1)[:, :columns],
        "smooth": np.exp(-(((index - at * columns / rows) / (0.2 * columns)) ** 2)),
        "steps": (index - at).astype(float),
        "causal": np.where(index <= at, 0.0, -1.0),
        "identity": (index == at).astype(float),
        "signs": np.sign(random.standard_normal((rows, columns))),
        "ternary": random.integers(-1, 2, (rows, columns)).astype(float),
        "kernels": np.repeat(random.standard_normal((2, columns)), rows, axis=0)[:rows],
        "same lines": np.broadcast_to(random.standard_normal(columns), (rows, columns)).copy(),
        "same columns": np.broadcast_to(random.standard_normal((rows, 1)), (rows, columns)).copy(),
        "constant": np.full((rows, columns), 0.25),
        "zeros": np.zeros((rows, columns)),
        "pruned": random.standard_normal((rows, columns)) * (random.random((rows, columns)) > 0.7),
        "walks": walk,
        "slow walks": walk.cumsum(axis=0),
        "heavy": random.standard_cauchy((rows, columns)),
        "one loud line": np.where(at == rows // 2, 1e4, 1.0) * random.standard_normal((rows, columns)),
        "one live line": np.where(at == rows // 2, 1.0, 0.0) * random.standard_normal((rows, columns)),
        "few waves": np.where(at % 8 == 0, random.standard_normal((rows, columns)), np.sin(at + index * 0.7)),
        "endless": np.where(index == at, np.inf, random.standard_normal((rows, columns))),
        "counted": random.permutation(rows * columns).reshape(rows, columns).astype(float),
    }


def cases() -> Iterator[tuple[str, Singles, npt.NDArray[np.int64]]]:
    random = np.random.default_rng(5)
    for rows, columns in SHAPES:
        for name, table in tables(rows, columns, random).items():
            spread = float(np.std(table[np.isfinite(table)])) or 1.0
            for level in NOISES:
                some = (table + level * spread * random.standard_normal(table.shape)).astype(np.float32)
                halves = some.astype(ml_dtypes.bfloat16).astype(np.float32)
                blocks = (np.arange(rows) // 4 * 100 + np.arange(rows) % 4).astype(np.int64)
                yield f"{name} {rows}x{columns}", some, np.arange(rows)
                yield f"{name} {rows}x{columns}, halves in blocks", halves, blocks


@pytest.mark.skipif(noise.CORE is None, reason="no compiled core here")
def test_what_is_proven_is_what_the_formulas_say(monkeypatch: pytest.MonkeyPatch) -> None:
    proven = [noise.surely_noise(rows, numbers, rounding(rows)) for _, rows, numbers in cases()]
    monkeypatch.setattr(noise, "CORE", None)
    wrong = [name for (name, rows, numbers), said in zip(cases(), proven, strict=True) if said and looks_fixed(rows, numbers)]
    assert wrong == []
    assert sum(proven) > len(proven) // 4


@pytest.mark.skipif(noise.CORE is None, reason="no compiled core here")
@pytest.mark.parametrize("spread", [1e-3, 1.0, 30.0])
def test_weights_are_proven_to_be_none(spread: float) -> None:
    random = np.random.default_rng(2)
    for rows, columns in ((64, 128), (64, 512), (16, 4096)):
        drawn = (spread * random.standard_normal((rows, columns))).astype(np.float32)
        for weights in (drawn, drawn.astype(ml_dtypes.bfloat16).astype(np.float32)):
            assert noise.surely_noise(weights[:, :512], np.arange(rows), rounding(weights))
            assert not looks_fixed(weights, np.arange(rows))


@pytest.mark.skipif(noise.CORE is None, reason="no compiled core here")
def test_buffers_of_other_sizes_are_refused() -> None:
    limits = np.array([*noise.LIMITS, 0.0, 0.0])
    rows, numbers = np.ones((4, 8), np.float32), np.arange(4)
    ragged = rows.ravel()[:27].copy()
    for wrong in ((rows[:0], numbers, limits), (rows, numbers[:0], limits), (ragged, numbers, limits), (rows, numbers, limits[:-1])):
        with pytest.raises(ValueError, match="sizes"):
            noise.CORE.noise(*wrong)
