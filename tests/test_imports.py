"""Who imports whom, and what the command line imports before it needs to."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiny_models import save_model, tiny_llama

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("indexer", "registry", "cli", "data")
BELOW = {"data": set(), "indexer": {"data"}, "registry": {"indexer", "data"}, "cli": {"registry", "indexer", "data"}}
# All that the registry takes from the indexer.
DATA_TYPES = {"aligned_reading", "errors", "fingerprint", "places", "spec", "sketch", "sources.base", "pair_statistics"}
HEAVY = {"torch", "faiss", "huggingface_hub", "numpy", "safetensors", "sqlite_utils", "rich", "matplotlib", "gguf"}


def modules(part: str) -> list[Path]:
    return sorted((ROOT / part / f"modelkin_{part}").rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Each import of one of our modules as (part, name inside it); relative imports are not used."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package.startswith("modelkin_"):
                yield package.removeprefix("modelkin_"), rest


@pytest.mark.parametrize("part", PARTS)
def test_imports_run_one_way(part: str) -> None:
    found = {(path.name, other) for path in modules(part) for other, _ in imported(path) if other != part}
    assert found or part == "data"
    assert {other for _, other in found} <= BELOW[part], found


def test_the_registry_takes_only_data_types_from_the_indexer() -> None:
    taken = {name for path in modules("registry") for part, name in imported(path) if part == "indexer"}
    assert taken
    strangers = {name for name in taken if not any(name == kind or name.startswith(f"{kind}.") for kind in DATA_TYPES)}
    assert not strangers


@pytest.mark.parametrize("part", PARTS)
def test_no_module_imports_its_own_top_package(part: str) -> None:
    """`from modelkin_x import module` names a module of it; what stands in the package itself may only be used from outside."""
    package = ROOT / part / f"modelkin_{part}"
    inside = {name.split(".")[0] for path in modules(part) for other, name in imported(path) if other == part}
    assert {name for name in inside if not (package / f"{name}.py").is_file() and not (package / name).is_dir()} == set()


def loaded_after(*arguments: str) -> set[str]:
    """Top-level modules that a call has imported when it ends."""
    at_exit = "atexit.register(lambda: print('\\n' + ' '.join(sys.modules), file=sys.stderr))"
    code = f"import atexit, sys\nfrom modelkin_cli.main import main\n{at_exit}\nmain()"
    paths = os.pathsep.join(str(ROOT / part) for part in PARTS)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, check=True
    )
    return {name.split(".")[0] for name in done.stderr.splitlines()[-1].split()}


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    loaded = loaded_after(*(arguments or ["--version"]))
    assert "modelkin_cli" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("level", ["probe", "full"])
def test_the_verbs_import_no_torch(tmp_path: Path, level: str) -> None:
    model = str(save_model(tmp_path / "a", tiny_llama(1)))
    registry = ["--registry", str(tmp_path / "registry.db")]
    for call in (["add", model], ["query", model], ["compare", model, "a"]):
        loaded = loaded_after(*registry, *call, "--level", level, "-q")
        assert "numpy" in loaded
        assert loaded & {"torch", "huggingface_hub", "matplotlib", "gguf"} == set()
