"""Where the processes of an embedded service write what happened: one file, of bounded size."""

from __future__ import annotations

import logging
from logging.handlers import WatchedFileHandler
from pathlib import Path

from computation.errors import ServiceError

__all__ = ["to_file"]

_LARGEST = 64 * 2**20


def to_file(path: Path, level: int = logging.INFO) -> None:
    """Write the log of this process to the end of a file, which others may write too.

    Parameters
    ----------
    path : Path
        The file; one that has become long is moved aside first, and only the last such one is kept.
    level : int
        Of what is written.

    Raises
    ------
    ServiceError
        If it cannot be written.
    """
    try:
        if path.exists() and path.stat().st_size > _LARGEST:
            path.replace(path.with_suffix(".log.1"))
        path.touch(mode=0o600)
        handler = WatchedFileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ServiceError("the data folder takes no log; free some space or mend its rights", str(error)) from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("service").setLevel(level)
