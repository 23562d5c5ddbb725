"""Weights that `model.quantize` made whole numbers of: int8 (w = q / scale) and int4, two in a byte along the outputs.

int4 with groups along the inputs: w = (q - zero) * scale, `g_idx` tells the group of each input; without: w = q / scale.
https://github.com/keras-team/keras/blob/v3.15.1/keras/src/layers/core/dense.py
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.sources.keras.hdf5 import Array
from modelkin_indexer.sources.kernels import laid
from modelkin_indexer.sources.stored.decoded import Presented
from modelkin_indexer.sources.stored.extents import Extent, OpenFiles, StoredTensor
from modelkin_indexer.sources.stored.files import FETCH_AGAIN
from modelkin_indexer.sources.stored.scales import Scales

Floats = npt.NDArray[np.float32]
SAMPLE = 1 << 16  # bytes of a matrix that tell whether each is one number or two
# Low halves of int8 numbers are evenly spread (1 in 16 each); of two int4 numbers most are near 0, and hardly any is -8.
# Measured on Dense and Embedding of Keras 3.15: int8 0.055 to 0.070 zeros, int4 0.13 and more.
MANY_ZEROS, FEW_LOWEST = 0.1, 0.03
UNKNOWN = "Keras, int8 or int4 of a layer of its own kind"
MAX_SMALL = 1 << 26  # bytes of scales, which are held in memory


class Found(Struct, frozen=True):
    """A matrix, and how it was stored in words."""

    kind: str
    shown: Presented


def is_quantised(arrays: Sequence[Array]) -> bool:
    """Whether the first variable of a layer is a matrix of whole numbers, with others behind it."""
    return len(arrays) > 1 and arrays[0].dtype in ("I8", "U8") and len(arrays[0].shape) > 1


def scales_of(arrays: Sequence[Array]) -> list[Array]:
    """Which variables of such a layer are scales, and groups: those shaped as the zero points and the last numbers."""
    floats = [array for array in arrays[1:] if array.dtype == "F32"]
    zeros = {array.shape for array in arrays[1:] if array.dtype == "I8"}
    return [array for array in floats if array.shape in zeros or array is floats[-1]]


def quantised(name: str, kind: str, arrays: Sequence[Array], width: int, files: OpenFiles, path: Path) -> Found | str:
    """The matrix of a quantised layer, else what it is in words. `kind` is what the layer is called.

    Raises:
        DamagedFile: scales that cannot be.
    """
    kernel = arrays[0]
    small = [array for array in arrays[1:] if array.start is not None and array.nbytes <= MAX_SMALL]
    floats = [array for array in small if array.dtype == "F32"]
    if kernel.dtype == "U8":
        return "Keras, quantised by GPTQ or AWQ"
    if kernel.start is None or len(kernel.shape) > 3 or not floats:
        return UNKNOWN
    zeros = [array for array in small if array.dtype == "I8"]
    if zeros:
        return _grouped(name, kernel, floats, zeros[0], files, path)
    packed, scale = _is_packed(kernel, files, path), floats[-1]
    if "embed" in kind:
        return _rows(name, kernel, scale, packed, files, path) if prod(scale.shape) == kernel.shape[0] else UNKNOWN
    lies = laid(kind, "kernel", kernel.shape, width)
    if not lies.transposed:
        return UNKNOWN
    outputs, inputs = lies.shape
    if packed and prod(scale.shape) in (2 * outputs, 2 * outputs - 1):
        return _columns(name, kernel, scale, (inputs, prod(scale.shape)), "I4", files, path)
    if packed:
        return "Keras, int4 packed along the inputs"
    return _columns(name, kernel, scale, (inputs, outputs), "I8", files, path) if prod(scale.shape) == outputs else UNKNOWN


def _is_packed(kernel: Array, files: OpenFiles, path: Path) -> bool:
    """Whether bytes hold two numbers each, by how their halves are spread."""
    some = np.empty(min(SAMPLE, kernel.nbytes), np.uint8)
    files.fill(0, kernel.start or 0, some)
    low = np.bincount(some & 15, minlength=16) / max(1, some.size)
    return bool(low[0] > MANY_ZEROS and low[8] < FEW_LOWEST)


def _grouped(name: str, kernel: Array, floats: Sequence[Array], zero: Array, files: OpenFiles, path: Path) -> Found | str:
    """int4 with a scale and a zero point for each group of inputs: of a matrix [in, out / 2], or of a table [tokens, width / 2]."""
    scales = [array for array in floats if array.shape == zero.shape and len(zero.shape) == 2]
    groups = [array for array in floats if len(array.shape) == 1]
    if not scales or not groups or len(kernel.shape) != 2:
        return UNKNOWN
    scale, group = scales[-1], _numbers(groups[-1], files, path)
    of_table = zero.shape[0] == kernel.shape[0] and group.size != kernel.shape[0]
    count = zero.shape[1] if of_table else zero.shape[0]
    block = int(np.count_nonzero(group == 0)) or group.size
    if not np.array_equal(group, np.arange(group.size) // block) or count != -(-group.size // block):
        return "Keras, int4 with inputs in another order"
    columns = group.size if of_table else zero.shape[1]
    if (not of_table and group.size != kernel.shape[0]) or kernel.shape[1] != -(-columns // 2):
        raise DamagedFile("has scales that do not fit", path=path, tensor=name, remedy=FETCH_AGAIN)
    found = _padded(_numbers(scale, files, path), of_table), _padded(_numbers(zero, files, path), of_table)
    stored = (kernel.shape[0], 2 * kernel.shape[1])
    scaled = Scales("I4", stored, *found, block=block)
    shape = (kernel.shape[0], columns)
    return Found("int4", _shown(name, kernel, scaled, shape, files, transposed=not of_table))


def _padded(numbers: Floats, of_table: bool) -> Floats:
    """Columns up to an even number, as the packed bytes have them."""
    return numbers if of_table or numbers.shape[1] % 2 == 0 else np.pad(numbers, ((0, 0), (0, 1)))


def _rows(name: str, kernel: Array, scale: Array, packed: bool, files: OpenFiles, path: Path) -> Found:
    """A table with a scale for each row."""
    step = _inverse(scale, name, files, path).reshape(-1, 1)
    shape = (kernel.shape[0], kernel.shape[1] * (1 + packed))
    scaled = Scales("I4" if packed else "I8", shape, step, np.zeros((1, 1), np.float32))
    return Found("int4" if packed else "int8", _shown(name, kernel, scaled, shape, files))


def _columns(name: str, kernel: Array, scale: Array, shape: tuple[int, int], dtype: str, files: OpenFiles, path: Path) -> Found:
    """A matrix of this shape [in, out] with a scale for each output."""
    padded = shape[1] % 2 if dtype == "I4" else 0
    step = np.pad(_inverse(scale, name, files, path).reshape(1, -1), ((0, 0), (0, padded)))
    scaled = Scales(dtype, (shape[0], shape[1] + padded), step, np.zeros((1, 1), np.float32))
    return Found("int4" if dtype == "I4" else "int8", _shown(name, kernel, scaled, shape, files, transposed=True))


def _shown(name: str, kernel: Array, scales: Scales, shape: tuple[int, int], files: OpenFiles, transposed: bool = False) -> Presented:
    """The matrix of this shape; its transpose if it is stored so."""
    extent = files.extent(0, kernel.start or 0, kernel.nbytes, name)
    shown = StoredTensor(name, scales.dtype, shape, (extent,), scales).presented(files)
    turned = shape[::-1] if transposed else shape
    return Presented(TensorInfo(name, shown.info.dtype, turned, shown.info.nbytes, transposed), shown.decoder)


def _inverse(scale: Array, name: str, files: OpenFiles, path: Path) -> Floats:
    numbers = _numbers(scale, files, path)
    if not (np.isfinite(numbers) & (numbers != 0)).all():
        raise DamagedFile("has scales of zero", path=path, tensor=name, remedy=FETCH_AGAIN)
    return np.asarray(1 / numbers, np.float32)


def _numbers(array: Array, files: OpenFiles, path: Path) -> Floats:
    raw = files.read(Extent(0, array.start or 0, array.nbytes), "")
    return np.frombuffer(raw, np.int8 if array.dtype == "I8" else np.float32).astype(np.float32).reshape(array.shape)
