"""The stores that the contract holds for: one engine more is one line in STORES."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from modelkin_registry.store.opening import open_store
from modelkin_registry.store.protocol import Store

Open = Callable[[], Store]
STORES: dict[str, Callable[[Path], Open]] = {"sqlite": lambda folder: partial(open_store, folder / "registry.sqlite")}


@pytest.fixture(params=STORES)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same registry each time, made at the first."""
    return STORES[request.param](tmp_path)


@pytest.fixture
def store(opened: Open) -> Iterator[Store]:
    with opened() as found:
        yield found
