"""In which of two layouts NVFP4 and MXFP8 weights are stored that carry no mark.

ComfyUI writes the names, dtypes and often the shapes of ModelOpt and compressed-tensors, but scales in tiles, and of NVFP4 the high half of
a byte first. A config says which it is, else the number of scales does, where only one layout explains it for some weight of the file.
Else scales are read both ways: those of one row, or of one column, are alike where weights differ by row or column, in the right layout
only. Where they do not differ, as in an untrained model, nothing tells, and nothing is decoded: a wrong reading has the right numbers in
wrong places, and two models that are read wrongly alike still match each other, but no other form of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.quantised.group_scales import EXPONENTS, GroupScales, tiled_size
from modelkin_indexer.quantised.packing import Floats
from modelkin_indexer.quantised.parts import Parts

PLAIN, TILED = "plain", "tiled"
SEEN_ROWS, SEEN_WEIGHTS = 1024, 8
# Unevenness of the right layout, 512 x 512, where rows differ by 5 and 20 %: NVFP4 22 and 375, MXFP8 9.5 and 134; of the wrong one 3 and
# 17, 1 and 17. Of white weights, either way: 2 at the most of 40. (Summed over the weights looked at, divided by the root of their number.)
UNEVEN, LESS = 6.0, 0.5
LEAST = 2.0**-40


class Unmarked(Struct, frozen=True):
    """A weight in one of two layouts. `groups`: scales of a row."""

    module: str
    form: str
    rows: int
    scales: GroupScales

    def layouts(self) -> set[str]:
        """Those that explain how many scales there are."""
        held, rows, groups = self.scales.parts.tensors[self.scales.name].elements, self.rows, self.scales.groups
        return {layout for layout, size in ((PLAIN, rows * groups), (TILED, tiled_size(rows, groups))) if size == held}


def unmarked(parts: Parts) -> list[Unmarked]:
    """All weights of the kind in a file of which nothing says who wrote it."""
    if parts.stated or any(name.endswith("_packed") for name in parts.tensors):
        return []
    return list(_candidates(parts))


def _candidates(parts: Parts) -> Iterator[Unmarked]:
    for name, info in parts.tensors.items():
        module, _, last = name.rpartition(".")
        scale = parts.tensors.get(f"{module}.weight_scale") if last == "weight" and len(info.shape) == 2 else None
        if scale is None or len(scale.shape) != 2:
            continue
        rows, width = info.shape
        if info.dtype == "U8" and scale.dtype == "F8_E4M3" and f"{module}.weight_scale_2" in parts.tensors:
            yield Unmarked(module, "nvfp4", rows, GroupScales(parts, scale.name, -(-width // 8), height=rows))
        elif info.dtype in ("F8_E4M3", "F8_E5M2") and scale.dtype in EXPONENTS and scale.elements >= rows * -(-width // 32):
            yield Unmarked(module, "mxfp8", rows, GroupScales(parts, scale.name, -(-width // 32), height=rows))


def layout(weights: list[Unmarked]) -> str:
    """The layout of a file's weights, "" if nothing tells."""
    fitting = [weight.layouts() for weight in weights]
    told = {next(iter(layouts)) for layouts in fitting if len(layouts) == 1}
    if told:
        return told.pop() if len(told) == 1 else ""
    either = [weight for weight, layouts in zip(weights, fitting, strict=True) if len(layouts) == 2][:SEEN_WEIGHTS]
    if not either:
        return PLAIN  # the shapes contradict each other, and the scheme says so
    plain, tiled = (sum(_uneven(weight, tiles) for weight in either) / len(either) ** 0.5 for tiles in (False, True))
    if max(plain, tiled) < UNEVEN or min(plain, tiled) > LESS * max(plain, tiled):
        return ""
    return PLAIN if plain > tiled else TILED


def _uneven(weight: Unmarked, tiles: bool) -> float:
    """How far the means of rows, or of columns, differ by more than chance: analysis of variance of the logarithms, in deviations."""
    scales = replace(weight.scales, tiled=tiles).rows(0, min(weight.rows, SEEN_ROWS))
    logs = np.log2(np.maximum(scales.astype(np.float64), LEAST))
    return max(_differ(logs), _differ(logs.T))


def _differ(logs: Floats) -> float:
    rows, columns = logs.shape
    means = logs.mean(axis=1)
    rest = logs - means[:, None] - logs.mean(axis=0) + logs.mean()
    noise = float(rest.var()) * rows * columns / ((rows - 1) * (columns - 1))
    if not np.isfinite(noise) or noise <= 0:
        return 0.0
    excess: float = columns * float(means.var()) / noise - 1
    return excess * math.sqrt(rows / 2)
