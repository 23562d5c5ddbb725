"""The decisions of a whole batch: what each submission's measurements come to under the policy, corrected over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.spec import PUBLIC
from modelkin_registry.answers.parts import NOT_EXAMINED, RELATED
from modelkin_registry.explanation.relatives import DISTILLATION
from modelkin_registry.screening import sentences
from modelkin_registry.screening.declared import ANY, Declaration
from modelkin_registry.screening.discovery import q_values
from modelkin_registry.screening.explained import Entry, Judge, Lineage, licence_rows, own_licences
from modelkin_registry.screening.measured import Kinship, Measured
from modelkin_registry.screening.policy import Policy
from modelkin_registry.screening.results import (
    CLEAR,
    FLAGGED,
    INCONCLUSIVE,
    OUTCOMES,
    UNREADABLE,
    Discovery,
    Screened,
    ScreenFinding,
    Screening,
)
from modelkin_registry.screening.rings import Between, Tie, rings_of, tie
from modelkin_registry.screening.rules import FLAG, NOTE, OFF
from modelkin_registry.screening.rules import INCONCLUSIVE as OPEN

PROCEDURE = "Benjamini-Yekutieli"
VIOLATED, UNREAD_CODE = 1, 3  # exit codes
UNSETTLED = ("uncorrected", "base-unknown")  # kinships of which nobody can say that the submission needs the licence of that model
Test = tuple[str, str, bool]  # submission, other model, whether that is a submission


class Unreadable(Struct, frozen=True):
    """A submission that could not be read, and why."""

    declaration: Declaration
    reason: str


class Asked(Struct, frozen=True):
    """What a batch is held against: the number of registered models and the key's name."""

    models: int
    key: str


def decided(batch: Sequence[Entry | Unreadable], pairs: Iterable[Between], policy: Policy, lineage: Lineage, asked: Asked) -> Screening:
    """The whole answer. The order is the batch's; the same measurements give the same answer."""
    entries = {one.name: one for one in batch if isinstance(one, Entry)}
    judge = Judge(policy, entries, lineage)
    between = list(pairs)
    values, tests = _tests(entries.values(), between)
    ties = [found for one in between if (found := tie(judge, one)) is not None]
    told = {name: [*_Told(judge, entry, values).findings(), *_tied(entry, ties, values, policy)] for name, entry in entries.items()}
    told = {name: [one for one in found if one.action != OFF] for name, found in told.items()}
    stood = [one for one in ties if _q(one, values) <= policy.rate and policy.actions[one.rule] != OFF]
    results = tuple(_screened(one, told.get(one.declaration.name, ())) for one in batch)
    rested = [one for found in told.values() for one in found if one.q_value is not None]
    fell = sum(one.rule == "uncorrected" for one in rested)
    discovery = Discovery(PROCEDURE, policy.rate, tests, len(rested) - fell, fell)
    notes = (sentences.PUBLIC,) if asked.key == PUBLIC else ()
    rings = rings_of(stood, [one.declaration.name for one in batch])
    counts = {outcome: sum(one.outcome == outcome for one in results) for outcome in OUTCOMES}
    return Screening(
        results=results,
        rings=rings,
        discovery=discovery,
        models=asked.models,
        key=asked.key,
        policy=policy.name,
        policy_digest=policy.digest,
        explanation=(
            f"{len(results)} submissions: {', '.join(f'{number} {outcome}' for outcome, number in counts.items())}.",
            *(f"{ring.name}: {ring.sentence}" for ring in rings),
            sentences.discovery_sentence(discovery),
            sentences.DIRECTION,
            DISTILLATION,
        ),
        warnings=notes,
        exit_code=exit_code(results, policy.fail_on),
    )


def exit_code(results: Iterable[Screened], fail_on: Sequence[str]) -> int:
    """1 where an outcome came that the policy fails on, else 3 where one could not be read, else 0."""
    outcomes = {one.outcome for one in results}
    return VIOLATED if outcomes & set(fail_on) else UNREAD_CODE if UNREADABLE in outcomes else 0


def _tests(entries: Iterable[Entry], pairs: Iterable[Between]) -> tuple[dict[Test, float], int]:
    """q-values of all pairs with evidence, and how many pairs there were: every submission with every model and every other submission."""
    found: dict[Test, float] = {}
    models = count = 0
    for entry in entries:
        models, count = models + entry.measured.models, count + 1
        for row in entry.measured.kin:
            _keep(found, (entry.name, row.relative, False), row)
    for one in pairs:
        for row in one.rows:
            _keep(found, (one.first, one.second, True), row)
    tests = models + count * (count - 1) // 2
    return q_values(found, max(tests, len(found))), tests


def _keep(found: dict[Test, float], test: Test, row: Kinship) -> None:
    found[test] = min(row.pair_p, found.get(test, 1.0))


def _q(one: Tie, values: Mapping[Test, float]) -> float:
    return values[(*one.ends, True)]


class _Told(Struct, frozen=True):
    """What is told of one submission beside the registry."""

    judge: Judge
    entry: Entry
    values: Mapping[Test, float]

    def findings(self) -> Iterator[ScreenFinding]:
        rows = [(row, self._corrected(row, self.judge.broken(self.entry, row))) for row in self.entry.measured.kin]
        yield from self._kinships(rows)
        yield from self._licences([(row, rule) for row, rule in rows if rule not in UNSETTLED])
        yield from self._bases()
        yield from self._examined()

    def _corrected(self, row: Kinship, rule: str | None) -> str | None:
        return "uncorrected" if rule is not None and self._q(row) > self.judge.policy.rate else rule

    def _q(self, row: Kinship) -> float:
        return self.values[self.entry.name, row.relative, False]

    def _kinships(self, rows: Sequence[tuple[Kinship, str | None]]) -> Iterator[ScreenFinding]:
        """One finding a rule and component: of the nearest model; the others are named in it."""
        groups: dict[tuple[str, str], list[Kinship]] = {}
        for row, rule in rows:
            if rule is not None:
                groups.setdefault((rule, row.component), []).append(row)
        for (rule, component), found in groups.items():
            others = tuple(dict.fromkeys(one.relative for one in found[1:] if one.relative != found[0].relative))
            declared = ", ".join(self.judge.declared(self.entry, component))
            yield self._about(rule, found[0], others, declared=declared)

    def _licences(self, rows: Sequence[tuple[Kinship, str | None]]) -> Iterator[ScreenFinding]:
        own = ", ".join(own_licences(self.entry)) or "not stated"
        for rule, row, licence in licence_rows(self.judge, self.entry, rows):
            yield self._about(rule, row, (), licence=licence, own=own)

    def _about(self, rule: str, row: Kinship, others: tuple[str, ...], **words: str) -> ScreenFinding:
        q_value = self._q(row)
        subject = sentences.subject_of(self.entry.name, row.component if len(self.entry.measured.shares) > 1 else None)
        told = sentences.RULE_SENTENCES[rule].format(
            subject=subject, relative=row.relative, relation=row.relation, q_value=q_value, **words
        )
        return ScreenFinding(
            rule=rule,
            action=self.judge.policy.actions[rule],
            component=row.component,
            family=row.family,
            relative=row.relative,
            relation=row.relation,
            p_value=row.p_value,
            sentence=sentences.begun(told) + sentences.and_others(others),
            q_value=q_value,
            others=others,
        )

    def _bases(self) -> Iterator[ScreenFinding]:
        """Declared bases of which the weights show nothing, and common starts."""
        counted = set(self.entry.declaration.named) | set(self.judge.declared(self.entry, ANY))
        nothing = [one for one in self.entry.measured.bases if one.verdict == "nothing" and one.value in counted]
        for name in dict.fromkeys(one.model or one.value for one in nothing):
            yield self._plain("base-not-borne-out", sentences.NOT_BORNE_OUT.format(base=name), relative=name)
        for name in self.entry.measured.started[:1]:
            yield self._plain("common-start", sentences.COMMON_START.format(relative=name), relative=name)

    def _examined(self) -> Iterator[ScreenFinding]:
        """What kept kinship from being looked for."""
        found, policy = self.entry.measured, self.judge.policy
        if found.same_lengths:
            yield self._plain("same-lengths", sentences.SAME_LENGTHS.format(relative=found.same_lengths[0]), relative=found.same_lengths[0])
        if found.examined_share < policy.least_examined or (found.verdict == NOT_EXAMINED and not found.same_lengths):
            yield self._plain("not-examined", sentences.NOT_EXAMINED.format(share=found.examined_share, models=found.models))
        for component in found.uncompared:
            if (share := found.shares.get(component, 0.0)) > policy.part:
                words = sentences.PART_NOT_EXAMINED.format(component=component, share=share, models=found.models)
                yield self._plain("part-not-examined", words, component=component)
        if (unread := 1.0 - found.coverage) > policy.unread:
            yield self._plain("unread", sentences.UNREAD.format(share=unread))
        if found.is_change:
            yield self._plain("adapter-alone", sentences.ADAPTER_ALONE)
        if not found.from_weights:
            yield self._plain("fingerprint-only", sentences.FINGERPRINT_ONLY)
        for code, sentence in found.audit:
            if code in policy.audit:
                one = self._plain("audit", sentences.AUDIT.format(code=code, sentence=sentence))
                yield replace(one, action=NOTE) if found.verdict == RELATED and one.action != OFF else one

    def _plain(self, rule: str, sentence: str, *, component: str | None = None, relative: str | None = None) -> ScreenFinding:
        return ScreenFinding(rule, self.judge.policy.actions[rule], component, None, relative, None, None, sentence)


def _tied(entry: Entry, ties: Sequence[Tie], values: Mapping[Test, float], policy: Policy) -> Iterator[ScreenFinding]:
    """One finding a rule about the other submissions that this one is tied to: the first in the batch's order, the others named."""
    groups: dict[str, list[Tie]] = {}
    for one in ties:
        if entry.name in one.ends:
            groups.setdefault(one.rule if _q(one, values) <= policy.rate else "uncorrected", []).append(one)
    for rule, found in groups.items():
        names = [next(name for name in one.ends if name != entry.name) for one in found]
        row, q_value, is_first = found[0].row, _q(found[0], values), found[0].between.first == entry.name
        words = {"relative": names[0], "relation": row.relation, "base": found[0].base, "q_value": q_value}
        yield ScreenFinding(
            rule=rule,
            action=policy.actions[rule],
            component=row.component if is_first else row.relative_component,
            family=row.family,
            relative=names[0],
            relation=row.relation,
            p_value=row.p_value,
            sentence=sentences.RULE_SENTENCES[rule].format(subject=entry.name, **words) + sentences.and_others(names[1:]),
            q_value=q_value,
            in_batch=True,
            others=tuple(names[1:]),
        )


def _screened(one: Entry | Unreadable, findings: Sequence[ScreenFinding]) -> Screened:
    said = one.declaration
    declared = said.named or None
    if isinstance(one, Unreadable):
        return Screened(said.name, said.source, UNREADABLE, declared, (), one.reason)
    found: Measured = one.measured
    ordered = sorted(findings, key=lambda finding: (FLAG, OPEN, NOTE).index(finding.action))
    deciding = ordered[0] if ordered and ordered[0].action != NOTE else None
    return Screened(
        submission=said.name,
        source=said.source,
        outcome=CLEAR if deciding is None else FLAGGED if deciding.action == FLAG else INCONCLUSIVE,
        declared_base=declared,
        findings=tuple(ordered),
        reason=None if deciding is None else deciding.sentence,
        level=found.level,
        key=found.key,
        parameters=found.parameters,
        components=tuple(found.shares),
        verdict=found.verdict,
        examined_share=found.examined_share,
        coverage=found.coverage,
        digest=found.digest,
    )
