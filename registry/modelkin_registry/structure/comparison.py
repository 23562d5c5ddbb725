"""The structure channel: config, vocabulary, code and licence of two models side by side. Shown apart, never a reason for a relation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.results.beside import SHINGLE, StructurePart
from modelkin_registry.answers.claims import Passage, StructureBeside
from modelkin_registry.store.words import kept_words

COMMON_IN = 2  # other registered models that have a piece of code too, from which on it is a common template
SHOWN_PASSAGES = 3  # the longest
GAP = 3  # shingles of a passage that may be missing in a row: a changed line takes out about this many
CHANGED_LICENCE = 0.5  # share of words in common from which on two licence texts are versions of one
Elsewhere = Callable[[npt.NDArray[np.uint64]], npt.NDArray[np.int64]]


class Structure(Struct, frozen=True):
    """One model's: the small part of its config.json, and what lay beside its weights."""

    config: Mapping[str, Any]
    parts: Sequence[StructurePart]

    def kind(self, kind: str) -> list[StructurePart]:
        """Its parts of one kind."""
        return [part for part in self.parts if part.kind == kind]


def compare_structure(a: Structure, b: Structure, name: str, elsewhere: Elsewhere) -> StructureBeside:
    """A's structure beside that of the model of this name. `elsewhere` counts other models that have a shingle."""
    both = sorted(a.config.keys() & b.config.keys())
    code, common, passages = _code(a.kind("code"), b.kind("code"), elsewhere)
    found = StructureBeside(
        model=name,
        config_agrees=tuple(field for field in both if a.config[field] == b.config[field]),
        config_differs={field: (a.config[field], b.config[field]) for field in both if a.config[field] != b.config[field]},
        vocabulary_overlap=_overlap(a.kind("vocabulary"), b.kind("vocabulary")),
        code=code,
        code_elsewhere=common,
        passages=passages,
        licence=_licence(a.kind("licence"), b.kind("licence")),
    )
    return replace(found, sentences=tuple(_sentences(found)))


def _overlap(a: Sequence[StructurePart], b: Sequence[StructurePart]) -> float | None:
    """Jaccard index, estimated by the smallest hashes of the union; exact for small vocabularies."""
    if not a or not b:
        return None
    numbers = [np.frombuffer(parts[0].data, "<u8") for parts in (a, b)]
    sketches = [one[1:] for one in numbers]
    is_whole = all(len(sketch) == int(one[0]) for sketch, one in zip(sketches, numbers, strict=True))
    kept = np.union1d(*sketches)[: None if is_whole else min(map(len, sketches))]
    return round(float(np.mean(np.isin(kept, sketches[0]) & np.isin(kept, sketches[1]))), 4)


def _code(
    a: Sequence[StructurePart], b: Sequence[StructurePart], elsewhere: Elsewhere
) -> tuple[float | None, float | None, tuple[Passage, ...]]:
    """Share of A's code that B has, the part of it that others have too, and the longest passages."""
    mine = [(part.name, np.frombuffer(part.data, SHINGLE)) for part in a]
    theirs = [(part.name, np.frombuffer(part.data, SHINGLE)) for part in b]
    if not sum(len(rows) for _, rows in mine) or not theirs:
        return None, None, ()
    hashes = np.unique(np.concatenate([rows["hash"] for _, rows in mine]))
    shared = hashes[np.isin(hashes, np.concatenate([rows["hash"] for _, rows in theirs]))]
    common = float(np.mean(elsewhere(shared) >= COMMON_IN)) if len(shared) else None
    found = [passage for name, rows in mine for other, others in theirs for passage in _passages(name, rows, other, others)]
    longest = sorted(found, key=lambda item: (-item[0], item[1].file, item[1].lines))[:SHOWN_PASSAGES]
    return round(len(shared) / len(hashes), 4), common, tuple(passage for _, passage in longest)


def _passages(name: str, rows: npt.NDArray[np.void], other: str, others: npt.NDArray[np.void]) -> Iterator[tuple[int, Passage]]:
    """Runs of shingles that follow each other in both files, each with its number of shingles."""
    where: dict[int, int] = {}
    for at, value in enumerate(others["hash"].tolist()):
        where.setdefault(value, at)
    run: list[tuple[int, int]] = []
    for at, value in enumerate(rows["hash"].tolist()):
        there = where.get(value)
        if there is None:
            continue
        if run and not (at - run[-1][0] <= GAP and 0 < there - run[-1][1] <= GAP):
            yield len(run), _passage(run, name, rows, other, others)
            run = []
        run.append((at, there))
    if run:
        yield len(run), _passage(run, name, rows, other, others)


def _passage(run: list[tuple[int, int]], name: str, rows: npt.NDArray[np.void], other: str, others: npt.NDArray[np.void]) -> Passage:
    (first, first_there), (last, last_there) = run[0], run[-1]
    here = int(rows["line"][first]), int(rows["line"][last])
    return Passage(name, here, other, (int(others["line"][first_there]), int(others["line"][last_there])))


def _licence(a: Sequence[StructurePart], b: Sequence[StructurePart]) -> str | None:
    if not a or not b:
        return None
    shares = [kept_words(one.data.decode("utf-8", "replace"), two.data.decode("utf-8", "replace")) for one in a[:1] for two in b[:1]]
    return "same" if shares[0] == 1 else "changed" if shares[0] >= CHANGED_LICENCE else "different"


def _sentences(found: StructureBeside) -> Iterator[str]:
    """What people read of it."""
    fields = len(found.config_agrees) + len(found.config_differs)
    if fields:
        differs = f"; different: {', '.join(found.config_differs)}" if found.config_differs else ""
        yield f"config: {len(found.config_agrees)} of {fields} fields agree{differs}"
    if found.vocabulary_overlap is not None:
        yield f"vocabulary: {found.vocabulary_overlap:.0%} of the tokens of both are in common"
    if found.code is not None:
        common = f", of which {found.code_elsewhere:.0%} is in other registered models too" if found.code_elsewhere else ""
        yield f"code: {found.code:.0%} of it is there too{common}"
    for passage in found.passages:
        here, there = ("-".join(map(str, lines)) for lines in (passage.lines, passage.relative_lines))
        yield f"code: {passage.file} lines {here} match {passage.relative_file} lines {there}"
    if found.licence is not None:
        yield f"licence: {'the same text' if found.licence == 'same' else f'a {found.licence} text'}"
