"""Files that appear whole or not at all, and files that others left: the one place that knows how."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["follow", "overwrite", "plain", "replacing", "succession"]

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


def follow(path: Path, content: bytes) -> None:
    """Write a file anew that is written in every round, so that a whole one is there at every moment.

    Where a file takes another's place, some file systems wait for the disk, and where one is made or removed they have
    work to do. So the one before is moved aside, and the one before that is written over. There is a moment in which
    the one before is the only one. A machine that loses its power may have the bytes of neither; so every few seconds
    one goes to the disk and is kept besides. Read the first whole one of `succession`.

    Parameters
    ----------
    path : Path
        The file to make or to follow; no other process writes it.
    content : bytes
        What it is to hold.

    Raises
    ------
    OSError
        If the file cannot be made; one that is there stays.
    """
    _, before, settled = succession(path)
    following = before.with_name(f".{path.name}.following")
    there = path.exists()
    if there:
        _settle(before, settled, following)
    overwrite(following, [content])
    if there:
        path.rename(before)
    following.rename(path)


def _settle(before: Path, settled: Path, spare: Path) -> None:
    """Keep a file that is followed, on the disk, or let it be written over where one was kept of late."""
    try:
        changed = before.stat().st_mtime
    except FileNotFoundError:
        return
    with suppress(FileNotFoundError):
        if abs(changed - settled.stat().st_mtime) < _SETTLED:
            before.rename(spare)
            return
    with before.open("rb") as file:
        os.fsync(file.fileno())
    before.replace(settled)


def overwrite(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file over what it holds, which takes a tenth of what a new one takes; it is made if it is not there.

    Parameters
    ----------
    path : Path
        The file. It is whole only when this returns, so it must be nobody's until then. What is no plain file goes, and
        so does one that has a second name: somebody's copy of it, as backups make them, stays what it was.
    pieces : iterable of bytes or memoryview
        What it is to hold.

    Raises
    ------
    OSError
        If it takes no more; then it is gone, since on a full disk its bytes are wanted back.
    """
    handle = _opened(path)
    try:
        size = sum(_write_all(handle, memoryview(piece).cast("B")) for piece in pieces)
        os.ftruncate(handle, size)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(handle)


def _opened(path: Path) -> int:
    how = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, how, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):  # a link; a pipe that nobody reads
            raise
    else:
        about = os.fstat(handle)
        if stat.S_ISREG(about.st_mode) and about.st_nlink == 1:
            return handle
        os.close(handle)
    path.unlink()
    return os.open(path, how | os.O_EXCL, 0o666)


def _write_all(handle: int, piece: memoryview) -> int:
    done = 0
    while done < len(piece):
        done += os.write(handle, piece[done:])
    return done


def succession(path: Path) -> tuple[Path, Path, Path]:
    """Return where the newest file of `follow` is, the one before it, and one that is on the disk."""
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
