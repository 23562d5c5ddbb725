"""Low-rank factors to the changes that they make.

LoRA (arXiv 2106.09685)      change = scale * B A, for [out, in] weights; turned round where the base stores [in, out], and for token tables
DoRA (arXiv 2402.09353)      weight = m * (W + change) / |W + change| by rows, m the magnitudes
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from modelkin_indexer.adapters.config import FACTOR_NAME, AdapterConfig
from modelkin_indexer.quantised.packing import Floats
from modelkin_indexer.quantised.parts import Parts, Plain

PREFIX = "base_model.model."
MAGNITUDES = tuple(f".lora_magnitude_vector{last}" for last in ("", ".weight", ".default", ".default.weight"))
FURTHER = (".lora_B.bias", ".lora_B.default.bias", *MAGNITUDES)
SAVED = ".modules_to_save.default"
BASE_LAYER = ".base_layer"
MOST_NUMBERS = 1 << 33  # of one change: small factors can stand for any number; the largest public token tables have 2^31


@dataclass(frozen=True)
class Delta:
    """The change of one weight. `first` is A and `second` B by their stored names; `shape` is the base's weight's.

    `held` is the base's weight where the adapter brings it along, as peft does for token tables ("" elsewhere): then the sum is presented.
    """

    name: str
    first: str
    second: str
    rank: int
    scale: float
    shape: tuple[int, ...]
    turned: bool
    magnitude: str
    held: str

    @property
    def uses(self) -> tuple[str, ...]:
        return (self.first, self.second, *(name for name in (self.magnitude, self.held) if name))

    def change(self, parts: Parts) -> Plain:
        """The change alone, if it is all that the adapter holds."""
        if self.held:
            return self.added(parts)
        return Plain(self.name, self.shape, "", self.uses, lambda start, stop: self._rows(parts, start, stop))

    def added(self, parts: Parts) -> Plain:
        """The base's weight with the change. `parts` has both."""
        if self.magnitude and (self.turned or len(self.shape) != 2):
            raise parts.unsupported(self.name, "has DoRA magnitudes on a layer that is no plain matrix")

        def rows(start: int, stop: int) -> Floats:
            found = parts.rows(self.held or self.name, start, stop) + self._rows(parts, start, stop)
            if self.magnitude:
                found *= (parts.span(self.magnitude, start, stop) / np.linalg.norm(found, axis=1))[:, None]
            return found

        names = (self.name, *self.uses)
        return Plain(self.name, self.shape, "", tuple(name for name in names if name in parts.tensors), rows)

    def _rows(self, parts: Parts, start: int, stop: int) -> Floats:
        """Rows of the change flattened to [all axes but the last, last axis]."""
        if self.turned:
            second = parts.rows(self.second, 0, parts.tensors[self.second].shape[0])
            found: Floats = parts.columns(self.first, start, stop) @ second.T
            return found * np.float32(self.scale)
        width, lines = self.shape[-1], prod(self.shape[1:-1])
        top, bottom = start // lines, -(-stop // lines)
        first = parts.span(self.first, 0, parts.tensors[self.first].elements).reshape(self.rank, -1)
        second = parts.span(self.second, top * self.rank, bottom * self.rank).reshape(bottom - top, self.rank)
        found = (second @ first).reshape(-1, width)[start - top * lines : stop - top * lines]
        return found * np.float32(self.scale)


def find_deltas(parts: Parts, config: AdapterConfig, prefix: str = "") -> Iterator[Delta]:
    """The changes of all modules; `prefix` stands before the names of the adapter's tensors. Raises SourceError."""
    pairs: dict[tuple[str, bool], dict[str, str]] = {}
    for name in parts.tensors:
        match = FACTOR_NAME.fullmatch(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if match is not None:
            sides = pairs.setdefault((match["module"], bool(match["table"])), {})
            if match["side"] in sides:
                raise parts.damaged(name, f"is beside {sides[match['side']]!r}: two adapters in one file")
            sides[match["side"]] = name
    for (module, table), sides in pairs.items():
        if len(sides) < 2:
            lacking = "B" if "A" in sides else "A"
            raise parts.damaged(next(iter(sides.values())), f"is a low-rank factor whose other half, lora_{lacking}, is missing")
        yield _delta(parts, config, prefix, module, table, sides["A"], sides["B"])


def _delta(parts: Parts, config: AdapterConfig, prefix: str, module: str, table: bool, first: str, second: str) -> Delta:
    a, b = parts.tensors[first].shape, parts.tensors[second].shape
    if len(a) < 2 or len(b) < 2 or b[1] != a[0] or prod(b[2:]) != 1:
        raise parts.damaged(first, f"has shape {list(a)}, which contradicts {list(b)} of {second!r}")
    turned = table or (config.transposed and len(a) == 2)
    shape = (a[1], b[0]) if turned else (b[0], *a[1:])
    if prod(shape) > MOST_NUMBERS:
        raise parts.unsupported(first, f"stands for a weight of shape {list(shape)}, larger than any that is known")
    name = module.removeprefix(PREFIX)
    magnitude = next((found for last in MAGNITUDES if (found := f"{prefix}{module}{last}") in parts.tensors), "")
    if magnitude and parts.tensors[magnitude].elements != b[0]:
        raise parts.damaged(magnitude, f"has {parts.tensors[magnitude].elements} magnitudes for {b[0]} rows")
    held = f"{prefix}{module}{BASE_LAYER}.weight"
    if held in parts.tensors and parts.tensors[held].shape != shape:
        raise parts.damaged(held, f"has shape {list(parts.tensors[held].shape)}, but its change {list(shape)}")
    scale = config.scale(name, a[0])
    return Delta(f"{name}.weight", first, second, a[0], scale, shape, turned, magnitude, held if held in parts.tensors else "")


def other_tensors(parts: Parts, config: AdapterConfig, deltas: Sequence[Delta], prefix: str = "") -> Iterator[Plain]:
    """What an adapter holds whole, under the base's names; small further factors are left out with what they belong to."""
    used = {name for delta in deltas for name in delta.uses}
    for name, info in parts.tensors.items():
        if not name.startswith(prefix) or name in used or (prefix and name.removeprefix(prefix) == name):
            continue
        plain = name.removeprefix(prefix).removeprefix(PREFIX).replace(SAVED, "").replace(BASE_LAYER, "")
        if plain.endswith(FURTHER):
            continue
        uses = (name, plain) if prefix and plain in parts.tensors else (name,)
        yield Plain(plain, info.shape, "", uses, lambda start, stop, name=name: parts.rows(name, start, stop))  # type: ignore[misc]
