"""The gates of a GRU: Keras keeps them as z, r, h, PyTorch as r, z, n; those of an LSTM are in one order in both."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from modelkin_indexer.sources.stored.decoded import Bytes, Decoder

GATES = 3
RECURRENT = "recurrent_kernel"


def is_gru(leaves: Sequence[tuple[str, tuple[int, ...]]]) -> bool:
    """Whether these variables, by what they are and their shapes, are a GRU's: the recurrent kernel is three times as long as wide."""
    shapes = dict(leaves)
    shape = shapes.get(RECURRENT, ())
    return len(shape) == 2 and shape[1] == GATES * shape[0]


class InOrder(Struct, frozen=True):
    """Decodes rows of `row` bytes, each of three gates, the first two of which change places (see `Decoder`)."""

    stored: Decoder
    row: int

    @property
    def block_bytes(self) -> int:
        """Rows that make whole blocks of what is below."""
        below = self.stored.block_bytes
        return self.row if below % self.row and self.row % below == 0 else max(below, self.row)

    def decode(self, start: int, out: Bytes) -> int:
        count = self.stored.decode(start, out)
        gates = out.reshape(-1, GATES, self.row // GATES)
        gates[:, :2] = gates[:, 1::-1].copy()
        return count
