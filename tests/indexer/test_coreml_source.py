"""CoreML packages, written byte by byte (benchmarks/formats/containers_reference.py holds packages of coremltools)."""

from __future__ import annotations

import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.hostile import written
from modelkin_indexer.errors import SourceError, SourceNotFound, UnsupportedFormat
from modelkin_indexer.opening import open_source
from reading import read

RNG = np.random.default_rng(11)
INSIDE = "Data/com.apple.CoreML/"


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape, np.float32)


def package(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / INSIDE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "Manifest.json").write_text("{}")
    return folder


def blob(data: bytes, at: int) -> bytes:
    out = struct.pack("<IIQQ", 0xDEADBEEF, 1, len(data), at + 64) + bytes(40) + data
    return out + bytes(-len(out) % 64)


def floating(*numbers: float) -> bytes:
    """An immediate value."""
    raw = np.array(numbers, np.float32).tobytes()
    return written._field(3, written._field(1, written._field(1, written._field(1, raw))))


def at(offset: int) -> bytes:
    return written._field(5, written._field(1, b"@model_path/weights/weight.bin") + b"\x10" + written._varint(offset))


def test_a_package_is_one_model_and_may_lie_in_a_repository(tmp_path: Path) -> None:
    weights = {"layers.0.fc.weight": floats(12, 8), "layers.0.norm.weight": floats(8)}
    folder = package(tmp_path / "repo" / "Tiny.mlpackage", written.coreml_files(weights))
    for path in (folder, tmp_path / "repo", folder / INSIDE / "model.mlmodel"):
        found = read(path)
        assert all(np.array_equal(found[name.replace(".", "_")], array) for name, array in weights.items())
    with closing(open_source(folder)) as source:
        assert source.name == "Tiny"
        assert [file.name for file in source.files] == ["model.mlmodel", "weight.bin"]
    package(tmp_path / "repo" / "Other.mlpackage", written.coreml_files(weights))
    with pytest.raises(SourceNotFound, match="2 CoreML packages"):
        open_source(tmp_path / "repo")


@pytest.mark.parametrize("bits", [8, 4])
def test_whole_numbers_with_scales_of_blocks(bits: int, tmp_path: Path) -> None:
    codes, scale = RNG.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (12, 64)), RNG.random((12, 2)).astype(np.float32) + 0.5
    raw = codes.astype(np.int8).tobytes()
    if bits == 4:
        flat = codes.reshape(-1).astype(np.uint8) & 15
        raw = bytes(flat[::2] | flat[1::2] << 4)
    first = struct.pack("<II", 2, 2) + bytes(56)
    second = first + blob(raw, 64)
    constants = {
        "data": written.coreml_value({8: 21, 4: 25}[bits], (12, 64), at(64)),
        "scale": written.coreml_value(11, (12, 2), at(len(second))),
    }
    operation = written.coreml_operation("constexpr_blockwise_shift_scale", "fc_weight_to_fp16_quantized", constants, {})
    program = written.coreml_model(written._field(3, operation))
    path = package(tmp_path / "m.mlpackage", {"model.mlmodel": program, "weights/weight.bin": second + blob(scale.tobytes(), len(second))})
    assert np.allclose(read(path)["fc_weight"], codes * np.repeat(scale, 32, 1))


def test_the_older_form_of_scales(tmp_path: Path) -> None:
    codes = RNG.integers(0, 256, (3, 8))
    raw = struct.pack("<II", 1, 2) + bytes(56) + blob(codes.astype(np.uint8).tobytes(), 64)
    constants = {
        "quantized_data": written.coreml_value(31, (3, 8), at(64)),
        "scale": written.coreml_value(11, (3,), floating(0.5, 1, 2)),
        "zero_point": written.coreml_value(11, (3,), floating(1, 2, 3)),
        "axis": written.coreml_value(23, (), written._field(3, written._field(1, written._field(2, written._field(1, b"\x00"))))),
    }
    operation = written.coreml_operation("constexpr_affine_dequantize", "fc_weight", constants, {})
    files = {"model.mlmodel": written.coreml_model(written._field(3, operation)), "weights/weight.bin": raw}
    expected = (codes - np.array([[1], [2], [3]])) * np.array([[0.5], [1], [2]])
    assert np.allclose(read(package(tmp_path / "m.mlpackage", files))["fc_weight"], expected)


@pytest.mark.parametrize(
    ("bits", "groups"), [(4, (1, 1)), (4, (3, 1)), (4, (1, 4)), (6, (1, 1)), (6, (3, 4)), (1, (1, 1)), (3, (3, 1)), (8, (1, 1))]
)
@pytest.mark.parametrize("older", [False, True])
def test_palettes(bits: int, groups: tuple[int, int], older: bool, tmp_path: Path) -> None:
    if older and groups != (1, 1):
        return  # the older form has one table
    rows, columns = 12, 20
    places = RNG.integers(0, 1 << bits, (rows, columns))
    tables = (RNG.integers(-99, 99, (*groups, 1 << bits)) / 8).astype(np.float32)
    packed = np.packbits((places.reshape(-1, 1) >> np.arange(bits) & 1).astype(np.uint8), bitorder="little").tobytes()
    raw = struct.pack("<II", 2, 2) + bytes(56) + blob(packed, 64)
    raw += bytes(-len(raw) % 64)
    where, kind = len(raw), {1: 37, 3: 39, 4: 35, 6: 38, 8: 31}[bits]
    raw += blob(tables.tobytes(), where)
    constants = {
        "indices": written.coreml_value(31 if older else kind, (len(packed),) if older else (rows, columns), at(64)),
        "lut": written.coreml_value(11, (1 << bits,) if older else (*groups, 1 << bits, 1), at(where)),
    }
    if older:
        shape = written._field(3, written._field(1, written._field(7, written._field(1, struct.pack("<II", rows, columns)))))
        constants["shape"] = written.coreml_value(33, (2,), shape)
    operation = written.coreml_operation("constexpr_lut_to_dense", "fc_weight_palettized", constants, {})
    files = {"model.mlmodel": written.coreml_model(written._field(3, operation)), "weights/weight.bin": raw}
    of_row, of_column = np.arange(rows) // (rows // groups[0]), np.arange(columns) // (columns // groups[1])
    expected = tables[of_row[:, None], of_column[None, :], places]
    assert np.array_equal(read(package(tmp_path / "m.mlpackage", files))["fc_weight"], expected)


def test_a_palette_of_vectors_counts_as_unread_and_older_models_are_refused(tmp_path: Path) -> None:
    files = written.coreml_files({"fc.weight": floats(12, 8)})
    constants = {
        "indices": written.coreml_value(35, (12, 64), at(64)),
        "lut": written.coreml_value(11, (1, 1, 8, 2), floating(*range(16))),
    }
    operation = written.coreml_operation("constexpr_lut_to_dense", "other_weight_palettized", constants, {})
    raw = struct.pack("<II", 1, 2) + bytes(56) + blob(bytes(384), 64)
    program = {"model.mlmodel": written.coreml_model(written._field(3, operation)), "weights/weight.bin": raw}
    with pytest.raises(UnsupportedFormat, match="CoreML, lut_to_dense"):
        open_source(package(tmp_path / "a.mlpackage", program))
    (tmp_path / "old.mlmodel").write_bytes(b"\x08\x01\x12\x00")
    with pytest.raises(UnsupportedFormat, match="only ML Programs are read"):
        open_source(tmp_path / "old.mlmodel")
    path = package(tmp_path / "b.mlpackage", files)
    (path / INSIDE / "weights" / "weight.bin").unlink()
    with pytest.raises(SourceError, match=r"weight\.bin"):
        open_source(path)
