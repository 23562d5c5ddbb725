"""A source as a reading: weights here or on the Hub that are indexed, or a fingerprint that was written to a file."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from modelkin.sources.damage import refuse_damage
from modelkin.sources.naming import FINGERPRINT_SUFFIX, existing, hub_id
from modelkin.sources.network import hub_client
from modelkin.wishes import Asked, HowToRead, Listener, Reading
from modelkin_indexer.errors import FingerprintError, SourceNotFound, UnsupportedFormat
from modelkin_indexer.places import Place
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.source import Source

if TYPE_CHECKING:
    from modelkin_registry.search.questioned import Questioned

DEFAULT_LEVEL = "full"
AT_HAND = "fingerprint"  # what a fingerprint without a file is called


def reading_of(asked: Asked, how: HowToRead, listener: Listener, registry: Questioned | None = None) -> Reading:
    """What was asked about, read. Raises SourceError, FingerprintError."""
    if isinstance(asked, Reading):
        return asked
    if isinstance(asked, Fingerprint):
        return Reading(AT_HAND, asked, "")
    return read_source(os.fspath(asked), how, listener, registry, hinted=True)


def name_of(asked: Asked) -> str:
    """What an answer calls the thing that was asked about."""
    if isinstance(asked, Fingerprint):
        return AT_HAND
    return asked.name if isinstance(asked, Reading) else os.fspath(asked)


def read_source(source: str, how: HowToRead, listener: Listener, registry: Questioned | None = None, *, hinted: bool = False) -> Reading:
    """The fingerprint of a source; of a Hub id without reading weights that are in the registry.

    A registered model is no source; where nothing is found and it is `hinted`, the error says that one has this name.

    Raises:
        SourceError: nothing there, or weights that cannot be read.
        Offline: a Hub id, and requests are forbidden.
        FingerprintError: a fingerprint file that is damaged, or of another level than asked for.
    """
    if (name := hub_id(source)) is not None:
        return _hub_reading(source, name, how, listener, registry)
    path = existing(source, registry.__contains__) if registry is not None and hinted else existing(source)
    if path.is_file() and path.suffix == FINGERPRINT_SUFFIX:
        return _written(path, how)
    from modelkin_indexer.beside.claims import claims_of  # a written fingerprint does without the indexer's imports
    from modelkin_indexer.beside.structure import structure_of
    from modelkin_indexer.fingerprinting.indexing import fingerprint_source

    with closing(opened(path, how)) as weights:
        done = listener.begin(weights.name, sum(info.nbytes for info in weights.tensors.values()))
        level = how.level or DEFAULT_LEVEL
        fingerprint = fingerprint_source(weights, level=level, key=how.key, threads=how.threads, progress=done, strict=how.strict)
        claims, claim_notes = claims_of(path)
        return Reading(
            weights.name, fingerprint, str(path.resolve()), weights.files, weights.notes + claim_notes, claims, structure_of(path)
        )


def read_alike(path: Path, how: HowToRead, listener: Listener, config: Mapping[str, Any]) -> Fingerprint | None:
    """The fingerprint of weights whose layout their files leave open: of fused attention with the heads of a model that `config` is of.

    None where that makes no difference. Raises SourceError.
    """
    from modelkin_indexer.anatomy.parts import anatomy_of

    with closing(opened(path, how)) as weights:
        if anatomy_of(weights, config) == anatomy_of(weights):
            return None
        return _again(weights, how, listener, config)


def read_turned(path: Path, how: HowToRead, listener: Listener, places: Collection[Place]) -> tuple[Fingerprint, frozenset[str]] | None:
    """The fingerprint of weights whose matrices in these places are taken for stored [in, out], and the names of these.

    None where none of them is a matrix that may be. Raises SourceError.
    """
    from modelkin_indexer.adapters.presented import adapter_of
    from modelkin_indexer.anatomy.parts import anatomy_of
    from modelkin_indexer.sources.composite import CompositeSource
    from modelkin_indexer.sources.turned import TurnedSource, may_turn

    with closing(opened(path, how)) as weights:
        if isinstance(weights, CompositeSource) or adapter_of(weights) is not None:
            return None
        turned = may_turn(weights, anatomy_of(weights), places)
        return (_again(TurnedSource(weights, turned), how, listener, {}), turned) if turned else None


def _again(weights: Source, how: HowToRead, listener: Listener, alike: Mapping[str, Any]) -> Fingerprint:
    from modelkin_indexer.fingerprinting.indexing import fingerprint_source

    done = listener.begin(weights.name, sum(info.nbytes for info in weights.tensors.values()))
    level = how.level or DEFAULT_LEVEL
    return fingerprint_source(weights, level=level, key=how.key, threads=how.threads, progress=done, alike=alike)


def _hub_reading(source: str, name: str, how: HowToRead, listener: Listener, registry: Questioned | None) -> Reading:
    if how.base is not None:
        raise UnsupportedFormat("is read from the Hub", path=source, remedy="Download the adapter for --adapter-base, and give its folder.")
    client = hub_client(name, listener.announce, offline=how.offline)
    from modelkin.sources.hub_reading import known_in, read_hub  # nothing else needs the network's imports
    from modelkin_indexer.hub.errors import HubError

    try:
        known = known_in(registry, how) if registry is not None else None
        return replace(read_hub(client, name, how, listener.begin, known), remote=True)
    except HubError as error:
        if not error.gone or name != source:
            raise
        raise SourceNotFound(f"no such file or folder, and {error.problem}", path=source, remedy=error.remedy) from error


def opened(path: Path, how: HowToRead) -> Source:
    """The weights at a path; of an adapter, with a base given, their sum."""
    from modelkin_indexer.opening import open_source  # brings what reads weights

    weights = open_source(path, how.file)
    if how.base is None:
        return weights
    from modelkin_indexer.adapters.presented import AdapterSource
    from modelkin_indexer.adapters.source import on_base

    if not isinstance(weights, AdapterSource):
        weights.close()
        raise UnsupportedFormat("is no adapter", path=path, remedy="Leave --adapter-base out: it is for low-rank adapters (PEFT).")
    try:
        base = open_source(how.base)
    except BaseException:
        weights.close()
        raise
    return on_base(weights, base)


def _written(path: Path, how: HowToRead) -> Reading:
    try:
        fingerprint = fingerprints.load(path)
    except OSError as error:
        raise FingerprintError(f"{path}: cannot be read ({error.strerror}). Check that you may read it.") from error
    level = fingerprint.about.level
    if how.level not in (None, level):
        raise FingerprintError(f"{path}: a fingerprint of level {level}, not {how.level}. Leave --level out, or index the weights again.")
    if how.strict:
        refuse_damage(fingerprint, path)
    return Reading(path.stem, fingerprint, str(path.resolve()), (SourceFile(path.name, path.stat().st_size),))
