"""What goes into the store and what comes out: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelkin_indexer.results.beside import Claim, SourceFile, StructurePart


@dataclass(frozen=True)
class NewModel:
    """One observation of one model: a fingerprint's bytes and what describes it.

    `content` is the digest of the weights as stored, the same for the same content; `who` says so (a person, `hub`, an import) and
    `origin` is where the weights came from (a path, an address with its revision).
    """

    name: str
    content: str
    level: str
    spec: str
    key: str
    parameters: int
    bytes_total: int
    coverage: float
    about: Mapping[str, Any]
    blob: bytes
    config: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[SourceFile, ...] = ()
    who: str = ""
    origin: str = ""
    claims: tuple[Claim, ...] = ()
    structure: tuple[StructurePart, ...] = ()


@dataclass(frozen=True)
class PutResult:
    """What became of one `put`. `name` differs from the one given where that is a former name; `status` is "added" or "unchanged"."""

    status: str
    name: str
    model_id: int
    revision: int


@dataclass(frozen=True)
class StoredModel:
    """The fingerprint that stands for a model: newest revision, highest level. Without `blob` where not asked for."""

    model_id: int
    name: str
    added: str
    revision: int
    fingerprint: int
    content: str
    level: str
    spec: str
    key: str
    parameters: int
    bytes_total: int
    coverage: float
    about: dict[str, Any]
    config: dict[str, Any]
    origin: str
    digest: str
    blob: bytes


@dataclass(frozen=True)
class Change:
    """One line of the change log. `what` is "put", "remove" or "rename"."""

    seq: int
    model_id: int
    what: str
    at: str
