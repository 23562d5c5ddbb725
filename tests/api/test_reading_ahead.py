"""Many small models of one call are read by processes beside it, and nothing of what is stored or told shows that."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

import modelkin
from modelkin.taking import readers
from modelkin.wishes import HowToRead
from modelkin_indexer.spec import PUBLIC_KEY, private_key
from modelkin_registry.answers.upkeep import Added
from tiny_models import save_model, tiny_llama


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Models, one of which is damaged, one missing, one a written fingerprint and one in a folder with others in it."""
    monkeypatch.setattr(readers, "FEWEST_EACH", 3)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    found = [save_model(tmp_path / f"model-{seed}", tiny_llama(seed)) for seed in range(6)]
    (found[1] / "model.safetensors").write_bytes(b"no weights")
    (found[2] / "more").mkdir()
    modelkin.fingerprint(found[3], tmp_path / "written.modelkin")
    return [*found, tmp_path / "missing", tmp_path / "written.modelkin"]


def added(registry: Path, sources: Sequence[Path], key_file: Path | None = None, **options: int) -> tuple[list[Added], dict[str, bytes]]:
    with modelkin.Registry.open(registry, create=True, key_file=key_file) as opened:
        results = [replace(one, seconds=0.0) for one in opened.add(*sources, **options).results]  # type: ignore[arg-type]
        return results, {one.model: opened.get(one.model).to_bytes() for one in results if one.status == "added"}


def begun(monkeypatch: pytest.MonkeyPatch, worker: Sequence[str] = readers.WORKER) -> list[readers.Readers]:
    """The processes' owners of the calls that follow."""
    found: list[readers.Readers] = []
    real = readers.Readers.__init__

    def noted(self: readers.Readers, how: HowToRead, key_file: Path | None) -> None:
        real(self, how, key_file)
        found.append(self)

    monkeypatch.setattr(readers.Readers, "__init__", noted)
    monkeypatch.setattr(readers, "WORKER", tuple(worker))
    return found


def test_what_is_stored_and_told_is_the_same(tmp_path: Path, sources: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    owners = begun(monkeypatch)
    one = added(tmp_path / "one.db", sources, threads=1)
    assert not owners
    assert added(tmp_path / "two.db", sources) == one
    assert [result.status for result in one[0]].count("failed") == 2
    (owner,) = owners
    assert [process.returncode for process in owner._running] == [0, 0]


def test_a_private_key_is_read_from_its_file_and_told_to_nobody(
    tmp_path: Path, sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, other = tmp_path / "key", tmp_path / "other"
    for one in (file, other):
        modelkin.key("new", one)
    secret = bytes.fromhex(file.read_text())
    owners = begun(monkeypatch)
    one = added(tmp_path / "one.db", sources[:6], file, threads=1)
    assert added(tmp_path / "two.db", sources[:6], file) == one
    assert secret not in owners[0]._begun_with
    reader = readers.Readers(HowToRead(private_key(secret)), other)  # another key lies there by now
    try:
        assert reader.read((sources[0], "", "")) is None
    finally:
        reader.close()


@pytest.mark.parametrize("dies", ["", "import sys; sys.stdin.buffer.read(9)", "print('no reply')"])
def test_what_no_process_reads_is_read_by_the_call(tmp_path: Path, sources: list[Path], dies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = added(tmp_path / "one.db", sources, threads=1)
    owners = begun(monkeypatch, (sys.executable, "-c", dies))
    assert added(tmp_path / "two.db", sources) == one
    assert all(process.returncode is not None for process in owners[0]._running)


def test_an_interrupted_call_leaves_no_process(tmp_path: Path, sources: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    owners = begun(monkeypatch)

    def interrupted(_: Added) -> None:
        raise KeyboardInterrupt

    with modelkin.Registry.open(tmp_path / "r.db", create=True) as registry, pytest.raises(KeyboardInterrupt):
        registry.add(*sources, each=interrupted)
    assert owners[0]._running
    assert all(process.returncode is not None for process in owners[0]._running)


def test_large_models_and_what_is_not_here_are_left_to_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = save_model(tmp_path / "small", tiny_llama(1))
    how = HowToRead(PUBLIC_KEY)
    reader = readers.Readers(how, None)
    try:
        read = reader.read((small, "", ""))
        assert read is not None
        assert read[0].name == "small"
        assert reader.read(("org/not-here", "", "")) is None
        monkeypatch.setattr(readers, "SMALL", 10)
        assert reader.read((small, "", "")) is None
    finally:
        reader.close()


def test_processes_pay_for_many_models_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    how = HowToRead(PUBLIC_KEY)
    counts = {models: readers.processes_for(models, how, None) for models in (1, 99, 100, 199, 200, 10_000)}
    assert counts == {1: 0, 99: 0, 100: 2, 199: 3, 200: 4, 10_000: 4}
    assert readers.processes_for(10_000, replace(how, threads=1), None) == 0
    assert readers.processes_for(10_000, replace(how, key=private_key(bytes(32))), None) == 0
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert readers.processes_for(10_000, how, None) == 0
