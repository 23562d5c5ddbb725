"""A tokenizer's vocabulary as a bottom-k sketch (Broder 1997): the overlap of two is estimated without either."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

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
