"""An audit: everything that is looked for in one file, what was found, and what could not be looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from modelkin.auditing import contents, coordinates, leftovers, sizes
from modelkin.auditing.examined import Examined, Found, examined
from modelkin.sources.reading import name_of
from modelkin.wishes import Asked, HowToRead, Listener
from modelkin_registry.answers.asked import AuditAnswer, Looked, Unusual
from modelkin_registry.answers.parts import AUDITED, NOT_EXAMINED, NOTHING_FOUND
from modelkin_registry.answers.sides import describe, warnings_about

FOUND = "found"
LOOKS: Mapping[str, Callable[[Examined], Found]] = {
    "constants": leftovers.constants,
    "unread": leftovers.unread,
    "unplaced": leftovers.unplaced,
    "oversized": leftovers.oversized,
    "shards": leftovers.shards,
    "unknown-names": leftovers.unknown_names,
    "same-place": leftovers.same_place,
    "training-state": leftovers.training_state,
    "stored-in-parts": leftovers.stored_in_parts,
    "layers": sizes.layers,
    "hidden-size": sizes.hidden_size,
    "vocabulary": sizes.vocabulary,
    "heads": sizes.heads,
    "mlp-width": sizes.mlp_width,
    "not-finite": contents.not_finite,
    "zeroed": contents.zeroed,
    "repeated-layers": contents.repeated_layers,
    "fine-noise": contents.fine_noise,
    "folded": coordinates.folded,
    "rescaled-units": coordinates.rescaled_units,
    "rescaled-layers": coordinates.rescaled_layers,
    "rotated": coordinates.rotated,
}


def audited(asked: Asked, how: HowToRead, listener: Listener) -> AuditAnswer:
    """What is unusual in a source. Raises SourceError, FingerprintError."""
    name = name_of(asked)
    with examined(asked, how, listener) as it:
        results = {code: look(it) for code, look in LOOKS.items()}
    findings = tuple(finding for found in results.values() if not isinstance(found, str) for finding in found)
    looked = tuple(_looked(code, found) for code, found in results.items())
    warnings = (*it.notes, *warnings_about(it.fingerprint, name))
    return AuditAnswer(describe(it.fingerprint, name), findings, looked, _explained(findings, looked), warnings)


def _looked(code: str, found: Found) -> Looked:
    if isinstance(found, str):
        return Looked(code, AUDITED[code], NOT_EXAMINED, found)
    return Looked(code, AUDITED[code], FOUND if found else NOTHING_FOUND, None)


def _explained(findings: tuple[Unusual, ...], looked: tuple[Looked, ...]) -> tuple[str, ...]:
    """The headline, and the findings in the order of the table."""
    left = sum(one.state == NOT_EXAMINED for one in looked)
    kinds = len({one.code for one in findings})
    head = f"{len(looked) - left} of {len(looked)} things were looked for, {kinds} of them found."
    return (head, *(f"{one.code}: {one.sentence}" for one in findings))
