"""PEFT adapters: a source that holds low-rank factors is presented as the changes that they make, or added to its base.

config.py   what adapter_config.json says, believed only where it makes sense
factors.py  factors to changes, changes to sums with the base
here        which of the two, and what is said of it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from modelkin_indexer.adapters.config import FACTOR_NAME, AdapterConfig, read_adapter_config
from modelkin_indexer.adapters.factors import Delta, find_deltas, other_tensors
from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised.parts import Parts, Plain
from modelkin_indexer.quantised.source import Counted, QuantisedSource, plain_source
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored.decoded import Bytes

FACTOR = "adapter: "  # what the adapter's tensors are called beside those of its base
OTHER_BASE = "Give the base that the adapter was trained on."


class AdapterSource(QuantisedSource):
    """The changes that an adapter makes, under the names of the base's weights. `adapter` says what it is; `stored` is what it holds."""

    adapter: Mapping[str, Any]
    stored: Source


class AdaptedSource(QuantisedSource):
    """A base with an adapter's changes added."""

    adapter: Mapping[str, Any]


def adapter_of(source: Source) -> dict[str, Any] | None:
    """What kind of adapter a source is or was made with: kind, rank, base as declared, and whether it was added to it."""
    return dict(source.adapter) if isinstance(source, (AdapterSource, AdaptedSource)) else None


def presented(source: Source) -> Source:
    """The source as it is if it is no LoRA adapter, else the changes that it makes: scale * B A for each of its modules.

    Closes the source if it raises.

    Raises:
        DamagedFile: factors that contradict each other, or an adapter_config.json that makes no sense.
        UnsupportedFormat: a kind of adapter that this version does not decode.
    """
    factors = [FACTOR_NAME.fullmatch(name) is not None for name in source.tensors]
    if not any(factors):
        return source
    try:
        config, notes = read_adapter_config(source)
        if not (config.is_lora and (config.there or all(factors))):
            source.notes += notes
            return source
        counted = Counted(source)
        parts = Parts(counted)
        deltas = list(find_deltas(parts, config))
        plains = [*(delta.change(parts) for delta in deltas), *other_tensors(parts, config, deltas)]
        found = plain_source(AdapterSource, counted, _once(plains, source), left_out=source.tensors)
    except BaseException:
        source.close()
        raise
    found.notes += (*notes, *_dora_note(deltas))
    found.adapter, found.stored = _described(config, deltas, added=False), source
    return found


def on_base(adapter: AdapterSource, base: Source) -> Source:
    """The base's weights with the adapter's changes added; what the adapter holds whole takes the place of the base's.

    Closes both if it raises.

    Raises:
        SourceError: as `presented`; also a base that lacks a module, or has it in another shape.
    """
    try:
        config, _ = read_adapter_config(adapter.stored)
        counted = Counted(both := _Both(adapter.stored, base))
        parts = Parts(counted)
        deltas = list(find_deltas(parts, config, FACTOR))
        for delta in deltas:
            _require_fit(delta, base, adapter)
        plains = [*(delta.added(parts) for delta in deltas), *other_tensors(parts, config, deltas, FACTOR)]
        found = plain_source(AdaptedSource, counted, _once(plains, adapter.stored), quantization=base.quantization, left_out=both.factors)
    except BaseException:
        adapter.close()
        base.close()
        raise
    found.adapter = _described(config, deltas, added=True)
    return found


def _described(config: AdapterConfig, deltas: Iterable[Delta], *, added: bool) -> dict[str, Any]:
    kind = "DoRA" if any(delta.magnitude for delta in deltas) else "LoRA"
    return {"kind": kind, "rank": max(delta.rank for delta in deltas), "base": config.base, "added": added}


def _dora_note(deltas: Iterable[Delta]) -> list[str]:
    words = "DoRA's magnitudes say nothing without the base: only the low-rank change is measured. Give the base with --adapter-base."
    return [words] if any(delta.magnitude for delta in deltas) else []


def _once(plains: Iterable[Plain], source: Source) -> list[Plain]:
    """The tensors, no name twice. Raises DamagedFile."""
    found: dict[str, Plain] = {}
    for plain in plains:
        if found.setdefault(plain.name, plain) is not plain:
            problem = "is changed twice, or both changed and held whole"
            raise DamagedFile(problem, path=source.path, tensor=plain.name, remedy="Save the adapter again.")
    return list(found.values())


def _require_fit(delta: Delta, base: Source, adapter: Source) -> None:
    info = base.tensors.get(delta.name)
    if delta.held:
        return
    if info is None or info.shape != delta.shape:
        problem = f"changes a weight of shape {list(delta.shape)}, but the base {base.path} "
        problem += "has no such weight" if info is None else f"has shape {list(info.shape)}"
        raise DamagedFile(problem, path=adapter.path, tensor=delta.name, remedy=OTHER_BASE)


class _Both:
    """An adapter and its base as one source: the adapter's tensors with FACTOR before their names."""

    def __init__(self, adapter: Source, base: Source) -> None:
        self._adapter, self._base = adapter, base
        self.path, self.name, self.config, self.quantization = adapter.path, adapter.name, base.config, base.quantization
        self.factors = {FACTOR + name: replace(info, name=FACTOR + name) for name, info in adapter.tensors.items()}
        self.tensors: Mapping[str, TensorInfo] = {**base.tensors, **self.factors}
        self.files, self.notes = adapter.files + base.files, adapter.notes + base.notes
        self.metadata, self.unread = adapter.metadata, adapter.unread + base.unread
        self.bytes_read = adapter.bytes_read + base.bytes_read

    def read(self, tensor: str, start: int, stop: int, out: Bytes | None = None) -> Bytes:
        if tensor.startswith(FACTOR):
            return self._adapter.read(tensor.removeprefix(FACTOR), start, stop, out)
        return self._base.read(tensor, start, stop, out)

    def close(self) -> None:
        self._adapter.close()
        self._base.close()
