"""A registry in PostgreSQL: opening it, what can be wrong with it, a server that dies. What every store must do is in tests/contract."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from modelkin_indexer.errors import RegistryError
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_registry import doctor
from modelkin_registry.registry import Registry
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.store.address import Address, is_same, place_of
from modelkin_registry.store.filters import parse_where
from modelkin_registry.store.opening import is_there, open_store
from postgres import Server, serving
from registry_helpers import real_fingerprint, real_record, record, rows, rows_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELKIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def address(postgres: Server) -> Address:
    return postgres.address()


def told_to(address: Address, *statements: str) -> list[object]:
    """What the server answers to the last of some statements, run as who set it up."""
    import psycopg

    with psycopg.connect(address.server, autocommit=True) as connection:
        connection.execute(f"SET search_path = {address.schema}")
        cursor = [connection.execute(statement) for statement in statements][-1]
        return cursor.fetchall() if cursor.description else []


# addresses


def test_an_address_is_told_from_a_file() -> None:
    address = place_of("postgresql://me@host:5/models?sslmode=require&schema=audit")
    assert isinstance(address, Address)
    assert (address.schema, address.server) == ("audit", "postgresql://me@host:5/models?sslmode=require")
    assert (place_of("postgres://h/d"), Address("postgres://h/d").schema) == ("postgres://h/d", "modelkin")
    assert place_of("models/postgresql.db") == Path("models/postgresql.db")
    assert address.of_key("private-0a").schema == "audit_private_0a"
    assert address.of_key("private-0a").server == address.server
    assert is_same(address, Address(str(address)))
    assert not is_same(address, Path("audit"))


@pytest.mark.parametrize("text", ["postgresql://me:secret@host/models", "postgresql://host/models?password=secret"])
def test_no_password_stands_in_an_address(text: str) -> None:
    with pytest.raises(RegistryError, match=r"holds a password.*pgpass") as caught:
        place_of(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("schema", ["Audit", "a-b", "pg_temp", 'a";drop', "x" * 64, ""])
def test_a_schema_is_a_plain_word(schema: str) -> None:
    with pytest.raises(RegistryError, match="cannot be a schema"):
        place_of(f"postgresql://host/models?schema={schema}")


def test_without_the_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for use in (open_store, is_there):
        with pytest.raises(RegistryError, match=r"needs psycopg.*pip install 'modelkin\[postgres\]'"):
            use(Address("postgresql://host/models"))


# opening


def test_a_registry_is_made_once_and_found_again(address: Address) -> None:
    with pytest.raises(RegistryError, match=r"no registry there\. Make one with `modelkin add SOURCE --registry postgresql"):
        open_store(address, create=False)
    assert not is_there(address)
    with open_store(address) as store:
        assert (store.name, store.place, store.read_only) == (address, address, False)
    assert is_there(address)
    assert not is_there(address.of_key("private-1"))
    with open_store(address, create=False) as again:
        assert (again.registry_id, again.created) == (store.registry_id, store.created)


def test_strange_schemas_and_databases_are_refused(address: Address, postgres: Server) -> None:
    told_to(address, f"CREATE SCHEMA {address.schema}", "CREATE TABLE theirs (a int)")
    with pytest.raises(RegistryError, match="holds other tables"):
        open_store(address)
    assert told_to(address, "SELECT count(*) FROM theirs") == [(0,)]
    with pytest.raises(RegistryError, match=r"no connection.*createdb.*nowhere"):
        open_store(Address(str(address).replace("/postgres?", "/nowhere?")))
    with pytest.raises(RegistryError, match=r"no connection\. Check that the server runs"):
        open_store(Address("postgresql:///postgres?host=/nonexistent"))


def test_an_empty_schema_that_was_made_for_it_is_taken(address: Address) -> None:
    told_to(address, f"CREATE SCHEMA {address.schema}")
    with open_store(address) as store:
        assert store.count() == 0


def test_newer_steps_keys_and_specs_are_refused(address: Address) -> None:
    open_store(address, key_name="private-1").close()
    with pytest.raises(RegistryError, match=r"made with key 'private-1', opened with 'public'"):
        open_store(address)
    told_to(address, "INSERT INTO migration (name, at) VALUES ('9 of tomorrow', '2030')")
    with pytest.raises(RegistryError, match=r"newer modelkin.*'9 of tomorrow'"):
        open_store(address, key_name="private-1")
    told_to(address, "DELETE FROM migration WHERE name LIKE '9%'", "UPDATE meta SET spec = '999'")
    with pytest.raises(RegistryError, match="fingerprints of spec '999'"):
        open_store(address, key_name="private-1")


def test_a_later_step_is_done_when_it_is_opened(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelkin_registry.store.postgres import schema

    with open_store(address) as store:
        store.put(record(), rows(1))
    broken = {**schema.STEPS, "8": ("ALTER TABLE model ADD COLUMN remark TEXT", "SELECT 1 / 0")}
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", broken)
        with pytest.raises(Exception, match="division by zero"):
            open_store(address)
    columns = f"SELECT count(*) FROM information_schema.columns WHERE table_schema = '{address.schema}' AND column_name = 'remark'"
    assert told_to(address, columns) == [(0,)]
    monkeypatch.setattr(schema, "STEPS", {**schema.STEPS, "8": broken["8"][:1]})
    with open_store(address) as store:
        assert store.names() == ["m"]
    assert told_to(address, columns) == [(1,)]


def test_models_of_an_older_version_can_be_chosen(address: Address) -> None:
    """The step that made the table of what they are chosen by filled it."""
    with open_store(address) as store:
        store.put(record("a", config={"model_type": "llama", "odd": "\0"}), rows(1))
        store.put(record("b", level="full", parameters=7), rows(2))
        wanted = [*store.tables.rows("facet")]
    told_to(address, "DROP TABLE tag, note, facet", "DROP INDEX revision_content", "DELETE FROM migration WHERE name LIKE '3%'")
    with open_store(address) as store:
        assert [*store.tables.rows("facet")] == wanted
        assert [line.model for line in store.listed(parse_where(["family=llama"]))] == ["a"]


def test_rows_of_an_older_spec_are_taken_out(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelkin_indexer import spec

    with open_store(address) as store:
        number = store.put(record(), rows(1)).revision
        before = store.generation()
    told_to(address, "UPDATE meta SET spec = '0'", "UPDATE fingerprint SET spec = '0'")
    monkeypatch.setattr(spec, "OLDER", ("0", *spec.OLDER))
    with open_store(address) as store:
        assert store.changed(before) == [number]
        assert store.vectors.of(number) == []
        assert store.outdated() == [number]


def test_who_may_only_read_reads(address: Address) -> None:
    with open_store(address) as store:
        store.put(record("a"), rows(1))
    made = "DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    told_to(
        address,
        made,
        f"GRANT USAGE ON SCHEMA {address.schema} TO reader",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {address.schema} TO reader",
    )
    reading = Address(str(address).replace("postgres@", "reader@"))
    with open_store(reading) as store:
        assert store.read_only
        assert store.names() == ["a"]
        assert VectorIndex(store).search("sum/mlp", rows(1)[0].rows, 1).revisions.tolist() == [[1]]
        with pytest.raises(RegistryError, match=r"cannot be written\. Check the rights of your user"):
            store.put(record("b"), rows(2))


# trouble


def test_a_server_that_dies_is_told_and_found_again(postgres: Server) -> None:
    with serving() as mortal, open_store(address := mortal.address()) as store, open_store(address) as idle:
        store.put(record("a"), rows(1))

        def half() -> None:
            with store.batch():
                store.put(record("half"), rows(2))
                mortal.kill()
                with pytest.raises(RegistryError, match="the server ended the connection"):
                    store.put(record("more"), rows(3))
                mortal.start()
                store.put(record("more"), rows(3))  # which must not be done alone, over a new connection

        with pytest.raises(RegistryError, match="the server ended the connection"):
            half()
        assert store.names() == ["a"]
        assert store.put(record("b"), rows(2)).revision == 2
        assert idle.names() == ["a", "b"]


def test_a_second_writer_waits_and_gives_up(address: Address) -> None:
    with open_store(address) as store, open_store(address) as other:
        other.run("SET lock_timeout = '100ms'")  # type: ignore[attr-defined]
        with store.batch(), pytest.raises(RegistryError, match="another process has been writing"):
            other.put(record("b"), rows(1))
        assert other.put(record("b"), rows(1)).status == "added"


@pytest.fixture
def filled(address: Address) -> Address:
    with open_store(address) as store:
        for number in range(3):
            store.put(real_record(f"m{number}", number), rows_of(real_fingerprint(number)))
    return address


def test_a_sound_registry_is_clean(filled: Address) -> None:
    with open_store(filled) as store:
        found = doctor.examine(store, VectorIndex(store), vectors_of=rows_of)
    assert {finding.state for finding in found} == {"ok"}


@pytest.mark.parametrize(
    ("damage", "check", "words"),
    [
        ("UPDATE model SET added = '2020-01-01' WHERE id = 2", "file", "row 2 of table model is not what was stored"),
        ("UPDATE blob SET data = 'x' WHERE fingerprint = 2", "fingerprints", "the bytes are not those that were stored"),
        ("DELETE FROM source WHERE revision = 2", "orphans", "revisions without a source: 2"),
        ("ALTER TABLE blob DROP CONSTRAINT blob_fingerprint_fkey; DELETE FROM fingerprint WHERE id = 2", "orphans", "2"),
        (
            "SET session_replication_role = replica; DELETE FROM revision WHERE id = 2",
            "references",
            "1 rows of table fingerprint refer to missing rows of revision",
        ),
    ],
)
def test_damage_is_told(filled: Address, damage: str, check: str, words: str) -> None:
    told_to(filled, *damage.split("; "))
    with open_store(filled) as store:
        found = [one for one in doctor.examine(store, VectorIndex(store), vectors_of=rows_of) if one.state == "broken"]
    assert any(one.check == check and words in one.detail for one in found), found


def test_the_index_lies_in_this_machines_cache(filled: Address, cache: Path) -> None:
    asked = fingerprints.from_bytes(real_fingerprint(1))
    with Registry.open(filled) as registry:
        registry.index.rebuild()
        assert cache in registry.index.root.parents
        assert (registry.index.root / "manifest.json").exists()
        assert registry.index.check() == []
        kind = "sum/mlp"
        indexed = registry.index.search(kind, rows_of(real_fingerprint(1))[0].rows, 3)
        exact = registry.index.search_exact(kind, rows_of(real_fingerprint(1))[0].rows, 3)
        assert indexed.revisions.tolist() == exact.revisions.tolist()
        assert asked.about.key == registry.store.key_name


def test_a_name_with_a_nul_is_nobodys(filled: Address) -> None:
    with open_store(filled) as store:
        assert store.find("m0\0") is None
        assert store.current_of(["m0\0", "m1"]) == [2]
