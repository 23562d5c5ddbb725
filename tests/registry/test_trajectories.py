"""Series of checkpoints: honest ones pass, forged ones are told by what betrays them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from calls import run
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.trajectory import TrajectoryAnswer
from modelkin_registry.evidence.initialisation import examine_start
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.registry import Registry
from modelkin_registry.trajectories import trajectories
from modelkin_registry.trajectories.trajectories import examine_series
from models import Tensors, fingerprint, initialised, llama, noised, trained_on, write

STEPS = 5


def honest_run(seed: int) -> list[Tensors]:
    """A walk that keeps some of its direction, from an initialisation; gains move as well."""
    random = np.random.default_rng(seed)
    series = [initialised(seed)]
    sizes = {name: value.std() or 0.05 for name, value in series[0].items()}
    scale = {name: random.uniform(0.5, 2.0) for name in sizes}
    drift = {name: random.standard_normal(value.shape) for name, value in series[0].items()}
    for _ in range(STEPS - 1):
        drift = {name: 0.5 * value + random.standard_normal(value.shape) for name, value in drift.items()}
        series.append({k: (v + 0.3 * scale[k] * sizes[k] * drift[k]).astype(np.float32) for k, v in series[-1].items()})
    return series


def between(first: Tensors, last: Tensors, noise: float = 0.0) -> list[Tensors]:
    mixes = [{k: ((1 - t) * v + t * last[k]).astype(np.float32) for k, v in first.items()} for t in np.linspace(0, 1, STEPS)]
    random = np.random.default_rng(9)
    return [{k: (v + noise * last[k].std() * random.standard_normal(v.shape)).astype(np.float32) for k, v in mix.items()} for mix in mixes]


@pytest.fixture(scope="module")
def run_of_one(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Tensors], list[Fingerprint]]:
    series = honest_run(1)
    return series, fingerprints(tmp_path_factory.mktemp("run"), series)


def fingerprints(tmp_path: Path, series: Sequence[Tensors], level: str = "full") -> list[Fingerprint]:
    return [fingerprint(tmp_path / f"{n}-{level}", tensors, level=level) for n, tensors in enumerate(series)]


def examined(series: Sequence[Fingerprint]) -> TrajectoryAnswer:
    return examine_series([f"step{n}" for n in range(len(series))], series, ALONE, [])


@pytest.mark.parametrize("level", ["probe", "full"])
def test_an_honest_run_is_consistent(tmp_path: Path, run_of_one: tuple[list[Tensors], list[Fingerprint]], level: str) -> None:
    series = run_of_one[1] if level == "full" else fingerprints(tmp_path, run_of_one[0], level)
    answer = examined(series)
    assert (answer.verdict, answer.also) == (trajectories.CONSISTENT, ())
    assert [step.final_r for step in answer.steps] == sorted(step.final_r or 0.0 for step in answer.steps)
    assert all(finding.null for finding in answer.findings)


@pytest.mark.parametrize(
    ("noise", "verdict"), [(0.0, trajectories.STRAIGHT), (0.02, trajectories.STRAIGHT_NOISY), (0.05, trajectories.STRAIGHT_NOISY)]
)
def test_points_between_two_models_are_told(
    tmp_path: Path, run_of_one: tuple[list[Tensors], list[Fingerprint]], noise: float, verdict: str
) -> None:
    answer = examined(fingerprints(tmp_path, between(run_of_one[0][0], run_of_one[0][-1], noise)))
    assert verdict in (answer.verdict, *answer.also)


def test_wide_noise_on_a_line_between_clean_ends_is_told(tmp_path: Path, run_of_one: tuple[list[Tensors], list[Fingerprint]]) -> None:
    own = run_of_one[0]
    inside = between(initialised(7), own[-1], 0.4)[1:-1]
    answer = examined(fingerprints(tmp_path, [initialised(7), *inside, own[-1]]))
    assert answer.verdict == trajectories.STRAIGHT_NOISY
    assert next(f for f in answer.findings if f.check == "off the line").against
    assert not next(f for f in answer.findings if f.check == "line with noise").against  # by width alone it could be a random walk


def test_the_start_of_another_run_is_told(tmp_path: Path, run_of_one: tuple[list[Tensors], list[Fingerprint]]) -> None:
    answer = examined([fingerprint(tmp_path / "other", initialised(7)), *run_of_one[1][1:]])
    assert trajectories.FORGOTTEN in (answer.verdict, *answer.also)


def test_cosines_of_few_numbers_tell_nothing(run_of_one: tuple[list[Tensors], list[Fingerprint]]) -> None:
    random = np.random.default_rng(3)
    points = random.standard_normal((5, 400))
    start = examine_start(run_of_one[1][0])
    assert start.passed
    assert not trajectories._begun(start, points)[0][1].against
    assert not trajectories._noisy_between(list(points[1:-1]))[1].against


def test_noise_around_one_model_is_told(tmp_path: Path) -> None:
    final = trained_on(llama(3), 1, 0.2)
    series = [noised(final, n, size) for n, size in enumerate((1.0, 0.7, 0.5, 0.3))]
    answer = examined(fingerprints(tmp_path, [*series, final]))
    assert {trajectories.NOT_RANDOM, trajectories.NOISE} <= {answer.verdict, *answer.also}


def test_a_fine_tune_declared_from_scratch_is_told(tmp_path: Path) -> None:
    base = llama(4)
    one = trained_on(base, 1, 0.2)
    answer = examined(fingerprints(tmp_path, [base, one, trained_on(one, 2, 0.2)]))
    assert answer.verdict == trajectories.NOT_RANDOM
    assert answer.start.gains_constant == 0.0


def test_a_spliced_and_a_reversed_series_are_told(tmp_path: Path, run_of_one: tuple[list[Tensors], list[Fingerprint]]) -> None:
    own, other = run_of_one[1], fingerprints(tmp_path, honest_run(2)[-2:])
    spliced = examined([*own[:3], *other])
    assert trajectories.BROKEN in (spliced.verdict, *spliced.also)
    turned = examined(own[::-1])
    assert {trajectories.NOT_RANDOM, trajectories.REVERSED} <= {turned.verdict, *turned.also}


def test_few_and_strange_checkpoints_say_nothing(tmp_path: Path, run_of_one: tuple[list[Tensors], list[Fingerprint]]) -> None:
    assert examined(run_of_one[1][:1]).verdict == trajectories.TOO_FEW
    assert examined(run_of_one[1][:2]).verdict == trajectories.TOO_FEW
    same = examined([run_of_one[1][0]] * 4)
    assert same.verdict != trajectories.NOT_COMPARABLE
    other = fingerprint(tmp_path / "m", {"model.layers.0.mlp.up_proj.weight": llama(1)["lm_head.weight"][:64, :32]})
    assert examined([run_of_one[1][0], other, other]).verdict == trajectories.NOT_COMPARABLE


def test_a_registered_model_that_a_step_comes_from_is_told(tmp_path: Path) -> None:
    base = llama(4)
    series = [trained_on(base, 1, 0.1), trained_on(base, 2, 0.8), trained_on(base, 3, 1.2)]
    registry = Registry.open(tmp_path / "r.db")
    registry.add("known", fingerprint(tmp_path / "known", base))
    answer = registry.trajectory(["a", "b", "c"], fingerprints(tmp_path, series))
    assert trajectories.RESEMBLES in answer.also
    assert "registered known" in next(finding.sentence for finding in answer.findings if finding.check == "registry")


@pytest.mark.parametrize("draw", ["normal", "uniform"])
def test_an_initialisation_is_recognised_and_training_is_not(tmp_path: Path, draw: str) -> None:
    random = np.random.default_rng(1)
    numbers = {"normal": lambda shape: 0.02 * random.standard_normal(shape), "uniform": lambda shape: random.uniform(-0.03, 0.03, shape)}
    drawn = {k: np.ones_like(v) if v.ndim == 1 else numbers[draw](v.shape).astype(np.float32) for k, v in llama(5).items()}
    start = examine_start(fingerprint(tmp_path / "a", drawn))
    assert (start.passed, start.shape) == (True, draw)
    assert not examine_start(fingerprint(tmp_path / "b", llama(5))).passed


def test_the_command_takes_a_folder_in_natural_order(
    own_folder: Path, tmp_path: Path, run_of_one: tuple[list[Tensors], list[Fingerprint]]
) -> None:
    for number, tensors in zip((0, 2, 10, 100), run_of_one[0], strict=False):
        write(tmp_path / "runs" / f"step-{number}", tensors)
    Registry.open(tmp_path / "r.db").close()
    answer = json.loads(run("trajectory", "runs", "--json").output)
    assert [step["name"] for step in answer["steps"]] == ["step-0", "step-2", "step-10", "step-100"]
    assert answer["verdict"] == trajectories.CONSISTENT
    assert run("fingerprint", "runs/step-0", "-o", "zero.modelkin").exit_code == 0
    words = run("trajectory", "zero.modelkin", "runs/step-2", "runs/step-10", width=200).output
    assert words.startswith("Consistent with a training run.")
    (tmp_path / "nothing").mkdir()
    assert run("trajectory", "nothing").exit_code == 2
