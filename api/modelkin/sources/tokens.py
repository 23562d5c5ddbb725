"""A model read again by the tokens of another: one whose vocabulary was put in another order has the same rows under other numbers."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modelkin.sources.naming import FINGERPRINT_SUFFIX
from modelkin.sources.reading import DEFAULT_LEVEL, opened
from modelkin.wishes import Asked, HowToRead, Listener, Reading
from modelkin_indexer.errors import SourceError
from modelkin_indexer.results.fingerprint import Fingerprint

MOST_TOKENS = 1 << 22  # numbers of tokens: a tokenizer's file may claim any
ALL_THERE = 0.95  # share of the tokens that span the anchored frame that have to be here too: a frame of others is another frame


def read_by_tokens(
    asked: Asked, other: str | os.PathLike[str], theirs: Fingerprint, how: HowToRead, listener: Listener
) -> Fingerprint | None:
    """Our weights, anchored on the rows of the other folder's tokens, matched by their strings.

    Comparable with that model alone, and never to be kept. None where a tokenizer is missing on either side, or where the tokens that
    matter have the same numbers on both or are not all here. Raises SourceError.
    """
    if (
        isinstance(asked, (Fingerprint, Reading))
        or not os.fspath(other)
        or (how.level or DEFAULT_LEVEL) != "full"
        or theirs.about.level != "full"
    ):
        return None
    path, beside = Path(os.fspath(asked)), Path(os.fspath(other))
    if path.suffix == FINGERPRINT_SUFFIX or not (path.is_dir() and beside.is_dir()):
        return None
    rows = _rows(path, beside, theirs, how)
    if rows is None:
        return None
    from modelkin_indexer.fingerprinting.indexing import fingerprint_source

    with closing(opened(path, how)) as weights:
        done = listener.begin(weights.name, sum(info.nbytes for info in weights.tensors.values()))
        found = fingerprint_source(weights, key=how.key, threads=how.threads, progress=done, tokens=rows)
    listener.say(f"{path.name}: its tokens have other numbers than {beside.name}'s; it is read again by the strings that both have.")
    return found


def _rows(path: Path, beside: Path, theirs: Fingerprint, how: HowToRead) -> npt.NDArray[np.int64] | None:
    """Our row of each of their tokens; None where that is no other order of the same tokens."""
    from modelkin_indexer import sketch
    from modelkin_indexer.beside.structure import vocabulary_in
    from modelkin_indexer.beside.vocabulary import rows_by_string, tokens_of

    files = vocabulary_in(path), vocabulary_in(beside)
    table = theirs.matrices
    heights = [int(table.rows[row]) for row, place in enumerate(table.places) if place[2:] == ("embedding", "token")]
    if files[0] is None or files[1] is None or len(heights) != 1:
        return None
    try:
        ours, named = tokens_of(files[0]), tokens_of(files[1])
    except (SourceError, OSError, ValueError, RecursionError, MemoryError):
        return None
    if max((*ours.values(), *named.values()), default=0) >= MOST_TOKENS:
        return None
    rows = np.full(heights[0], -1, np.int64)
    matched = rows_by_string(ours, named)[: heights[0]]
    rows[: len(matched)] = matched
    anchors = sketch.anchor_tokens(how.key, heights[0])
    here = rows[anchors] >= 0
    if not len(anchors) or here.mean() < ALL_THERE or (rows[anchors] == anchors).all():
        return None
    rows[anchors[~here]] = anchors[~here]  # of what has no string on both sides, the row of its number
    return rows
