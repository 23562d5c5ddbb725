"""A repository as a folder: what of it is the model, decided as for a folder on disk, and only that is fetched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from msgspec import Struct

from modelkin_indexer.beside.claims import READERS
from modelkin_indexer.beside.structure import is_structure
from modelkin_indexer.errors import SourceError, SourceNotFound
from modelkin_indexer.hub import limits
from modelkin_indexer.hub.described import Repo
from modelkin_indexer.hub.errors import HubError
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.sources.folders import models_in, weights_in, weights_of
from modelkin_indexer.sources.register import Weights, container_of
from modelkin_indexer.sources.stored.files import CONFIG, MAX_CONFIG
from modelkin_indexer.sources.stored.shards import SHARD

PARTS = ("model_index.json", "modules.json")  # a folder with one of these is several models, each in a folder of its own
PARTS_OF_CONFIG = 2  # of the path of a config that is read: a part's, in a folder of its own
MOST_PARTS = 6  # of a file's path: a CoreML package in a folder, an Orbax checkpoint's step
MAX_OTHERS = 64  # files fetched beside the weights
SMALL = 1 << 20  # bytes of a vocabulary, code or licence that are always read
STRUCTURE_SHARE = 0.05  # of the weights' bytes, up to which a larger one is read
# Files beside the weights that say nothing of them; README.md and what else makes claims is fetched by name.
NOT_NEEDED = (
    "tokenizer",
    "vocab",
    "merges",
    "special_tokens",
    "added_tokens",
    "generation_config",
    "preprocessor",
    "chat_template",
    "trainer",
)


class Needed(Struct, frozen=True):
    """The files of a repository that are read. `content` is the same where weights and config.json are, byte for byte; "" if unknown."""

    weights: tuple[SourceFile, ...]
    others: tuple[SourceFile, ...]
    content: str

    @property
    def identity(self) -> tuple[SourceFile, ...]:
        """The files that decide the fingerprint: the weights, and config.json."""
        return (*self.weights, *(file for file in self.others if file.name == CONFIG))

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(file.size for file in (*self.weights, *self.others))


def needed(repo: Repo, file: str | None = None) -> Needed:
    """Which files the model is, by names and sizes alone; `file` picks one of several.

    Raises:
        SourceError: no weights, several models, names that no folder can have.
    """
    names = {file.name: file for file in repo.files if _is_plain(file.name)}
    with _laid_out(repo) as root:
        weights = [names[name] for name in sorted(set(_weights(root, file))) if name in names]
    size = sum(file.size for file in weights)
    others = [file for _, file in sorted(names.items()) if _is_read(file, size) and file not in weights]
    others.sort(key=lambda file: file.name not in READERS)  # what is left out where there are too many makes no claims
    return Needed(tuple(weights), tuple(others[:MAX_OTHERS]), _content(weights, names.get(CONFIG)))


def models_of(repo: Repo) -> dict[str, str]:
    """The models in a repository that holds several, by names and sizes alone: the file that picks each, and what to call it.

    A name is `org/name/STEM`, without the stem where the file's name says nothing, and with the subfolder where it lies in one.

    Raises:
        SourceError: names that no folder can have.
    """
    with _laid_out(repo) as root:
        if any((root / name).exists() for name in PARTS):
            return {}  # the parts of one model
        found = models_in(root)
        return {file: "/".join((repo.name, *_said_by(root, file))) for file in found} if len(found) > 1 else {}


def _said_by(root: Path, file: str) -> tuple[str, ...]:
    """What the path of a file says of its model."""
    parents = PurePosixPath(file).parent.parts
    stem = SHARD.sub(r"\g<stem>", weights_of(root, root / file)[1].name)
    return parents if stem == (parents or (root.name,))[-1] else (*parents, stem)


@contextmanager
def _laid_out(repo: Repo) -> Iterator[Path]:
    """A folder of empty files with the names and sizes of a repository's. Raises HubError, also for what is raised inside."""
    with TemporaryDirectory(prefix="modelkin-") as made:
        root = Path(made) / "repo"
        try:
            root.mkdir()
            for file in repo.files:
                if _is_plain(file.name):
                    stand_in(root / file.name, file.size)
            yield root
        except SourceError as error:
            raise HubError(error.problem.replace(str(root), repo.name), path=repo.name, remedy=error.remedy) from error
        except OSError as error:
            raise HubError(f"has files that no folder can have ({error.strerror})", path=repo.name, remedy="It is left out.") from error


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name and len(path.parts) <= MOST_PARTS


def stand_in(path: Path, size: int) -> None:
    """An empty file of that size, without blocks on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


def _weights(root: Path, file: str | None) -> Iterator[str]:
    if file is not None:
        if not (_is_plain(file) and (root / file).is_file()):
            raise SourceNotFound(f"has no file {file!r}", path=root, remedy="Check its name.")
        _, chosen = weights_of(root, root / file)
        yield from _named(root, chosen)
        return
    if any((root / name).exists() for name in PARTS):
        folders: Iterable[Path] = sorted(path for path in root.iterdir() if path.is_dir())
    else:
        folders = [root]
    for folder in folders:
        try:
            _, weights = weights_in(folder)
        except SourceError:
            if folder is root:
                raise
            continue  # a scheduler or tokenizer
        yield from _named(root, weights)


def _named(root: Path, weights: Weights) -> Iterator[str]:
    for path in (*weights.files, *([weights.index] if weights.index else [])):
        yield path.relative_to(root).as_posix()
        yield from (one.relative_to(root).as_posix() for one in container_of(path).companions(path))
    if weights.index:  # which shards it names is known only when it is read
        stem = weights.index.name.split(".")[0]
        yield from (path.relative_to(root).as_posix() for path in sorted(weights.index.parent.glob(f"{stem}-*")))


def _is_read(file: SourceFile, weights: int) -> bool:
    """Whether a file beside weights of so many bytes is read: claims, configs, and structure where it is small beside them."""
    name = PurePosixPath(file.name).name
    if name == file.name and is_structure(name):
        return file.size <= min(max(SMALL, weights * STRUCTURE_SHARE), limits.OTHER)
    is_config = name in READERS or (name.endswith(".json") and not name.startswith(NOT_NEEDED))
    if len(PurePosixPath(file.name).parts) > PARTS_OF_CONFIG:
        return False
    return is_config and file.size <= MAX_CONFIG


def _content(weights: Iterable[SourceFile], config: SourceFile | None) -> str:
    digests = sorted(file.digest for file in weights)
    if not digests or any(digest in ("", "git:") for digest in digests):
        return ""
    return hashlib.sha256("\n".join([*digests, config.digest if config else ""]).encode()).hexdigest()
