"""The hostile files of the benchmark, given to the reader alone (the benchmark itself gives them to the installed command)."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from modelkin_indexer.opening import open_source

# Their bytes hold the folder, addresses of storages, or what HDF5 leaves unwritten.
PATHS_INSIDE = ("other format", "PyTorch", "NumPy", "NeMo", "Paddle", "Keras")
BENCHMARKS = Path(__file__).parents[2]


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark's module; its folder is no package."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("benchmarks.hostile.files")


def test_every_hostile_file_is_refused_by_name(hostile: ModuleType, tmp_path: Path) -> None:
    cases = hostile.make_cases(tmp_path, large=False)
    assert len({case.path for case in cases}) == len(cases) >= 3000
    assert hostile.opening_problems(cases) == []
    assert not hostile.bomb_mark(tmp_path).exists()


def test_the_same_files_are_made_every_time(hostile: ModuleType, tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        cases = hostile.make_cases(tmp_path / name, large=False)
        alike = [case for case in cases if not case.kind.startswith(PATHS_INSIDE)]
        files = [case.path for case in alike if case.path.is_file() and not case.path.is_symlink()]
        contents.append({path.name: path.read_bytes() for path in files})
    assert len(contents[0]) > 250
    assert contents[0] == contents[1]


def test_the_model_they_are_made_from_is_sound(hostile: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "sound.safetensors"
    path.write_bytes(hostile.compose(*hostile.sound_model()))
    assert len(open_source(path).tensors) == 18


def test_problems_are_seen(hostile: ModuleType, tmp_path: Path) -> None:
    """The check itself: a sound file that should have been refused, and a damaged one that should have opened."""
    sound, damaged = tmp_path / "sound.safetensors", tmp_path / "damaged.safetensors"
    sound.write_bytes(hostile.compose(*hostile.sound_model()))
    damaged.write_bytes(b"damaged")
    problems = hostile.opening_problems([hostile.Case("sound", sound), hostile.Case("damaged", damaged, hostile.NOTED)])
    assert [problem.split(":")[0] for problem in problems] == ["sound.safetensors", "damaged.safetensors"]
