"""Files between nodes: what COINSTAC packs, sends and unpacks, here moved from folder to folder.

A file that arrives takes the place of one of the same name and is never written into it, so neither a user's original
behind a hard link nor another site's copy can change. The old file is removed before the new one comes: renaming over
it would make ext4 allocate the new one's blocks at once, ten times the cost of all the rest, and no node is reading.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from computation.errors import SimulatorError
from computation.wire.payload import PREFIX

__all__ = ["broadcast", "clear", "move"]


def move(source: Path, target: Path) -> int:
    """Move everything in `source` into `target`, merging folders, and leave `source` empty.

    Returns
    -------
    int
        Bytes moved.

    Raises
    ------
    SimulatorError
        If there is something other than files and folders: the platform would follow a link out of the folder.
    OSError
        If the file system refuses.
    """
    moved = 0
    for entry in _entries(source):
        if entry.is_dir(follow_symlinks=False):
            (target / entry.name).mkdir(exist_ok=True)
            moved += move(Path(entry.path), target / entry.name)
            Path(entry.path).rmdir()
        else:
            moved += _size(entry)
            (target / entry.name).unlink(missing_ok=True)
            Path(entry.path).rename(target / entry.name)
    return moved


def broadcast(source: Path, targets: Sequence[Path]) -> int:
    """Give every target its own copy of everything in `source`, and leave `source` empty.

    Returns
    -------
    int
        Bytes that each target received.

    Raises
    ------
    SimulatorError
        As `move`; or if a name does not begin with the reserved prefix: it could take the place of a site's own file.
    OSError
        If the file system refuses.
    """
    for entry in _entries(source):
        if not entry.name.startswith(PREFIX):
            raise SimulatorError(
                f"the centre sends {entry.name[:60]!r}, which could take the place of a site's own file; "
                f"wanted only names that begin with {PREFIX!r}",
                entry.path,
            )
    for target in targets[:-1]:
        _copy(source, target)
    return move(source, targets[-1])


def clear(folder: Path) -> None:
    """Remove what a process that died in mid-call left in its transfer folder."""
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            Path(entry.path).unlink()


def _copy(source: Path, target: Path) -> None:
    for entry in _entries(source):
        if entry.is_dir(follow_symlinks=False):
            (target / entry.name).mkdir(exist_ok=True)
            _copy(Path(entry.path), target / entry.name)
        else:
            _size(entry)
            (target / entry.name).unlink(missing_ok=True)
            shutil.copyfile(entry.path, target / entry.name)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _size(entry: os.DirEntry[str]) -> int:
    if not entry.is_file(follow_symlinks=False):
        raise SimulatorError("a transfer folder holds a link or a device; wanted files and folders only", entry.path)
    return entry.stat(follow_symlinks=False).st_size
