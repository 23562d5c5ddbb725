"""A tokenizer's vocabulary as a bottom-k sketch (Broder 1997): the overlap of two is estimated without either."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelkin_indexer.sources.stored.files import read_small

KEPT = 512  # smallest hashes: the overlap is known to within 0.022 (one standard error at a half)
MAX_BYTES = 64 << 20  # of a tokenizer's file; the largest public ones have about 35 MB


def vocabulary_sketch(path: Path) -> bytes:
    """uint64 little endian: number of tokens, then the KEPT smallest hashes, ascending. Raises SourceError, ValueError, OSError."""
    data = read_small(path, MAX_BYTES)
    tokens = set(data.decode("utf-8", "replace").splitlines()) if path.suffix == ".txt" else set(_tokens(json.loads(data)))
    if not tokens:
        raise ValueError("has no vocabulary")
    hashes = sorted(_hash(token) for token in tokens)[:KEPT]
    return np.array([len(tokens), *hashes], "<u8").tobytes()


def tokens_of(path: Path) -> dict[str, int]:
    """Each token's number. Raises SourceError, ValueError, OSError."""
    data = read_small(path, MAX_BYTES)
    if path.suffix == ".txt":
        return {token: number for number, token in enumerate(data.decode("utf-8", "replace").splitlines())}
    said = json.loads(data)
    model = said.get("model") if isinstance(said, dict) else None
    vocabulary = model.get("vocab") if isinstance(model, dict) else said
    if isinstance(vocabulary, Mapping):
        found = {token: number for token, number in vocabulary.items() if isinstance(token, str) and type(number) is int}
    else:
        found = {token: number for number, token in enumerate(_tokens(said))}
    added = said.get("added_tokens") if isinstance(said, dict) and isinstance(model, dict) else None
    for one in added if isinstance(added, list) else ():
        if isinstance(one, dict) and isinstance(one.get("content"), str) and type(one.get("id")) is int:
            found.setdefault(one["content"], one["id"])
    return found


def rows_by_string(ours: Mapping[str, int], theirs: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """Of each number there the number here of the token that is the same string; -1 where there is none."""
    found = np.full(max(theirs.values(), default=-1) + 1, -1, np.int64)
    for token, number in theirs.items():
        if number >= 0:
            found[number] = ours.get(token, -1)
    return found


def _tokens(said: Any) -> Iterable[str]:
    """The tokens of tokenizer.json (a map, or a list of pairs with scores), or of vocab.json."""
    model = said.get("model") if isinstance(said, dict) else None
    vocabulary = model.get("vocab") if isinstance(model, dict) else said
    if isinstance(vocabulary, Mapping):
        yield from (token for token in vocabulary if isinstance(token, str))
    elif isinstance(vocabulary, list):
        yield from (pair[0] for pair in vocabulary if isinstance(pair, list) and pair and isinstance(pair[0], str))


def _hash(token: str) -> int:
    return int.from_bytes(blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
