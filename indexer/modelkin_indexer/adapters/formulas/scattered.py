"""Changes at single places of the base's weight, which its shape tells or the adapter stores: shown only on the base.

SHiRA                   values at stored indices
FourierFT (2405.03003)  scale * the real part of the inverse Fourier transform of a spectrum at places drawn from a seed
WaveFT                  scale * the inverse wavelet transform of such a spectrum (Haar's), or the spectrum itself
MiSS (2409.15371)       one block [rank, out] under all columns, `rank` at a time; "mini": repeated along the outputs; "bat": W B + B
trainable tokens        whole rows of a token table
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from modelkin_indexer.adapters.formulas.change import Change, Delta, Shape, Turn
from modelkin_indexer.adapters.formulas.drawn import MOST, first_of_permutation
from modelkin_indexer.adapters.formulas.kit import Kit
from modelkin_indexer.adapters.names import TOKENS, Module
from modelkin_indexer.quantised.packing import Floats
from modelkin_indexer.quantised.parts import Rows

Places = npt.NDArray[np.int64]
SEEDS = {"FOURIERFT": 777, "WAVEFT": 777}  # of the places, where the config says nothing
SCALES = {"FOURIERFT": 150.0, "WAVEFT": 25.0}
HAAR = ("db1", "haar")


def shira(kit: Kit, module: Module) -> Iterator[Change]:
    """SHiRA."""
    values, indices = kit.need(module, "shira_weight", "shira_indices")
    count = kit.parts.tensors[values].elements
    if kit.shape(indices) != (2, count):
        raise kit.contradicts(indices, values)

    def rows(shape: Shape, start: int, stop: int) -> Floats:
        lines, columns = kit.parts.integers(indices).reshape(2, -1)
        if len(shape) != 2 or lines.min() < 0 or columns.min() < 0 or lines.max() >= shape[0] or columns.max() >= shape[1]:
            raise kit.damaged(indices, f"points out of a weight of shape {list(shape)}")
        found = np.zeros((stop - start, shape[1]), np.float32)
        inside = (lines >= start) & (lines < stop)
        np.add.at(found, (lines[inside] - start, columns[inside]), kit.array(values)[inside])
        return found

    yield Change(f"{module.name}.weight", (values, indices), delta=rows)


def spectrum(kit: Kit, module: Module) -> Iterator[Change]:
    """FourierFT and WaveFT."""
    own = kit.config.kind
    (name,) = kit.need(module, f"{own.lower()}_spectrum")
    is_fourier = own == "FOURIERFT"
    family = kit.config.word("wavelet_family") or HAAR[0]
    scale = np.float32(kit.config.number("scaling", SCALES[own]))

    @cache
    def whole(shape: Shape) -> Floats:
        dense = _dense(kit, name, shape, kit.config.whole("random_loc_seed", SEEDS[own]))
        if is_fourier:
            return (np.fft.ifft2(dense).real * scale).astype(np.float32)
        if kit.config.said.get("use_idwt", True) is False:
            return dense * scale
        return _haar(dense) * scale

    unknown = "" if is_fourier or family in HAAR else f"its wavelets ({family[:20]}) are not known here"
    yield Change(f"{module.name}.weight", (name,), delta=_slices(whole), unknown=unknown)


def _slices(whole: Any) -> Delta:
    def rows(shape: Shape, start: int, stop: int) -> Floats:
        found: Floats = whole(shape)[start:stop]
        return found

    return rows


def _dense(kit: Kit, name: str, shape: Shape, seed: int) -> Floats:
    """The spectrum at its places."""
    count = kit.parts.tensors[name].elements
    if len(shape) != 2 or count > shape[0] * shape[1]:
        raise kit.damaged(name, f"has {count} numbers for a weight of shape {list(shape)}")
    if shape[0] * shape[1] >= MOST:
        raise kit.parts.unsupported(name, f"has its places drawn among {shape[0] * shape[1]:,}, more than this version can follow")
    places = first_of_permutation(shape[0] * shape[1], count, seed)
    dense = np.zeros(shape, np.float32)
    dense.reshape(-1)[places] = kit.array(name).reshape(-1)
    return dense


def _haar(dense: Floats) -> Floats:
    """One step of Haar's inverse transform in two dimensions, of bands in the four quarters; odd sizes are filled up and cut again."""
    tall, wide = (size + size % 2 for size in dense.shape)
    low, left = (tall - dense.shape[0]) // 2, (wide - dense.shape[1]) // 2
    filled = np.zeros((tall, wide), np.float32)
    filled[low : low + dense.shape[0], left : left + dense.shape[1]] = dense
    mean, across, down, both = (filled[i : i + tall // 2, j : j + wide // 2] for i in (0, tall // 2) for j in (0, wide // 2))
    found = np.empty((tall, wide), np.float32)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        signs = (1, 1 - 2 * i, 1 - 2 * j, (1 - 2 * i) * (1 - 2 * j))
        found[i::2, j::2] = sum(sign * band for sign, band in zip(signs, (mean, across, down, both), strict=True)) / np.float32(2)
    return found[low : low + dense.shape[0], left : left + dense.shape[1]]


def miss(kit: Kit, module: Module) -> Iterator[Change]:
    """MiSS in its three forms."""
    (name,) = kit.need(module, "miss_block")
    block, form = kit.shape(name), kit.config.said.get("init_weights")
    if len(block) == 3:
        yield Change(f"{module.name}.weight", (name,), turn=_by_blocks(kit, name))
        return
    if len(block) != 2:
        raise kit.damaged(name, f"has shape {list(block)}, not two or three axes")

    def rows(shape: Shape, start: int, stop: int) -> Floats:
        numbers = kit.array(name)
        if form == "mini" and shape[0] % block[1] == 0:
            numbers = np.tile(numbers, shape[0] // block[1])
        if len(shape) != 2 or numbers.shape[1] != shape[0]:
            raise kit.damaged(name, f"has shape {list(block)}, but the base's weight {list(shape)}")
        found: Floats = np.tile(numbers[:, start:stop].T, -(-shape[1] // block[0]))[:, : shape[1]]
        return found

    yield Change(f"{module.name}.weight", (name,), delta=rows, rank=block[0])


def _by_blocks(kit: Kit, name: str) -> Turn:
    """W + W B + B, each block [rank, rank] of W with the B of its row of blocks."""

    def turn(rows: Rows, shape: Shape) -> Rows:
        stored = kit.array(name)
        size = stored.shape[1]
        if len(shape) != 2 or stored.shape[2] != size or stored.shape[0] * size != shape[0] or shape[1] % size:
            raise kit.damaged(name, f"has shape {list(stored.shape)}, but the base's weight {list(shape)}")

        def found(start: int, stop: int) -> Floats:
            before = rows(start, stop).reshape(stop - start, -1, size)
            lines = np.arange(start, stop)
            mixed = np.einsum("rbi,rij->rbj", before, stored[lines // size]) + stored[lines // size, lines % size][:, None]
            sums: Floats = (before + mixed).reshape(stop - start, -1)
            return sums

        return found

    return turn


def tokens(kit: Kit, module: Module) -> Iterator[Change]:
    """Rows of a token table that take the place of the base's."""
    name = module.get("trainable_tokens_delta") or module.get(f"{TOKENS}.trainable_tokens_delta")
    if not name:
        return
    indices, new = _token_indices(kit, module.name), kit.shape(name)
    if len(new) != 2 or len(indices) != new[0]:
        raise kit.damaged(name, f"has shape {list(new)}, but the config names {len(indices)} tokens")

    def turn(rows: Rows, shape: Shape) -> Rows:
        if shape[-1] != new[1] or max(indices, default=0) >= shape[0]:
            raise kit.damaged(name, f"has rows of {new[1]} numbers up to {max(indices, default=0)}, but the base's table is {list(shape)}")

        def found(start: int, stop: int) -> Floats:
            lines, own = rows(start, stop).copy(), kit.array(name)
            for row, token in enumerate(indices):
                if start <= token < stop:
                    lines[token - start] = own[row]
            return lines

        return found

    yield Change(f"{module.name}.weight", (name,), turn=turn)


def _token_indices(kit: Kit, module: str) -> list[int]:
    """The tokens whose rows are trained: of one table, or by its name."""
    stated = kit.config.said.get("token_indices") or kit.config.said.get("trainable_token_indices")
    if isinstance(stated, Mapping):
        stated = next((value for key, value in stated.items() if f".{module}".endswith(f".{key}")), None)
    if not isinstance(stated, list) or not all(type(index) is int and index >= 0 for index in stated):
        raise kit.damaged(next(iter(kit.parts.tensors)), f"has trained tokens that its config does not name ({str(stated)[:60]})")
    return stated
