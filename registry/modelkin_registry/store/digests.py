"""Digests of fingerprints: whether two are of the same weights, and whether bytes are those that were stored."""

from __future__ import annotations

from blake3 import blake3

from modelkin_indexer.results.fingerprint import Fingerprint


def content_digest(fingerprint: Fingerprint) -> str:
    """The same for the same weights at one level: names, shapes, types, vectors and sampled rows; every byte at level full."""
    hasher = blake3(sampled_digest(fingerprint))
    hasher.update(fingerprint.matrices.digest.tobytes())
    return f"{fingerprint.about.level}-{hasher.hexdigest(16)}"


def sampled_digest(fingerprint: Fingerprint) -> bytes:
    """The same for equal sampled rows, vectors, names, shapes and types, at whatever level."""
    matrices, vectors = fingerprint.matrices, fingerprint.vectors
    hasher = blake3()
    for place in (*matrices.places, *vectors.places):
        hasher.update(repr(place).encode())
    for column in (matrices.rows, matrices.columns, matrices.bits, matrices.probe, matrices.scale, vectors.length, vectors.digest):
        hasher.update(column.tobytes())
    return hasher.digest()


def digest_of(blob: bytes) -> str:
    """The digest kept beside each fingerprint's bytes."""
    return blake3(blob).hexdigest()
