"""Memory of volumes, used again instead of handed back: fresh pages must be cleared, an eighth of a step's time.

Hidden volumes, which no caller ever sees, are given back by the chain. Volumes that callers see are lent: their memory
comes back by itself when the last tensor on it is gone. Of either kind one shape at a time is kept: a change of shape,
say from training patches to whole scans, frees what the other shape had.
"""

from __future__ import annotations

import ctypes
import threading
import weakref

import torch
from torch import Tensor

from computation.model.native.loader import library

__all__ = ["allocate", "give", "take", "trim"]

HUGE = 1 << 22  # bytes from which huge pages are worth asking for
KEPT_EACH = 64 << 20  # bytes of a volume up to which it is kept between calls ...
KEPT = 512 << 20  # ... and of all of one kind


class _Store:
    """Free volumes of one shape. The lock lets its own thread in again: a collection may end a loan at any moment."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.key: object = None
        self.free: list[Tensor] = []

    def select(self, key: object) -> None:
        """Forget volumes of another shape or type."""
        if key != self.key:
            self.key, self.free = key, []

    def take(self, key: object) -> Tensor | None:
        with self.lock:
            self.select(key)
            return self.free.pop() if self.free else None

    def give(self, volume: Tensor) -> None:
        with self.lock:
            if (*volume.shape, volume.dtype) == self.key:
                self.free.append(volume)

    def trim(self) -> None:
        with self.lock:
            each = self.free[0].nbytes if self.free else 1
            keep = 0 if each > KEPT_EACH else KEPT // each
            del self.free[keep:]


_STORE = _Store()
_LENT = _Store()


def allocate(x: Tensor, channels: int) -> Tensor:
    """Return an uninitialised tensor like `x` with another number of channels, whose memory is used again later."""
    size = x.element_size() * channels * x[:, 0].numel()
    if not HUGE <= size <= KEPT_EACH:
        return fresh(x, channels)
    used = _LENT.take(_key(x, channels))
    return _lend(fresh(x, channels) if used is None else used)


def fresh(x: Tensor, channels: int) -> Tensor:
    """Return an uninitialised tensor like `x` with another number of channels, on huge pages where they exist."""
    made = x.new_empty((x.shape[0], channels, *x.shape[2:]))
    handle = library()
    if handle is not None and made.nbytes >= HUGE:
        handle.meshnet_advise(made.data_ptr(), made.nbytes)
    return made


def take(x: Tensor, channels: int) -> Tensor:
    """Return what `fresh` returns, from volumes that were given back if there are any."""
    found = _STORE.take(_key(x, channels))
    return fresh(x, channels) if found is None else found


def give(volume: Tensor) -> None:
    """Give a volume back. The caller promises that nobody reads it any more."""
    _STORE.give(volume)


def trim() -> None:
    """Free what should not be kept between two calls of the network."""
    _STORE.trim()
    _LENT.trim()


def _key(x: Tensor, channels: int) -> tuple[object, ...]:
    return (x.shape[0], channels, *x.shape[2:], x.dtype)


def _lend(volume: Tensor) -> Tensor:
    """Return a tensor on the volume's memory; when nothing holds its storage any more, the volume goes back."""
    loan = (ctypes.c_byte * volume.nbytes).from_address(volume.data_ptr())
    weakref.finalize(loan, _return, volume).atexit = False
    storage = torch.frombuffer(loan, dtype=volume.dtype).untyped_storage()
    lent: Tensor = volume.new_empty(0).set_(storage, 0, volume.shape, volume.stride())
    return lent


def _return(volume: Tensor) -> None:
    """Take a lent volume back; as many may end together, the rest is freed at once."""
    _LENT.give(volume)
    _LENT.trim()
