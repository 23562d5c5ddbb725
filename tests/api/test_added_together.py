"""Sources that are read within a moment are stored in one transaction, and what goes wrong there costs none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import modelkin
from modelkin.taking import adding
from modelkin.wishes import Listener
from modelkin_indexer.errors import RegistryError
from tiny_models import save_model, tiny_llama


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three, of which the second is damaged; however slow the machine is, they are stored together."""
    monkeypatch.setattr(adding, "TOGETHER", 1e9)
    found = [save_model(tmp_path / name, tiny_llama(seed)) for seed, name in enumerate("abc")]
    (found[1] / "model.safetensors").write_bytes(b"no weights")
    return found


def watched(registry: modelkin.Registry, monkeypatch: pytest.MonkeyPatch, fails: Callable[[int], bool]) -> list[int]:
    """Counts the transactions that are not inside another one; those that `fails` names are taken back at their end."""
    store, counted, depth = registry.inner.store, [], [0]
    real = store.batch

    @contextmanager
    def batch() -> Iterator[None]:
        if not depth[0]:
            counted.append(len(counted))
        depth[0] += 1
        try:
            with real():
                yield
                if depth[0] == 1 and fails(counted[-1]):
                    raise RegistryError("the disk is full")
        finally:
            depth[0] -= 1

    monkeypatch.setattr(store, "batch", batch)
    return counted


def test_models_read_in_a_moment_are_stored_in_one_transaction(tmp_path: Path, models: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with modelkin.Registry.open(tmp_path / "r.db", create=True) as registry:
        counted = watched(registry, monkeypatch, lambda _: False)
        answer = registry.add(*models)
        assert [(one.model, one.status) for one in answer.results] == [("a", "added"), ("b", "failed"), ("c", "added")]
        assert [one.fingerprint_bytes for one in answer.results if one.fingerprint_bytes] == [
            len(registry.get(name).to_bytes()) for name in "ac"
        ]
        assert len(counted) == 1
        assert answer.exit_code == 3


def test_where_that_transaction_fails_each_is_stored_alone(tmp_path: Path, models: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with modelkin.Registry.open(tmp_path / "r.db", create=True) as registry:
        watched(registry, monkeypatch, lambda number: number in (0, 2))
        answer = registry.add(*models)
        assert [(one.model, one.status) for one in answer.results] == [("a", "added"), ("b", "failed"), ("c", "failed")]
        assert "the disk is full" in (answer.results[2].reason or "")
        assert answer.exit_code == 4
        assert len(registry) == 1


def test_what_was_read_before_ctrl_c_is_stored(tmp_path: Path, models: list[Path]) -> None:
    def begin(name: str, _: int) -> Callable[[int], None]:
        if name == "c":
            raise KeyboardInterrupt
        return lambda _: None

    with modelkin.Registry.open(tmp_path / "r.db", create=True, listener=Listener(begin=begin)) as registry:
        with pytest.raises(KeyboardInterrupt):
            registry.add(*models)
        assert [one.model for one in registry.list().models] == ["a"]
