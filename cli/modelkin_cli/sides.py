"""Models named on the command line: each a source that is read, or the name of a registered model."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from modelkin_cli.inputs import HUB_ID, HowToRead, existing, read_source
from modelkin_cli.options import Settings
from modelkin_cli.output import Output
from modelkin_cli.registries import open_registry
from modelkin_indexer.errors import SourceNotFound, UnknownModel
from modelkin_indexer.fingerprint import Fingerprint
from modelkin_registry.registry import Registry


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


def _registered(registry: Registry, name: str) -> Fingerprint:
    try:
        return registry.get(name)
    except UnknownModel as error:
        if HUB_ID.fullmatch(name):
            existing(name)
        raise SourceNotFound("no such file or folder, and no registered model", path=name, remedy=str(error)) from error
