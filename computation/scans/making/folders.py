"""Folders that somebody else filled: one that may not be read is a reason, neither an end nor an empty folder."""

from __future__ import annotations

import stat
from pathlib import Path

from computation.errors import ImportScanError

__all__ = ["entries", "is_file", "is_folder"]


def entries(folder: Path) -> list[Path]:
    """List a folder by name; what is missing or no folder has no entries.

    Left out are the files ``._NAME`` in which macOS keeps what other file systems cannot hold of NAME.

    Raises
    ------
    ImportScanError
        If it is there and may not be read.
    """
    try:
        # `Path.glob` would take a folder that is closed for an empty one.
        return sorted(one for one in folder.iterdir() if not one.name.startswith("._"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _closed(error) from error


def is_folder(path: Path) -> bool:
    """Tell whether this is a folder; raises `ImportScanError` if a folder above it is closed."""
    return stat.S_ISDIR(_mode(path))


def is_file(path: Path) -> bool:
    """Tell whether this is a file; raises `ImportScanError` if a folder above it is closed."""
    return stat.S_ISREG(_mode(path))


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise _closed(error) from error


def _closed(error: OSError) -> ImportScanError:
    return ImportScanError(f"a folder cannot be read ({error.strerror}); mend its permissions", str(error))
