"""Checkpoints beside the log of their training: whether both can be of one run, as far as numbers tell."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from modelkin_registry.answers.trajectory import Step, TrajectoryAnswer, TrajectoryFinding
from modelkin_registry.evidence.nulls import NORMAL_PER_MAD, median
from modelkin_registry.trajectories.trajectories import CONSISTENT, FEWEST, JUMP_MAD

NUMBER = r"(?<!\d)(\d{1,15})(?![\dA-Za-z])"
DISAGREE = "checkpoints and log do not agree"
FEWEST_ROWS = 10  # changes of the loss of which the usual size is known
FIRST_LOGGED = 1  # the last step whose logged loss is that of the start: trainers count from 0 or 1, and log before they update
# Loss at a random start / ln(vocabulary): outputs near uniform give 1 in nats a token and their spread only adds to it. Logs do not tell
# their unit: bits a byte, the smallest in use, divide by ln 2 and by the bytes of a token, which are 6 at most in texts of any language.
LEAST_START = 0.9
LEAST_START_IN_ANY_UNIT = 0.24
LOG_LIMITS = (
    "A log is its writer's word: it can be written without any training, and of another run with the same settings.",
    "That checkpoints and log agree shows that nothing compared contradicts it; data, code and who trained it neither shows.",
)


class Logged(Struct, frozen=True):
    """One row of a log; None where it does not tell. `loss` in nats a token."""

    step: int
    loss: float | None
    rate: float | None


def with_log(answer: TrajectoryAnswer, log: Sequence[Logged], vocabulary: int | None) -> TrajectoryAnswer:
    """A series' answer with what its log adds. `vocabulary`: tokens of the first checkpoint, where its files tell."""
    numbers = [step_number(one.name) for one in answer.steps]
    found = [_exist(answer.steps, numbers, log), *_moved(answer.steps, numbers, log), _restarts(log), *_jumps(answer.steps, numbers, log)]
    found += _start(answer, numbers, log, vocabulary)
    also = (*answer.also, *([answer.verdict] if answer.verdict != CONSISTENT else []))
    disagree = any(one.against for one in found)
    told = replace(answer, findings=(*answer.findings, *found), warnings=(*answer.warnings, *LOG_LIMITS))
    return replace(told, verdict=DISAGREE, also=also) if disagree else told


def step_number(name: str) -> int | None:
    """The step in a checkpoint's name: the number behind `step` or a word like it, else the last one: `checkpoint-1000`, `step7-tokens4B`.

    None where numbers count epochs or tokens, or have a unit behind them (`20k`).
    """
    plain = re.sub(r"\.[A-Za-z]\w*$", "", name)
    named = re.search(rf"(?:step|iteration|iter|checkpoint|ckpt)s?[-_=]?{NUMBER}", plain, re.IGNORECASE)
    if named is not None:
        return int(named[1])
    if re.search("epoch|token|step|iter", plain, re.IGNORECASE):
        return None
    found = re.findall(NUMBER, plain)
    return int(found[-1]) if found else None


def _interval(log: Sequence[Logged]) -> float:
    """Steps between rows."""
    return median([float(b.step - a.step) for a, b in pairwise(log) if b.step > a.step] or [1.0])


def _exist(steps: Sequence[Step], numbers: Sequence[int | None], log: Sequence[Logged]) -> TrajectoryFinding:
    """Checkpoints of steps that the log does not reach."""
    first, last, apart = min(row.step for row in log), max(row.step for row in log), _interval(log)
    outside = [one.name for one, n in zip(steps, numbers, strict=True) if n is not None and not first - apart <= n <= last + apart]
    silent = [one.name for one, n in zip(steps, numbers, strict=True) if n is None]
    words = f"The log has {len(log):,} rows of steps {first:,} to {last:,}; checkpoints outside: {', '.join(outside) or 'none'}."
    words += f" Names that tell no step: {', '.join(silent)}." if silent else ""
    return TrajectoryFinding("log: steps", float(len(outside)), "a log of this run: 0", bool(outside), words)


def _moved(steps: Sequence[Step], numbers: Sequence[int | None], log: Sequence[Logged]) -> list[TrajectoryFinding]:
    """Distance moved a step against the mean learning rate of the same steps; movement at rates that the log tells as 0."""
    still: list[tuple[float, float, str]] = []
    moving: list[tuple[float, float, str]] = []
    for at in range(1, len(steps)):
        before, after, length = numbers[at - 1], numbers[at], steps[at].length
        if before is None or after is None or after <= before or length is None:
            continue
        rates = [row.rate for row in log if before < row.step <= after and row.rate is not None]
        if rates:
            speed = length / (after - before)
            (moving if max(rates) > 0 else still).append((sum(rates) / len(rates), speed, steps[at].name))
    found = []
    if len(moving) >= FEWEST:
        order = _rank_correlation([rate for rate, _, _ in moving], [speed for _, speed, _ in moving])
        words = f"Over {len(moving)} intervals, distance moved a step and learning rate have a rank correlation of {order:.2f}."
        found.append(TrajectoryFinding("log: distance", round(order, 3), "told alone: gradients shrink as a run goes on", False, words))
    if still and len(moving) >= FEWEST:
        usual = median([speed for _, speed, _ in moving])
        # a rate may be printed as 0 that is only small: it is below all others then, and moves less than they do
        odd = [name for _, speed, name in still if speed > usual]
        words = f"Intervals of learning rate 0 in which weights move more a step than they mostly do: before {', '.join(odd) or 'none'}."
        found.append(TrajectoryFinding("log: still", float(len(odd)), "a log of this run: 0", bool(odd), words))
    return found


def _rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's, 0 where one of them does not vary."""
    a, b = _ranks(one), _ranks(other)
    mean = (len(a) - 1) / 2
    product = sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
    size = math.sqrt(sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b))
    return product / size if size > 0 else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0; equal values share their mean rank."""
    below = [sum(other < value for other in values) for value in values]
    return [low + (sum(other == value for other in values) - 1) / 2 for low, value in zip(below, values, strict=True)]


def _restarts(log: Sequence[Logged]) -> TrajectoryFinding:
    """Where steps go back, as a run that was resumed from a checkpoint writes them. It speaks against nothing."""
    back = [f"{a.step:,} to {b.step:,}" for a, b in pairwise(log) if b.step < a.step]
    words = f"The log goes back at {len(back)} places ({', '.join(back[:5])})." if back else "The log goes back nowhere."
    return TrajectoryFinding("log: restarts", float(len(back)), "told alone: a resumed run goes back", False, words)


def _jumps(steps: Sequence[Step], numbers: Sequence[int | None], log: Sequence[Logged]) -> list[TrajectoryFinding]:
    """Where the loss rises by far more than it mostly changes, and what of that and of restarts lies in the longest move of weights."""
    rows = [row for row in log if row.loss is not None]
    rises = [(b.step, (b.loss or 0.0) - (a.loss or 0.0)) for a, b in pairwise(rows) if b.step > a.step]
    if len(rises) < FEWEST_ROWS:
        return []
    middle = median([rise for _, rise in rises])
    limit = JUMP_MAD * NORMAL_PER_MAD * median([abs(rise - middle) for _, rise in rises])
    jumps = [step for step, rise in rises if rise - middle > limit]
    words = f"The log's loss jumps up at {len(jumps)} places ({', '.join(f'{step:,}' for step in jumps[:5])})."
    words = words if jumps else "The log's loss jumps up nowhere."
    moves = [(one.length, a, b) for one, a, b in zip(steps[1:], numbers, numbers[1:], strict=False) if one.length and a is not None and b]
    if moves:
        _, start, stop = max(moves)
        back = sum(start <= b.step <= stop or start <= a.step <= stop for a, b in pairwise(log) if b.step < a.step)
        inside = sum(start < step <= stop for step in jumps)
        words += f" In the longest move of the weights, steps {start:,} to {stop:,}, the log has {inside} of its jumps"
        words += f" and goes back {back} times."
    null = f"a jump: {JUMP_MAD:g} robust deviations of the loss between rows; told alone: runs have such"
    return [TrajectoryFinding("log: jumps", float(len(jumps)), null, False, words)]


def _start(
    answer: TrajectoryAnswer, numbers: Sequence[int | None], log: Sequence[Logged], vocabulary: int | None
) -> list[TrajectoryFinding]:
    """The first loss beside ln(vocabulary), where the log has that of the start and the first checkpoint is it."""
    first = next((row for row in log if row.step <= FIRST_LOGGED and row.loss is not None), None)
    if first is None or first.loss is None or vocabulary is None or vocabulary < 2:
        return []
    uniform = math.log(vocabulary)
    starts = numbers[0] == 0 and answer.start.passed
    words = f"The log's loss at step {first.step} is {first.loss:.3f}; ln of {vocabulary:,} tokens is {uniform:.3f}."
    if starts and first.loss < LEAST_START * uniform:
        words += " That is less than a random start has in nats a token; losses a byte or a character are smaller: see in which unit it is."
    against = starts and first.loss < LEAST_START_IN_ANY_UNIT * uniform
    null = f"a random start: {uniform:.3f} or more, if the loss is in nats a token"
    return [TrajectoryFinding("log: first loss", round(first.loss / uniform, 4), null, against, words)]
