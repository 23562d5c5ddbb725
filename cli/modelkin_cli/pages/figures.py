"""Figures as people read them: short, and never more certain than they are."""

from __future__ import annotations

from modelkin_registry.answers.evidence import SAME_R, FamilyEvidence
from modelkin_registry.evidence.nulls import SMALLEST_P

NOTHING = "-"


def correlation(r: float | None, digits: int = 3) -> str:
    """`0.981`, `-0.013`; "-" where it could not be computed. What is not quite 1 is not shown as 1."""
    if r is None:
        return NOTHING
    step = 10.0**-digits
    shown = round(min(r, 1 - step) if r < SAME_R else r, digits)
    return f"{shown + 0.0:.{digits}f}"  # + 0.0 makes -0.0 a plain 0


def probability(p: float | None) -> str:
    """`0.4`, `2e-12`, `<1e-30`."""
    if p is None:
        return NOTHING
    if p <= SMALLEST_P:
        return f"<{SMALLEST_P:.0e}"
    return f"{p:.1g}" if p < 0.001 else f"{p:.2g}"


def share(part: float) -> str:
    """`97 %`; rounded towards "not all" and "not nothing"."""
    percent = part * 100
    rounded = 100 if part >= 1 else 0 if part <= 0 else min(99, max(1, round(percent)))
    return f"{rounded} %"


def null(family: FamilyEvidence) -> str:
    """`0.001 ± 0.020`: what strangers give."""
    if family.null_mean is None or family.null_sd is None:
        return NOTHING
    return f"{family.null_mean:.2f} ± {family.null_sd:.2f}"


def standard_score(z: float | None) -> str:
    """`49.0`."""
    return NOTHING if z is None else f"{z:.1f}"


def count(number: int | None) -> str:
    """`2,193,120`."""
    return NOTHING if number is None else f"{number:,}"
