"""What is told of a file that was written, a fingerprint or a key: apart, since that asks no registry and needs nothing of its answers."""

from __future__ import annotations

from modelkin_registry.answers.plain import CONTRACT, Plain


class Written(Plain, frozen=True):
    """A fingerprint as a file. `bytes` is the file's size."""

    source: str
    file: str
    level: str
    spec: str
    key: str
    parameters: int
    coverage: float
    bytes: int
    contract: int = CONTRACT


class KeyTold(Plain, frozen=True):
    """What may be told of a private key: the file that holds it, the name that fingerprints carry, and the SHA-256 of its 32 bytes.

    The hash, published before a call for submissions, binds to the key, which is published after it. `former`: the file that keeps the key
    that was there before.
    """

    file: str
    key: str
    commitment: str
    former: str | None
    contract: int = CONTRACT
