"""Blocks that were used last, decompressed but still filtered, within a limit in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

__all__ = ["OVERHEAD", "BlockCache"]

#: What an entry costs besides its bytes: a block of zeros takes only this.
OVERHEAD = 256


class BlockCache:
    """A least-recently-used cache that threads may share.

    Parameters
    ----------
    limit : int
        Most bytes that it holds, bookkeeping included; 0 holds nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[Hashable, bytes] = OrderedDict()
        self._guard = threading.Lock()
        self._bytes = 0

    @property
    def limit(self) -> int:
        """Most bytes that it holds."""
        return self._limit

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return self._bytes

    def get(self, key: Hashable) -> bytes | None:
        """Return a block, empty for one of zeros, or None."""
        with self._guard:
            raw = self._held.get(key)
            if raw is not None:
                self._held.move_to_end(key)
            return raw

    def put(self, key: Hashable, raw: bytes) -> None:
        """Keep a block, letting go of those that were not used for longest."""
        if _cost(raw) > self._limit:
            return
        with self._guard:
            before = self._held.pop(key, None)
            self._bytes += _cost(raw) - (0 if before is None else _cost(before))
            self._held[key] = raw
            while self._bytes > self._limit:
                _, oldest = self._held.popitem(last=False)
                self._bytes -= _cost(oldest)

    def clear(self) -> None:
        """Let go of everything."""
        with self._guard:
            self._held.clear()
            self._bytes = 0


def _cost(raw: bytes) -> int:
    return OVERHEAD + len(raw)
