"""Which kind of adapter a source is, and the changes that it makes. What is an adapter but of no kind that is known is refused by name."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field
from msgspec.structs import replace

from modelkin_indexer.adapters import foreign_changes
from modelkin_indexer.adapters.config import AdapterConfig
from modelkin_indexer.adapters.foreign import UNDERSCORED, Foreign, foreign_names
from modelkin_indexer.adapters.formulas.change import Change
from modelkin_indexer.adapters.formulas.kit import Kit
from modelkin_indexer.adapters.formulas.scattered import tokens
from modelkin_indexer.adapters.names import SHARED, Sorted, sorted_names
from modelkin_indexer.adapters.tuners import TUNERS, Tuner
from modelkin_indexer.errors import UnsupportedFormat
from modelkin_indexer.quantised.parts import Parts
from modelkin_indexer.source import Source

LORA = "LORA"
ADAPTER_STEM = "adapter_model"  # what peft calls the file with an adapter's tensors
BASE_ENDINGS = (".weight", ".bias")  # of the tensors of a whole model that was saved while adapters were around it
STARTS = {"pissa": "PiSSA", "olora": "OLoRA", "corda": "CorDA", "loftq": "LoftQ", "lora_ga": "LoRA-GA", "eva": "EVA"}
VARIANTS = {"kasa_config": "KaSA", "use_bdlora": "BD-LoRA", "alora_invocation_tokens": "aLoRA"}
REMEDY = "Merge the adapter into its base and give the merged model."


class Adapter(Struct, frozen=True):
    """An adapter's changes. `whole`: tensors that it holds as they are -> the base's names; `unknown`: tensors that say nothing here."""

    config: AdapterConfig
    words: str
    changes: tuple[Change, ...]
    whole: dict[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def rank(self) -> int:
        return max((change.rank for change in self.changes), default=0)


def read_adapter(parts: Parts, source: Source, config: AdapterConfig, prefix: str = "") -> Adapter | None:
    """The adapter that a source is, None if it is none. `prefix` stands before the names of its tensors in `parts`.

    Raises:
        DamagedFile: tensors that contradict each other or the config.
        UnsupportedFormat: an adapter of a kind that is not known, or whose changes this version does not follow.
    """
    names = [name.removeprefix(prefix) for name in parts.tensors if name.startswith(prefix)]
    if not config.there and (found := foreign_names(names)) is not None:
        return _foreign(parts, config, found, prefix)
    config = _with_kind(config, names)
    tuner = TUNERS.get(config.kind)
    if tuner is not None and tuner.changes is not None:
        sorted_out = sorted_names((name for name in parts.tensors if name.startswith(prefix)), tuner.prefix, prefix)
        if sorted_out.modules and (config.there or not sorted_out.whole):
            return _of_peft(parts, config, tuner, sorted_out)
    if _looks_like_one(source, config, names):
        raise _unknown(source, config, tuner, names)
    return None


def _with_kind(config: AdapterConfig, names: list[str]) -> AdapterConfig:
    """The config with its kind; without one the kind whose parameters all tensors are."""
    if config.kind or config.there:
        return config if config.kind else replace(config, kind=LORA)
    for kind, tuner in TUNERS.items():
        if tuner.changes is None or sorted_names(names[:1], tuner.prefix).whole:  # of most models the first name tells that they are none
            continue
        found = sorted_names(names, tuner.prefix)
        if found.modules and not found.whole:
            return replace(config, kind=kind)
    return config


def _of_peft(parts: Parts, config: AdapterConfig, tuner: Tuner, found: Sorted) -> Adapter:
    if found.repeated is not None:
        name, other = found.repeated
        raise parts.damaged(name, f"is beside {other!r}: two adapters in one file")
    kit = Kit(parts, config, found.shared)
    changes = tuple(_held(parts, found, change) for change in _all_changes(kit, tuner, found))
    used = {name for change in changes for name in change.all_uses}
    whole = {name: plain for name, plain in found.whole.items() if name not in used}
    return Adapter(config, _words(config, tuner, changes), changes, whole)


def _all_changes(kit: Kit, tuner: Tuner, found: Sorted) -> Iterator[Change]:
    assert tuner.changes is not None
    for module in found.modules.values():
        if tuner.changes is not tokens:
            yield from tuner.changes(kit, module)
        yield from tokens(kit, module)


def _held(parts: Parts, found: Sorted, change: Change) -> Change:
    """The change with the base's own tensor where the adapter brings it along, as peft does for token tables."""
    held = next((name for name, plain in found.whole.items() if plain == change.name and ".base_layer." in name), "")
    if held and change.shape is not None and parts.tensors[held].shape != change.shape:
        raise parts.damaged(held, f"has shape {list(parts.tensors[held].shape)}, but its change {list(change.shape)}")
    return replace(change, held=held) if held else change


def _words(config: AdapterConfig, tuner: Tuner, changes: tuple[Change, ...]) -> str:
    """What the adapter is called."""
    if any(change.after is not None for change in changes):
        return "DoRA"
    begun = config.word("init_lora_weights")
    if start := next((words for key, words in STARTS.items() if begun.startswith(key)), ""):
        return start
    return next((words for key, words in VARIANTS.items() if config.said.get(key)), tuner.words)


def _foreign(parts: Parts, config: AdapterConfig, found: Foreign, prefix: str) -> Adapter:
    for module in found.modules.values():
        module.parameters = {parameter: prefix + name for parameter, name in module.parameters.items()}
    kit = Kit(parts, config, {})
    changes = tuple(change for module in found.modules.values() for change in foreign_changes.changes(kit, module))
    kinds = {parameter.partition("_")[0] for module in found.modules.values() for parameter in module.parameters}
    words = "LoHa" if "hada" in kinds else "LoKr" if "lokr" in kinds else "LoRA"
    return Adapter(config, words, changes, unknown=tuple(prefix + name for name in found.unknown))


def _looks_like_one(source: Source, config: AdapterConfig, names: list[str]) -> bool:
    """Whether a source without known changes is an adapter nevertheless: its tensors are none that a whole model has."""
    if any(name.startswith(UNDERSCORED) for name in names):
        return True
    strange = sum(not name.endswith(BASE_ENDINGS) for name in names)
    if all(name.startswith(SHARED) for name in names) and 2 * strange > len(names):
        return True
    return config.there and any(file.name.startswith(ADAPTER_STEM) for file in source.files)


def _unknown(source: Source, config: AdapterConfig, tuner: Tuner | None, names: list[str]) -> UnsupportedFormat:
    if tuner is not None and tuner.changes is None:
        problem = f"is an adapter of kind {config.kind} ({tuner.words}), whose changes this version does not work out"
    elif config.kind and tuner is None:
        problem = f"is an adapter of kind {config.kind[:40]!r}, which is not known here"
    else:
        problem = f"is an adapter whose tensors are of no kind that is known here ({names[0][:80]!r})"
    return UnsupportedFormat(problem, path=source.path, remedy=REMEDY)
