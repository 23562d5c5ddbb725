"""Sources that decode blocks: any bytes of the presented form, whatever the blocks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.sources.stored import decoded
from modelkin_indexer.sources.stored.decoded import Bytes, DecodedSource, Origin, Presented


class Doubling(Struct, frozen=True):
    """Presents the first bytes of a row of numbers, twice each; blocks of `block_bytes`."""

    length: int
    block_bytes: int

    def decode(self, start: int, out: Bytes) -> int:
        assert start % self.block_bytes == 0
        assert out.nbytes % self.block_bytes == 0 or start + out.nbytes == self.length
        out[:] = values(self.length)[start : start + out.nbytes]
        return out.nbytes // 2


def values(length: int) -> Bytes:
    return (np.arange(length) // 2 % 251).astype(np.uint8)


def source(length: int, block: int) -> DecodedSource:
    shown = Presented(TensorInfo("a", "U8", (length,), length), Doubling(length, block))
    return DecodedSource(Origin(Path("x"), "x", (), {}, header_bytes=7), {"a": shown}, lambda: None)


@settings(suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(st.data())
def test_any_bytes_of_any_blocks(data: st.DataObject) -> None:
    length, block = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 400))
    opened = source(length, block)
    for _ in range(3):
        start = data.draw(st.integers(0, length))
        stop = data.draw(st.integers(start, length))
        assert np.array_equal(opened.read("a", start, stop), values(length)[start:stop])


def test_the_parts_of_a_block_are_decoded_once() -> None:
    opened = source(1000, 100)
    for start in range(0, 1000, 50):
        opened.read("a", start, start + 50)
    assert opened.bytes_read == 7 + 500
    opened.read("a", 0, 1000)
    assert opened.bytes_read == 7 + 1000


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "CACHED_BYTES", 250)
    opened = source(1000, 100)
    for start in (0, 100, 200, 0):
        opened.read("a", start, start + 1)
    assert opened.bytes_read == 7 + 200


def test_threads_read_the_same() -> None:
    opened = source(100_000, 64)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda start: opened.read("a", start, start + 100), range(0, 100_000, 100)))
    assert np.array_equal(np.concatenate(parts), values(100_000))


def test_what_cannot_be_read() -> None:
    opened = source(10, 4)
    with pytest.raises(ValueError, match="not within"):
        opened.read("a", 5, 11)
    with pytest.raises(ValueError, match="hold 4 bytes"):
        opened.read("a", 0, 4, np.empty(3, np.uint8))
    with pytest.raises(KeyError):
        opened.read("b", 0, 1)
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        opened.read("a", 0, 1)
    with pytest.raises(DamagedFile, match="no tensors"):
        DecodedSource(Origin(Path("x"), "x", (), {}), {}, lambda: None)
