"""What becomes of models that are kept: added, listed, checked, measured."""

from __future__ import annotations

from dataclasses import dataclass

from modelkin_registry.answers.contract import CONTRACT


@dataclass(frozen=True)
class Added:
    """What became of one source given to `add`."""

    source: str
    model: str
    status: str
    reason: str | None
    level: str
    spec: str
    key: str
    parameters: int | None
    coverage: float | None
    unplaced: tuple[str, ...]
    components: tuple[str, ...]
    bytes_total: int | None
    bytes_read: int | None
    fingerprint_bytes: int | None
    seconds: float
    contract: int = CONTRACT


@dataclass(frozen=True)
class ListedModel:
    """One line of `list`."""

    model: str
    level: str
    parameters: int
    components: tuple[str, ...]
    added: str
    source: str
    revisions: int


@dataclass(frozen=True)
class Finding:
    """One thing `doctor` looked at. `state` is "ok", "repaired" or "broken"."""

    check: str
    state: str
    detail: str


@dataclass(frozen=True)
class OwnBackground:
    """How far strangers spread in one channel and family, beyond sketch noise. `used`: whether it replaces the `shipped` default."""

    channel: str
    family: str
    sd: float
    shipped: float
    pairs: int
    lineages: int
    used: bool
