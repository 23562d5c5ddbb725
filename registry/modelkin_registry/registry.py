"""The face of a registry: open it, add fingerprints, ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from blake3 import blake3

from modelkin_indexer import fingerprint as fingerprints
from modelkin_indexer import spec
from modelkin_indexer.errors import FingerprintError
from modelkin_indexer.fingerprint import Fingerprint
from modelkin_indexer.sources.base import SourceFile
from modelkin_registry import doctor
from modelkin_registry.answers import CompareAnswer, Finding, ListedModel, QueryAnswer
from modelkin_registry.candidates import SEARCHED, find_candidates, index_rows
from modelkin_registry.comparison import compare_fingerprints
from modelkin_registry.kinship import Kin, measure_kin, order_kin, own_strangers
from modelkin_registry.nulls import Strangers
from modelkin_registry.records import Claim, NewModel, PutResult
from modelkin_registry.reports import query_answer
from modelkin_registry.store import Store
from modelkin_registry.vectors import VectorIndex

SHOWN = 10  # relatives shown unless asked for more
AT_ONCE = 256  # fingerprints in memory at once


class Registry:
    """An open registry. Use from the thread that opened it; several processes may have the same one open.

    >>> with Registry.open(path) as registry:  # doctest: +SKIP
    ...     answer = registry.query(fingerprint)
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.index = VectorIndex.open(store)

    @classmethod
    def open(cls, path: str | Path, *, create: bool = True, key_name: str = spec.PUBLIC) -> Self:
        """Open the registry in this file. Raises RegistryError."""
        return cls(Store.open(Path(path), create=create, key_name=key_name))

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def add(
        self,
        name: str,
        fingerprint: Fingerprint,
        *,
        origin: str = "",
        who: str = "local",
        files: Sequence[SourceFile] = (),
        claims: Sequence[Claim] = (),
    ) -> PutResult:
        """Store a model's fingerprint, whole or not at all. The same content again is "unchanged".

        Raises:
            RegistryError: another key or spec, a name that cannot be stored, trouble with the file.
        """
        about = fingerprint.about
        record = NewModel(
            name=name,
            content=content_digest(fingerprint),
            level=about.level,
            spec=about.spec,
            key=about.key,
            parameters=about.parameters,
            bytes_total=about.bytes_total,
            coverage=about.coverage,
            about=asdict(about),
            blob=fingerprint.to_bytes(),
            config=about.config or {},
            files=tuple(files),
            who=who,
            origin=origin,
            claims=tuple(claims),
        )
        return self.store.put(record, index_rows(fingerprint))

    def refresh(self) -> None:
        """Bring the vector index up to date after many additions."""
        self.index.refresh()

    def get(self, name: str) -> Fingerprint:
        """A registered model's fingerprint. Raises UnknownModel."""
        return fingerprints.from_bytes(self.store.get(name).blob, name)

    def query(
        self,
        fingerprint: Fingerprint,
        *,
        source: str = "",
        k: int = SHOWN,
        show_all: bool = False,
        exact: bool = False,
        candidates: int = SEARCHED,
    ) -> QueryAnswer:
        """The registered models nearest to a fingerprint, with evidence.

        `show_all` adds the nearest without evidence; `exact` confirms every registered model instead of the index's candidates.

        Raises:
            FingerprintError: made with another key or spec than the registry's.
        """
        self._require_same_recipe(fingerprint)
        with self.store.reading():
            searched = self.store.count()
            wanted = self.store.ids() if exact else find_candidates(self.index, fingerprint, limit=max(candidates, k))
            kin = self._kin(fingerprint, wanted, searched)
        ordered = order_kin(kin, show_all)[:k]
        about = {"models": searched, "spec": spec.VERSION, "key": self.store.key_name}
        return query_answer(fingerprint, ordered, source=source, registry=about, compared=len(kin))

    def compare(
        self, a: Fingerprint, b: Fingerprint, *, a_name: str = "A", b_name: str = "B", controls: Mapping[str, Fingerprint] | None = None
    ) -> CompareAnswer:
        """Hold two fingerprints against each other, and third models against both. Raises FingerprintError."""
        return compare_fingerprints(a, b, a_name=a_name, b_name=b_name, controls=controls or {})

    def _kin(self, fingerprint: Fingerprint, wanted: Sequence[int], searched: int) -> list[Kin]:
        """Every wanted model held against the query; those with evidence once more, with the registry's own strangers as background."""
        found: list[Kin] = []
        for start in range(0, len(wanted), AT_ONCE):
            found += self._measured(fingerprint, wanted[start : start + AT_ONCE], searched, None)
        strangers = own_strangers(found)
        if not any(strangers.values()):
            return found
        evident = [kin.model_id for kin in found if kin.relative.relation not in ("unrelated", "not comparable")]
        again: dict[int, Kin] = {}
        for start in range(0, len(evident), AT_ONCE):
            again |= {kin.model_id: kin for kin in self._measured(fingerprint, evident[start : start + AT_ONCE], searched, strangers)}
        return [again.get(kin.model_id, kin) for kin in found]

    def _measured(self, fingerprint: Fingerprint, model_ids: Sequence[int], searched: int, strangers: Strangers | None) -> Sequence[Kin]:
        stored = self.store.stored(model_ids).values()
        pairs = ((m, fingerprints.from_bytes(m.blob, m.name)) for m in stored)
        return [replace(measure_kin(fingerprint, f, m.name, m.origin, searched, strangers), model_id=m.model_id) for m, f in pairs]

    def _require_same_recipe(self, fingerprint: Fingerprint) -> None:
        if fingerprint.about.key != self.store.key_name:
            raise FingerprintError(
                f"made with key {fingerprint.about.key!r}, while the registry {self.store.path} uses {self.store.key_name!r}. "
                "Give the registry's key with --key-file."
            )

    def list(self) -> list[ListedModel]:
        """One line a model, by name."""
        return self.store.listed()

    def show(self, name: str) -> dict[str, Any]:
        """Everything known of a model except vectors. Raises UnknownModel."""
        return self.store.show(name)

    def remove(self, name: str) -> None:
        """Forget a model. Raises UnknownModel."""
        self.store.remove(name)

    def rename(self, old: str, new: str) -> None:
        """Give a model another name; the old one keeps resolving. Raises UnknownModel, RegistryError."""
        self.store.rename(old, new)

    def examine(self, *, repair: bool = False) -> Sequence[Finding]:
        """Check everything; with `repair`, make anew what is derived."""
        return doctor.examine(self.store, self.index, repair=repair, vectors_of=lambda blob: index_rows(fingerprints.from_bytes(blob)))


def content_digest(fingerprint: Fingerprint) -> str:
    """The same for the same weights at one level: names, shapes, types, vectors and sampled rows; every byte at level full."""
    matrices, vectors = fingerprint.matrices, fingerprint.vectors
    hasher = blake3(fingerprint.about.level.encode())
    for place in (*matrices.places, *vectors.places):
        hasher.update(repr(place).encode())
    columns = (
        matrices.rows,
        matrices.columns,
        matrices.bits,
        matrices.digest,
        matrices.probe,
        matrices.scale,
        vectors.length,
        vectors.digest,
    )
    for column in columns:
        hasher.update(column.tobytes())
    return f"{fingerprint.about.level}-{hasher.hexdigest(16)}"
