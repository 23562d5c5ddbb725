"""Fingerprints of an older spec made anew from where their weights came from, or from the models that come with modelkin."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from msgspec.structs import replace

from modelkin.errors import problem_of
from modelkin.sources.naming import HUB_ID
from modelkin.taking.several import read_again
from modelkin.wishes import HowToRead, Listener, Reading
from modelkin_data import starter
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.spec import PUBLIC
from modelkin_registry.answers.upkeep import Renewed
from modelkin_registry.registry import Registry
from modelkin_registry.search.known import read
from modelkin_registry.store.opening import open_store
from modelkin_registry.store.records import StoredModel

OTHER_WEIGHTS = "other weights are there now"


def renewed(registry: Registry, how: HowToRead, listener: Listener, *, hub: bool) -> Iterator[Renewed]:
    """One result for each outdated fingerprint, as soon as it is done. The Hub is asked only with `hub`."""
    outdated = registry.store.stored(registry.store.outdated())
    packaged = _packaged() if registry.store.key_name == PUBLIC and outdated else {}
    for number, stored in outdated.items():
        told = Renewed(stored.name, "left", None, stored.level, stored.origin)
        try:
            reason = _renew(registry, number, stored, packaged.get(stored.origin), replace(how, level=stored.level), listener, hub)
        except Exception as error:  # whatever is wrong with one source, the others are done
            problem = problem_of(error)
            reason = str(problem)
            if problem.is_fault:
                listener.fault(error)
        yield replace(told, reason=reason) if reason else replace(told, status="renewed")
    registry.refresh()


def _packaged() -> dict[str, Fingerprint]:
    """The models that come with modelkin, by where their weights came from. Of a copy: opening a registry may write to it."""
    path = starter.path()
    if path is None:
        return {}
    with tempfile.TemporaryDirectory() as folder, closing(open_store(Path(shutil.copy(path, folder)), create=False)) as store:
        return {stored.origin: read(stored) for stored in store.stored(store.numbers()).values()}


def _renew(
    registry: Registry, number: int, stored: StoredModel, packaged: Fingerprint | None, how: HowToRead, listener: Listener, hub: bool
) -> str:
    """Make one anew; why not, or \"\"."""
    if stored.sender:
        return "it was imported: import a newer file of its sender"
    if packaged is not None:
        return "" if registry.renew(number, packaged) else "other weights of that name come with modelkin now"
    if Path(stored.origin).exists() and stored.origin:
        return _renewed_by(registry, number, read_again(stored, stored.origin, how, listener))
    if not HUB_ID.fullmatch(stored.origin):
        return "its weights are not there any more: add them from where they are now, with `modelkin add SOURCE --as NAME`"
    if not hub:
        return "it is on the Hub: add --hub to read it again"
    return _renewed_by(registry, number, read_again(stored, f"hf://{stored.origin}", how, listener))


def _renewed_by(registry: Registry, number: int, reading: Reading | None) -> str:
    return "" if reading is not None and registry.renew(number, reading.fingerprint) else OTHER_WEIGHTS
