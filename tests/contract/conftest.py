"""The stores that the contract holds for: one engine more is one line in STORES."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from modelkin_registry.store.address import Place
from modelkin_registry.store.opening import open_store
from modelkin_registry.store.protocol import Store

Open = Callable[[], Store]
STORES: dict[str, Callable[[pytest.FixtureRequest, Path], Place]] = {
    "sqlite": lambda _, folder: folder / "registry.sqlite",
    "postgresql": lambda request, _: request.getfixturevalue("postgres").address(),
}


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Where a registry may be made."""
    monkeypatch.setenv("MODELKIN_CACHE", str(tmp_path / "cache"))
    return STORES[request.param](request, tmp_path)


@pytest.fixture
def opened(place: Place) -> Open:
    """Opens the same registry each time, made at the first."""
    return partial(open_store, place)


@pytest.fixture
def store(opened: Open) -> Iterator[Store]:
    with opened() as found:
        yield found
