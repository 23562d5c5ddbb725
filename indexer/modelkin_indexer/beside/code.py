"""Python code as winnowed shingles of normalised tokens (Schleimer, Wilkerson and Aiken 2003). The code is split into tokens, never run.

Comments, layout and docstrings are left out, strings and numbers are one word each, and of a name only its last part counts, in lower case:
`LlamaAttention` and `MyAttention` are `attention`, so renaming a model's classes changes nothing.
"""

from __future__ import annotations

import io
import keyword
import re
import tokenize
from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from modelkin_indexer.results.beside import SHINGLE

TOKENS = 24  # of a shingle: about three lines; shorter ones are shared by all code of a library
WINDOW = 16  # shingles of which one is kept, so that any copy of TOKENS + WINDOW - 1 tokens keeps one in common
SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.ENCODING}
LAST_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def shingles(source: str) -> npt.NDArray[np.void]:
    """The kept shingles of a file as SHINGLE (n,), in order, each with the line on which it begins. It ends where Python cannot go on."""
    words = list(_words(source))
    hashes = [_hash(word for word, _ in words[at : at + TOKENS]) for at in range(len(words) - TOKENS + 1)]
    kept = sorted({min(range(at, min(at + WINDOW, len(hashes))), key=lambda i: (hashes[i], -i)) for at in range(_windows(len(hashes)))})
    return np.array([(hashes[at], words[at][1]) for at in kept], SHINGLE)


def _windows(count: int) -> int:
    return max(min(count, 1), count - WINDOW + 1)


def _hash(words: Iterator[str]) -> int:
    return int.from_bytes(blake2b("\0".join(words).encode("utf-8", "replace"), digest_size=8).digest(), "little")


def _words(source: str) -> Iterator[tuple[str, int]]:
    """(word, line) of each token that counts."""
    at_start = True  # a string there stands alone: a docstring
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type in SKIPPED:
                at_start = at_start or token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
            elif not (token.type == tokenize.STRING and at_start):
                yield _word(token), token.start[0]
                at_start = False
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        return


def _word(token: tokenize.TokenInfo) -> str:
    if token.type == tokenize.STRING:
        return "''"
    if token.type == tokenize.NUMBER:
        return "0"
    if token.type != tokenize.NAME or keyword.iskeyword(token.string):
        return token.string
    parts = LAST_PART.findall(token.string)
    return parts[-1].lower() if parts else token.string
