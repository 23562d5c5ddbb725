"""What a seed or a formula gives to anybody, in forms that look learned: norms beside weights, biases, one table in every layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import CompareAnswer
from modelkin_registry.answers.relations import DESCENT_FREE
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.explanation.compare import compare_fingerprints

Tensors = dict[str, npt.NDArray[np.float32]]
Ask = Callable[..., CompareAnswer]
LEVELS = ("full", "probe")
WIDTH = 64


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """What `compare` says of two sets of tensors."""

    def printed(name: str, tensors: Tensors, level: str) -> Fingerprint:
        path = tmp_path / f"{name}.safetensors"
        safetensors.numpy.save_file({key: np.ascontiguousarray(value, np.float32) for key, value in tensors.items()}, path)
        source = open_source(path)
        try:
            return fingerprint_source(source, level=level)
        finally:
            source.close()

    def asked(a: Tensors, b: Tensors, level: str) -> CompareAnswer:
        return compare_fingerprints(printed("a", a, level), printed("b", b, level), a_name="a", b_name="b", controls={}, judge=ALONE)

    return asked


def trained(start: Tensors, seed: int, size: float = 0.3) -> Tensors:
    """A start after a run of its own: a few directions in every matrix, and vectors that hardly moved."""
    rng, out = np.random.default_rng(seed), {}
    for name, value in start.items():
        flat = value.reshape(len(value), -1)
        if value.ndim == 1:
            out[name] = value + 0.002 * float(np.abs(value).mean()) * rng.standard_normal(value.shape)
        else:
            moved = rng.standard_normal((len(flat), 4)) @ rng.standard_normal((4, flat.shape[1])) / 2
            out[name] = value + (size * float(flat.std()) * moved).reshape(value.shape)
    return out


def drawn(seed: int, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """As torch draws weights and biases: evenly, by the number of inputs."""
    bound = 1 / np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else WIDTH)
    return np.random.default_rng(seed).uniform(-bound, bound, shape)


def normalised(seed: int, names: tuple[str, str], layers: int = 6) -> Tensors:
    """A start whose weights are normalised: each matrix beside the norms of its rows."""
    out: Tensors = {}
    for layer in range(layers):
        value = drawn(seed + layer, (WIDTH, WIDTH, 3))
        out[f"body.{layer}.{names[0]}"] = np.sqrt((value**2).sum((1, 2)))
        out[f"body.{layer}.{names[1]}"] = value
        out[f"body.{layer}.bias"] = drawn(seed + 50 + layer, (WIDTH,))
    return out


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "names", [("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"), ("a", "b")]
)
def test_norms_that_weight_normalisation_stores_are_part_of_the_start(ask: Ask, names: tuple[str, str], level: str) -> None:
    start = normalised(1, names)
    assert ask(trained(start, 11), trained(start, 12), level).relation in DESCENT_FREE


@pytest.mark.parametrize("level", LEVELS)
def test_what_was_trained_on_under_weight_normalisation_is_found(ask: Ask, level: str) -> None:
    parent = trained(normalised(1, ("weight_g", "weight_v")), 11, size=1.0)
    assert ask(trained(parent, 12, size=0.1), parent, level).relation not in DESCENT_FREE


@pytest.mark.parametrize("level", LEVELS)
def test_a_frozen_draw_with_drawn_biases_is_no_part_reused(ask: Ask, level: str) -> None:
    """The target of a distillation that nobody trains, from a public seed, in two models of their own."""
    sides = []
    for seed in (11, 12):
        frozen = {
            f"encoder.layers.{i}.{n}": drawn(70 + i, s) for i in range(3) for n, s in (("weight", (WIDTH, WIDTH)), ("bias", (WIDTH,)))
        }
        own = {f"decoder.layers.{i}.{n}": drawn(i, s) for i in range(3) for n, s in (("weight", (WIDTH, WIDTH)), ("bias", (WIDTH,)))}
        sides.append({**frozen, **trained(trained(own, seed, 2.0), seed + 5, 2.0)})
    assert ask(*sides, level).relation in DESCENT_FREE


def shift(width: int) -> npt.NDArray[np.float64]:
    return np.diag(np.ones(width - 1), 1)


def legendre(width: int) -> npt.NDArray[np.float64]:
    """The state matrix of a Legendre memory (Gu et al. 2020, HiPPO)."""
    i = np.arange(width)
    return -np.tril(np.sqrt(2 * i[:, None] + 1) * np.sqrt(2 * i[None] + 1), -1) / width - np.diag(i + 1.0) / width


def structured(table: npt.NDArray[np.float64]) -> list[Tensors]:
    """Two models that start from this table in every layer and are their own in all else."""
    sides = []
    for seed in (21, 22):
        body = trained({f"hidden.{i}.weight": table for i in range(5)}, seed, size=0.25)
        ends = trained({"inp.weight": drawn(seed, (WIDTH, 48)), "out.weight": drawn(seed + 9, (8, WIDTH))}, seed + 3)
        sides.append({**body, **ends})
    return sides


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("table", [shift, legendre])
def test_a_table_that_every_layer_started_from_is_one_piece_of_evidence(
    ask: Ask, table: Callable[[int], npt.NDArray[np.float64]], level: str
) -> None:
    sides = structured(table(WIDTH))
    assert ask(*sides, level).relation in DESCENT_FREE
    child = trained(sides[0], 31, size=0.05)
    assert ask(child, sides[0], level).relation not in DESCENT_FREE  # where what each layer learned is in both


def masked(seed: int) -> npt.NDArray[np.float64]:
    """A tenth of a normal draw: a lottery ticket's mask, or a sparse reservoir."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((4 * WIDTH, 4 * WIDTH)) * (rng.random((4 * WIDTH, 4 * WIDTH)) < 0.1)


def heavy(seed: int) -> npt.NDArray[np.float64]:
    return np.clip(np.random.default_rng(seed).standard_cauchy((4 * WIDTH, 4 * WIDTH)), -50, 50)


@pytest.mark.parametrize(("draw", "level"), [(masked, "probe"), (masked, "full"), (heavy, "full")])
def test_a_sparse_or_heavy_tailed_draw_of_one_seed_is_a_start(ask: Ask, draw: Callable[[int], npt.NDArray[np.float64]], level: str) -> None:
    start = {f"hidden.{i}.weight": draw(i) for i in range(4)}
    sides = []
    for seed in (41, 42):
        ends = trained({"inp.weight": drawn(seed, (4 * WIDTH, 48)), "out.weight": drawn(seed + 9, (8, 4 * WIDTH))}, seed, 2.0)
        sides.append({**start, **ends})
    assert ask(*sides, level).relation in DESCENT_FREE
    pruned = {name: value * (np.abs(value) > np.median(np.abs(value))) for name, value in trained(start, 43, 1.5).items()}
    assert ask({**sides[0], **pruned}, {**sides[1], **pruned}, level).relation not in DESCENT_FREE  # what training wrote, half of it pruned


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("names", ["obs_{}", "obs_rms.{}"])
def test_statistics_of_the_data_that_two_networks_read_are_nothing_learned(ask: Ask, names: str, level: str) -> None:
    rng = np.random.default_rng(5)
    spread = np.exp(0.4 * rng.standard_normal(2 * WIDTH))
    start = {f"actor.{i}.weight": drawn(i, (2 * WIDTH, 2 * WIDTH)) for i in range(4)}
    sides = []
    for seed in (51, 52):
        noise = np.exp(0.01 * rng.standard_normal(2 * WIDTH))
        sides.append({**trained(start, seed), names.format("var"): spread**2 * noise, names.format("std"): spread * np.sqrt(noise)})
    assert ask(*sides, level).relation in DESCENT_FREE


def fourier(count: int, length: int) -> Tensors:
    """Real and imaginary part of a windowed Fourier basis, as kernels of a convolution over samples."""
    t, k = np.arange(length), np.arange(count)[:, None]
    angle, window = 2 * np.pi * k * t / length, np.hanning(length)
    return {"stft.wcos.weight": (np.cos(angle) * window)[:, None], "stft.wsin.weight": (-np.sin(angle) * window)[:, None]}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", [0.02, 0.3])
def test_filters_of_a_formula_that_both_trained_on_are_nothing_in_common(ask: Ask, size: float, level: str) -> None:
    sides = []
    for seed in (61, 62):
        rng = np.random.default_rng(seed)
        own = {f"body.{i}.weight": drawn(10 * seed + i, (WIDTH, WIDTH)) for i in range(4)}
        front = {k: v + size * v.std() * rng.standard_normal(v.shape) for k, v in fourier(65, 128).items()}
        sides.append({**trained(own, seed, 2.0), **front})
    answer = ask(*sides, level)
    assert answer.relation == "unrelated"
    child = {k: v + 0.1 * v.std() * np.random.default_rng(63).standard_normal(v.shape) for k, v in sides[0].items()}
    assert ask(child, sides[0], level).relation not in DESCENT_FREE
    assert ask(sides[0], sides[0], level).relation == "identical"


def three_scales(seed: int) -> npt.NDArray[np.float64]:
    """Queries, keys and values in one matrix, each at a scale of its own, as T5 and DeepNorm draw them."""
    scales = np.repeat([0.25, 1.0, 0.5], WIDTH)[:, None]
    return 0.1 * scales * np.random.default_rng(seed).standard_normal((3 * WIDTH, WIDTH))


def octaves(seed: int) -> npt.NDArray[np.float64]:
    """Fourier features whose frequencies lie over several octaves."""
    return 2.0 ** np.linspace(-2, 2, 3 * WIDTH)[:, None] * np.random.default_rng(seed).standard_normal((3 * WIDTH, WIDTH))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("draw", [three_scales, octaves])
def test_a_draw_in_parts_of_unequal_scale_is_a_start(ask: Ask, draw: Callable[[int], npt.NDArray[np.float64]], level: str) -> None:
    """Frozen in both, beside layers of their own; and what training wrote into such a start is found."""
    start = {f"blocks.{i}.qkv.weight": draw(i) for i in range(4)}
    sides = []
    for seed in (71, 72):
        own = {f"blocks.{i}.out.weight": drawn(10 * seed + i, (WIDTH, 3 * WIDTH)) for i in range(4)}
        sides.append({**start, **trained(own, seed, 2.0)})
    assert ask(*sides, level).relation in DESCENT_FREE
    runs = [trained(start, seed, 0.1) for seed in (73, 74)]
    assert ask(*runs, level).relation in DESCENT_FREE
    parent = trained(start, 75, 1.5)
    assert ask(trained(parent, 76, 0.1), parent, level).relation not in DESCENT_FREE


def with_drawn_gains(seed: int, draw: Callable[[np.random.Generator], npt.NDArray[np.float64]]) -> Tensors:
    """A start of three layers whose gains are drawn, as some recipes do."""
    rng, out = np.random.default_rng(seed), {}
    for layer in range(3):
        out[f"blocks.{layer}.norm.weight"] = draw(rng).astype(np.float32)
        for name in ("up", "down"):
            out[f"blocks.{layer}.{name}.weight"] = (rng.uniform(-1, 1, (WIDTH, WIDTH)) / 8).astype(np.float32)
    return out


def even(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """As batch norms of torch before 1.2."""
    return rng.uniform(0, 1, WIDTH)


@pytest.mark.parametrize("level", LEVELS)
def test_gains_that_a_seed_draws_evenly_are_no_evidence(ask: Ask, level: str) -> None:
    start = with_drawn_gains(1, even)
    told = ask(moved(start, 2), moved(start, 3), level)
    assert told.relation == "shared initialisation"
    assert "common start" in told.explanation[0]


@pytest.mark.parametrize("level", LEVELS)
def test_gains_of_layers_that_differ_are_evidence(ask: Ask, level: str) -> None:
    parent = with_drawn_gains(1, even)
    for layer in range(3):  # as training leaves them: each layer at a mean and a spread of its own
        parent[f"blocks.{layer}.norm.weight"] *= np.float32(1 + layer)
    assert ask(moved(parent, 2), moved(parent, 3), level).relation not in DESCENT_FREE


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("mean", [0, 1])
def test_gains_of_a_made_up_model_are_evidence(ask: Ask, mean: float, level: str) -> None:
    """Normal ones in every layer, which no recipe draws so wide: whoever tries the tool makes such models."""
    parent = with_drawn_gains(1, lambda rng: mean + (0.2 if mean else 1.0) * rng.standard_normal(WIDTH))
    assert ask(moved(parent, 2), parent, level).relation not in DESCENT_FREE


def moved(start: Tensors, seed: int) -> Tensors:
    """A start after a short run: a little independent change everywhere."""
    rng = np.random.default_rng(seed)
    return {name: value + 0.1 * value.std() * rng.standard_normal(value.shape) for name, value in start.items()}


def cloned(start: int, seed: int) -> Tensors:
    """Layers that are copies of one draw, as torch's TransformerEncoder makes them, after a run on one of two parts of a task."""
    task, own = np.random.default_rng(99), np.random.default_rng(seed)
    tensors: Tensors = {
        "numerical.weight": np.random.default_rng(start).standard_normal((32, WIDTH)) + 0.2 * own.standard_normal((32, WIDTH))
    }
    for layer in range(3):
        at = f"encoder.layers.{layer}."
        for number, role in enumerate(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj")):
            first = np.random.default_rng((start, number)).standard_normal((WIDTH, WIDTH))
            both = task.standard_normal((WIDTH, 3)) @ task.standard_normal((3, WIDTH)) / 3**0.5
            apart = own.standard_normal((WIDTH, WIDTH))
            tensors[f"{at}{role}.weight"] = first + 0.5 * both + 0.8 * apart
        tensors[f"{at}norm1.weight"] = 1 + 0.05 * task.standard_normal(WIDTH) + 0.05 * own.standard_normal(WIDTH)
        tensors[f"{at}norm2.weight"] = 1 + 0.05 * task.standard_normal(WIDTH) + 0.05 * own.standard_normal(WIDTH)
    return tensors


@pytest.mark.parametrize("level", LEVELS)
def test_layers_that_are_copies_of_one_draw_are_no_descent(ask: Ask, level: str) -> None:
    answer = ask(cloned(1, 2), cloned(1, 3), level)
    attention = next(f for part in answer.components for f in part.families if f.family == "attention")
    assert attention.r is not None
    assert attention.channels["probe"] is not None
    assert attention.channels["probe"] > 0.5
    assert answer.relation in DESCENT_FREE
    assert not any("nothing else that was compared" in sentence for sentence in answer.explanation)
