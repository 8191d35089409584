"""The output folder belongs to one run at a time: what an earlier one left is moved aside, and a second one is noticed.

A run that begins writes a random token into the folder and finds it again at every call; COINSTAC's cache brings the
token back to a restarted container. The token is no secret, and nothing that is computed depends on it.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from computation.errors import MeshNetError, unwritable

__all__ = ["FILE", "SHELF", "check", "held", "holding", "shelve", "take"]

#: Name of the file that holds the token.
FILE = ".run-token"

#: Folder in an output folder that holds what earlier runs left.
SHELF = "earlier-runs"
#: Bytes of the file that are read, three times a call: a token has half as many.
_LONGEST = 64
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def take(output: Path) -> str:
    """Move what an earlier run left in the output folder aside, and claim the folder for a new run.

    Parameters
    ----------
    output : Path
        The folder; made if missing.

    Returns
    -------
    str
        The run's token.

    Raises
    ------
    MeshNetError
        If the folder cannot be written, or another run claims it at the same time.
    """
    token = uuid.uuid4().hex
    try:
        output.mkdir(parents=True, exist_ok=True)
        shelve(output, (path for path in output.iterdir() if path.name != SHELF))
        with (output / FILE).open("x", encoding="ascii") as file:
            file.write(token)
    except OSError as error:
        # Files that come or go meanwhile are somebody else's doing; a folder that is none is a fault of the settings.
        if isinstance(error, FileExistsError | FileNotFoundError) and output.is_dir():
            raise _taken(str(error)) from error
        raise MeshNetError(unwritable("output"), str(error)) from error
    return token


def shelve(folder: Path, left: Iterable[Path]) -> None:
    """Put what an earlier run left on the shelf of earlier runs: nothing is overwritten, nothing is mixed.

    Parameters
    ----------
    folder : Path
        Where the shelf stands.
    left : iterable of Path
        What is there of the earlier run, in that folder; without any there is no new place on the shelf.

    Raises
    ------
    OSError
        If the file system refuses.
    """
    left = sorted(left)
    if not left:
        return
    shelf = folder / SHELF
    shelf.mkdir(exist_ok=True)
    # After the last, not as many as there are: somebody may have thrown older ones away.
    last = max((int(path.name) for path in shelf.iterdir() if path.name.isdecimal()), default=0)
    place = shelf / f"{last + 1:04d}"
    place.mkdir()
    for path in left:
        path.rename(place / path.name)


def held(output: Path) -> str:
    """Return the token of the run that has the output folder; empty where none has."""
    try:
        handle = os.open(f"{output}/{FILE}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(handle, _LONGEST).decode("ascii", errors="replace")
        finally:
            os.close(handle)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise _taken(str(error)) from error


def check(output: Path, token: str) -> None:
    """Make sure that the output folder is still the run's own.

    Raises
    ------
    MeshNetError
        If another run has claimed it, or somebody emptied it.
    """
    if held(output) != token:
        raise _taken(str(output))


@contextmanager
def holding(output: Path, token: str) -> Iterator[None]:
    """Check before and after what is done inside; a failure there is put down to another run if there is one.

    Raises
    ------
    MeshNetError
        As for `check`, or if the disk took no more or no longer takes anything.
    """
    check(output, token)
    try:
        yield
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise MeshNetError(unwritable("output"), str(error)) from error
    finally:
        check(output, token)


def _taken(private: str) -> MeshNetError:
    return MeshNetError(
        "another run has taken this node's output folder, or somebody emptied it; let one run end before the next "
        "begins, or give each an output folder of its own",
        private,
    )
