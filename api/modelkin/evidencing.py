"""Evidence for others: written into a file, and a file of others checked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkin.registries import OnDemand
from modelkin.wishes import Asked, HowToRead, Listener
from modelkin_indexer.errors import EvidenceError
from modelkin_registry.answers.plain import CONTRACT, Plain

if TYPE_CHECKING:
    from modelkin.answering.comparing import Pair

# What is written beside a bundle: the ends of their names in place of the bundle's own.
FORMS = {"cyclonedx": ".cdx.json", "spdx": ".spdx.json", "in-toto": ".intoto.json", "model-card": ".model-card.yml"}
REPRODUCED, DIFFERS = "reproduced", "differs"


class Evidenced(Plain, frozen=True):
    """A bundle that was written, with its SHA-256, and what others' tools are told beside it, by form."""

    file: str
    bytes: int
    sha256: str
    beside: dict[str, str]
    relation: str
    verdict: str
    explanation: tuple[str, ...]
    contract: int = CONTRACT


class DifferenceTold(Plain, frozen=True):
    """Where a bundle is not what it says: the field, what it says, and what was found; long values are cut."""

    where: str
    told: Any
    found: Any


class Verified(Plain, frozen=True):
    """What became of checking a bundle. `verdict` is "reproduced", or "differs" with the first of `count` differences.

    values   numbers, words and sentences that were made again and compared
    weights  the models whose weights were read for it; none where the bundle's fingerprints were taken
    """

    file: str
    verdict: str
    values: int
    count: int
    differences: tuple[DifferenceTold, ...]
    weights: tuple[str, ...]
    models: tuple[str, ...]
    relation: str
    key: str
    notes: tuple[str, ...]
    contract: int = CONTRACT


def write_evidence(
    pair: Pair,
    target: str | os.PathLike[str],
    forms: Sequence[str],
    how: HowToRead,
    registry: OnDemand,
    listener: Listener,
    command: str,
) -> Evidenced:
    """Make a bundle and write it, with what others' tools are told beside it. Raises EvidenceError, and as `compare`."""
    if unknown := sorted(set(forms) - FORMS.keys()):
        raise EvidenceError(f"form {unknown[0]!r}: it is one of {', '.join(FORMS)}.")
    from modelkin.bundles.gathering import gather  # brings what compares

    data, answer, _ = gather(pair, how, registry, listener, command=command)
    path = Path(target)
    _write(path, data)
    beside = {form: path.with_name(path.name.removesuffix(path.suffix) + FORMS[form]) for form in forms}
    if forms:
        from modelkin.standards.facts import facts_of
        from modelkin.standards.forms import WRITERS

        facts = facts_of(json.loads(data), data)
        for form, file in beside.items():
            _write(file, WRITERS[form](facts).encode())
    told = {form: str(file) for form, file in beside.items()}
    return Evidenced(str(path), len(data), hashlib.sha256(data).hexdigest(), told, answer.relation, answer.verdict, answer.explanation)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise EvidenceError(f"{path}: cannot be written ({error.strerror}). Give a place that you may write to.") from error


def check_evidence(
    file: str | os.PathLike[str], weights: Sequence[Asked], how: HowToRead, registry: OnDemand, listener: Listener
) -> Verified:
    """Check a bundle. Raises EvidenceError for a file that is none or is damaged, UnusableKey, SourceError."""
    from modelkin.bundles.checking import MOST_TOLD, check

    done = check(Path(file), weights, how, registry, listener)
    told = tuple(DifferenceTold(one.where, _cut(one.told), _cut(one.found)) for one in done.differences[:MOST_TOLD])
    return Verified(
        file=os.fspath(file),
        verdict=DIFFERS if done.differences else REPRODUCED,
        values=done.values,
        count=len(done.differences),
        differences=told,
        weights=done.weights,
        models=done.models,
        relation=done.relation,
        key=done.key,
        notes=done.notes,
    )


LONGEST = 200  # characters of a value that a difference shows


def _cut(value: Any) -> Any:
    """A value as a difference shows it."""
    if value is None or isinstance(value, (int, float)):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
