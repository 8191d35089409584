"""Files that two processes do not change at once."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["locked"]

#: File systems without locks, such as Lustre mounted without them, say so in one of these ways.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(path: Path, patience: float = 300.0) -> Iterator[None]:
    """Be the only process that changes a file, from reading what it holds until it is replaced.

    A hidden file beside it is locked, and goes with the lock; a process that dies gives the lock up. Where the file
    system has no locks, nothing is held back.

    Parameters
    ----------
    path : Path
        The file, which need not be there; its folder must be.
    patience : float
        Seconds to wait for another process.

    Raises
    ------
    OSError
        If the hidden file cannot be made, or another process holds it for too long (TimeoutError).
    """
    lock = path.with_name(f".{path.name}.lock")
    handle = _hold(lock, time.monotonic() + patience)
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        os.close(handle)


def _hold(lock: Path, deadline: float) -> int:
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            # Whoever held it before took it away: a lock on a file that is no longer there locks nobody out.
            if _try_lock(handle) and _is(lock, handle):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        if time.monotonic() > deadline:
            raise TimeoutError(f"another process holds {lock}")
        time.sleep(0.02)


def _try_lock(handle: int) -> bool:
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _is(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
