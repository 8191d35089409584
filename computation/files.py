"""Files that appear whole or not at all: the one place that knows how."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """Lend the name of a file to write; at the end it takes the place of `path`, and on any failure it goes.

    Parameters
    ----------
    path : Path
        The file to make or to replace; what it held stays until then.
    partial : Path, optional
        The name that is lent, in the same folder; by default a hidden one of this process.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    OSError
        If the file cannot take its place. What the block raises passes through.
    """
    partial = partial or path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        with suppress(OSError):  # on a full disk its bytes are wanted back
            partial.unlink(missing_ok=True)
        raise
