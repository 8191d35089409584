"""Opening a scan database of whichever kind, and what all kinds can do."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from computation.errors import StoreError
from computation.scans.store import schema
from computation.scans.store.blocks import Triple
from computation.scans.store.database import CACHE_BYTES, SqliteStore
from computation.scans.store.peer import PeerStore
from computation.scans.store.records import Scan

__all__ = ["CACHE_BYTES", "SqliteStore", "Store", "open_store"]


class Store(Protocol):
    """A source of scans; our database and the peer's table both are one."""

    format: str

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes; a label voxel's value is an index into them."""

    @property
    def normalisation(self) -> str:
        """The scheme that `read` applies; one of `normalise.SCHEMES`."""

    def scans(self, split: str | None = None) -> tuple[Scan, ...]:
        """Return the scans, or those of one part of the split, sorted by key."""

    def read(self, scan: Scan, origin: Triple, size: Triple) -> tuple[NDArray[np.float32], NDArray[np.generic] | None]:
        """Read the normalised image of a sub-volume, and its labels if the scan has any."""

    def read_image(self, scan: Scan, origin: Triple, size: Triple) -> NDArray[np.float32]:
        """Read the normalised image of a sub-volume."""

    def read_label(self, scan: Scan, origin: Triple, size: Triple) -> NDArray[np.generic]:
        """Read the labels of a sub-volume."""

    def identity(self) -> str:
        """Return a digest of which scans there are and what is in them; it stays on its owner's machine."""

    def close(self) -> None:
        """Close the file for all threads."""

    def __enter__(self) -> Store: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def open_store(
    path: Path | str,
    *,
    table: str | None = None,
    classes: tuple[str, ...] | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> Store:
    """Open a scan database, whichever kind it is.

    Parameters
    ----------
    path : Path
        A database of ours, or one with the peer's table.
    table : str, optional
        Which table of a peer's database; by default ``mindboggle101`` or the only one that fits.
    classes : tuple of str, optional
        The peer's table does not name its classes; this does, where its column alone cannot tell.
    cache_bytes : int
        How many bytes of decoded blocks may be kept; not used for a peer's database.

    Returns
    -------
    Store
        Close it, or use it as a context manager.

    Raises
    ------
    StoreError
        If the file is missing, unreadable, not SQLite, of another schema version, damaged, or holds no scans table.
    """
    path = Path(path)
    connection = schema.connect(path)
    try:
        ours = schema.version(connection) is not None
        names = schema.tables(connection)
    except schema.DAMAGE as error:
        raise StoreError("the scan database is damaged; restore it or import again", f"{path}: {error}") from error
    except StoreError as error:
        raise StoreError(error.public, str(path)) from error
    finally:
        connection.close()
    if ours and table is None:
        return SqliteStore(path, cache_bytes)
    return PeerStore(path, names, table=table, classes=classes)
