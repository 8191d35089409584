"""Files that grow by whole lines: what a killed process may leave behind is at most one half line at the end."""

from __future__ import annotations

import os
from pathlib import Path

from computation.errors import MeshNetError
from computation.files import replacing

__all__ = ["append", "mend", "replace", "whole_lines"]


def append(path: Path, line: str) -> None:
    """Append one line in a single write, and hold no handle: the file may be moved or the process killed at any time.

    Parameters
    ----------
    path : Path
        File to grow; it and its folder are made when missing, readable by all.
    line : str
        Text without a line break.

    Raises
    ------
    MeshNetError
        If the line cannot be written whole, as on a full disk; the file is then as it was before.
    """
    data = line.encode() + b"\n"
    try:
        handle = _opened(path)
        try:
            _write_whole(handle, data)
        finally:
            os.close(handle)
    except OSError as error:
        raise _unwritable(path, error) from error


def _opened(path: Path) -> int:
    how = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        return os.open(path, how, 0o644)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, how, 0o644)


def _write_whole(handle: int, data: bytes) -> None:
    before = os.fstat(handle).st_size
    try:
        if os.write(handle, data) != len(data):
            raise OSError("the disk took only part of a line")
    except OSError:
        os.ftruncate(handle, before)
        raise


def replace(path: Path, text: str) -> None:
    """Write a whole file anew: a reader sees the old one or the new one, never a part.

    Raises
    ------
    MeshNetError
        If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            partial.chmod(0o644)
    except OSError as error:
        raise _unwritable(path, error) from error


def whole_lines(path: Path) -> list[str]:
    """Return a file's lines without a half-written last one; a missing file has none.

    Bytes that are not UTF-8 become replacement characters, so that one bad line never hides the others.
    """
    if not path.exists():
        return []
    return path.read_bytes().decode(errors="replace").split("\n")[:-1]


def mend(path: Path) -> int:
    """Cut off a half-written last line and return how many bytes that were."""
    if not path.exists():
        return 0
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
    return len(data) - whole


def _unwritable(path: Path, error: OSError) -> MeshNetError:
    return MeshNetError(
        f"{path.name} cannot be written in the output folder ({error.strerror or error}); "
        "free some space or mend the permissions, then start again",
        str(path),
    )
