"""The container recipe, step by step in a shell: what it installs screens a batch as the page says, without a container engine."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tiny_models import save_model, tiny_llama

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "docs" / "container" / "Containerfile"
LEFT_OUT = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "*.so", "tests", "benchmarks", "findings")


def steps() -> list[tuple[str, str]]:
    """Instruction and argument of each line."""
    lines = [line for line in RECIPE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


@pytest.fixture
def image(tmp_path: Path) -> dict[str, str]:
    """The image's environment: a Python with pip that finds what this one has installed, so that nothing is fetched."""
    venv.create(tmp_path / "image", with_pip=True)
    inside = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "image")}))
    for old in inside.glob("setuptools*"):  # which some Pythons bring, too old for what builds
        shutil.rmtree(old)
    (inside / "of_the_tests.pth").write_text("".join(f"{one}\n" for one in sys.path if one.endswith("site-packages")))
    path = f"{tmp_path / 'image' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    pip = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_FORCE_REINSTALL": "1"}
    return {"PATH": path, "HOME": str(tmp_path), **pip}


@pytest.mark.skipif(sys.platform == "win32", reason="its steps are those of a Linux image")
def test_the_steps_of_the_recipe_install_what_screens(tmp_path: Path, image: dict[str, str]) -> None:
    batch = tmp_path / "batch"
    batch.mkdir()
    for name, seed in (("registered", 1), ("copy", 1), ("other", 2)):
        save_model(batch / name, tiny_llama(seed))
    (batch / "submissions.csv").write_text("name,source,from_scratch\ncopy,copy,text\nother,other,text\n", encoding="utf-8")
    entry: list[str] = []
    for instruction, words in steps():
        if instruction == "COPY":
            source, target = words.split()
            assert (source, target) == (".", "/source")
            shutil.copytree(ROOT, tmp_path / "source", ignore=LEFT_OUT)
        elif instruction == "RUN":
            done = subprocess.run(
                words.replace("/source", str(tmp_path / "source")), shell=True, env=image, capture_output=True, check=False
            )
            assert done.returncode == 0, done.stderr.decode()[-2000:]
        elif instruction == "ENV":
            image |= dict(one.split("=", 1) for one in shlex.split(words))
        elif instruction == "ENTRYPOINT":
            entry = json.loads(words)
        else:
            assert instruction in ("FROM", "WORKDIR"), instruction
    installed = shutil.which(entry[0], path=image["PATH"])
    assert installed == str(tmp_path / "image" / "bin" / "modelkin")

    def call(*words: str) -> int:
        return subprocess.run([installed, *words], cwd=batch, env=image, capture_output=True, check=False).returncode

    assert call("--registry", "public.db", "add", "registered") == 0
    line = next(line for line in RECIPE.read_text(encoding="utf-8").splitlines() if "podman run" in line)
    assert call(*shlex.split(line.split(" modelkin ", 1)[1])) == 1
    told = [json.loads(row) for row in (batch / "screening" / "submissions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(one["submission"], one["outcome"]) for one in told] == [("copy", "flagged"), ("other", "clear")]
