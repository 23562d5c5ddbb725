"""How an answer came to be, so that somebody who was not there can make it again: tool, key id, registry, and the files by digest."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from modelkin.sources.naming import FINGERPRINT_SUFFIX, hub_id
from modelkin.sources.network import hub_client
from modelkin.wishes import Asked, Listener, Reading
from modelkin_indexer import spec
from modelkin_indexer.errors import ModelkinError
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.plain import Plain
from modelkin_registry.questions import Questions

PIECE = 1 << 20  # bytes read at once for a digest
MOST_DIGESTED = 10_000  # models of a registry whose contents are still listed for its digest: a thousandth of a second each
SOFTWARE = ("numpy", "scipy", "faiss-cpu", "blake3", "xxhash")  # whose versions may show in the last digits of a number


class InputFile(Plain, frozen=True):
    """A file of an input. `sha256` is None where nobody has told it."""

    name: str
    bytes: int
    sha256: str | None


class Input(Plain, frozen=True):
    """One model of a question. `kind` is "files", "fingerprint", "Hub" or "registered"; `revision` says where from: of the Hub the commit.

    `sha256` is one digest of all of the files: of lines "SHA-256, two spaces, name", as sha256sum prints them, by name; None where one
    of the files has none.
    """

    role: str
    name: str
    kind: str
    revision: str | None
    files: tuple[InputFile, ...]
    sha256: str | None = None


class Made(Plain, frozen=True):
    """How an answer came to be. `registry` is a digest of its contents (names and digests of weights), None without one or of one that is
    too large for it; `models` how many it has. `key` is the key's id: the key itself stands nowhere."""

    modelkin: str
    spec: str
    key: str
    at: str
    command: str
    registry: str | None
    models: int | None
    inputs: tuple[Input, ...]
    software: dict[str, str]


def made(
    *, key: str, command: str, asked: Sequence[tuple[str, Asked]], registry: Questions | None, listener: Listener, offline: bool = False
) -> Made:
    """What is told of an answer beside it. `asked` are the models with their roles. Files are read once more, for their digests."""
    return Made(
        modelkin=release(),
        spec=spec.VERSION,
        key=key,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        registry=None if registry is None else registry_digest(registry),
        models=None if registry is None else registry.store.count(),
        inputs=tuple(input_of(role, one, registry, listener, offline=offline) for role, one in asked),
        software=software(),
    )


def release() -> str:
    """The version of modelkin that runs."""
    try:
        return version("modelkin")
    except PackageNotFoundError:
        return "from its source folder"


def software() -> dict[str, str]:
    """Versions of Python and of the packages that numbers come from."""
    found = {"python": platform.python_version()}
    for name in SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def registry_digest(registry: Questions) -> str | None:
    """SHA-256 over the names of all registered models and the digests of their weights; None of a very large registry."""
    store = registry.store
    if store.count() > MOST_DIGESTED:
        return None
    lines = [f"{name}\t{revision['content']}\n" for name in store.names() for revision in store.show(name)["revisions"]]
    return "sha256:" + hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def input_of(role: str, asked: Asked, registry: Questions | None, listener: Listener, *, offline: bool = False) -> Input:
    """One model of a question, with the digests of its files where they are here or told. Never fails for what cannot be told."""
    if isinstance(asked, Fingerprint):
        return Input(role, "a fingerprint at hand", "fingerprint", None, ())
    if isinstance(asked, Reading):
        return _whole(role, asked.name, "files", asked.origin or None, [InputFile(f.name, f.size, _sha256(f.digest)) for f in asked.files])
    name = os.fspath(asked)
    path = Path(name)
    try:
        if path.exists():
            return _local(role, path, listener)
        if registry is not None and name in registry.store:
            return registered_input(role, name, registry)
        if (repo := hub_id(name)) is not None:
            return _remote(role, repo, listener, offline=offline)
    except (ModelkinError, OSError) as error:
        listener.say(f"{name}: the digests of its files are not told ({error}).")
    return Input(role, name, "files", None, ())


def _local(role: str, path: Path, listener: Listener) -> Input:
    if path.is_file() and path.suffix == FINGERPRINT_SUFFIX:
        return _whole(role, path.name, "fingerprint", None, [InputFile(path.name, path.stat().st_size, sha256_of(path))])
    from modelkin_indexer.opening import open_source  # brings every reader of quantised weights and adapters

    with closing(open_source(path)) as source:
        names = sorted({one.name for one in source.files})
    files = [path if path.is_file() and path.name == name else path / name for name in names]
    told = listener.begin(f"digests of {path.name}", sum(file.stat().st_size for file in files))
    found = [InputFile(name, file.stat().st_size, sha256_of(file, told)) for name, file in zip(names, files, strict=True)]
    return _whole(role, path.name, "files", None, found)


def registered_input(role: str, name: str, registry: Questions) -> Input:
    """A registered model as one of a question, with the digests that were taken when it was added."""
    revision = registry.store.show(name)["revisions"][0]
    files = [InputFile(one["name"], one["size"], _sha256(one["digest"])) for one in revision["files"]]
    return _whole(role, name, "registered", revision["content"], files)


def _remote(role: str, name: str, listener: Listener, *, offline: bool) -> Input:
    client = hub_client(name, listener.announce, offline=offline)
    from modelkin_indexer.hub.folders import needed  # nothing else needs the network's imports

    repo_id, _, revision = name.partition("@")
    repo = client.repo(repo_id, revision or None)
    files = [InputFile(one.name, one.size, _sha256(one.digest)) for one in needed(repo).identity]
    return _whole(role, name, "Hub", f"{repo.name}@{repo.commit}", files)


def _whole(role: str, name: str, kind: str, revision: str | None, files: Sequence[InputFile]) -> Input:
    return Input(role, name, kind, revision, tuple(files), whole_digest(files))


def whole_digest(files: Sequence[InputFile]) -> str | None:
    """One digest of all files, None where one of them has none."""
    lines = [f"{file.sha256}  {file.name}\n" for file in sorted(files, key=lambda file: file.name)]
    known = bool(files) and all(file.sha256 is not None for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest() if known else None


def _sha256(digest: str) -> str | None:
    """The hexadecimal digits of a digest that is told as a SHA-256."""
    kind, _, digits = digest.rpartition(":")
    return digits if kind == "sha256" else None


def sha256_of(path: Path, told: Callable[[int], Any] = lambda _: None) -> str:
    """SHA-256 of a file, as sha256sum prints it; `told` is told of the bytes done. Raises OSError."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            hasher.update(piece)
            told(len(piece))
    return hasher.hexdigest()
