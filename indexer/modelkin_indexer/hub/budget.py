"""Bytes that may be in memory at once, over all threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """Whoever needs more than is left waits. What is larger than the whole goes alone."""

    def __init__(self, size: int) -> None:
        """`size` in bytes."""
        self._size = self._left = size
        self._changed = threading.Condition()

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """So many bytes are in use while the block runs. Blocks must not be nested."""
        share = min(size, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= share)
            self._left -= share
        try:
            yield
        finally:
            with self._changed:
                self._left += share
                self._changed.notify_all()
