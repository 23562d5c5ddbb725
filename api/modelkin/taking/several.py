"""Sources that hold several models: which they are, and one of them read again for what is registered."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from msgspec.structs import replace

from modelkin.sources.naming import hub_id
from modelkin.sources.network import hub_client
from modelkin.sources.reading import reading_of
from modelkin.wishes import HowToRead, Listener, Reading
from modelkin_indexer.errors import SourceError
from modelkin_registry.search.known import same_weights
from modelkin_registry.store.records import StoredModel


def models_at(source: str | os.PathLike[str], how: HowToRead, listener: Listener) -> Mapping[str, str]:
    """The models of a folder or Hub repository, by the files that pick them, with their names ("": those they have alone).

    One or none where it holds one model, or cannot be listed: reading it says why.
    """
    try:
        if (name := hub_id(os.fspath(source))) is not None:
            return _in_repository(name, how, listener)
        return dict.fromkeys(_in_folder(Path(source)), "")
    except SourceError:
        return {}


def read_again(stored: StoredModel, source: str, how: HowToRead, listener: Listener) -> Reading | None:
    """A registered model as it is in its source now; None where other weights are there.

    Of several models in it those of the model's name are looked at first; of the others the first that has the same weights.

    Raises:
        SourceError: a source with one model, or the last of several that are looked at, cannot be read.
    """
    models = models_at(source, how, listener)
    if len(models) < 2:
        reading = reading_of(source, how, listener)
        return reading if same_weights(stored, reading.fingerprint) else None
    failed: SourceError | None = None
    for file in sorted(models, key=lambda file: (not _is_called(stored.model, file, models[file]), file)):
        try:
            reading = reading_of(source, replace(how, file=file), listener)
        except SourceError as error:
            failed = error
            continue
        if same_weights(stored, reading.fingerprint):
            return reading
    if failed is not None:
        raise failed
    return None


def _is_called(model: str, file: str, own: str) -> bool:
    """Whether a model's name is the one that its file gives it."""
    path = PurePosixPath(file)
    return own == model or path.name.split(".")[0] == model or path.parent.name == model


def _in_folder(folder: Path) -> tuple[str, ...]:
    """The models in a folder of this machine, by the files that pick them. Raises SourceError."""
    from modelkin_indexer.sources.composite import MODULES, PIPELINE  # the indexer is imported when something is read
    from modelkin_indexer.sources.folders import models_in

    if not folder.is_dir() or any((folder / name).exists() for name in (MODULES, PIPELINE)):
        return ()  # the parts of one model
    return models_in(folder)


def _in_repository(name: str, how: HowToRead, listener: Listener) -> Mapping[str, str]:
    """The models in a Hub repository (`org/name`, with `@revision` after it), and their names. Raises SourceError."""
    client = hub_client(name, listener.announce, offline=how.offline)
    from modelkin_indexer.hub.folders import models_of  # only the network needs its imports

    repo_id, _, revision = name.partition("@")
    return models_of(client.repo(repo_id, revision or None))
