"""What every open scan database shares: a connection for each thread, closing for all, and reading image with label."""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from computation.errors import MeshNetError, StoreError
from computation.scans.store import schema
from computation.scans.store.blocks import Triple
from computation.scans.store.faults import Fault, ScanFault
from computation.scans.store.guarded import LONGEST_CELL, Guarded
from computation.scans.store.records import Scan

__all__ = ["OpenFile"]

_Own = TypeVar("_Own", bound="OpenFile")


class _Session(threading.local):
    """One thread's connection."""

    connection: Guarded | None = None


class OpenFile(ABC):
    """A SQLite file, open for reading, immutable, in any thread.

    Parameters
    ----------
    path : Path
        The file.
    """

    #: Characters or bytes that a cell of it may have.
    longest = LONGEST_CELL

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._session = _Session()
        self._guard = threading.Lock()
        self._connections: list[Guarded] = []
        self._closed = False

    def read(self, scan: Scan, origin: Triple, size: Triple) -> tuple[NDArray[np.float32], NDArray[np.generic] | None]:
        """Read a sub-volume.

        Parameters
        ----------
        scan : Scan
            One of this store's `scans()`.
        origin, size : tuple of int
            First voxel, and number of voxels along each axis.

        Returns
        -------
        image : ndarray of float32, shape `size`
            Normalised.
        label : ndarray of uint8 or int16, shape `size`, or None
            None if the scan has no label map.

        Raises
        ------
        ScanFault
            If the box lies outside, what is stored is missing or damaged, or the voxels are not what they should be.
        """
        label = self.read_label(scan, origin, size) if scan.labelled else None
        return self.read_image(scan, origin, size), label

    @abstractmethod
    def read_image(self, scan: Scan, origin: Triple, size: Triple) -> NDArray[np.float32]:
        """Read the normalised image of a sub-volume; see `read`."""

    @abstractmethod
    def read_label(self, scan: Scan, origin: Triple, size: Triple) -> NDArray[np.generic]:
        """Read the labels of a sub-volume; see `read`."""

    @abstractmethod
    def scans(self, split: str | None = None) -> tuple[Scan, ...]:
        """Return the scans, or those of one part of the split, sorted by key."""

    def identity(self) -> str:
        """Return a digest of which scans there are and, where the file says so, of what is in them.

        It tells whether a file of the same name is the same database, and stays on its owner's machine.

        Raises
        ------
        StoreError
            If the file is damaged.
        """
        try:
            return hashlib.sha256(repr((self.scans(), self._seals())).encode("utf-8", "surrogatepass")).hexdigest()
        except schema.DAMAGE as error:
            text = "the scan database is damaged; restore it or import again"
            raise StoreError(text, f"{self._path}: {error}") from error

    def _seals(self) -> list[tuple[Any, ...]]:
        """Return each scan's key and the digest of its voxels, where the file has them."""
        return []

    def close(self) -> None:
        """Close the file for all threads."""
        with self._guard:
            self._closed = True
            while self._connections:
                self._connections.pop().close()

    def __enter__(self: _Own) -> _Own:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def _connect(self) -> Guarded:
        """Return this thread's connection to the file as it was when it was opened.

        Raises
        ------
        ScanFault
            If the file has been written to, or another has taken its place: its scans may be other people's.
        """
        if (stamp := _stamp(self._path)) and stamp != self._stamp:
            raise ScanFault(Fault.CHANGED, str(self._path))
        if self._session.connection is None:
            with self._guard:
                if self._closed:
                    raise StoreError("the scan database has already been closed", str(self._path))
                self._session.connection = schema.connect(self._path, self.longest)
                self._connections.append(self._session.connection)
        return self._session.connection

    @contextmanager
    def _opening(self) -> Iterator[Guarded]:
        """Lend the connection to a constructor; whatever is wrong closes the file and becomes one named error."""
        try:
            yield self._connect()
        except schema.DAMAGE as error:
            self.close()
            text = "the scan database is damaged; restore it or import again"
            raise StoreError(text, f"{self._path}: {error}") from error
        except MeshNetError as error:
            self.close()
            raise StoreError(error.public, f"{self._path}: {error.private}") from error


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return when a file was written and its size; None where that cannot be told, as when a share is away for long."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size
