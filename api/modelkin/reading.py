"""What SOURCE means: weights to index, or a fingerprint that was written to a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from modelkin.wishes import Begin, HowToRead, Reading
from modelkin_indexer.errors import FingerprintError, SourceNotFound, UnsupportedFormat
from modelkin_indexer.opening import open_source
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import Source

if TYPE_CHECKING:
    from modelkin_registry.store.protocol import Store

FINGERPRINT_SUFFIX = ".modelkin"
FILE_SUFFIXES = (FINGERPRINT_SUFFIX, ".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".npz", ".npy", ".onnx", ".json")
HUB_PREFIX = "hf://"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
DEFAULT_LEVEL = "full"


def read_source(source: str, how: HowToRead, begin: Begin, registry: Store | None = None) -> Reading:
    """The fingerprint of a source; of a Hub id without reading weights that are in the registry.

    Raises:
        SourceError: nothing there, or weights that cannot be read.
        FingerprintError: a fingerprint file that is damaged, or of another level than asked for.
    """
    if (name := hub_id(source)) is not None:
        return _hub_reading(source, name, how, begin, registry)
    path = existing(source)
    if path.is_file() and path.suffix == FINGERPRINT_SUFFIX:
        return _written(path, how)
    from modelkin_indexer.beside.claims import claims_of  # a written fingerprint does without the indexer's imports
    from modelkin_indexer.beside.structure import structure_of
    from modelkin_indexer.fingerprinting.indexing import fingerprint_source

    with closing(_opened(path, how)) as weights:
        done = begin(weights.name, sum(info.nbytes for info in weights.tensors.values()))
        fingerprint = fingerprint_source(weights, level=how.level or DEFAULT_LEVEL, key=how.key, threads=how.threads, progress=done)
        claims, claim_notes = claims_of(path)
        return Reading(
            weights.name, fingerprint, str(path.resolve()), weights.files, weights.notes + claim_notes, claims, structure_of(path)
        )


def hub_id(source: str) -> str | None:
    """The Hub id that a source is, None for what is here or is named like a file. With `hf://` before it, it is one whatever is here."""
    name = source.removeprefix(HUB_PREFIX)
    is_meant = name != source or not (Path(source).exists() or source.endswith(FILE_SUFFIXES))
    return name if is_meant and HUB_ID.fullmatch(name) else None


def _hub_reading(source: str, name: str, how: HowToRead, begin: Begin, registry: Store | None) -> Reading:
    from modelkin.hub_reading import known_in, read_hub  # nothing else needs the network's imports
    from modelkin_indexer.hub.errors import HubError

    if how.base is not None:
        raise UnsupportedFormat("is read from the Hub", path=source, remedy="Download the adapter for --adapter-base, and give its folder.")
    try:
        return read_hub(name, how, begin, known_in(registry, how) if registry is not None else None)
    except HubError as error:
        if error.gone and name == source:
            error.args = (f"{source}: no such file or folder, and {error.problem}. {error.remedy}",)
        raise


def _opened(path: Path, how: HowToRead) -> Source:
    """The weights at a path; of an adapter, with a base given, their sum."""
    from modelkin_indexer.adapters.source import AdapterSource, on_base

    weights = open_source(path, how.file)
    if how.base is None:
        return weights
    if not isinstance(weights, AdapterSource):
        weights.close()
        raise UnsupportedFormat("is no adapter", path=path, remedy="Leave --adapter-base out: it is for low-rank adapters (PEFT).")
    try:
        base = open_source(how.base)
    except BaseException:
        weights.close()
        raise
    return on_base(weights, base)


def existing(source: str, names: Sequence[str] = ()) -> Path:
    """The path that a source names. Raises SourceNotFound, with a hint where it looks like a Hub id or is one of the registered `names`."""
    path = Path(source)
    if path.exists():
        return path
    remedy = "Give a file of weights, or a folder with one model."
    if source in names:
        remedy = f"A registered model has this name, but this verb reads weights; `modelkin compare {source} OTHER` takes names."
    elif HUB_ID.fullmatch(source.removeprefix(HUB_PREFIX)):
        remedy = "This verb reads local files: if it is a Hub id, download it with `hf download`, and give the folder."
    raise SourceNotFound("no such file or folder", path=source, remedy=remedy)


def guessed_name(source: str) -> str:
    """What to call a source that could not be opened."""
    return hub_id(source) or Path(source).name or source


def _written(path: Path, how: HowToRead) -> Reading:
    try:
        fingerprint = fingerprints.load(path)
    except OSError as error:
        raise FingerprintError(f"{path}: cannot be read ({error.strerror}). Check that you may read it.") from error
    level = fingerprint.about.level
    if how.level not in (None, level):
        raise FingerprintError(f"{path}: a fingerprint of level {level}, not {how.level}. Leave --level out, or index the weights again.")
    return Reading(path.stem, fingerprint, str(path.resolve()), (SourceFile(path.name, path.stat().st_size),))
