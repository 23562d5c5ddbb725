"""A look at everything a registry holds. Mends what is derived (search rows, index) and never touches the truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from msgspec import to_builtins

from modelkin_indexer import spec
from modelkin_indexer.errors import FingerprintError, RegistryError
from modelkin_indexer.results import fingerprint
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.upkeep import Finding
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.store.choosing import facets_of
from modelkin_registry.store.digests import content_digest, digest_of
from modelkin_registry.store.protocol import Store
from modelkin_registry.store.records import KeptFingerprint
from modelkin_registry.store.rows import Array, IndexRows, encode, is_codes, numbers

VectorsOf = Callable[[bytes], Sequence[IndexRows]]

# Rows made anew may differ from the stored ones by the last bit of a float16 in [-1, 1], or by the signs of sums that are nearly 0.
ROW_TOLERANCE = 2e-3
CODE_TOLERANCE = 4
OUTDATED_SHOWN = 3  # models of an older spec that are named

Stale = tuple[int, str]  # a revision's number and name


def examine(store: Store, index: VectorIndex, *, repair: bool = False, vectors_of: VectorsOf | None = None) -> list[Finding]:
    """What is sound and what is not: at least one finding a check, one for each thing that is broken.

    Args:
        repair: make search rows and the index anew where they are wrong.
        vectors_of: the rows to search by of a fingerprint's bytes; without it search rows are only looked at, not made again.
    """
    findings, stale = _truth(store, vectors_of)
    findings += _search_rows(store, stale, vectors_of if repair else None)
    return findings + _attempted("index", lambda: _index(index, repair))


def _truth(store: Store, vectors_of: VectorsOf | None) -> tuple[list[Finding], list[Stale]]:
    """All checks that read the truth, of one moment; and the revisions whose search rows are wrong."""
    stale: list[Stale] = []
    try:
        with store.reading():
            findings = [
                *_attempted("file", lambda: _file(store)),
                *_attempted("references", lambda: _references(store)),
                *_attempted("orphans", lambda: _orphans(store)),
                *_attempted("backgrounds", lambda: _backgrounds(store)),
                *_attempted("fingerprints", lambda: _fingerprints(store, vectors_of, stale)),
            ]
    except RegistryError as error:
        return [Finding("file", "broken", str(error))], []
    return findings, stale


def _attempted(check: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of one check, "ok" if there are none, "broken" if it could not be done."""
    try:
        return list(look()) or [Finding(check, "ok", "")]
    except RegistryError as error:
        return [Finding(check, "broken", f"could not be looked at: {error}")]


def _file(store: Store) -> Iterator[Finding]:
    for problem in store.inspection.damage():
        yield Finding("file", "broken", f"{problem}. Restore the registry from a backup or an export")


def _references(store: Store) -> Iterator[Finding]:
    for problem in store.inspection.lost_references():
        yield Finding("references", "broken", problem)


def _orphans(store: Store) -> Iterator[Finding]:
    for what, found in store.inspection.orphans():
        yield Finding("orphans", "broken", f"{what}: {', '.join(found)}")


def _backgrounds(store: Store) -> Iterator[Finding]:
    told = store.backgrounds.told()
    if told is not None:
        where = f"on {told.models} models here ({told.measured[:10]})"
        detail = f"{told.used} of {told.measured_for} measured {where}, the others shipped"
        yield Finding("backgrounds", "ok", detail)


def _fingerprints(store: Store, vectors_of: VectorsOf | None, stale: list[Stale]) -> Iterator[Finding]:
    """Bytes against digest, content against row; notes in `stale` whose search rows are not what the fingerprint gives."""
    outdated = []
    for row in store.inspection.fingerprints():
        if row.spec in spec.OLDER and digest_of(row.data) == row.digest:
            outdated.append(row.name)
        elif problem := _problem(row, store.key_name):
            yield Finding("fingerprints", "broken", f"{row.name} ({row.level}): {problem}. Remove the model and add it again")
        elif row.searched and not _rows_agree(store, row, vectors_of):
            stale.append((row.revision, row.name))
    if outdated:
        some = ", ".join(outdated[:OUTDATED_SHOWN]) + (", ..." if len(outdated) > OUTDATED_SHOWN else "")
        detail = f"{len(outdated)} are of an older spec and are not searched: {some}. Make them anew with `modelkin upgrade`"
        yield Finding("fingerprints", "ok", detail)


def _problem(row: KeptFingerprint, key_name: str) -> str:
    if len(row.data) != row.size or digest_of(row.data) != row.digest:
        return "the bytes are not those that were stored"
    try:
        wrong = list(_contradicted(row, fingerprint.from_bytes(row.data, row.name)))
    except (FingerprintError, ValueError) as error:
        return str(error)
    if wrong:
        return f"the row tells another {' and '.join(wrong)} than the fingerprint"
    return "" if row.key == key_name else f"made with key {row.key!r}, the registry's is {key_name!r}"


def _contradicted(row: KeptFingerprint, found: Fingerprint) -> Iterator[str]:
    """Fields of a row that are not what the fingerprint holds. Raises ValueError where they are no JSON."""
    about = json.loads(json.dumps(to_builtins(found.about)))  # as it comes back from JSON, where tuples are lists
    yield from (field for field in ("level", "spec", "key", "coverage") if about[field] != getattr(row, field))
    if any(about.get(field) != value for field, value in json.loads(row.about).items()):  # an older version knew fewer fields
        yield "description"
    if row.searched:
        yield from (field for field in ("parameters", "bytes_total") if about[field] != getattr(row, field))
        if json.loads(row.config) != (about["config"] or {}):
            yield "config"
        if row.content != content_digest(found):
            yield "content"


def _rows_agree(store: Store, row: KeptFingerprint, vectors_of: VectorsOf | None) -> bool:
    """Whether the revision's search rows are there, are of this fingerprint and, where they can be made anew, are the same."""
    if not _may_be_chosen(store, row):
        return False
    records = store.vectors.of(row.revision)
    if any(record.fingerprint != row.fingerprint or not record.is_sound for record in records):
        return False
    if vectors_of is None:
        return bool(records)
    wanted = {(rows.kind, rows.component): rows for rows in map(encode, vectors_of(row.data)) if len(rows.layers)}
    held = {(record.kind, record.component): (record.layers, record.data) for record in records}
    if wanted.keys() != held.keys():
        return False
    return all(rows.layers.tobytes() == held[key][0] and _near(rows.kind, rows.data, held[key][1]) for key, rows in wanted.items())


def _may_be_chosen(store: Store, row: KeptFingerprint) -> bool:
    """Whether the revision is listed and chosen by what this fingerprint tells."""
    about, config = json.loads(row.about), json.loads(row.config)
    return store.inspection.facets(row.revision) == facets_of(row.level, row.coverage, row.parameters, row.bytes_total, about, config)


def _near(kind: str, wanted: Array, held: bytes) -> bool:
    if len(held) != wanted.size:
        return False
    data = np.frombuffer(held, np.uint8).reshape(wanted.shape)
    if is_codes(kind):
        return bool(np.all(np.bitwise_count(data ^ wanted).sum(axis=1, dtype=np.int64) <= CODE_TOLERANCE))
    return bool(np.all(np.abs(numbers(data) - numbers(wanted)) <= ROW_TOLERANCE))


def _search_rows(store: Store, stale: Sequence[Stale], vectors_of: VectorsOf | None) -> list[Finding]:
    return [_mended(store, revision, name, vectors_of) for revision, name in stale] or [Finding("search rows", "ok", "")]


def _mended(store: Store, revision: int, name: str, vectors_of: VectorsOf | None) -> Finding:
    if vectors_of is None:
        return Finding("search rows", "broken", f"{name}: missing or not those of its fingerprint. Mend with `modelkin doctor --repair`")
    try:
        for stored in store.stored([revision]).values():  # none if it was removed meanwhile
            store.repair_vectors(revision, stored.fingerprint, vectors_of(stored.blob))
    except (RegistryError, ValueError) as error:
        return Finding("search rows", "broken", f"{name}: could not be made anew: {error}")
    return Finding("search rows", "repaired", f"{name}: made anew from its fingerprint")


def _index(index: VectorIndex, repair: bool) -> Iterator[Finding]:
    problems = index.check()
    if problems and repair:
        index.rebuild()
        left = index.check()
        yield from (Finding("index", "repaired", f"{problem}; built anew") for problem in problems if problem not in left)
        problems = left
    yield from (Finding("index", "broken", f"{problem}. Mend with `modelkin doctor --repair`") for problem in problems)
