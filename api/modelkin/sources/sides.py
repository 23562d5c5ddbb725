"""Models named on the command line: each a source that is read, or the name of a registered model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelkin.registries import open_registry
from modelkin.settings import Settings
from modelkin.sources.naming import hub_id
from modelkin.sources.reading import read_source
from modelkin.wishes import HowToRead, Listener, Say
from modelkin_indexer.errors import RegistryError, SourceNotFound, UnknownModel
from modelkin_indexer.results.beside import Claim, StructurePart
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.claims import StructureBeside
from modelkin_registry.evidence.judge import ALONE, Judge
from modelkin_registry.registry import Registry
from modelkin_registry.structure.comparison import Structure, compare_structure


@dataclass(frozen=True)
class Side:
    """A model of the call: its fingerprint, what is said of it and what lies beside its weights."""

    fingerprint: Fingerprint
    claims: Sequence[Claim]
    structure: Sequence[StructurePart]


def sides_of(names: tuple[str, ...], how: HowToRead, settings: Settings, listener: Listener) -> dict[str, Side]:
    """Each side, read from here, from the registry, or from the Hub; the registry is opened only if a name needs it."""
    found: dict[str, Side] = {}
    registry: Registry | None = None
    with ExitStack() as stack:
        for name in dict.fromkeys(names):
            if not Path(name).exists():
                try:
                    registry = registry or stack.enter_context(open_registry(settings, say=listener.say))
                except RegistryError:
                    if hub_id(name) is None:
                        raise
                if registry is not None and (hub_id(name) is None or name in registry.store):
                    found[name] = Side(_registered(registry, name), registry.claims_of(name), registry.structure_of(name))
                    continue
            reading = read_source(name, how, listener, registry.store if registry is not None else None)
            for note in reading.notes if reading.remote else ():
                listener.say(f"{name}: {note}")
            found[name] = Side(reading.fingerprint, reading.claims, reading.structure)
    return found


def judge_of(names: tuple[str, ...], settings: Settings, say: Say) -> Judge:
    """What the registry judges by that is named, or that may hold one of the sides; ALONE where there is no such registry."""
    named = settings.registry is not None and settings.registry.exists()
    if not named and all(Path(name).exists() for name in names):
        return ALONE
    try:
        with open_registry(settings, say=say) as registry:
            return registry.judge(1)
    except RegistryError:
        return ALONE  # what needs the registry has said so already


def structure_of_sides(a: Side, b: Side, b_name: str) -> StructureBeside:
    """The structure of A beside that of B, each from its folder or from the registry."""
    mine, theirs = (Structure(side.fingerprint.about.config or {}, side.structure) for side in (a, b))
    return compare_structure(mine, theirs, b_name, lambda hashes: np.zeros(len(hashes), np.int64))


def _registered(registry: Registry, name: str) -> Fingerprint:
    try:
        return registry.get(name)
    except UnknownModel as error:
        raise SourceNotFound("no such file or folder, and no registered model", path=name, remedy=str(error)) from error
