"""What is told of a fingerprint that became a file: apart, since who writes one asks no registry and needs nothing of its answers."""

from __future__ import annotations

from dataclasses import dataclass

from modelkin_registry.answers.plain import CONTRACT, Plain


@dataclass(frozen=True)
class Written(Plain):
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
