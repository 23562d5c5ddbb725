"""Which rule a measured kinship breaks, after what the submission declares and the policy allows; none where that explains it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from msgspec import Struct, field

from modelkin_registry.answers.relations import COPIES
from modelkin_registry.screening.declared import ANY, Declaration
from modelkin_registry.screening.measured import Kinship, Measured
from modelkin_registry.screening.policy import Policy

ALIKE = 0.02  # difference of mean r that sketches of the same weights, stored in another way, show
MANIFEST = "the list of submissions"  # source of what is declared there


class Lineage(Protocol):
    """What a registry knows of its own models."""

    def registered(self, name: str) -> str | None:
        """The registered model that a name means, None where none is, or where it is not clear which."""

    def kindred(self, model: str, base: str) -> Mapping[str, float]:
        """How near another one is to a registered model: component of the model -> 0 where it shows descent, and where it shows a common
        start only, the mean of 1 - r."""

    def licences(self, model: str) -> Sequence[str]:
        """The licences that a registered model's folder names, in lower case."""


class Entry(Struct, frozen=True):
    """A submission that could be read."""

    declaration: Declaration
    measured: Measured

    @property
    def name(self) -> str:
        return self.declaration.name


class Judge(Struct, frozen=True):
    """What kinship is judged by: the policy, the readable submissions by name, and the registry."""

    policy: Policy
    entries: Mapping[str, Entry]
    lineage: Lineage
    _explained: dict[str, set[str]] = field(default_factory=dict)

    def broken(self, entry: Entry, row: Kinship) -> str | None:
        """The rule that a kinship to a registered model breaks."""
        said = entry.declaration
        if said.claims_scratch(row.component) or (row.component == ANY and said.from_scratch):
            return "from-scratch"
        if any(self.covers(entry, row, name) for name in self.parts(entry, row.component)):
            return None
        declared, allowed = self.declared(entry, row.component), self.allowed(entry)
        is_declared = any(self.covers(entry, row, name) for name in declared)
        if allowed is not None:
            if not any(self.covers(entry, row, name) for name in allowed):
                return "not-allowed"
            return None if is_declared or not self.policy.must_declare else "undeclared"
        if is_declared:
            return "undeclared-copy" if self._is_other_copy(entry, row, declared) else None
        return "base-unknown" if any(self._is_unknown(name) for name in declared) else "undeclared"

    def declared(self, entry: Entry, component: str) -> tuple[str, ...]:
        """The models that a component is said to come from."""
        said = entry.declaration
        own = tuple(one.value for one in entry.measured.bases if one.source != MANIFEST) if self.policy.folder_claims else ()
        parts = said.named if component == ANY else (*said.base, *said.reused.get(component, ()))
        return tuple(dict.fromkeys((*parts, *own)))

    def declares(self, entry: Entry, other: Entry) -> bool:
        """Whether a submission declares another one. A name that a registered model has means that model."""
        return other.name in self.declared(entry, ANY) and self.lineage.registered(other.name) is None

    def parts(self, entry: Entry, component: str) -> tuple[str, ...]:
        """The models that a component may come from without being declared."""
        return (*self.policy.parts.get(component, ()), *entry.declaration.allowed_parts.get(component, ()))

    def allowed(self, entry: Entry) -> tuple[str, ...] | None:
        """The models that a submission may be made from; None where that is whatever it declares."""
        own = entry.declaration.allowed_bases
        return self.policy.allowed if own is None else (*(self.policy.allowed or ()), *own)

    def covers(self, entry: Entry, row: Kinship, name: str) -> bool:
        """Whether a model that is declared or allowed explains a kinship: it is that model, or the kinship comes with that to it."""
        if name in (ANY, row.relative):
            return True
        base = self.lineage.registered(name)
        if base is None:
            return name in self.entries and name != entry.name and self._through(entry, row, self.entries[name])
        if base == row.relative:
            return True
        if not any(one.relative == base and one.component == row.component for one in entry.measured.kin):
            return False
        kindred = self.lineage.kindred(row.relative, base)
        apart = kindred.get(ANY, kindred.get(row.relative_component))
        return apart is not None and (apart == 0 or row.apart >= apart - ALIKE)  # a base as near to it as the submission explains it too

    def _through(self, entry: Entry, row: Kinship, other: Entry) -> bool:
        """Whether a declared submission has the same kinship, and may have it. Of two that declare each other neither explains anything."""
        if entry.name in other.declaration.named:
            return False
        return other.name in self._having(row.relative)

    def _having(self, relative: str) -> set[str]:
        """Submissions that may have their kinship to a registered model, by what they declare.

        Grown from those that no other submission is needed for, so that a circle of declarations explains nothing and ends.
        """
        known = self._explained.get(relative)
        if known is not None:  # while it grows, as far as it is
            return known
        found = self._explained.setdefault(relative, set())
        rows = [(entry, row) for entry in self.entries.values() for row in entry.measured.kin if row.relative == relative]
        size = -1
        while size < len(found):
            size = len(found)
            for entry, row in rows:
                if entry.name not in found and self.broken(entry, row) is None:
                    found.add(entry.name)
        return found

    def _is_other_copy(self, entry: Entry, row: Kinship, declared: Sequence[str]) -> bool:
        """Whether the whole is a copy of a model that is not declared itself, and of none that is."""
        if row.whole not in COPIES:
            return False
        named = {self.lineage.registered(name) or name for name in declared} | set(self.allowed(entry) or ())
        copied = {one.relative for one in entry.measured.kin if one.whole in COPIES}
        return ANY not in named and not copied & named

    def _is_unknown(self, name: str) -> bool:
        return name not in self.entries and self.lineage.registered(name) is None


def own_licences(entry: Entry) -> tuple[str, ...]:
    """The licences that a submission has, in lower case."""
    said = (entry.declaration.licence,) if entry.declaration.licence else entry.measured.licence
    return tuple(one.casefold() for one in said)


def licence_rows(judge: Judge, entry: Entry, rows: Sequence[tuple[Kinship, str | None]]) -> Iterator[tuple[str, Kinship, str]]:
    """(rule, kinship, licence) of each model whose licence the submission breaks: those it names, and those that nothing explains."""
    named = {judge.lineage.registered(name) or name for row, _ in rows for name in judge.declared(entry, row.component)}
    allowed = (*judge.policy.licences, *map(str.casefold, entry.declaration.allowed_licences or ()))
    own, seen = own_licences(entry), set()
    for row, rule in rows:
        if row.relative in seen or (rule is None and row.relative not in named):
            continue
        seen.add(row.relative)
        for licence in judge.lineage.licences(row.relative):
            if allowed and licence not in allowed:
                yield "licence-not-allowed", row, licence
            if licence in judge.policy.keep and licence not in own:
                yield "licence-dropped", row, licence
