"""Decoded blocks that were used last, within a limit in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

__all__ = ["BlockCache"]


class BlockCache:
    """A least-recently-used cache that threads may share.

    Parameters
    ----------
    limit : int
        Most bytes of voxels that it holds; 0 holds nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[int, NDArray[np.generic]] = OrderedDict()
        self._guard = threading.Lock()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of voxels held now."""
        return self._bytes

    def get(self, key: int) -> NDArray[np.generic] | None:
        """Return a block, which must not be written to, or None."""
        with self._guard:
            voxels = self._held.get(key)
            if voxels is not None:
                self._held.move_to_end(key)
            return voxels

    def put(self, key: int, voxels: NDArray[np.generic]) -> None:
        """Keep a block, letting go of those that were not used for longest."""
        if voxels.nbytes > self._limit:
            return
        with self._guard:
            before = self._held.pop(key, None)
            self._bytes += voxels.nbytes - (0 if before is None else before.nbytes)
            self._held[key] = voxels
            while self._bytes > self._limit:
                _, oldest = self._held.popitem(last=False)
                self._bytes -= oldest.nbytes

    def clear(self) -> None:
        """Let go of everything."""
        with self._guard:
            self._held.clear()
            self._bytes = 0
