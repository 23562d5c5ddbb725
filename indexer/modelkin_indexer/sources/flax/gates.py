"""Gates of Flax's recurrent cells, each in a module of its own, as one matrix in PyTorch's order: r, z, n of a GRU, i, f, g, o of LSTMs.

Of the gates that see a GRU's own state only the last has a bias in Flax; PyTorch keeps one for each, so those of the others are zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.source import BITS
from modelkin_indexer.sources.flax.array import Array
from modelkin_indexer.sources.stored.decoded import Bytes
from modelkin_indexer.sources.stored.pieces import Joined, Piece

CELLS = ("ifgo", "rzn")  # flax.linen.LSTMCell and GRUCell; the fused matrices of flax.nnx are in this order already
KERNEL, BIAS = "kernel", "bias"
Path = tuple[str, ...]


def fused(arrays: Sequence[Array]) -> list[Array]:
    """The arrays, those of a cell's gates put together: `CELL/ir/kernel`, ... as `CELL/kernel_ih`, biases as `CELL/bias_ih`."""
    by_path = {array.path: array for array in arrays if all(array.shape) and array.dtype in BITS}
    found: list[Array] = []
    used: set[Path] = set()
    for cell in dict.fromkeys(path[:-2] for path in by_path if len(path) > 1 and path[-1] == KERNEL):
        for gates in CELLS:
            sides = [_gates(by_path, cell, side, gates, KERNEL) for side in "ih"]
            if not _fit(sides):
                continue
            biases = [_gates(by_path, cell, "i", gates, BIAS), _own_biases(by_path, cell, gates)]
            wide = sides[1][0].shape[1:]
            some = [parts if all(part.shape == wide for part in parts) else [] for parts in biases]
            for leaf, parts in zip((f"{KERNEL}_ih", f"{KERNEL}_hh", f"{BIAS}_ih", f"{BIAS}_hh"), (*sides, *some), strict=True):
                if parts:
                    found.append(_joined((*cell, leaf), parts))
                    used |= {part.path for part in parts if part.path}
    return [array for array in arrays if array.path not in used] + found


def _own_biases(by_path: Mapping[Path, Array], cell: Path, gates: str) -> list[Array]:
    """The biases of the gates that see the cell's own state."""
    last = _gates(by_path, cell, "h", gates[-1:], BIAS)
    if len(last) == 1 and not any(_gates(by_path, cell, "h", gate, BIAS) for gate in gates[:-1]):
        zeros = replace(last[0], path=(), nbytes=0, decoder=_Zeros())
        return [*(zeros for _ in gates[:-1]), *last]
    return _gates(by_path, cell, "h", gates, BIAS)


class _Zeros(Struct, frozen=True):
    """Zeros that no file holds (see `Decoder`)."""

    block_bytes: int = 1

    def decode(self, start: int, out: Bytes) -> int:
        out[:] = 0
        return 0


def _gates(by_path: Mapping[Path, Array], cell: Path, side: str, gates: str, leaf: str) -> list[Array]:
    """The gates' arrays in order; none unless all are there, in one number format. `if_` is nnx's name of what linen calls `if`."""
    named = [(side + gate, f"{side}{gate}_") for gate in gates]
    parts = [next((by_path[(*cell, name, leaf)] for name in names if (*cell, name, leaf) in by_path), None) for names in named]
    known = [part for part in parts if part is not None]
    return known if len(known) == len(gates) and len({part.dtype for part in known}) == 1 else []


def _fit(sides: Sequence[Sequence[Array]]) -> bool:
    """Whether these are a cell's kernels: [inputs, hidden] and [hidden, hidden]."""
    if not all(sides):
        return False
    shapes = [{part.shape for part in parts} for parts in sides]
    if any(len(some) != 1 or len(next(iter(some))) != 2 for some in shapes):
        return False
    (_, hidden), (rows, columns) = (next(iter(some)) for some in shapes)
    return hidden == rows == columns


def _joined(path: Path, parts: Sequence[Array]) -> Array:
    """Arrays of one shape side by side along their last axis."""
    shape = parts[0].shape
    width = shape[-1]
    pieces = tuple(Piece((*(0 for _ in shape[1:]), number * width), part.shape, part.decoder) for number, part in enumerate(parts))
    whole = (*shape[:-1], width * len(parts))
    decoder = Joined(parts[0].dtype, whole, pieces)
    return replace(parts[0], path=path, shape=whole, nbytes=prod(whole) * BITS[parts[0].dtype] // 8, decoder=decoder)
