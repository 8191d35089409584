"""SQLite's write-ahead log, for a file that several processes of one machine may make at the same moment."""

from __future__ import annotations

import sqlite3
import time

__all__ = ["begin_log"]

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
