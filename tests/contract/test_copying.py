"""A registry copied from any store to any other is the same registry, row for row, and goes on as one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from modelkin_indexer.errors import RegistryError
from modelkin_indexer.results.beside import Claim, StructurePart
from modelkin_registry.answers.upkeep import OwnBackground
from modelkin_registry.store.copying import copy_store
from modelkin_registry.store.opening import open_store
from modelkin_registry.store.protocol import Store
from modelkin_registry.store.records import Queued
from registry_helpers import record, rows


@pytest.fixture(params=["sqlite", "postgresql"])
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty registry to copy into."""
    to_file = request.param == "sqlite"
    with open_store(tmp_path / "copy.sqlite" if to_file else request.getfixturevalue("postgres").address()) as found:
        yield found


def fill(store: Store) -> None:
    """One of everything that a registry holds, the last of each number removed again."""
    structure = (StructurePart("licence", "LICENSE", "d", b"words"),)
    store.put(record("a", content="1", structure=structure, config={"ü": "\u0000"}), rows(1))
    store.put(record("a", content="2", claims=(Claim("license", "mit", "README"),)), rows(2))
    model = store.put(record("b", level="full", sender="their file"), rows(3)).model_id
    store.rename("b", "c")
    store.hub.enqueue([Queued("org/b", "7", "1", "2026-01-01", "full")], "all")
    with store.batch():
        store.hub.note("org/b", "done", model=model, content="x", size=7)
        store.hub.note_newest("all", "2026-01-02")
        store.labels.tag(model, ["ours"])
        store.labels.note(model, "a\nb")
        store.backgrounds.replace([OwnBackground("probe", "mlp", 0.1, 0.1, 12, 4, True)], 3)
    store.put(record("gone"), rows(4))
    store.remove("gone")


def everything(store: Store) -> dict[str, object]:
    with store.reading():
        return {**{table: [*store.tables.rows(table)] for table in store.tables.names}, "numbers": dict(store.tables.numbers())}


def test_a_copy_holds_every_row_with_its_numbers(store: Store, copy: Store) -> None:
    fill(store)
    wanted = everything(store)
    assert copy_store(store, copy) == sum(len(kept) for table, kept in wanted.items() if table != "numbers")  # type: ignore[arg-type]
    assert everything(copy) == wanted
    assert all(wanted.values())
    with open_store(copy.place) as again:  # as anybody opens it
        assert (again.registry_id, again.created) == (store.registry_id, store.created)
        assert again.names() == store.names() == ["a", "c"]
        assert [again.show(name) for name in ("a", "b")] == [store.show(name) for name in ("a", "b")]
        assert again.stored(again.numbers()) == store.stored(store.numbers())
        assert list(again.inspection.orphans()) == list(again.inspection.lost_references()) == list(again.inspection.damage()) == []
        assert store.put(record("d"), rows(5)) == again.put(
            record("d"), rows(5)
        )  # numbers go on alike: that of the removed is not given again
        assert [change.seq for change in again.changes()] == list(range(1, 8))


def test_a_copy_back_is_what_it_was(store: Store, copy: Store, tmp_path: Path) -> None:
    fill(store)
    copy_store(store, copy)
    with open_store(tmp_path / "back.sqlite") as back:
        copy_store(copy, back)
        assert everything(back) == everything(store)


def test_nothing_is_written_over(store: Store, copy: Store) -> None:
    fill(store)
    copy.put(record("mine"), rows(9))
    before = everything(copy)
    with pytest.raises(RegistryError, match="is not empty"):
        copy_store(store, copy)
    copy.remove("mine")
    with pytest.raises(RegistryError, match="is not empty"):  # its numbers were given
        copy_store(store, copy)
    assert before["meta"] == everything(copy)["meta"]


def test_a_copy_that_fails_leaves_an_empty_registry(store: Store, copy: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    before = everything(copy)

    def fail(of_copy: Store, table: str, given: object, real: object) -> int:
        if table == "change":
            raise OSError("pulled out")
        return int(real(table, given))  # type: ignore[operator]

    with monkeypatch.context() as patch:
        patch.setattr(copy.tables, "fill", lambda table, given, real=copy.tables.fill: partial(fail, copy)(table, given, real))
        with pytest.raises(OSError, match="pulled out"):
            copy_store(store, copy)
    assert everything(copy) == before
    copy_store(store, copy)
    assert everything(copy) == everything(store)


def test_a_damaged_registry_is_not_copied(store: Store, copy: Store) -> None:
    fill(store)
    with store.batch():
        store.tables.fill("background", [("probe", "mlp", 0.5, 0.1, 12, 4, 1, 3, "2026", 1)])
    with pytest.raises(RegistryError, match="is damaged, so no copy is made"):
        copy_store(store, copy)
    assert copy.tables.is_empty()


def test_a_text_that_one_engine_cannot_hold_is_written_as_it_would_be_now(store: Store) -> None:
    from modelkin_registry.store.sql.sealed import seal_of

    said = {"kind": "license", "value": "a\0b", "source": "README", "first_seen": "2026", "last_seen": "2026"}
    with store.batch():
        model = store.put(record(claims=()), rows(1)).model_id
        claim = {"model": model, **said}
        store.tables.fill("claim", [(1, *claim.values(), seal_of("claim", claim))])
    assert [one["value"] for one in store.claims.of_model(model)] == ["a\\x00b"]
