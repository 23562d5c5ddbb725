"""The doctor: finds each kind of damage, mends what is derived, leaves the truth alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelkin_registry import doctor
from modelkin_registry.answers.upkeep import Finding
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.store.digests import digest_of
from modelkin_registry.store.sqlite.store import SqliteStore
from registry_helpers import real_fingerprint, real_record, rows_of

CHECKS = ["file", "references", "orphans", "backgrounds", "fingerprints", "search rows", "index"]
MODELS = 6


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with SqliteStore.open(path) as opened:
        for number in range(MODELS):
            given = real_record(f"m{number}", number)
            opened.put(given, rows_of(given.blob))
        opened.rename("m5", "five")
        VectorIndex(opened).rebuild()
        yield opened


def examine(store: SqliteStore, *, repair: bool = False) -> list[Finding]:
    return doctor.examine(store, VectorIndex(store), repair=repair, vectors_of=rows_of)


def states(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.state for finding in findings}


def truth(store: SqliteStore) -> list[object]:
    return [
        store.connection.execute(f"SELECT * FROM {table}").fetchall()
        for table in ("model", "revision", "fingerprint", "blob", "source", "claim")
    ]


def test_a_sound_registry_is_clean(store: SqliteStore) -> None:
    assert [(finding.check, finding.state) for finding in examine(store)] == [(check, "ok") for check in CHECKS]
    assert set(states(doctor.examine(store, VectorIndex(store))).values()) == {"ok"}


def test_an_empty_registry_is_clean(path: Path) -> None:
    with SqliteStore.open(path) as store:
        assert set(states(examine(store, repair=True)).values()) == {"ok"}


Damage = Callable[[SqliteStore], object]


def run(*statements: str) -> Damage:
    def damage(store: SqliteStore) -> None:
        store.connection.execute("PRAGMA foreign_keys = OFF")
        for statement in statements:
            store.connection.execute(statement)

    return damage


def other_fingerprint(store: SqliteStore) -> None:
    """Sound bytes with their digest, but of another level than the row says."""
    blob = real_fingerprint(1, "full")
    store.connection.execute("UPDATE blob SET data = ? WHERE fingerprint = 2", [blob])
    store.connection.execute("UPDATE fingerprint SET digest = ?, bytes = ? WHERE id = 2", [digest_of(blob), len(blob)])


def unreadable_fingerprint(store: SqliteStore) -> None:
    store.connection.execute("UPDATE blob SET data = ? WHERE fingerprint = 2", [b"words"])
    store.connection.execute("UPDATE fingerprint SET digest = ?, bytes = 5 WHERE id = 2", [digest_of(b"words")])


BROKEN_TRUTH: dict[str, tuple[str, str, Damage]] = {
    "bytes changed": (
        "fingerprints",
        "m1 .*not those that were stored",
        run("UPDATE blob SET data = zeroblob(length(data)) WHERE fingerprint = 2"),
    ),
    "bytes cut": (
        "fingerprints",
        "m1 .*not those that were stored",
        run("UPDATE blob SET data = substr(data, 1, 100) WHERE fingerprint = 2"),
    ),
    "row changed": ("fingerprints", "m1 .*tells another coverage", run("UPDATE fingerprint SET coverage = 0.5 WHERE id = 2")),
    "content changed": ("fingerprints", "m1 .*tells another content", run("UPDATE revision SET content = 'full-1' WHERE id = 2")),
    "config changed": ("fingerprints", "m1 .*tells another config", run("UPDATE revision SET config = '{\"a\": 1}' WHERE id = 2")),
    "description changed": (
        "fingerprints",
        "m1 .*another description",
        run("UPDATE fingerprint SET about = '{\"level\": 1}' WHERE id = 2"),
    ),
    "no description": ("fingerprints", "m1 .*Expecting", run("UPDATE fingerprint SET about = '{' WHERE id = 2")),
    "no time": ("orphans", "models with a time that is none: m1", run("UPDATE model SET added = '2026-1x' WHERE id = 2")),
    "no time seen": ("orphans", "revisions with a time that is none: 2", run("UPDATE source SET last_seen = '' WHERE id = 2")),
    "another level": ("fingerprints", "m1 .*tells another level", other_fingerprint),
    "unreadable": ("fingerprints", "m1 .*not a fingerprint", unreadable_fingerprint),
    "no bytes": ("orphans", "fingerprints without their bytes: 2", run("DELETE FROM blob WHERE fingerprint = 2")),
    "no fingerprint": (
        "orphans",
        "revisions without a fingerprint: 2",
        run("DELETE FROM vector WHERE fingerprint = 2", "DELETE FROM fingerprint WHERE id = 2"),
    ),
    "no revision": ("orphans", "models without a revision: m1", run("DELETE FROM revision WHERE id = 2")),
    "no source": ("orphans", "revisions without a source: 2", run("DELETE FROM source WHERE revision = 2")),
    "no model": ("references", "table revision .*model", run("DELETE FROM model WHERE id = 2")),
    "lost redirect": ("references", "table model", run("UPDATE model SET redirect_to = 99 WHERE name = 'm5'")),
}


@pytest.mark.parametrize("case", BROKEN_TRUTH)
def test_broken_truth_is_told_and_not_touched(store: SqliteStore, case: str) -> None:
    check, words, damage = BROKEN_TRUTH[case]
    damage(store)
    before = truth(store)
    for repair in (False, True):
        broken = [finding for finding in examine(store, repair=repair) if finding.check == check]
        assert [finding.state for finding in broken] == ["broken"] * len(broken)
        assert re.search(words, " ".join(finding.detail for finding in broken))
    assert truth(store) == before


def swapped(kind: str) -> str:
    """Rows of another revision."""
    return (
        f"UPDATE vector SET (data, checksum) = (SELECT data, checksum FROM vector WHERE revision = 3 AND kind = '{kind}') "
        f"WHERE revision = 2 AND kind = '{kind}'"
    )


BROKEN_ROWS: dict[str, Damage] = {
    "all of a model": run("DELETE FROM vector WHERE revision = 2"),
    "one kind of a model": run("DELETE FROM vector WHERE revision = 2 AND kind = 'layer/mlp'"),
    "cut short": run("UPDATE vector SET data = substr(data, 1, 10) WHERE revision = 2 AND kind = 'layer/mlp'"),
    "other numbers": run(swapped("sum/mlp")),
    "other codes": run(swapped("layer/mlp")),
    "other checksum": run("UPDATE vector SET checksum = checksum + 1 WHERE revision = 2 AND kind = 'layer/mlp'"),
    "other layers": run("UPDATE vector SET layers = x'05000600' WHERE revision = 2 AND kind = 'layer/mlp'"),
    "of another fingerprint": run("UPDATE vector SET fingerprint = 3 WHERE revision = 2"),
    "of too many kinds": run("UPDATE vector SET component = 'vision' WHERE revision = 2 AND kind = 'sum/mlp'"),
}


@pytest.mark.parametrize("case", BROKEN_ROWS)
def test_search_rows_are_made_anew(store: SqliteStore, case: str) -> None:
    sound, before = [store.vectors.of(number) for number in store.numbers()], truth(store)
    BROKEN_ROWS[case](store)
    found = [finding for finding in examine(store) if finding.check == "search rows"]
    assert [(finding.state, finding.detail.split(":")[0]) for finding in found] == [("broken", "m1")]
    mended = examine(store, repair=True)
    assert states(mended)["search rows"] == "repaired"
    assert "broken" not in states(mended).values()
    assert set(states(examine(store)).values()) == {"ok"}
    assert [store.vectors.of(number) for number in store.numbers()] == sound
    assert truth(store) == before
    query = rows_of(real_fingerprint(1))[0]
    assert VectorIndex.open(store).search("sum/mlp", query.rows, 1).revisions.tolist() == [[2]]


def test_without_the_recipe_missing_rows_are_told(store: SqliteStore) -> None:
    run("DELETE FROM vector WHERE revision = 2")(store)
    assert states(doctor.examine(store, VectorIndex(store), repair=True))["search rows"] == "broken"


@pytest.mark.parametrize("ending", [".faiss", ".npy"])
def test_the_index_is_built_anew(path: Path, store: SqliteStore, ending: str) -> None:
    for file in Path(f"{path}.index").glob(f"*/*{ending}"):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    found = [finding for finding in examine(store) if finding.check == "index"]
    assert {finding.state for finding in found} == {"broken"}
    assert all("is not what was written. Mend with" in finding.detail for finding in found)
    assert {finding.state for finding in examine(store, repair=True) if finding.check == "index"} == {"repaired"}
    assert set(states(examine(store)).values()) == {"ok"}


def test_a_damaged_file_is_a_finding_not_an_end(path: Path) -> None:
    with SqliteStore.open(path) as store:
        for number in range(40):
            given = real_record(f"m{number}", number)
            store.put(given, rows_of(given.blob))
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4 :] = bytes(len(content) - len(content) * 3 // 4)
    path.write_bytes(content)
    with SqliteStore.open(path) as store:
        found = states(examine(store, repair=True))
    assert found["file"] == "broken"
    assert list(dict.fromkeys(found)) == CHECKS


def test_older_revisions_are_looked_at_too(store: SqliteStore) -> None:
    given = real_record("m0", 50)
    store.put(given, rows_of(given.blob))
    assert set(states(examine(store)).values()) == {"ok"}
    run("UPDATE blob SET data = zeroblob(length(data)) WHERE fingerprint = 1")(store)
    assert states(examine(store))["fingerprints"] == "broken"
