"""A damaged registry: each page zeroed, sectors zeroed, bits flipped. It answers as before, or says that it is damaged; never otherwise."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelkin_indexer.errors import RegistryError
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_indexer.results.beside import Claim, SourceFile, StructurePart
from modelkin_registry.answers.upkeep import OwnBackground
from modelkin_registry.registry import Registry
from registry_helpers import real_fingerprint

PAGE, SECTOR = 8192, 512
MODELS = 5
DAMAGES = 100  # bits, and half as many sectors


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "r.db"
    with Registry.open(path) as registry:
        for number in range(MODELS):
            told: dict[str, Any] = {"origin": f"/models/{number}", "files": [SourceFile("model.safetensors", number)]}
            told["structure"] = [StructurePart("licence", "LICENSE", f"{number}", b"Permission is granted.")]
            registry.add(
                f"model-{number}", fingerprints.from_bytes(real_fingerprint(number)), **told, claims=[Claim("license", "mit", "README")]
            )
        registry.rename("model-4", "four")
    return path.read_bytes()


def answers(path: Path) -> Any:
    """What the registry says: its models, each one's origin, and the nearest of each."""
    with Registry.open(path, create=False) as registry:
        nearest = [registry.query(fingerprints.from_bytes(real_fingerprint(number))).to_dict() for number in (0, MODELS - 1)]
        for answer in nearest:
            answer.pop("made", None)
        return registry.list(), [answer["relatives"] for answer in nearest]


def beside(path: Path) -> Any:
    """What is told beside the weights."""
    with Registry.open(path, create=False) as registry:
        return [(registry.show(line.model), registry.structure_of(line.model)) for line in registry.list()]


def found_by_doctor(path: Path) -> bool:
    with Registry.open(path, create=False) as registry:
        return any(finding.state == "broken" for finding in registry.examine())


def damaged(data: bytes, start: int, stop: int, content: bytes | None = None) -> bytes:
    return data[:start] + (bytes(stop - start) if content is None else content) + data[stop:]


def places(data: bytes) -> Iterator[bytes]:
    yield from (damaged(data, at, at + PAGE) for at in range(0, len(data), PAGE))
    draw = random.Random(0)
    written = [at for at in range(len(data)) if data[at]]
    for _ in range(DAMAGES):
        at = draw.choice(written)
        yield damaged(data, at, at + 1, bytes([data[at] ^ 1 << draw.randrange(8)]))
    for _ in range(DAMAGES // 2):
        at = draw.choice(written) // SECTOR * SECTOR
        yield damaged(data, at, at + SECTOR)


def test_no_damage_gives_another_answer(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    path.write_bytes(sound)
    wanted, said, told = answers(path), beside(path), []
    for number, content in enumerate(places(sound)):
        path = tmp_path / str(number) / "r.db"
        path.parent.mkdir()
        path.write_bytes(content)
        try:
            assert answers(path) == wanted
            assert beside(path) == said or found_by_doctor(path)
        except RegistryError as error:
            told.append((error.exit_code, str(path) in str(error)))
    assert set(told) == {(4, True)}
    assert len(told) > len(sound) // PAGE // 2


NOT_STRANGERS = {
    "no bytes": "DELETE FROM blob WHERE fingerprint = 2",
    "zeroed bytes": "UPDATE blob SET data = zeroblob(length(data)) WHERE fingerprint = 2",
    "no fingerprint": "DELETE FROM fingerprint WHERE id = 2",
    "no revision": "DELETE FROM revision WHERE id = 2",
    "zeroed search rows": "UPDATE vector SET data = zeroblob(length(data)) WHERE revision = 2",
    "another model's revision": "UPDATE revision SET model = 1 WHERE id = 2",
    "another name": "UPDATE model SET name = 'else' WHERE id = 2",
    "a column of search rows is called otherwise": "ALTER TABLE vector RENAME COLUMN checksum TO checksun",
    "a column of models is called otherwise": "ALTER TABLE model RENAME COLUMN added TO adde",
}


@pytest.mark.parametrize("case", NOT_STRANGERS)
def test_what_cannot_be_read_is_no_stranger(sound: bytes, tmp_path: Path, case: str) -> None:
    """A query of just that model ends with an error that says what to do, never with "no relative"."""
    path = tmp_path / "r.db"
    path.write_bytes(sound)
    with Registry.open(path) as registry:
        connection = registry.store.connection  # type: ignore[attr-defined]  # SQLite's own
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(NOT_STRANGERS[case])
    with Registry.open(path) as registry, pytest.raises(RegistryError, match="modelkin doctor"):
        registry.query(fingerprints.from_bytes(real_fingerprint(1)))


SAID = {
    "claim": "UPDATE claim SET value = 'apache-2.0' WHERE model = 2",
    "withdrawn claim": "UPDATE claim SET last_seen = '2000-01-01' WHERE model = 2",
    "structure": "UPDATE structure SET data = zeroblob(length(data)) WHERE model = 2",
    "background": "UPDATE background SET sd = 9",
    "a column is called otherwise of claim": "ALTER TABLE claim RENAME COLUMN kind TO kin",
}


@pytest.mark.parametrize("case", SAID)
def test_what_is_said_beside_the_weights_is_not_told_otherwise(sound: bytes, tmp_path: Path, case: str) -> None:
    path = tmp_path / "r.db"
    path.write_bytes(sound)
    with Registry.open(path) as registry:
        with registry.store.batch():
            registry.store.backgrounds.replace([OwnBackground("probe", "mlp", 0.1, 0.1, 9, 9, True)], MODELS)
        assert all(finding.state == "ok" for finding in registry.examine())
        registry.store.connection.execute(SAID[case])  # type: ignore[attr-defined]  # SQLite's own
        broken = [finding for finding in registry.examine() if finding.state == "broken"]
        assert case.split()[-1] in " ".join(finding.detail for finding in broken)
    with pytest.raises(RegistryError, match="modelkin doctor"):
        beside(path)
