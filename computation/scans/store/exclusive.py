"""One writer of a database at a time: a second would lose what the first wrote, or take away what it waits for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from computation.errors import ImportScanError
from computation.locks import locked
from computation.scans.store import writer

__all__ = ["exclusive"]


@contextmanager
def exclusive(database: Path) -> Iterator[None]:
    """Be the only process that makes or replaces a database.

    Parameters
    ----------
    database : Path
        The file, which need not be there yet; it may have come while another process held the lock.

    Raises
    ------
    ImportScanError
        If another process is writing it, or its folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(database, patience=0))
        except TimeoutError as error:
            text = "another import is writing this database; wait until it has ended, or choose another name"
            raise ImportScanError(text, str(database)) from error
        except OSError as error:
            raise ImportScanError(writer.UNWRITABLE, f"{database}: {error}") from error
        yield
