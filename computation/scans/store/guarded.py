"""A connection to a SQLite file that somebody else made: nothing in the file decides how long reading it takes.

A file may hold views, generated columns and triggers, which run on being read; cells that point at the same pages again
and again, and so are larger than the file; and trees of pages that lead back to themselves, and so have rows without
end. `schema.connect` refuses the first; here a statement has an allowance of the processor's time, a cell a length and
a result a number of rows. See "Defense Against The Dark Arts" in SQLite's documentation (sqlite.org/security.html).
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["LONGEST_CELL", "MOST_ROWS", "Guarded"]

#: Bytes that a cell may have: those of the largest block, and of a volume's foreground counts, fit many times.
LONGEST_CELL = 64 << 20
#: Rows that a result may have: more scans than any site, two volumes each.
MOST_ROWS = 1 << 20

#: Seconds of the processor that one statement may take, and one more for so many bytes that it brings: disks may be
#: slow and machines busy, which the clock of the processor does not see.
_ALLOWANCE = 3.0
_BYTES_A_SECOND = 20e6
_STEPS = 200  # of SQLite's virtual machine between two looks at the clock; one may copy a whole cell
_LONGEST_STATEMENT = 1 << 20  # a statement that makes a table, too
_HEAP = 900 << 20
_TOO_LARGE = "a cell is larger than the memory that a database may take"


class Guarded(sqlite3.Connection):
    """A connection that gives up on a statement instead of waiting for it; everything refused is a `DatabaseError`."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._until = 0.0
        self.overdue = False
        self.allow(LONGEST_CELL)
        self.set_progress_handler(self._late, _STEPS)
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "query_only = ON"):
            self.execute(f"PRAGMA {pragma}")

    def allow(self, longest: int) -> None:
        """Set how many characters or bytes a cell may have."""
        self._longest = longest
        if sys.version_info >= (3, 11):
            self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self._longest)
            self.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _LONGEST_STATEMENT)
            self.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        else:
            # Of the whole process, and only ever lowered: Python 3.10 cannot set the limits of a connection.
            super().execute(f"PRAGMA hard_heap_limit = {_HEAP}")

    def _late(self) -> bool:
        self.overdue = time.thread_time() > self._until
        return self.overdue

    def execute(self, statement: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run a statement to its first row, in its allowance of time."""
        self._until = time.thread_time() + _ALLOWANCE
        try:
            return super().execute(statement, parameters)
        except MemoryError:  # how SQLite says that its heap has a limit
            raise sqlite3.DataError(_TOO_LARGE) from None

    def rows(
        self, statement: str, parameters: Any = (), *, most: int = MOST_ROWS, longest: int = 0
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a result one at a time; what the caller does meanwhile costs nothing of the allowance.

        Parameters
        ----------
        statement, parameters
            As for `execute`.
        most : int
            Rows that it may have.
        longest : int
            Characters or bytes that a cell may have, where that is less than the connection's.

        Raises
        ------
        sqlite3.DatabaseError
            If there are more rows, a cell is longer, the statement takes too long, or the file is damaged.
        """
        cursor = self.execute(statement, parameters)
        left, count, longest = _ALLOWANCE, 0, longest or self._longest
        while True:
            self._until = time.thread_time() + left
            if (row := _next(cursor)) is None:
                return
            sizes = [len(cell) for cell in row if isinstance(cell, str | bytes)]
            count += 1
            if count > most or max(sizes, default=0) > longest:
                raise sqlite3.DataError(f"row {count} of at most {most}, cells of {sizes} of at most {longest}")
            left = self._until - time.thread_time() + sum(sizes) / _BYTES_A_SECOND
            yield row


def _next(cursor: sqlite3.Cursor) -> tuple[Any, ...] | None:
    try:
        row: tuple[Any, ...] | None = cursor.fetchone()
    except MemoryError:  # how SQLite says that its heap has a limit
        raise sqlite3.DataError(_TOO_LARGE) from None
    return row
