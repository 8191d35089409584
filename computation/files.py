"""Files that appear whole or not at all, and files that others left: the one place that knows how."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["following", "plain", "replacing", "succession"]

#: Seconds of work that a machine which loses its power may lose of a file that is written in every round.
_SETTLED = 10.0


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


@contextmanager
def following(path: Path) -> Iterator[Path]:
    """Lend the name of a file to write, as `replacing` does, for one that is written in every round.

    Where a file takes another's place, some file systems wait for the disk. So the one before is moved aside first, and
    there is a moment in which it is the only one. A machine that loses its power may have the bytes of neither; so
    every few seconds one goes to the disk and is kept besides. Read the first whole one of `succession`.

    Parameters
    ----------
    path : Path
        The file to make or to follow; no other process writes it.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    OSError
        If the file cannot be made. What the block raises passes through.
    """
    _, before, settled = succession(path)
    with replacing(path) as partial:
        yield partial
        if path.exists():
            if before.exists():
                _settle(before, settled)
            path.rename(before)


def _settle(before: Path, settled: Path) -> None:
    """Keep a file that is followed, on the disk, or let it go where one was kept of late."""
    if settled.exists() and abs(before.stat().st_mtime - settled.stat().st_mtime) < _SETTLED:
        before.unlink()
        return
    with before.open("rb") as file:
        os.fsync(file.fileno())
    before.replace(settled)


def succession(path: Path) -> tuple[Path, Path, Path]:
    """Return where the newest file of `following` is, the one before it, and one that is on the disk."""
    return path, path.with_name(f".{path.name}.before"), path.with_name(f".{path.name}.settled")


@contextmanager
def plain(path: Path) -> Iterator[BinaryIO]:
    """Lend a file that somebody else left here: a regular one, through no link, and without waiting for anybody.

    Parameters
    ----------
    path : Path
        The file. A pipe whose other end never comes, a terminal or a link to another's file is refused.

    Yields
    ------
    binary file
        To read; closed at the end.

    Raises
    ------
    OSError
        If there is no such file, or it is something else.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a plain file", str(path))
        yield file
