"""What becomes of models that are kept: added, listed, checked, measured."""

from __future__ import annotations

from collections import Counter
from typing import Any

from modelkin_registry.answers.claims import WeighedClaim
from modelkin_registry.answers.plain import CONTRACT, Plain


class Added(Plain, frozen=True):
    """What became of one source given to `add`.

    `same_as`: registered models whose fingerprints at this level hold the same digests, and of which nothing was left unread.
    """

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
    same_as: tuple[str, ...] = ()
    contract: int = CONTRACT


class Additions(Plain, frozen=True):
    """What became of all sources of one call, in their order. `exit_code` is that of the worst that happened, 0 if nothing failed."""

    results: tuple[Added, ...]
    exit_code: int
    contract: int = CONTRACT

    @property
    def counts(self) -> dict[str, int]:
        """How often each status came."""
        return dict(Counter(one.status for one in self.results))


class ListedModel(Plain, frozen=True):
    """One line of `list`. `sender`: the file that brought an imported model, "" for what was read here.

    parameters  numbers that the model holds: of an adapter alone its own, None where an older version did not note them
    adapter     kind of an adapter alone, "" for other models
    family      what config.json calls the kind of model, "" where nothing says so
    updated     when its current revision came
    tags, note  what the registry's maintainers say of it
    """

    model: str
    level: str
    parameters: int | None
    components: tuple[str, ...]
    added: str
    source: str
    revisions: int
    sender: str = ""
    updated: str = ""
    family: str = ""
    quantization: str = ""
    adapter: str = ""
    bytes_total: int = 0
    coverage: float = 0.0
    tags: tuple[str, ...] = ()
    note: str = ""


class StoredRows(Plain, frozen=True):
    """What a registry's rows of one kind take: how many there are, and their bytes without what the engine needs beside."""

    kind: str
    table_rows: int
    bytes: int


class Stats(Plain, frozen=True):
    """Models in numbers: those that were asked for, each by its current revision; `stored` and `bytes` are of the whole registry.

    parameters          numbers of all but adapters alone
    adapter_parameters  numbers that the adapters hold; of `adapters_unknown` of them they are not known
    families            models by family; without those of which nothing says it
    bytes               of the file, or of the tables and indexes
    """

    models: int
    revisions: int
    parameters: int
    adapters: int
    adapter_parameters: int
    adapters_unknown: int
    imported: int
    levels: dict[str, int]
    families: dict[str, int]
    tags: dict[str, int]
    stored: tuple[StoredRows, ...]
    bytes: int


class Listing(Plain, frozen=True):
    """The registered models that were asked for, in the order asked for, or the first of them. `found`: how many there are in all.

    `models` is empty where only their number (`found`) or their `stats` were asked for.
    """

    models: tuple[ListedModel, ...]
    found: int = 0
    registry: str = ""
    stats: Stats | None = None
    contract: int = CONTRACT


class Tagged(Plain, frozen=True):
    """The tags that models have now, by name."""

    models: dict[str, tuple[str, ...]]
    contract: int = CONTRACT


class Noted(Plain, frozen=True):
    """The note that a model has now, "" if none."""

    model: str
    note: str
    contract: int = CONTRACT


class BackedUp(Plain, frozen=True):
    """A registry as it was at one moment, in a file: so many models and bytes."""

    source: str
    registry: str
    models: int
    bytes: int
    contract: int = CONTRACT


class Shown(Plain, frozen=True):
    """Everything known of one registered model, as the registry's tables hold it; revisions are the newest first.

    `sender` is the file that brought an imported model: all else is its word then.
    """

    model: str
    added: str
    former_names: tuple[str, ...]
    claims: tuple[dict[str, Any], ...]
    structure: tuple[dict[str, Any], ...]
    revisions: tuple[dict[str, Any], ...]
    weighed_claims: tuple[WeighedClaim, ...]
    sender: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""
    contract: int = CONTRACT


class Renamed(Plain, frozen=True):
    """A model's new name, and the one that leads to it."""

    model: str
    former: str
    contract: int = CONTRACT


class Removed(Plain, frozen=True):
    """The models that were forgotten, or with `dry_run` would be."""

    removed: tuple[str, ...]
    dry_run: bool = False
    contract: int = CONTRACT


class Renewed(Plain, frozen=True):
    """What became of one fingerprint of an older spec: `status` is "renewed" or "left", with the reason. `origin`: where it came from."""

    model: str
    status: str
    reason: str | None
    level: str
    origin: str
    contract: int = CONTRACT


class Upgrade(Plain, frozen=True):
    """What became of all fingerprints of an older spec."""

    results: tuple[Renewed, ...]
    contract: int = CONTRACT


class Refresh(Plain, frozen=True):
    """What became of all models of a registry that were read again under another key, into the registry of that file.

    `status` of a result is "renewed", "there" (from an earlier call) or "left", with the reason.
    """

    registry: str
    key: str
    results: tuple[Renewed, ...]
    contract: int = CONTRACT


class NewRegistry(Plain, frozen=True):
    """A registry without models that was made in that file, and the id of its key, which it has for good."""

    registry: str
    key: str
    contract: int = CONTRACT


class CopiedRegistry(Plain, frozen=True):
    """A registry as it was copied from one place to another: so many models, in so many rows of all tables."""

    source: str
    registry: str
    models: int
    table_rows: int
    contract: int = CONTRACT


class Finding(Plain, frozen=True):
    """One thing `doctor` looked at. `state` is "ok", "repaired" or "broken"."""

    check: str
    state: str
    detail: str


class Examination(Plain, frozen=True):
    """All that `doctor` looked at in the registry of that file. `clean`: nothing is broken."""

    findings: tuple[Finding, ...]
    clean: bool
    registry: str
    contract: int = CONTRACT


class OwnBackground(Plain, frozen=True):
    """How far strangers spread in one channel and family, beyond sketch noise. `used`: whether it replaces the `shipped` default."""

    channel: str
    family: str
    sd: float
    shipped: float
    pairs: int
    lineages: int
    used: bool


class Calibration(Plain, frozen=True):
    """What a registry of so many models measured on its own strangers. `calibrated`: whether any of it replaces a shipped background."""

    models: int
    backgrounds: tuple[OwnBackground, ...]
    calibrated: bool
    contract: int = CONTRACT


class Format(Plain, frozen=True):
    """One kind of file or of weights. `kind` is container, quantised or adapter.

    `probe`: what is read of it at level probe: `rows` (those that are looked at), or what is read whole, in words. `extra`: of modelkin,
    that brings what reads it; "" if nothing is needed. `read`: False of what is known by name only.
    """

    kind: str
    name: str
    suffixes: tuple[str, ...] = ()
    probe: str = "rows"
    extra: str = ""
    read: bool = True


class Formats(Plain, frozen=True):
    """All that can be read."""

    formats: tuple[Format, ...]
    contract: int = CONTRACT
