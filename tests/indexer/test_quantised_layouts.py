"""NVFP4 and MXFP8 weights that carry no mark: in which layout their scales lie is told by shapes or by their statistics, or not at all."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from modelkin_indexer.anatomy import layouts
from modelkin_indexer.errors import UnsupportedFormat
from modelkin_indexer.opening import open_source
from modelkin_indexer.sources.stored.values import read_rows
from quantised_libraries import in_tiles
from quantised_models import fp4_values

NAME = "blocks.0.proj"


def stored(form: str, layout: str, spread: float, rows: int = 384, columns: int = 512) -> tuple[dict[str, Any], Any]:
    """A weight whose rows differ by `spread`, and what it holds."""
    rng = np.random.default_rng(7)
    size = 16 if form == "nvfp4" else 32
    weight = rng.standard_normal((rows, columns)) * np.exp(spread * rng.standard_normal((rows, 1)))
    largest = np.abs(weight.reshape(rows, -1, size)).max(-1)
    if form == "mxfp8":
        powers = np.ceil(np.log2(largest / 448))
        codes = (weight / np.repeat(np.exp2(powers), size, 1)).astype(ml_dtypes.float8_e4m3fn)
        tensors = {"weight": codes, "weight_scale": (powers + 127).astype(np.uint8)}
        held = codes.astype(np.float32) * np.repeat(np.exp2(powers), size, 1)
    else:
        scales = (largest / largest.max() * 448).astype(ml_dtypes.float8_e4m3fn)
        whole = np.float32(largest.max() / 448 / 6)
        halves = rng.integers(0, 16, (rows, columns))
        high, low = (0, 1) if layout == "tiled" else (1, 0)
        packed = (halves[:, high::2] << 4 | halves[:, low::2]).astype(np.uint8)
        tensors = {"weight": packed, "weight_scale": scales, "weight_scale_2": np.array(whole)}
        held = fp4_values(halves) * np.repeat(scales.astype(np.float32), size, 1) * whole
    if layout == "tiled":
        tensors["weight_scale"] = in_tiles(tensors["weight_scale"])
    return {f"{NAME}.{last}": tensor for last, tensor in tensors.items()}, held


def opened(folder: Path, tensors: dict[str, Any], config: dict[str, Any] | None = None) -> Any:
    save_file(tensors, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return closing(open_source(folder))


def read(source: Any) -> Any:
    return np.concatenate(
        [read_rows(source, view, 0, view.rows) for view in layouts.stored_grid(source.tensors[f"{NAME}.weight"], squeeze=False).views()]
    )


@pytest.mark.parametrize("form", ["nvfp4", "mxfp8"])
@pytest.mark.parametrize("layout", ["plain", "tiled"])
def test_told_by_rows_that_differ(form: str, layout: str, tmp_path: Path) -> None:
    tensors, held = stored(form, layout, 0.2)
    with opened(tmp_path, tensors) as source:
        np.testing.assert_allclose(read(source), held, rtol=2e-6)
        assert source.unread == ()


@pytest.mark.parametrize("form", ["nvfp4", "mxfp8"])
def test_told_by_the_number_of_scales(form: str, tmp_path: Path) -> None:
    """300 rows are filled up to 384 in tiles only: that tells it of the other weight too."""
    tensors, held = stored(form, "tiled", 0.0, rows=300)
    other = {name.replace("0", "1", 1): tensor for name, tensor in stored(form, "tiled", 0.0)[0].items()}
    with opened(tmp_path, tensors | other) as source:
        np.testing.assert_allclose(read(source), held, rtol=2e-6)
        assert set(source.tensors) == {f"{NAME}.weight", "blocks.1.proj.weight"}


@pytest.mark.parametrize("form", ["nvfp4", "mxfp8"])
def test_told_by_the_config(form: str, tmp_path: Path) -> None:
    tensors, held = stored(form, "plain", 0.0)
    with opened(tmp_path, tensors, {"quantization_config": {"quant_method": "modelopt"}}) as source:
        np.testing.assert_allclose(read(source), held, rtol=2e-6)


@pytest.mark.parametrize("form", ["nvfp4", "mxfp8"])
@pytest.mark.parametrize("layout", ["plain", "tiled"])
@pytest.mark.parametrize("columns", [512, 4 * 16])
def test_told_by_nothing(form: str, layout: str, columns: int, tmp_path: Path) -> None:
    """White weights; and those of 4 groups, whose rows tiles only put in another order."""
    spread, columns = (0.0, columns) if columns == 512 else (0.3, 4 * (16 if form == "nvfp4" else 32))
    tensors, _ = stored(form, layout, spread, columns=columns)
    size = sum(tensor.nbytes for tensor in tensors.values())
    tensors["norm.weight"] = np.ones(9, np.float32)
    with opened(tmp_path, tensors) as source:
        assert set(source.tensors) == {"norm.weight"}
        assert source.unread == ((f"{form}, in one of two layouts", size),)


def test_a_file_of_nothing_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="in one of two layouts"):
        opened(tmp_path, stored("nvfp4", "plain", 0.0)[0])
