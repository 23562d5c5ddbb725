"""Models named on the command line: each a source that is read, or the name of a registered model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from modelkin_cli.inputs import HUB_ID, HowToRead, existing, read_source
from modelkin_cli.options import Settings
from modelkin_cli.output import Output
from modelkin_cli.registries import open_registry
from modelkin_indexer.claims import claims_of
from modelkin_indexer.errors import SourceNotFound, UnknownModel
from modelkin_indexer.fingerprint import Fingerprint
from modelkin_indexer.sources.base import Claim, StructurePart
from modelkin_indexer.structure.folders import structure_of
from modelkin_registry.answers import StructureBeside
from modelkin_registry.registry import Registry
from modelkin_registry.structure_channel import Structure, compare_structure


def fingerprints_of(names: tuple[str, ...], how: HowToRead, settings: Settings, output: Output) -> dict[str, Fingerprint]:
    """Each side's fingerprint, read or from the registry; that is opened only if a name needs it."""
    found: dict[str, Fingerprint] = {}
    registry: Registry | None = None
    with ExitStack() as stack:
        begin = stack.enter_context(output.progress())
        for name in dict.fromkeys(names):
            if Path(name).exists():
                found[name] = read_source(name, how, begin).fingerprint
            else:
                registry = registry or stack.enter_context(open_registry(settings, say=output.say))
                found[name] = _registered(registry, name)
    return found


def claims_of_sides(names: tuple[str, ...], settings: Settings, output: Output) -> dict[str, Sequence[Claim]]:
    """What is said of each side: by its folder, or by what the registry took along."""
    found: dict[str, Sequence[Claim]] = {name: claims_of(Path(name))[0] for name in names if Path(name).exists()}
    if set(names) - found.keys():
        with open_registry(settings, say=output.say) as registry:
            found |= {name: registry.claims_of(name) for name in names if name not in found}
    return found


def structure_of_sides(a: str, b: str, fingerprints: Mapping[str, Fingerprint], settings: Settings, output: Output) -> StructureBeside:
    """The structure of A beside that of B, each from its folder or from the registry."""
    parts: dict[str, Sequence[StructurePart]] = {name: structure_of(Path(name)) for name in (a, b) if Path(name).exists()}
    if {a, b} - parts.keys():
        with open_registry(settings, say=output.say) as registry:
            parts |= {name: registry.structure_of(name) for name in (a, b) if name not in parts}
    mine, theirs = (Structure(fingerprints[name].about.config or {}, parts[name]) for name in (a, b))
    return compare_structure(mine, theirs, b, lambda hashes: np.zeros(len(hashes), np.int64))


def _registered(registry: Registry, name: str) -> Fingerprint:
    try:
        return registry.get(name)
    except UnknownModel as error:
        if HUB_ID.fullmatch(name):
            existing(name)
        raise SourceNotFound("no such file or folder, and no registered model", path=name, remedy=str(error)) from error
