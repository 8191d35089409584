"""Memory of hidden volumes, used again instead of handed back: fresh pages must be cleared, an eighth of a step's time.

Only volumes that no caller ever sees pass through here. One shape at a time is kept: a change of shape, say from
training patches to whole scans, frees what the other shape had.
"""

from __future__ import annotations

import threading

from torch import Tensor

from computation.model.native.loader import library

__all__ = ["allocate", "give", "take", "trim"]

HUGE = 1 << 22  # bytes from which huge pages are worth asking for
KEPT_EACH = 64 << 20  # bytes of a volume up to which it is kept between calls ...
KEPT = 512 << 20  # ... and of all of them


class _Store:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.key: object = None
        self.free: list[Tensor] = []

    def select(self, key: object) -> None:
        """Forget volumes of another shape or type."""
        if key != self.key:
            self.key, self.free = key, []


_STORE = _Store()


def allocate(x: Tensor, channels: int) -> Tensor:
    """Return an uninitialised tensor like `x` with another number of channels, on huge pages where they exist."""
    made = x.new_empty((x.shape[0], channels, *x.shape[2:]))
    handle = library()
    if handle is not None and made.nbytes >= HUGE:
        handle.meshnet_advise(made.data_ptr(), made.nbytes)
    return made


def take(x: Tensor, channels: int) -> Tensor:
    """Return what `allocate` returns, from volumes that were given back if there are any."""
    key = (x.shape[0], channels, *x.shape[2:], x.dtype)
    with _STORE.lock:
        _STORE.select(key)
        if _STORE.free:
            return _STORE.free.pop()
    return allocate(x, channels)


def give(volume: Tensor) -> None:
    """Give a volume back. The caller promises that nobody reads it any more."""
    with _STORE.lock:
        if (*volume.shape, volume.dtype) == _STORE.key:
            _STORE.free.append(volume)


def trim() -> None:
    """Free what should not be kept between two calls of the network."""
    with _STORE.lock:
        each = _STORE.free[0].nbytes if _STORE.free else 1
        keep = 0 if each > KEPT_EACH else KEPT // each
        del _STORE.free[keep:]
