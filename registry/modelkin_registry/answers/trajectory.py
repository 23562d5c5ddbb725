"""A series of checkpoints, as answers tell it."""

from __future__ import annotations

from modelkin_registry.answers.plain import CONTRACT, Plain


class InitialisationTest(Plain, frozen=True):
    """`drawn`: share of matrices whose kurtosis is that of a named distribution (`shape`), within 5 standard errors, and which are white.

    `gains_constant`: share of norms whose gains all have one value, `biases_zero` of biases at zero (None where there are none);
    `size_spread`: largest relative spread of a role's standard deviations over layers (None with one layer).
    """

    passed: bool
    shape: str
    drawn: float
    gains_constant: float | None
    biases_zero: float | None
    size_spread: float | None
    matrices: int


class Step(Plain, frozen=True):
    """One checkpoint. `length`: its distance to the one before / the size of the last; `turn`: cosine of this step with the one before;
    `final_r`: correlation with the last checkpoint; `relation`: to the checkpoint before."""

    name: str
    final_r: float | None
    length: float | None
    turn: float | None
    relation: str | None


class TrajectoryFinding(Plain, frozen=True):
    """One thing looked at: `value` beside what chance or an honest run gives (`null`, in words), and whether it speaks against a run."""

    check: str
    value: float | None
    null: str
    against: bool
    sentence: str


class TrajectoryAnswer(Plain, frozen=True):
    """`verdict` is one of this module's sentences, `also` are further ones that hold."""

    verdict: str
    also: tuple[str, ...]
    steps: tuple[Step, ...]
    start: InitialisationTest
    findings: tuple[TrajectoryFinding, ...]
    warnings: tuple[str, ...]
    contract: int = CONTRACT


class Resemblance(Plain, frozen=True):
    """The registered model that a step is nearest to by descent, and how near; None where none is."""

    step: int
    model: str
    relation: str
    r: float
