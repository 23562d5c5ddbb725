"""NumPy archives and arrays, held against numpy; and those that would run something or fill the memory."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelkin_indexer.errors import DamagedFile, SourceError, SourceNotFound, UnsupportedFormat
from modelkin_indexer.opening import open_source
from modelkin_indexer.sources import numpy_file


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {
        "plain": rng.standard_normal((30, 20)).astype(np.float32),
        "turned": np.asfortranarray(rng.standard_normal((40, 30, 3))),
        "counts": np.arange(5),
        "number": np.float16(3),
        "layers/0/kernel": rng.standard_normal((700, 300)).astype(np.float16),
        "none": np.zeros((0, 3)),
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "deflated"])
def test_an_archive(save: Any, tmp_path: Path) -> None:
    save(tmp_path / "tiny.npz", **arrays())
    source = open_source(tmp_path)
    assert list(source.tensors) == ["counts", "layers.0.kernel", "number", "plain", "turned"]
    assert (source.name, len(source.notes)) == (tmp_path.name, 1)
    for name, values in arrays().items():
        if values.size:
            info = source.tensors[name.replace("/", ".")]
            stored = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            assert info.shape == values.shape
            for start, stop in ((0, info.nbytes), (info.nbytes // 2, info.nbytes), (info.nbytes // 3, info.nbytes // 2)):
                assert np.array_equal(source.read(info.name, start, stop), stored[start:stop])


@pytest.mark.parametrize("order", ["C", "F"])
def test_one_array(order: Any, tmp_path: Path) -> None:
    values = np.asarray(arrays()["plain"], order=order)
    np.save(tmp_path / "tiny.npy", values)
    with pytest.raises(SourceNotFound):  # in a folder, a single array is no model unless it is named
        open_source(tmp_path)
    source = open_source(tmp_path / "tiny.npy")
    assert np.array_equal(source.read("tiny", 0, values.nbytes).view(np.float32), np.ravel(values))


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch boom",)


ODD = {
    "objects": np.array([Bomb(), 1], dtype=object),
    "complex": np.zeros(3, complex),
    "big-endian": np.zeros(3, ">f4"),
    "records": np.zeros(3, [("a", "f4")]),
    "text": np.array(["x"]),
    "dates": np.array(["2026-01-01"], "datetime64[D]"),
}


@pytest.mark.parametrize("case", ODD)
def test_arrays_of_other_kinds(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "odd.npy", ODD[case], allow_pickle=True)
    np.savez(tmp_path / "a.npz", allow_pickle=True, plain=np.ones(3), odd=ODD[case])
    for name in ("odd.npy", "a.npz"):
        with pytest.raises(UnsupportedFormat, match=rf"{name}: tensor 'odd'"):
            open_source(tmp_path / name)
    assert not (tmp_path / "boom").exists()


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


LIES = {
    "more than there is": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9,)}", bytes(8)),
    "less than there is": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", bytes(8)),
    "huge": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1099511627776)}", bytes(8)),
    "negative": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", bytes(8)),
    "code": npy("__import__('os').system('touch boom')", bytes(8)),
    "nested": npy("(" * 5000 + ")" * 5000),
    "cut in a bracket": npy("["),
    "no dictionary": npy("[1]"),
    "unknown version": b"\x93NUMPY\x09\x00" + bytes(80),
    "no array": b"PNG" * 20,
    "empty": b"",
}


@pytest.mark.parametrize("case", LIES)
def test_headers_that_lie(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.npy").write_bytes(LIES[case])
    zipped(tmp_path / "b.npz", **{"x.npy": LIES[case]})
    for name in ("a.npy", "b.npz"):
        with pytest.raises(DamagedFile, match=name):
            open_source(tmp_path / name)
    assert not (tmp_path / "boom").exists()


def test_a_zip_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_file, "BOMB_BYTES", 1_000_000)
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(2_000_000, np.float32))
    with pytest.raises(UnsupportedFormat, match="claims 8,000,128 bytes"):
        open_source(tmp_path / "a.npz")


@pytest.mark.parametrize("damage", [b"\0", b"\xff"])
def test_a_compressed_member_that_is_damaged(damage: bytes, tmp_path: Path) -> None:
    """By its checksum, where it still decompresses."""
    np.savez_compressed(tmp_path / "a.npz", a=np.random.default_rng(1).integers(0, 99, 90_000))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[50_000:50_200] = damage * 200
    (tmp_path / "a.npz").write_bytes(data)
    source = open_source(tmp_path / "a.npz")
    with pytest.raises(DamagedFile, match="'a': cannot be decompressed"):
        source.read("a", 0, source.tensors["a"].nbytes)


def test_other_members_and_cut_files(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match=r"'readme.txt', which is no array"):
        open_source(zipped(tmp_path / "a.npz", **{"readme.txt": b"x"}))
    np.savez(tmp_path / "b.npz", a=np.ones(3), b=np.ones(4))
    whole = (tmp_path / "b.npz").read_bytes()
    for length in range(0, len(whole), 37):
        (tmp_path / "c.npz").write_bytes(whole[:length])
        with pytest.raises(SourceError):
            open_source(tmp_path / "c.npz")
