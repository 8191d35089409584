"""The one folder below which a site's pages see anything; a name from a browser never means what lies elsewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from computation.errors import ServiceError
from service.protocol import Malformed, Unknown

__all__ = ["Root"]

#: Bytes of the name of a file to be written; hidden ones beside it have longer names.
_LONGEST = 200


@dataclass(frozen=True)
class Root:
    """See above.

    Attributes
    ----------
    folder : Path
        Absolute, and no link is on the way to it.
    """

    folder: Path

    @classmethod
    def of(cls, folder: Path) -> Root:
        """Return the root that a person has named.

        Raises
        ------
        ServiceError
            If it is no folder, or cannot be read.
        """
        try:
            found = folder.resolve(strict=True)
            os.scandir(found).close()
        except (OSError, RuntimeError, ValueError) as error:
            raise ServiceError(
                "--site is no folder that can be read; name the one with the scans", str(error)
            ) from None
        return cls(found)

    def find(self, name: str) -> Path:
        """Return what a name means, with every link on the way followed.

        Parameters
        ----------
        name : str
            Names of folders and of what is in the last, with ``/`` between; empty for the root. A byte that is no text
            stands in it as Python carries it. Nothing hidden has a name here.

        Raises
        ------
        Unknown
            If there is nothing of that name, or it lies elsewhere; the two look the same.
        """
        try:
            found = self.folder.joinpath(*_parts(name)).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            raise _unknown() from None
        if not found.is_relative_to(self.folder):
            raise _unknown()
        return found

    def file(self, name: str) -> Path:
        """Return a file, which is no pipe and no device that would be waited for; errors as for `find`."""
        return self._of(name, stat.S_ISREG)

    def subfolder(self, name: str) -> Path:
        """Return a folder; errors as for `find`."""
        return self._of(name, stat.S_ISDIR)

    def _of(self, name: str, fits: Callable[[int], bool]) -> Path:
        found = self.find(name)
        try:
            mode = found.stat().st_mode
        except OSError:
            raise _unknown() from None
        if not fits(mode):
            raise _unknown()
        return found

    def target(self, name: str, end: str) -> Path:
        """Return where a file is to be written: it need not be there, its folder must.

        Raises
        ------
        Unknown
            If the folder is not there, or elsewhere.
        Malformed
            If the file cannot be called that.
        """
        folder, _, own = name.rpartition("/")
        if not own.endswith(end) or not own.isprintable() or len(own.encode()) > _LONGEST or _is_closed(own):
            raise Malformed(
                "target", f"the name of the database is none; wanted one that ends in {end}, in a folder here"
            )
        found = self.subfolder(folder) / own
        # What is there already may be a link that leads out.
        return self.file(name) if found.is_symlink() or found.exists() else found

    def holds(self, path: Path) -> bool:
        """Tell whether a file that somebody has named, with every link followed, lies below the root."""
        try:
            return path.resolve().is_relative_to(self.folder)
        except (OSError, RuntimeError, ValueError):
            return False

    def name(self, path: Path) -> str:
        """Return the name of what lies below the root; empty for what does not."""
        return path.relative_to(self.folder).as_posix() if path != self.folder and self.holds(path) else ""


def _parts(name: str) -> list[str]:
    parts = name.split("/") if name else []
    if any(map(_is_closed, parts)):
        raise _unknown()
    return parts


def _is_closed(part: str) -> bool:
    """Tell whether a name is nobody's here: none, hidden, on the way up, or one that no file can have."""
    return not part or part.startswith(".") or "\0" in part


def _unknown() -> Unknown:
    return Unknown("place", "there is nothing of that name in the folder that these pages show")
