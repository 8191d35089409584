"""SQLite's write-ahead log, for a file that several processes of one machine may make at the same moment."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["begin_log", "made_private"]

#: Seconds between two tries.
_PAUSE = 0.01


def begin_log(connection: sqlite3.Connection, patience: float) -> None:
    """Give a database a write-ahead log, where it has none.

    SQLite waits for others at everything but this change, at which two might wait for each other: one is told that the
    file is locked, at once, whatever patience its connection has.

    Parameters
    ----------
    connection : sqlite3.Connection
        In no transaction.
    patience : float
        Seconds for which it is tried again.

    Raises
    ------
    sqlite3.Error
        If it cannot be.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
        else:
            return


def made_private(path: Path) -> None:
    """Make an empty file that its owner alone can read, where there is none; SQLite's other files take its mode over.

    A file that is there is not even opened: when it is closed again, the system takes away the locks that this process
    has on it by SQLite. Another process that ends would then remove the log that this one still reads and writes, and
    neither would hear of the other any more ("How To Corrupt An SQLite Database File", section 2.2).

    Raises
    ------
    OSError
        If it cannot be made, or is a link.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    if path.is_symlink():
        raise OSError(errno.ELOOP, "a link", str(path))
