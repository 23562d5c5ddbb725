"""What the tests of the command line stand on: a user's folder of their own, and a few tiny models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import platformdirs
import pytest

from calls import run
from postgres import NoServer, Server, serving
from tiny_models import save_model, tiny_llama, tuned, with_norms_of


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server; where none can be started, tests that need one are skipped with the reason."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (`pip install 'modelkin[postgres]'`)")
    with ExitStack() as stack:
        try:
            server = stack.enter_context(serving())
        except NoServer as error:
            pytest.skip(f"no PostgreSQL server can be started here: {error}")
        yield server


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user data folder of a new user, no settings from outside, and a working folder to start in."""
    home = tmp_path / "home"
    monkeypatch.setattr(platformdirs, "user_data_dir", lambda *_, **__: str(home))
    for name in ("MODELKIN_REGISTRY", "MODELKIN_KEY_FILE", "MODELKIN_CACHE_BYTES", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODELKIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MODELKIN_OFFLINE", "1")  # what needs a Hub gets one on loopback, and leave to ask it
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture
def models(tmp_path: Path, own_folder: Path) -> Path:
    """`parent`, its fine-tune `child`, a `stranger`, and `fake`: a stranger that wears the parent's norm gains."""
    parent, stranger = tiny_llama(1), tiny_llama(2)
    made = {"parent": parent, "child": tuned(parent, 3), "stranger": stranger, "fake": with_norms_of(tiny_llama(4), parent)}
    for name, tensors in made.items():
        save_model(tmp_path / name, tensors)
    return tmp_path


@pytest.fixture
def filled(models: Path) -> Path:
    """The models, with `parent` and `stranger` in r.db."""
    assert run("add", "parent", "stranger").exit_code == 0
    return models
