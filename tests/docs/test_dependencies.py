"""What is installed: each dependency is used by the product and explained, and nothing else is imported."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from benchmarks.house import environment
from benchmarks.house.rooms import PACKAGES, PARTS, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGE = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")


def plain(requirement: str) -> str:
    """A requirement's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=~! ]", requirement)[0]).lower()


DEPENDENCIES = sorted(map(plain, PROJECT["dependencies"]))
EXTRAS = {name: {plain(one) for one in wanted} for name, wanted in PROJECT["optional-dependencies"].items()}
# Modules whose name leads to several packages, or to none.
CALLED = {"faiss": "faiss-cpu", "google": "protobuf", "weasyprint": "weasyprint", "yaml": "pyyaml"}


def imported() -> dict[str, set[str]]:
    """Top-level modules of others that the product imports anywhere, with the files."""
    found: dict[str, set[str]] = {}
    for part in PARTS:
        for path in (ROOT / part / PACKAGES[part]).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
                for name in names:
                    found.setdefault(name.split(".")[0], set()).add(path.name)
    return {name: files for name, files in found.items() if name not in sys.stdlib_module_names and not name.startswith("modelkin")}


def packages() -> set[str]:
    """The packages that these modules come from."""
    known = packages_distributions()
    return {plain(CALLED.get(name) or known.get(name, [name])[0]) for name in imported()}


def test_the_product_imports_what_it_declares_and_declares_what_it_imports() -> None:
    extras = {"pandas"}.union(*(EXTRAS[name] for name in ("gpu", "orbax", "pdf", "postgres", "ray", "serve")))
    assert packages() - extras == set(DEPENDENCIES)
    assert imported()["pandas"] == {"plain.py", "registry.py", "keeping.py"}  # the last two for its type alone


def test_no_torch_without_asking() -> None:
    assert "torch" not in DEPENDENCIES
    assert "torch" in EXTRAS["gpu"]
    assert all("gpu" in path or path.endswith("_gpu.py") for path in imported().get("torch", set()))


def test_an_environment_that_is_too_large_or_has_what_only_extras_bring_is_seen(tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in ("numpy", "torchvision", "nvidia_cublas"):
        (site / name).mkdir(parents=True)
    (site / "numpy" / "core.so").write_bytes(b"1" * 2_000_000)
    found = environment.installed(tmp_path)
    assert 2_000_000 <= found["numpy"] < 2_100_000
    assert environment.faults(found) == ["nvidia_cublas is installed", "torchvision is installed"]
    large = {"numpy": (environment.MOST_MEGABYTES + 1) * 1_000_000}
    assert environment.faults(large) == [f"{environment.MOST_MEGABYTES + 1} MB, more than {environment.MOST_MEGABYTES}"]
    assert environment.faults({"numpy": 1}) == []


@pytest.mark.parametrize("name", DEPENDENCIES)
def test_each_dependency_says_what_it_does_for_a_user(name: str) -> None:
    (line,) = [line for line in PAGE.splitlines() if re.match(rf"\| `{name}` \|", line.replace("_", "-").lower())]
    assert len(line.split("|")[2].split()) >= 5


def test_the_page_has_nothing_that_is_not_installed() -> None:
    listed = [plain(name) for name in re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE)]
    assert sorted(listed) == DEPENDENCIES
    assert {name for name in EXTRAS if f"`modelkin[{name}]`" in PAGE} == set(EXTRAS)


def test_constraints_pin_all_that_is_declared() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {plain(line) for line in lines if "==" in line}
    assert set(DEPENDENCIES) | set().union(*EXTRAS.values()) - {"modelkin"} <= pinned
    assert all(re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line) for line in lines)


def test_the_project_has_addresses() -> None:
    assert {"Source", "Documentation", "Changelog"} <= set(PROJECT["urls"])
