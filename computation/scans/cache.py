"""Decoded blocks that were used last, within a limit in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

__all__ = ["OVERHEAD", "BlockCache"]

#: What an entry costs besides its voxels: a block of zeros takes no more than this.
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
        self._held: OrderedDict[int, NDArray[np.generic]] = OrderedDict()
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

    def get(self, key: int) -> NDArray[np.generic] | None:
        """Return a block, which must not be written to, or None."""
        with self._guard:
            voxels = self._held.get(key)
            if voxels is not None:
                self._held.move_to_end(key)
            return voxels

    def put(self, key: int, voxels: NDArray[np.generic]) -> None:
        """Keep a block, letting go of those that were not used for longest."""
        if _cost(voxels) > self._limit:
            return
        with self._guard:
            before = self._held.pop(key, None)
            self._bytes += _cost(voxels) - (0 if before is None else _cost(before))
            self._held[key] = voxels
            while self._bytes > self._limit:
                _, oldest = self._held.popitem(last=False)
                self._bytes -= _cost(oldest)

    def clear(self) -> None:
        """Let go of everything."""
        with self._guard:
            self._held.clear()
            self._bytes = 0


def _cost(voxels: NDArray[np.generic]) -> int:
    # One voxel that stands for all of a block, as `numpy.broadcast_to` makes it, has no strides.
    return OVERHEAD + (voxels.nbytes if any(voxels.strides) else voxels.itemsize)
