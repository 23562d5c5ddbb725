"""What containers share whose values have to be decoded: any bytes of the presented form, made of blocks that are decoded whole.

A leaf says for each tensor how it is presented (`TensorInfo`) and gives a `Decoder` for it; the rest is here: bounds, threads, a small
cache for blocks that are asked for in parts, and the count of bytes that were really read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field

from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import Unread
from modelkin_indexer.sources.stored.files import fill

Bytes = npt.NDArray[np.uint8]
BLOCK_BYTES = 1 << 20  # decoded bytes made at a time: small beside the cache of a core, large beside the cost of a call
CACHED_BYTES = 32 << 20  # decoded blocks kept for readers that come back for the rest of one


class Decoder(Protocol):
    """Makes the presented bytes of one tensor. Several threads may decode at once.

    `block_bytes`: decoding begins and ends at multiples of this (or at the tensor's end). 1 is for bytes that are stored as presented.
    """

    @property
    def block_bytes(self) -> int: ...

    def decode(self, start: int, out: Bytes) -> int:
        """Fill `out` (contiguous) with presented bytes from `start` on; the number of bytes that were read for it.

        Raises:
            SourceError: the file shrank or cannot be decoded.
        """
        ...


class Plain(Struct, frozen=True):
    """Bytes stored as they are presented, from byte `start` of an open file on."""

    descriptor: int
    path: Path
    tensor: str
    start: int
    block_bytes: int = 1

    def decode(self, start: int, out: Bytes) -> int:
        fill(self.descriptor, self.start + start, out.data, self.path, self.tensor)
        return out.nbytes


class Presented(Struct, frozen=True):
    """A tensor as readers see it: C-contiguous, of a plain dtype, with what makes its bytes."""

    info: TensorInfo
    decoder: Decoder


class Origin(Struct, frozen=True):
    """What a source says of itself: see the attributes of `Source`. `header_bytes` were read to open it."""

    path: Path
    name: str
    files: tuple[SourceFile, ...]
    config: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    quantization: str = ""
    header_bytes: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    unread: Unread = ()


class DecodedSource:
    """A source made of decoders (see `Source` for the attributes). Close it, or use it in `contextlib.closing`."""

    may_be_empty = False

    def __init__(self, origin: Origin, presented: Mapping[str, Presented], close: Callable[[], None]) -> None:
        """`close` is called once, also if this raises.

        Raises:
            DamagedFile: there are no tensors.
        """
        if not presented and not self.may_be_empty:
            close()
            raise DamagedFile("holds no tensors", path=origin.path, remedy="Check that this is the file with the weights.")
        self.path, self.name, self.files = origin.path, origin.name, origin.files
        self.config, self.notes, self.quantization = origin.config, origin.notes, origin.quantization
        self.metadata, self.unread = origin.metadata, origin.unread
        self.bytes_read = origin.header_bytes
        self._presented = {name: presented[name] for name in sorted(presented)}
        self.tensors: Mapping[str, TensorInfo] = {name: shown.info for name, shown in self._presented.items()}
        self._close, self._closed = close, False
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], Bytes] = OrderedDict()
        self._kept_bytes = 0

    def read(self, tensor: str, start: int, stop: int, out: Bytes | None = None) -> Bytes:
        """Bytes [start, stop) of a tensor as presented: in the first bytes of `out` (contiguous) if given, else in a fresh array.

        Raises:
            SourceError: the file shrank or cannot be decoded.
            KeyError: no such tensor.
            ValueError: bytes outside the tensor, `out` too small or not contiguous, or the source is closed.
        """
        if self._closed:
            raise ValueError(f"{self.path} is closed")
        shown = self._presented[tensor]
        if not 0 <= start <= stop <= shown.info.nbytes:
            raise ValueError(f"bytes [{start}, {stop}) are not within the {shown.info.nbytes} of tensor {tensor!r}")
        wanted = np.empty(stop - start, np.uint8) if out is None else out[: stop - start]
        if wanted.shape != (stop - start,) or not wanted.flags.c_contiguous:
            raise ValueError(f"out must be contiguous and hold {stop - start} bytes")
        self._read(shown, start, wanted)
        return wanted

    def close(self) -> None:
        """Close the files; reading raises ValueError afterwards."""
        if not self._closed:
            self._closed = True
            self._kept.clear()
            self._close()

    def _read(self, shown: Presented, start: int, wanted: Bytes) -> None:
        """Whole blocks go straight into `wanted`; the parts of blocks at its ends through the cache."""
        step, done = shown.decoder.block_bytes, 0
        while done < wanted.nbytes:
            inside = (start + done) % step
            whole = self._whole(shown, start + done, wanted.nbytes - done)
            if inside or not whole:
                block = self._block(shown, start + done - inside)
                count = min(block.nbytes - inside, wanted.nbytes - done)
                wanted[done : done + count] = block[inside : inside + count]
            else:
                count = whole
                self._decode(shown, start + done, wanted[done : done + count])
            done += count

    def _whole(self, shown: Presented, start: int, length: int) -> int:
        """How many of `length` bytes from `start` on are whole blocks; the tensor's last block may be short."""
        ends = start + length == shown.info.nbytes
        return length if ends else length - length % shown.decoder.block_bytes

    def _decode(self, shown: Presented, start: int, out: Bytes) -> None:
        """Decode some blocks at a time, so that no decoder needs memory for more than BLOCK_BYTES or one block."""
        step = shown.decoder.block_bytes * max(1, BLOCK_BYTES // shown.decoder.block_bytes)
        count = sum(shown.decoder.decode(start + at, out[at : at + step]) for at in range(0, out.nbytes, step))
        with self._lock:
            self.bytes_read += count

    def _block(self, shown: Presented, start: int) -> Bytes:
        key = shown.info.name, start
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        block = np.empty(min(shown.decoder.block_bytes, shown.info.nbytes - start), np.uint8)
        self._decode(shown, start, block)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = block
                self._kept_bytes += block.nbytes
            while self._kept_bytes > CACHED_BYTES and len(self._kept) > 1:
                self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return block
