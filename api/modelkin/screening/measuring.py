"""One submission, measured: read once, held against the registry, and looked at for what is unusual."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from contextlib import closing, suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from modelkin.answering.nearest import Search, nearest_to
from modelkin.auditing.examined import Examined
from modelkin.auditing.looks import LOOKS
from modelkin.sources.naming import FINGERPRINT_SUFFIX, HUB_PREFIX
from modelkin.sources.reading import opened, reading_of
from modelkin.wishes import HowToRead, Listener, Reading
from modelkin_indexer.errors import RegistryError, SourceNotFound
from modelkin_indexer.results.beside import Claim
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import QueryAnswer, Unusual
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.claims.declared import registered_as
from modelkin_registry.questions import Questions
from modelkin_registry.relations.pairs import measure_kin
from modelkin_registry.screening.declared import Declaration
from modelkin_registry.screening.explained import MANIFEST
from modelkin_registry.screening.measured import Measured, measured_of
from modelkin_registry.store.digests import content_digest

MOST_KIN = 200  # relatives of a submission that are weighed: all of a large family; of a larger one the named ones too
A_LINK = "is a link, which leads out of what was submitted"
NAME_TARGET = "If it is yours, name its target in a list of submissions."


class Work(Struct, frozen=True):
    """What is to be done with a submission, and how. `allowed` are the models that the policy names."""

    declaration: Declaration
    how: HowToRead
    audit: tuple[str, ...]
    allowed: tuple[str, ...] = ()


def measure(registry: Questions, work: Work, listener: Listener) -> tuple[Fingerprint, Measured, Fingerprint | None]:
    """A submission beside a registry; and how its files have it where its matrices were read turned. Raises whatever is wrong with it."""
    said = work.declaration
    how = replace(work.how, file=said.file)
    asked = _asked(said.source)
    reading = reading_of(asked, how, listener, registry.store)
    named = tuple(Claim("base_model", name, MANIFEST) for name in said.named)
    fingerprint, answer = nearest(registry, asked, replace(reading, claims=(*named, *reading.claims)), how, listener)
    is_written = asked.endswith(FINGERPRINT_SUFFIX)
    audit = () if is_written or reading.remote else audited(Path(asked), fingerprint, reading.notes, how, work.audit)
    licence = [claim.value for claim in reading.claims if claim.kind == "license"]
    measured = measured_of(
        fingerprint,
        answer,
        audit,
        licence=licence,
        digest=content_digest(fingerprint),
        from_weights=not is_written,
        notes=reading.notes,
        further=_named_beyond(registry, fingerprint, answer, (*_allowed(work), *(claim.value for claim in reading.claims))),
    )
    is_turned = fingerprint is not reading.fingerprint and fingerprint.matrices.places == reading.fingerprint.matrices.places
    return fingerprint, measured, reading.fingerprint if is_turned else None


def _allowed(work: Work) -> tuple[str, ...]:
    """The models by which a kinship may be explained: what a submission declares, and what it or the policy is allowed."""
    said = work.declaration
    parts = (name for names in said.allowed_parts.values() for name in names)
    return (*said.named, *(said.allowed_bases or ()), *parts, *work.allowed)


def _named_beyond(registry: Questions, fingerprint: Fingerprint, answer: QueryAnswer, names: Iterable[str]) -> list[Relative]:
    """Where more models are kin than are weighed: the named ones among the rest, which may explain all of those that are nearer."""
    shown = {one.model for one in answer.relatives}
    if len(shown) < MOST_KIN or answer.examined is None:
        return []
    aliases = registry.store.claims.aliases()
    wanted = {model for name in names if (model := registered_as(name, aliases)) is not None} - shown
    judge, found = registry.judge(answer.examined.models), []
    for name in sorted(wanted):
        with suppress(RegistryError):  # of an outdated fingerprint, which explains nothing
            found.append(measure_kin(fingerprint, registry.get(name), name, judge).relative)
    return found


def _asked(source: str) -> str:
    """A submission's source. Raises SourceNotFound for a link."""
    if not source.startswith(HUB_PREFIX) and os.path.islink(source):  # noqa: PTH114  # Path raises where a folder may not be searched
        raise SourceNotFound(A_LINK, path=source, remedy=NAME_TARGET)
    return source


def nearest(registry: Questions, asked: str, reading: Reading, how: HowToRead, listener: Listener) -> tuple[Fingerprint, QueryAnswer]:
    """A submission held against a registry: the one place where that is done."""
    return nearest_to(registry, asked, reading, how, listener, Search(k=MOST_KIN))


def audited(path: Path, fingerprint: Fingerprint, notes: tuple[str, ...], how: HowToRead, codes: Collection[str]) -> list[Unusual]:
    """What of these codes an audit finds, by a fingerprint that was made already."""
    from modelkin_indexer.anatomy.parts import anatomy_of

    with closing(opened(path, how)) as weights:
        it = Examined(fingerprint, notes, weights, anatomy_of(weights))
        results = [LOOKS[code](it) for code in LOOKS if code in codes]
    return [one for found in results if not isinstance(found, str) for one in found]
