"""The answer of `screen`: one line a submission, the rings among them, and how the whole batch was corrected."""

from __future__ import annotations

from collections import Counter

from modelkin_registry.answers.plain import CONTRACT, Plain

CLEAR, FLAGGED, INCONCLUSIVE, UNREADABLE = "clear", "flagged", "inconclusive", "unreadable"
OUTCOMES = (CLEAR, FLAGGED, INCONCLUSIVE, UNREADABLE)


class ScreenFinding(Plain, frozen=True):
    """One rule of the policy that something measured meets. It says what weights are consistent with, and accuses nobody.

    `action` is what the policy makes of the rule: "flag", "inconclusive" or "note". `relative` is a registered model, or another submission
    where `in_batch`; `others` have evidence in the same component too. `p_value` is corrected for the models searched, `q_value` for the
    whole batch (the false-discovery rate at which the finding still stands); both None where the rule rests on no comparison.
    """

    rule: str
    action: str
    component: str | None
    family: str | None
    relative: str | None
    relation: str | None
    p_value: float | None
    sentence: str
    q_value: float | None = None
    in_batch: bool = False
    others: tuple[str, ...] = ()


class Screened(Plain, frozen=True):
    """What became of one submission.

    `declared_base` are the models that it says it was made from, None where it names none. `reason` says in one sentence why the outcome is
    not `clear`. `examined_share` of its informative weights were held against a registered model.
    """

    submission: str
    source: str
    outcome: str
    declared_base: tuple[str, ...] | None
    findings: tuple[ScreenFinding, ...]
    reason: str | None
    level: str | None = None
    key: str | None = None
    parameters: int | None = None
    components: tuple[str, ...] = ()
    verdict: str | None = None
    examined_share: float | None = None
    coverage: float | None = None
    digest: str | None = None
    contract: int = CONTRACT


class Ring(Plain, frozen=True):
    """Submissions that have weights in common which nothing registered or declared explains. `copies`: each has a copy among the others."""

    name: str
    members: tuple[str, ...]
    copies: bool
    sentence: str


class Discovery(Plain, frozen=True):
    """The correction over the batch: `procedure` at this `rate`, over so many `tests`, of which `found` stood and `fell` did not."""

    procedure: str
    rate: float
    tests: int
    found: int
    fell: int


class Screening(Plain, frozen=True):
    """A whole batch. `policy` is the digest of the policy that was used; `exit_code` follows from its `fail_on`."""

    results: tuple[Screened, ...]
    rings: tuple[Ring, ...]
    discovery: Discovery
    models: int
    key: str
    policy: str
    policy_digest: str
    explanation: tuple[str, ...]
    warnings: tuple[str, ...]
    exit_code: int
    contract: int = CONTRACT

    @property
    def counts(self) -> dict[str, int]:
        """How often each outcome came, in the order of OUTCOMES."""
        found = Counter(one.outcome for one in self.results)
        return {outcome: found[outcome] for outcome in OUTCOMES}
