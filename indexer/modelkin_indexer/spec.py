"""The versioned recipe of a fingerprint: every number that decides what the vectors are.

Changing anything here changes fingerprints, and so needs a new `VERSION`; stored rows carry it and unknown versions are refused by name.
"""

from __future__ import annotations

import hashlib

from msgspec import Struct

from modelkin_indexer.errors import FingerprintError

VERSION = "2"
OLDER = ("1",)  # versions whose fingerprints a registry may still hold: listed, not searched, made anew by `modelkin upgrade`
LEVELS = ("probe", "full")

PROBE_NUMBERS = 128  # numbers per matrix in the probe channel
MATRIX_BLOCKS, MATRIX_BLOCK_ROWS = 2, 4  # 8 rows in two contiguous blocks: two range requests for a remote reader
TALL_BLOCKS, TALL_BLOCK_ROWS = 4, 8  # matrices with many short rows, as token tables are: 32 rows, since a few tokens may be untrained
TALL = 6  # a matrix with more rows than this many times its columns is tall: token tables are, layers rarely (they have up to 4 times)
TALL_ROWS = 30_000  # or with so many rows: token tables of wide models. A layer that is taken for a table only costs two ranges more
TOKEN_WINDOW = 4096  # rows of tall matrices are chosen below this number, where tokens are common; so a grown vocabulary keeps them
VECTOR_NUMBERS = 48  # numbers per norm or bias vector
QUANTILES = 9  # sorted quantiles of a vector, ends included
DIRECTIONS = 16  # keyed directions of the gram and anchored channels
GRAM_NUMBERS = DIRECTIONS * (DIRECTIONS + 1) // 2
ANCHOR_TOKENS = 512  # token rows that span the anchored channel's frame
EXPERT_BLOCKS, EXPERT_BLOCK_ROWS = 4, 2  # 8 rows over four experts for the stacked matrix
EXPERT_NUMBERS = 32  # numbers per single expert and role (a matrix's PROBE_NUMBERS folded), and per router row
EIGHTHS = 8  # equal parts of a matrix's rows that have a digest of their own
PREFIXES = 2  # and of its first 2^k rows, for the largest k: what a grown table keeps

PUBLIC = "public"


class Key(Struct, frozen=True):
    """Seeds signs, row choice and directions. `name` may be shown and stored; `secret` never leaves this object.

    `name` is `public`, or `private-` and a digest from which the key cannot be found.
    """

    name: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Key({self.name!r})"


PUBLIC_KEY = Key(PUBLIC, b"modelkin public key".ljust(32, b"\0"))


def private_key(secret: bytes) -> Key:
    """A key from 32 bytes that the caller keeps.

    Raises:
        FingerprintError: `secret` is not 32 bytes.
    """
    if len(secret) != 32:
        raise FingerprintError(f"a private key is 32 bytes, this one has {len(secret)}. `modelkin key new FILE` makes one.")
    return Key("private-" + hashlib.blake2b(secret, person=b"modelkin key id", digest_size=6).hexdigest(), secret)
