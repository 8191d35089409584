"""What lies in one folder of a site: further folders, scan databases, what can be imported, and what runs have left."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from computation.errors import ImportScanError
from computation.files import plain
from computation.scans.making import folders
from computation.scans.store.schema import APPLICATION_ID
from service.site.root import Root
from service.site.run import is_run

__all__ = ["MOST", "Entry", "Folder", "Kind", "entry_of", "is_database", "look"]

#: What a page can do something with: a folder, a scan database, another SQLite file, a table of scans, what a run has
#: left, and the two kinds of folders of scans that an import knows.
Kind = Literal["folder", "database", "other", "table", "run", "freesurfer", "bids"]
#: Entries that are looked at, and subjects of a folder that are tried.
MOST, _TRIED = 2000, 50
_TABLES = (".csv", ".tsv")
#: How a SQLite file begins, and where in its header an application's number stands.
_MAGIC, _HEADER, _NUMBER = b"SQLite format 3\0", 100, slice(68, 72)


@dataclass(frozen=True)
class Entry:
    """One thing in a folder.

    Attributes
    ----------
    name : str
        Its own, without a folder.
    kind : str
        See `Kind`.
    size : int
        Bytes of a file.
    changed : int
        When it was changed last, in milliseconds since 1970.
    """

    name: str
    kind: Kind
    size: int
    changed: int


@dataclass(frozen=True)
class Folder:
    """A folder.

    Attributes
    ----------
    entries : tuple of Entry
        What a page can do something with, by name.
    kind : str
        Its own.
    passed : int
        Other files, which no page has a use for.
    away : int
        Links that lead out of the root, or nowhere.
    left : int
        Entries beyond those that are looked at.
    """

    entries: tuple[Entry, ...]
    kind: Kind
    passed: int
    away: int
    left: int

    def of(self, *kinds: Kind) -> list[Entry]:
        """Return the entries of some kinds."""
        return [one for one in self.entries if one.kind in kinds]


def look(root: Root, name: str) -> Folder:
    """Look into a folder.

    Raises
    ------
    Unknown
        If there is none of that name.
    ImportScanError
        If it may not be read.
    """
    path = root.subfolder(name)
    found = [one for one in folders.entries(path) if not one.name.startswith(".")]
    near = [one for one in found[:MOST] if root.holds(one) and _exists(one)]
    entries = [entry for one in near if (entry := entry_of(one))]
    away = len(found[:MOST]) - len(near)
    return Folder(tuple(entries), _kind_of_folder(path), len(near) - len(entries), away, len(found) - len(found[:MOST]))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def entry_of(path: Path) -> Entry | None:
    """Return what a page can do something with; nothing if it is something else, or it cannot be told."""
    try:
        about = path.stat()
        kind = _kind_of_folder(path) if stat.S_ISDIR(about.st_mode) else _kind_of_file(path, about.st_mode)
    except OSError:
        return None
    return Entry(path.name, kind, about.st_size, int(1000 * about.st_mtime)) if kind else None


def _kind_of_file(path: Path, mode: int) -> Kind | None:
    if not stat.S_ISREG(mode):
        return None
    if path.suffix.lower() in _TABLES:
        return "table"
    header = _header(path)
    if not header.startswith(_MAGIC):
        return None
    return "database" if _is_ours(header) else "other"


def is_database(path: Path) -> bool:
    """Tell whether a file says of itself that it is one of our scan databases."""
    return _is_ours(_header(path))


def _is_ours(header: bytes) -> bool:
    return header.startswith(_MAGIC) and header[_NUMBER] == APPLICATION_ID.to_bytes(4, "big")


def _header(path: Path) -> bytes:
    try:
        with plain(path.resolve()) as file:
            return file.read(_HEADER)
    except (OSError, RuntimeError):
        return b""


def _kind_of_folder(path: Path) -> Kind:
    for kind, fits in _FOLDERS:
        try:
            if fits(path):
                return kind
        except (OSError, ImportScanError):
            pass  # closed: what it would be is told when somebody looks into it
    return "folder"


def _is_bids(path: Path) -> bool:
    return folders.is_file(path / "dataset_description.json")


def _is_freesurfer(path: Path) -> bool:
    return any(folders.is_folder(one / "mri") for one in _some(path))


def _some(path: Path) -> Iterator[Path]:
    for number, one in enumerate(path.iterdir()):
        if number >= _TRIED:
            return
        yield one


_FOLDERS: tuple[tuple[Kind, Callable[[Path], bool]], ...] = (
    ("run", is_run),
    ("bids", _is_bids),
    ("freesurfer", _is_freesurfer),
)
