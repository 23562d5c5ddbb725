"""Adapters: a source that holds what a tuner learned is presented as the changes that it makes, or added to its base.

config.py   what adapter_config.json says, believed only where it makes sense
presented.py  what adapters come out as, and what surely is none
names.py    names of peft's files; foreign.py: of kohya's, LyCORIS' and diffusers'
reading.py  which kind it is, and its changes; tuners.py: the kinds of peft; change.py: what a change is
low_rank.py products.py frozen.py turned.py scattered.py foreign_changes.py   the formulas
here        the changes alone or on the base, and what is said of it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from modelkin_indexer.adapters.config import AdapterConfig, read_adapter_config
from modelkin_indexer.adapters.foreign import SEPARATOR
from modelkin_indexer.adapters.formulas.change import Change
from modelkin_indexer.adapters.presented import AdaptedSource, AdapterSource
from modelkin_indexer.adapters.reading import Adapter, read_adapter
from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised.parts import Parts, Plain, Undecoded
from modelkin_indexer.quantised.source import Counted, plain_source
from modelkin_indexer.source import Source, Unread
from modelkin_indexer.sources.stored.decoded import Bytes

FACTOR = "adapter: "  # what the adapter's tensors are called beside those of its base
OTHER_BASE = "Give the base that the adapter was trained on."


def presented(source: Source, config: AdapterConfig, notes: Sequence[str]) -> Source:
    """The source as it is if it is no adapter, else the changes that it makes, under the names of the base's weights.

    `config` is what its adapter_config.json says, `notes` what was left out of that (config.py).

    Changes that only the base tells are counted in `unread`; where there are no others, the vectors of these are shown as they are stored.
    Closes the source if it raises.

    Raises:
        DamagedFile: tensors that contradict each other, or the config.
        UnsupportedFormat: an adapter of a kind that this version does not know or does not work out.
    """
    try:
        parts = Parts(counted := Counted(source))
        adapter = read_adapter(parts, source, config)
        if adapter is None:
            source.notes += tuple(notes)
            return source
        shown = [(change, change.by_itself(parts)) for change in adapter.changes]
        plains = [plain for _, plain in shown if plain is not None] + list(_whole(parts, adapter))
        hidden = [Undecoded(f"{adapter.words}, of which only the base tells the change", c.uses) for c, plain in shown if plain is None]
        if not plains:  # vectors say nothing of a change, but they tell the adapter itself again
            names = {name: name for change, _ in shown for name in change.uses if _is_vector(parts, name)}
            plains = list(_as_stored(parts, names))
        hidden += [Undecoded(f"{adapter.words}, parameters that are not known here", adapter.unknown)] if adapter.unknown else []
        found = plain_source(AdapterSource, counted, _once(plains, source), left_out=source.tensors, undecoded=_apart(hidden))
    except BaseException:
        source.close()
        raise
    found.notes += (*notes, *_notes(adapter, bool(hidden) and not adapter.unknown))
    held = sum(info.elements for info in source.tensors.values())
    found.adapter, found.stored = {**_described(adapter, added=False), "parameters": held}, source
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
        read = read_adapter(parts, adapter.stored, config, FACTOR)
        if read is None:
            raise UnsupportedFormat("is no adapter any more", path=adapter.path, remedy="Read it again.")
        plains = [*_sums(parts, read, base, adapter), *_whole(parts, read, _Names(base))]
        found = plain_source(AdaptedSource, counted, _once(plains, adapter.stored), quantization=base.quantization, left_out=both.factors)
    except BaseException:
        adapter.close()
        base.close()
        raise
    found.adapter = _described(read, added=True)
    return found


def _described(adapter: Adapter, *, added: bool) -> dict[str, Any]:
    return {"kind": adapter.words, "rank": adapter.rank, "base": adapter.config.base, "added": added}


def _notes(adapter: Adapter, hidden: bool) -> list[str]:
    if any(change.after is not None for change in adapter.changes):
        return ["DoRA's magnitudes say nothing without the base: only the low-rank change is measured. Give the base with --adapter-base."]
    if hidden:
        return [f"{adapter.words}: what it changes can be told only on its base, and is not compared. Give the base with --adapter-base."]
    return []


def _apart(hidden: Iterable[Undecoded]) -> list[Undecoded]:
    """Without tensors that another has."""
    seen: set[str] = set()
    found = []
    for item in hidden:
        uses = tuple(name for name in item.uses if name not in seen)
        seen.update(uses)
        found += [replace(item, uses=uses)] if uses else []
    return found


def _once(plains: Iterable[Plain], source: Source) -> list[Plain]:
    """The tensors, no name twice. Raises DamagedFile."""
    found: dict[str, Plain] = {}
    for plain in plains:
        if found.setdefault(plain.name, plain) is not plain:
            problem = "is changed twice, or both changed and held whole"
            raise DamagedFile(problem, path=source.path, tensor=plain.name, remedy="Save the adapter again.")
    return list(found.values())


def _whole(parts: Parts, adapter: Adapter, names: _Names | None = None) -> Iterable[Plain]:
    """What an adapter holds whole, under the base's names."""
    return _as_stored(parts, {name: (names.of(plain) if names is not None else "") or plain for name, plain in adapter.whole.items()})


def _as_stored(parts: Parts, names: Mapping[str, str]) -> Iterable[Plain]:
    """Tensors as they are stored, under other names."""
    for name, target in names.items():
        uses = (name, target) if target in parts.tensors and target != name else (name,)
        yield Plain(target, parts.tensors[name].shape, "", uses, lambda start, stop, name=name: parts.rows(name, start, stop))  # type: ignore[misc]


def _is_vector(parts: Parts, name: str) -> bool:
    return max(parts.tensors[name].shape, default=0) == parts.tensors[name].elements


class _Names:
    """Names of a base's tensors, found as an adapter calls them: with or without what stands before them, or with `_` for dots."""

    def __init__(self, base: Source) -> None:
        self._names = base.tensors
        self._ends: dict[str, list[str]] = {}
        for name in base.tensors:
            plain = name.rpartition(SEPARATOR)[2]
            self._ends.setdefault(plain.replace(".", "_"), []).append(name)

    def of(self, name: str) -> str:
        """The base's name, "" if it has none or several."""
        if name in self._names:
            return name
        part, _, plain = name.rpartition(SEPARATOR)
        same = self._ends.get(plain.replace(".", "_"), [])
        if len(same) > 1:
            same = [found for found in same if found.rpartition(SEPARATOR)[0] == part]
        if not same:
            same = [found for found in self._names if found.endswith((f".{plain}", f"{SEPARATOR}{plain}"))]
        return same[0] if len(same) == 1 else ""


def _sums(parts: Parts, adapter: Adapter, base: Source, source: Source) -> Iterable[Plain]:
    names = _Names(base)
    made: dict[str, Plain] = {}
    for change in adapter.changes:
        if change.unknown:
            problem = f"is changed by {adapter.words}: {change.unknown}"
            raise UnsupportedFormat(problem, path=source.path, tensor=change.name, remedy="Merge the adapter into its base.")
        name = names.of(change.name)
        if change.held:
            found = change.by_itself(parts)
            assert found is not None
            made[found.name] = found
        elif name:
            made[name] = _sum(parts, change, name, base.tensors[name], source, made)
        elif not change.optional:
            raise _misfit(change, base, source, "has no such weight")
    return made.values()


def _sum(parts: Parts, change: Change, name: str, info: TensorInfo, source: Source, made: Mapping[str, Plain]) -> Plain:
    if name in made:
        problem = "is changed twice, or both changed and held whole"
        raise DamagedFile(problem, path=source.path, tensor=name, remedy="Save the adapter again.")
    shape = change.shape
    fits = shape is None or info.shape == shape or _same_rows(shape, info.shape)
    if not fits:
        raise _misfit(change, None, source, f"has shape {list(info.shape)}")
    return change.on(parts, name, info.shape)


def _same_rows(shape: tuple[int, ...], base: tuple[int, ...]) -> bool:
    """Whether a change goes with a base of another number of axes: kernels laid out as rows, experts stored the other way round."""
    size = TensorInfo("", "F32", shape, 0).elements
    if size != TensorInfo("", "F32", base, 0).elements:
        return False
    return shape[0] == base[0] and (len(shape) != len(base) or (len(shape) == 3 and shape[1:] == base[:0:-1]))


def _misfit(change: Change, base: Source | None, source: Source, problem: str) -> DamagedFile:
    where = f"the base {base.path}" if base is not None else "the base"
    words = f"changes a weight of shape {list(change.shape)}" if change.shape is not None else "changes a weight"
    return DamagedFile(f"{words}, but {where} {problem}", path=source.path, tensor=change.name, remedy=OTHER_BASE)


class _Both:
    """An adapter and its base as one source: the adapter's tensors with FACTOR before their names."""

    def __init__(self, adapter: Source, base: Source) -> None:
        self._adapter, self._base = adapter, base
        self.path, self.name, self.config, self.quantization = adapter.path, adapter.name, base.config, base.quantization
        self.factors = {FACTOR + name: replace(info, name=FACTOR + name) for name, info in adapter.tensors.items()}
        self.tensors: Mapping[str, TensorInfo] = {**base.tensors, **self.factors}
        self.files, self.notes = adapter.files + base.files, adapter.notes + base.notes
        self.metadata: Mapping[str, str] = adapter.metadata
        self.unread: Unread = adapter.unread + base.unread
        self.bytes_read = adapter.bytes_read + base.bytes_read

    def read(self, tensor: str, start: int, stop: int, out: Bytes | None = None) -> Bytes:
        if tensor.startswith(FACTOR):
            return self._adapter.read(tensor.removeprefix(FACTOR), start, stop, out)
        return self._base.read(tensor, start, stop, out)

    def close(self) -> None:
        self._adapter.close()
        self._base.close()
