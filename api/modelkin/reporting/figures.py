"""Figures as a page shows them: short, and never more certain than they are."""

from __future__ import annotations

from modelkin_registry.answers.evidence import SAME_R, FamilyEvidence
from modelkin_registry.evidence.nulls import SMALLEST_P
from modelkin_registry.explanation.parts import share_words

NOTHING = "–"


def correlation(r: float | None, digits: int = 3) -> str:
    """`0.981`; a dash where it could not be computed. What is not quite 1 is not shown as 1."""
    if r is None:
        return NOTHING
    step = 10.0**-digits
    value = round(min(r, 1 - step) if r < SAME_R else r, digits)
    return f"{value + 0.0:.{digits}f}".replace("-", "−")


def probability(p: float | None) -> str:
    """`0.4`, `2e-12`, `below 1e-30` as `< 1e-30`."""
    if p is None:
        return NOTHING
    if p <= SMALLEST_P:
        return f"< {SMALLEST_P:.0e}"
    return f"{p:.1g}" if p < 0.001 else f"{p:.2g}"


def share(part: float) -> str:
    """A percentage that says 100 % only of the whole, and 0 % only of nothing."""
    return share_words(part)


def null(family: FamilyEvidence) -> str:
    """`0.00 ± 0.02`: what strangers give."""
    if family.null_mean is None or family.null_sd is None:
        return NOTHING
    return f"{number(family.null_mean, 2)} ± {number(family.null_sd, 2)}"


def number(value: float | None, digits: int = 3) -> str:
    """A plain number."""
    return NOTHING if value is None else f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # + 0.0 makes -0.0 a plain 0


def count(value: int | None) -> str:
    """`2,193,120`."""
    return NOTHING if value is None else f"{value:,}"
