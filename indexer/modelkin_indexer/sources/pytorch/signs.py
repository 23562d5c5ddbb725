"""Tensors whose signs PyTorch turns only when they are read: conjugates, and the imaginary part of a conjugate.

`z.conj()` and `z.conj().imag` are views of the numbers of z with a mark, and so are they saved.
https://docs.pytorch.org/docs/stable/generated/torch.resolve_conj.html
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from modelkin_indexer.source import BITS
from modelkin_indexer.sources.stored.decoded import Bytes, Decoder, Presented

SIGN = 0x80  # of a float's last byte, in the little-endian order of checkpoints


class Turned(Struct, frozen=True):
    """Decodes numbers of `width` bytes and turns the sign of those at even places, at odd ones, or both."""

    inner: Decoder
    width: int
    even: bool
    odd: bool

    @property
    def block_bytes(self) -> int:
        return self.inner.block_bytes

    def decode(self, start: int, out: Bytes) -> int:
        read = self.inner.decode(start, out)
        for place, turned in enumerate((self.even, self.odd)):
            if turned:
                first = ((place + 1) * self.width - 1 - start) % (2 * self.width)
                out[first :: 2 * self.width] ^= np.uint8(SIGN)
        return read


def turned(shown: Presented, even: bool, odd: bool) -> Presented:
    """The tensor with the signs of its numbers turned; both False gives it back as it is."""
    if not (even or odd):
        return shown
    return Presented(shown.info, Turned(shown.decoder, BITS[shown.info.dtype] // 8, even, odd))
