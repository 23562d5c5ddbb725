"""A registry as one file, and the same file as a dataset repository on the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from modelkin.sources.network import hub_client
from modelkin.wishes import Say
from modelkin_indexer.errors import SharedFileError
from modelkin_registry.answers.shared import Exported, Imported, Pushed
from modelkin_registry.registry import Registry

if TYPE_CHECKING:
    from modelkin_indexer.hub.client import HubClient

SHARED_FILE = "registry.modelkin-registry"


def export(registry: Registry, file: Path, *, paths: bool) -> Exported:
    """All models in one new file. Raises SharedFileError."""
    if file.exists():
        raise SharedFileError(f"{file}: is there already. Give a new name.")
    models, digest = registry.export(file, paths=paths)
    return Exported(str(file), models, file.stat().st_size, digest)


def take_in(registry: Registry, file: Path, name: str = "") -> Imported:
    """All models of such a file. `name` is what the answer calls it, and what its models are marked with. Raises SharedFileError."""
    taken, digest = registry.take_in(file, sender=name)
    return Imported.of(name or str(file), taken, digest)


def push(registry: Registry, client: HubClient, dataset: str, *, private: bool) -> Pushed:
    """The export as a commit of a dataset repository, without folders of this machine. Raises SharedFileError, HubError."""
    with TemporaryDirectory(prefix="modelkin-") as folder:
        file = Path(folder) / SHARED_FILE
        done = export(registry, file, paths=False)
        commit = client.push(dataset, file, SHARED_FILE, private=private)
    return Pushed(dataset, commit, done.models, done.bytes, done.digest)


@contextmanager
def pulled(dataset: str, announce: Say, *, offline: bool) -> Iterator[Path]:
    """The file that lies in a dataset repository (`org/name`, with `@revision` after it). Raises HubError, Offline."""
    client = hub_client(f"the dataset {dataset}", announce, offline=offline)
    name, _, revision = dataset.partition("@")
    with TemporaryDirectory(prefix="modelkin-") as folder:
        file = Path(folder) / SHARED_FILE
        client.pull(name, revision or "main", SHARED_FILE, file)
        yield file
