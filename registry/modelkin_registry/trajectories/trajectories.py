"""A series of checkpoints said to lead from a random start to a final model: what its sketches say for and against that.

Sketches are linear, so the series is a path of points: lengths, angles and straight lines in sketch space are those of the weights, but for
noise of 1 / sqrt(numbers) in a cosine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.relations import DESCENT_FREE
from modelkin_registry.answers.trajectory import InitialisationTest, Resemblance, Step, TrajectoryAnswer, TrajectoryFinding
from modelkin_registry.evidence.initialisation import examine_start
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.evidence.nulls import NORMAL_PER_MAD, median
from modelkin_registry.relations.deltas import RECAST_DELTA
from modelkin_registry.relations.pairs import measure_kin

Floats = npt.NDArray[np.float64]
FEWEST = 3  # checkpoints from which a path has a shape
CHANCE_SD = 4.0  # standard deviations of sketch noise that are chance
JUMP_MAD = 6.0  # robust standard deviations of log length by which one step stands out
JUMP_FACTOR = 5.0  # and how many times the median length it must be: savings at uneven intervals make factors of a few
# Ratio of squared widths of what leads off a line: independent noise gives 1 (1.1 with few numbers); a random walk's principal components
# fall as 1 / k^2 (Antognini, Sohl-Dickstein 2018), so 9 / 4 at least with four points, and smoother paths more.
EVEN_NOISE = 2.0
BESIDE_LINE = 0.3  # width off the line / a step's length: a random walk is wider than half a step
FEWEST_BETWEEN = 3  # steps between the ends, of which what leads off the line between these can be held against one another
LARGEST_CHANCE = 0.1  # where chance gives larger cosines, none are told apart: of 20 honest runs the least is 0.20
CLOSER = 0.02  # correlation by which a step must be nearer to a registered model than to the series' own end

CONSISTENT = "consistent with a training run"
TOO_FEW = "too few checkpoints to say"
NOT_COMPARABLE = "the checkpoints have no common matrices to compare"
NOT_RANDOM = "step 0 is not a random initialisation"
STRAIGHT = "steps lie on a straight line between two models"
STRAIGHT_NOISY = "steps lie on a straight line between two models, with independent noise added"
NOISE = "steps are the last model with independent noise added"
FORGOTTEN = "the second checkpoint keeps nothing of step 0: it began elsewhere, or trained until its start was forgotten"
APART = DESCENT_FREE - {"shared initialisation"}  # early checkpoints of one run share little beyond its start
BROKEN = "neighbouring checkpoints do not come from one run"
REVERSED = "the last checkpoint is a random initialisation and the first is not: the order may be reversed"
BACKWARDS = "the series moves away from its own end"
JUMP = "one step is much longer than its neighbours"
RESEMBLES = "an early step is nearer to another registered model than to the end of the series"


Found = tuple[str, TrajectoryFinding]


def examine_series(
    names: Sequence[str], series: Sequence[Fingerprint], judge: Judge, resembling: Sequence[Resemblance]
) -> TrajectoryAnswer:
    """Everything that a series shows. `resembling`: registered relatives of the steps."""
    start = examine_start(series[0])
    points = _points(series)
    steps = _steps(names, series, points, judge)
    found = [_start_finding(start)]
    if len(series) >= FEWEST and points.shape[1]:
        found += [*_line(points), *_noise(points), *_broken(steps, series), *_order(steps, points), *_jump(steps)]
        found += _begun(start, points)
        found += _reversed(start, examine_start(series[-1])) + _resembling(resembling, steps)
    against = [verdict for verdict, finding in found if finding.against]
    if not points.shape[1]:
        against = [NOT_COMPARABLE]
    elif len(series) < FEWEST:
        against = [*against, TOO_FEW]
    ordered = list(dict.fromkeys(against)) or [CONSISTENT]
    return TrajectoryAnswer(ordered[0], tuple(ordered[1:]), steps, start, tuple(finding for _, finding in found), LIMITS)


def mean_r(relative: Relative) -> float:
    """Mean correlation of the families that a relative shares, by their sizes."""
    held = [f for c in relative.components for f in c.families if f.inherited and f.informative and f.r is not None]
    total = sum(f.parameters for f in held)
    return sum((f.r or 0.0) * f.parameters for f in held) / total if total else 0.0


LIMITS = (
    "A consistent series is no proof: a second training run towards the same end, or distillation, would look the same.",
    "The checks see steps as they were saved; a run that was resumed, averaged or re-warmed may jump or turn.",
)


def _points(series: Sequence[Fingerprint]) -> Floats:
    """Each checkpoint as one vector (steps, numbers): sketches of the matrices that all have in one shape, each as large as the others."""
    tables = [model.matrices for model in series]
    shapes = [{p: (int(r), int(c)) for p, r, c in zip(t.places, t.rows, t.columns, strict=True)} for t in tables]
    common = [p for p in series[0].matrices.places if all(s.get(p) == shapes[0][p] for s in shapes)]
    parts = []
    for place in common:
        rows = [(m.matrices, m.matrices.places.index(place)) for m in series]
        vectors = np.array([table.probe[row].astype(float) * float(table.scale[row]) for table, row in rows])
        size = float(np.sqrt(np.mean(vectors**2) * vectors.shape[1]))
        parts += [vectors / size] if size > 0 else []
    return np.hstack(parts) if parts else np.zeros((len(series), 0))


def _cosine(a: Floats, b: Floats) -> float:
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length > 0 else 0.0


def _steps(names: Sequence[str], series: Sequence[Fingerprint], points: Floats, judge: Judge) -> tuple[Step, ...]:
    moves = np.diff(points, axis=0)
    size = float(np.linalg.norm(points[-1])) or 1.0
    found = []
    for at, name in enumerate(names):
        known = points.shape[1] > 0
        length = round(float(np.linalg.norm(moves[at - 1])) / size, 5) if at and known else None
        turn = round(_cosine(moves[at - 1], moves[at - 2]), 4) if at > 1 and known else None
        relation = measure_kin(series[at], series[at - 1], names[at - 1], judge).relative.relation if at else None
        found.append(Step(name, round(_cosine(points[at], points[-1]), 4) if known else None, length, turn, relation))
    return tuple(found)


def _start_finding(start: InitialisationTest) -> Found:
    words = [f"{start.drawn:.0%} of {start.matrices} matrices have the kurtosis of a distribution that weights are drawn from"]
    words += [f"{start.gains_constant:.0%} of the norms have all gains at one value"] if start.gains_constant is not None else []
    words += (
        [f"the sizes of one role's matrices differ by up to {start.size_spread:.1%} over layers"] if start.size_spread is not None else []
    )
    null = "an initialisation: at least 90 %, all, and at most 5 %"
    return NOT_RANDOM, TrajectoryFinding("start", round(start.drawn, 4), null, not start.passed, f"Step 0: {', '.join(words)}.")


def _line(points: Floats) -> list[Found]:
    """Whether the steps between lie on the straight line between the ends: all of it, or but for independent noise."""
    way = points[-1] - points[0]
    squared = float(way @ way)
    if squared == 0:
        return []
    off = [point - points[0] - (float((point - points[0]) @ way) / squared) * way for point in points[1:-1]]
    away = max(float(np.linalg.norm(rest)) for rest in off)
    rounding = RECAST_DELTA * max(float(np.linalg.norm(point)) for point in points)
    null = f"rounding: {rounding / math.sqrt(squared):.4f}; real paths curve"
    straight = away <= rounding
    sentence = f"The steps between lie up to {away / math.sqrt(squared):.4f} of the way's length beside the line between the ends."
    found = [(STRAIGHT, TrajectoryFinding("line", round(away / math.sqrt(squared), 5), null, straight, sentence))]
    if straight or len(off) < 2:
        return found
    return [*found, _noisy_line(points), *([_noisy_between(off)] if len(off) >= FEWEST_BETWEEN else [])]


def _noisy_between(off: Sequence[Floats]) -> Found:
    """Whether what leads off the line between the ends is new at each step: a run bends, and its neighbours lie on one side of it."""
    cosines = [_cosine(a, b) for a, b in pairwise(off)]
    usual, chance = math.sqrt(sum(c * c for c in cosines) / len(cosines)), CHANCE_SD / math.sqrt(len(off[0]))
    sentence = f"What leads off the line between the ends has, between neighbouring steps, a cosine of {usual:.3f} (root mean square)."
    null = f"independent noise: below {chance:.3f}; a run: far above"
    return STRAIGHT_NOISY, TrajectoryFinding("off the line", round(usual, 4), null, usual <= chance <= LARGEST_CHANCE, sentence)


def _noisy_line(points: Floats) -> Found:
    """Whether all that leads off the best line is independent noise: as large in every direction, while a path has a next main one."""
    sizes = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[: len(points) - 1]
    ratio = float(sizes[1] / sizes[-1]) ** 2 if sizes[-1] > 0 else math.inf
    step = median(np.linalg.norm(np.diff(points, axis=0), axis=1))
    beside = float(np.sqrt(np.sum(sizes[1:] ** 2) / (len(points) - 2))) / step if step > 0 else math.inf
    against = ratio <= EVEN_NOISE and beside <= BESIDE_LINE
    most = f"{min(ratio, 1e6):.2f} times as much (squared) in its main direction as in its least"
    sentence = f"Off the best line the path is {beside:.3f} of a step wide, {most}."
    null = f"noise alone: 1.0 to {EVEN_NOISE}, a random walk at least 2.25"
    return STRAIGHT_NOISY, TrajectoryFinding("line with noise", round(min(ratio, 1e6), 4), null, against, sentence)


def _noise(points: Floats) -> list[Found]:
    """Whether the steps are the last checkpoint plus noise of their own."""
    away = [point - points[-1] for point in points[:-1]]
    return [_independent(away, NOISE, "noise", "the way to the last checkpoint")] if len(away) > 2 else []


def _begun(start: InitialisationTest, points: Floats) -> list[Found]:
    """Whether anything of a random start is left in the next checkpoint, which moved on from it, or from elsewhere."""
    kept, chance = _cosine(points[0], points[1]), CHANCE_SD / math.sqrt(points.shape[1])
    sentence = f"Step 0 and the checkpoint after it have a cosine of {kept:.3f}."
    null = f"two starts: below {chance:.3f}; a run keeps some of its start unless it trains long before it saves"
    against = start.passed and abs(kept) <= chance <= LARGEST_CHANCE
    return [(FORGOTTEN, TrajectoryFinding("begun", round(kept, 4), null, against, sentence))]


def _independent(parts: Sequence[Floats], verdict: str, check: str, what: str) -> Found:
    """Whether neighbouring steps have nothing in common here: training keeps its direction, added noise has none."""
    cosines = [_cosine(a, b) for a, b in pairwise(parts)]
    largest, chance = max(map(abs, cosines)), CHANCE_SD / math.sqrt(len(parts[0]))
    sentence = f"Between neighbouring steps, {what} has a cosine of at most {largest:.3f}."
    null = f"independent noise: below {chance:.3f}; a run: far above"
    return verdict, TrajectoryFinding(check, round(largest, 4), null, largest <= chance, sentence)


def _broken(steps: Sequence[Step], series: Sequence[Fingerprint]) -> list[Found]:
    """Neighbours that share nothing learned, once training has begun."""
    trained = [not examine_start(model).passed for model in series]
    apart = [at for at in range(1, len(steps)) if steps[at].relation in APART and trained[at - 1]]
    broken = [f"{steps[at - 1].name} and {steps[at].name} ({steps[at].relation})" for at in apart]
    sentence = f"Neighbours without evidence of descent: {', '.join(broken) or 'none'}."
    return [(BROKEN, TrajectoryFinding("neighbours", float(len(broken)), "a run: 0", bool(broken), sentence))]


def _order(steps: Sequence[Step], points: Floats) -> list[Found]:
    """The correlation with the end grows, but for sketch noise."""
    values = [step.final_r or 0.0 for step in steps]
    falls = [before - after for before, after in pairwise(values)]
    worst, chance = max(falls), CHANCE_SD / math.sqrt(points.shape[1])
    sentence = f"The largest fall of the correlation with the last checkpoint is {max(worst, 0.0):.3f}."
    return [(BACKWARDS, TrajectoryFinding("order", round(worst, 4), f"sketch noise: {chance:.3f}", worst > chance, sentence))]


def _jump(steps: Sequence[Step]) -> list[Found]:
    lengths = np.array([step.length for step in steps if step.length])
    if len(lengths) < FEWEST + 1:
        return []
    logs = np.log(lengths)
    spread = NORMAL_PER_MAD * median(np.abs(logs - median(logs)))
    factor = math.exp(float(logs.max()) - median(logs))
    limit = max(JUMP_FACTOR, math.exp(min(JUMP_MAD * spread, 50.0)))
    sentence = f"The longest step is {factor:.1f} times the median one."
    return [(JUMP, TrajectoryFinding("jump", round(factor, 3), f"the other steps: up to {limit:.1f}", factor > limit, sentence))]


def _reversed(first: InitialisationTest, last: InitialisationTest) -> list[Found]:
    turned = last.passed and not first.passed
    sentence = f"The last checkpoint {'passes' if last.passed else 'fails'} the tests of an initialisation."
    return [(REVERSED, TrajectoryFinding("end", round(last.drawn, 4), "a trained model fails them", turned, sentence))]


def _resembling(resembling: Sequence[Resemblance], steps: Sequence[Step]) -> list[Found]:
    found = []
    for one in resembling:
        own = steps[one.step].final_r or 0.0
        against = one.step < len(steps) - 1 and one.r > own + CLOSER
        sentence = (
            f"{steps[one.step].name} is related to the registered {one.model} ({one.relation}, r {one.r:.3f}; with the end {own:.3f})."
        )
        found.append((RESEMBLES, TrajectoryFinding("registry", round(one.r, 4), f"the series' own end: {own:.3f}", against, sentence)))
    return found
