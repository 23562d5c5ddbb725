"""Checkpoints beside their logs: those of one run agree, and what cannot be of one run is told, never more."""

from __future__ import annotations

import html
import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

import modelkin
from calls import run
from modelkin.answering.event_file import masked
from modelkin.answering.training_log import read_log
from modelkin.errors import DamagedFile, SourceNotFound, WrongLine
from modelkin.reporting.texts import texts_of
from modelkin_registry.answers.trajectory import InitialisationTest, Step, TrajectoryAnswer
from modelkin_registry.trajectories.logs import DISAGREE, LOG_LIMITS, Logged, step_number, with_log
from modelkin_registry.trajectories.trajectories import CONSISTENT, TOO_FEW
from models import initialised, write

TOKENS = 32_000
START = InitialisationTest(True, "normal", 1.0, 1.0, None, 0.01, 20)
NAMES = ("step-0", "step-1000", "step-2000", "step-3000", "step-4000", "step-5000")


def series(lengths: tuple[float, ...] = (0.5, 0.4, 0.3, 0.2, 0.1), names: tuple[str, ...] = NAMES) -> TrajectoryAnswer:
    moved: tuple[float | None, ...] = (None, *lengths)
    steps = tuple(Step(name, 0.5, length, None, None) for name, length in zip(names, moved, strict=True))
    return TrajectoryAnswer(CONSISTENT, (), steps, START, (), ())


def log(last: int = 5000, first_loss: float = math.log(TOKENS) + 0.1, still: tuple[int, int] = (0, 0)) -> list[Logged]:
    """A row each 100 steps, cosine-like rates, 0 in the interval `still`."""
    rows = range(0, last + 1, 100)
    rate = lambda at: 0.0 if still[0] < at <= still[1] else 3e-4 * (1 - at / 6000)  # noqa: E731
    return [Logged(at, first_loss * math.exp(-at / 5000), rate(at)) for at in rows]


def found(answer: TrajectoryAnswer, check: str) -> tuple[float | None, bool]:
    (one,) = (one for one in answer.findings if one.check == f"log: {check}")
    return one.value, one.against


def test_a_run_and_its_log_agree() -> None:
    answer = with_log(series(), log(), TOKENS)
    assert (answer.verdict, answer.also) == (CONSISTENT, ())
    assert not any(one.against for one in answer.findings)
    assert found(answer, "distance") == (1.0, False)
    assert set(LOG_LIMITS) <= set(answer.warnings)


def test_checkpoints_beyond_the_log_are_told() -> None:
    answer = with_log(series(), log(last=3000), TOKENS)
    assert answer.verdict == DISAGREE
    assert found(answer, "steps") == (2.0, True)
    assert with_log(series(), log(last=4900), TOKENS).verdict == CONSISTENT  # saved before the next row was due


def test_weights_that_move_where_the_rate_is_zero() -> None:
    assert found(with_log(series((0.5, 0.4, 0.3, 0.2, 0.9)), log(still=(4000, 5000)), TOKENS), "still") == (1.0, True)
    # a rate that is printed as 0 because it is small moves weights little
    assert found(with_log(series((0.5, 0.4, 0.3, 0.2, 0.01)), log(still=(4000, 5000)), TOKENS), "still") == (0.0, False)


def test_the_first_loss_is_held_against_the_vocabulary() -> None:
    low = with_log(series(), log(first_loss=0.2 * math.log(TOKENS)), TOKENS)
    assert (low.verdict, found(low, "first loss")[1]) == (DISAGREE, True)
    a_byte = with_log(series(), log(first_loss=0.4 * math.log(TOKENS)), TOKENS)  # bits a byte, where tokens have four
    assert (a_byte.verdict, found(a_byte, "first loss")[1]) == (CONSISTENT, False)
    assert [one for one in a_byte.findings if one.check == "log: first loss" and "in which unit" in one.sentence]
    continued = replace(series(), start=replace(START, passed=False), verdict="step 0 is not a random initialisation")
    told = with_log(continued, log(first_loss=3.0), TOKENS)  # which says so itself: they agree
    assert (told.verdict, found(told, "first loss")[1]) == (continued.verdict, False)
    assert not [one for one in with_log(series(), log(), None).findings if one.check == "log: first loss"]
    later = [row for row in log(first_loss=3.0) if row.step >= 100]
    assert not [one for one in with_log(series(), later, TOKENS).findings if one.check == "log: first loss"]


def test_a_resumed_run_goes_back_and_is_no_other_run() -> None:
    rows = log()
    answer = with_log(series(), [*rows[:30], *rows[20:]], TOKENS)
    assert (answer.verdict, found(answer, "restarts")) == (CONSISTENT, (1.0, False))


def test_jumps_are_told_on_both_sides() -> None:
    rows = [replace(row, loss=row.loss + 4 if row.loss is not None and 3000 < row.step <= 3200 else row.loss) for row in log()]
    answer = with_log(series((0.1, 0.1, 0.1, 2.0, 0.1)), [*rows[:35], *rows[32:]], TOKENS)  # 3,400 and then 3,200 again
    assert (answer.verdict, found(answer, "jumps")) == (CONSISTENT, (1.0, False))
    (told,) = (one.sentence for one in answer.findings if one.check == "log: jumps")
    assert "at 1 places (3,100)" in told
    assert "steps 3,000 to 4,000, the log has 1 of its jumps and goes back 1 times" in told
    assert found(with_log(series(), log(), TOKENS), "jumps") == (0.0, False)
    assert not [one for one in with_log(series(), log()[:5], TOKENS).findings if one.check == "log: jumps"]


def test_a_series_verdict_is_kept_beside_the_logs() -> None:
    answer = with_log(replace(series(), verdict=TOO_FEW, also=("x",)), log(last=3000), TOKENS)
    assert (answer.verdict, answer.also) == (DISAGREE, ("x", TOO_FEW))


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("checkpoint-1000", 1000),
        ("step_0020.safetensors", 20),
        ("v2-step7", 7),
        ("final", None),
        ("stage1-step7-tokens4B", 7),
        ("epoch-3", None),
        ("step-20k", None),
        ("run-00012", 12),
        ("a.modelkin", None),
    ],
)
def test_steps_of_names(name: str, step: int | None) -> None:
    assert step_number(name) == step


# files


def test_both_forms_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "\ufeffstep,loss,lr,note\n0,10.5,0.001,\n\n100,9,0.0009,x\n,,,evaluation\n200,nan,,\n", encoding="utf-8"
    )
    rows = [{"global_step": 0, "train/loss": 10.5, "train/lr": 0.001}, {"eval": 3}]
    rows += [{"global_step": 100, "train/loss": 9, "train/lr": 9e-4}, {"global_step": 200, "train/loss": None}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    expected = [Logged(0, 10.5, 0.001), Logged(100, 9.0, 0.0009), Logged(200, None, None)]
    assert read_log(tmp_path / "a.csv") == read_log(tmp_path / "a.jsonl") == expected


# Written by torch 2.13 in both its forms and by tensorboardX 2.6.5: losses 10.5, 9.5, 8.5 and rates 0.001, 0.0009, 0.0008 at 0, 100, 200.
EVENTS = sorted((Path(__file__).parents[1] / "data" / "events").iterdir())


@pytest.mark.parametrize("file", EVENTS, ids=lambda file: file.name[-6:])
def test_event_files_of_tensorboard(tmp_path: Path, file: Path) -> None:
    rows = read_log(file)
    assert [(row.step, row.loss) for row in rows] == [(0, 10.5), (100, 9.5), (200, 8.5)]
    assert [row.rate for row in rows] == pytest.approx([1e-3, 9e-4, 8e-4], rel=1e-6)
    (tmp_path / file.name).write_bytes(file.read_bytes()[:-3])  # as a running one ends
    assert read_log(tmp_path) == [*rows[:2], replace(rows[2], rate=None)]


def test_a_resumed_runs_event_files_go_back(tmp_path: Path) -> None:
    assert len(EVENTS) == 3
    for number, file in enumerate(EVENTS):
        (tmp_path / f"events.out.tfevents.{number}.host").write_bytes(file.read_bytes())
    assert [row.step for row in read_log(tmp_path)] == [0, 100, 200] * 3


def test_a_changed_event_file_is_refused(tmp_path: Path) -> None:
    data = EVENTS[0].read_bytes()
    changed = tmp_path / "events.out.tfevents.1.host"
    refused = 0
    for at in range(len(data)):
        changed.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        try:
            rows = read_log(changed)
        except DamagedFile as error:
            refused += "byte" in str(error)
        else:  # the version, which is no number of the run, or a last record that seems longer than the file
            assert rows == read_log(EVENTS[0])
    assert refused > 0.8 * len(data)
    changed.write_text("step,loss\n1,2\n")
    with pytest.raises(DamagedFile, match="is no event file"):
        read_log(changed)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceNotFound, match="holds no event file"):
        read_log(tmp_path / "empty")


def test_larger_events_are_passed_over(tmp_path: Path) -> None:
    """Pictures and texts of a run, which nobody parses: a record of 1 MB between the others."""
    data = EVENTS[-1].read_bytes()
    head = struct.pack("<Q", 1 << 20)
    large = head + struct.pack("<I", masked(head)) + bytes(1 << 20) + bytes(4)
    first = 16 + struct.unpack("<Q", data[:8])[0]
    changed = tmp_path / "events.out.tfevents.1.host"
    changed.write_bytes(data[:first] + large + data[first:])
    assert read_log(changed) == read_log(EVENTS[-1])


def test_a_chart_that_wandb_exports(tmp_path: Path) -> None:
    head = '"Step","glad-star-1 - train/loss","glad-star-1 - train/loss__MIN","glad-star-1 - train/loss__MAX"\n'
    (tmp_path / "chart.csv").write_text(head + '"0","10.5","10","11"\n"100","9.5","9","10"\n')
    assert read_log(tmp_path / "chart.csv") == [Logged(0, 10.5, None), Logged(100, 9.5, None)]
    (tmp_path / "two.csv").write_text("Step,one - loss,two - loss\n0,1,2\n")
    with pytest.raises(WrongLine, match="log of one run"):
        read_log(tmp_path / "two.csv")


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (b"", 1, "no row has a step"),
        (b"loss\n1\n", 1, "no row has a step"),
        (b"step,loss\n0,1\nx,2\n", 3, "'x' is no number"),
        (b"step,loss\n-1,1\n", 2, "whole number"),
        (b"step,loss\n1.5,1\n", 2, "whole number"),
        (b"step,lr\n1,-1\n", 2, "not below 0"),
        (b"step\n1\n\xff\n", 3, "UTF-8"),
        (b'{"step": 1}\n{"step": \n', 2, "no JSON"),
        (b'{"step": 1}\n[2]\n', 2, "no JSON object"),
        (b'{"step": [1]}\n', 1, "no number"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: bytes, line: int, problem: str) -> None:
    (tmp_path / "log").write_bytes(text)
    with pytest.raises(WrongLine) as raised:
        read_log(tmp_path / "log")
    assert (raised.value.line, problem in raised.value.problem) == (line, True), raised.value.problem
    with pytest.raises(SourceNotFound):
        read_log(tmp_path / "nothing")


def test_the_command_without_a_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("MODELKIN_REGISTRY", raising=False)
    random, tensors = np.random.default_rng(3), initialised(3)
    for step in range(0, 500, 100):
        write(tmp_path / "run" / f"step-{step}", tensors)
        tensors = {name: (value + 0.01 * random.standard_normal(value.shape)).astype(np.float32) for name, value in tensors.items()}
    (tmp_path / "log.csv").write_text("step,loss,lr\n" + "".join(f"{n},{9 - n / 100},0.001\n" for n in range(0, 200, 10)))
    said = run("trajectory", "run", "--log", "log.csv", "--no-starter", "--json", registry=None)
    assert said.exit_code == 0, said.output
    told = json.loads(said.stdout)
    assert told["verdict"] == DISAGREE
    assert not (tmp_path / "data").exists()
    heard: list[str] = []
    answer = modelkin.trajectory("run", log="log.csv", starter=False, listener=modelkin.Listener(say=heard.append))
    assert any("There is no registry" in words for words in heard)
    assert answer.to_dict() == told
    modelkin.report(answer, "page.html", command="modelkin trajectory run --log log.csv")
    assert not (tmp_path / "data").exists()  # nor is one begun for the page, which would tell of it
    page = html.unescape(Path("page.html").read_text(encoding="utf-8"))
    assert texts_of("en")("text", "no-registry") in page
    assert "step-300, step-400" in page
    assert all(words in page for words in LOG_LIMITS)
