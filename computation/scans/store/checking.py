"""Reading every voxel of a scan database, to know that it is what was written."""

from __future__ import annotations

from collections.abc import Callable

from computation.scans.store.faults import ScanFault
from computation.scans.store.opening import SqliteStore, Store

__all__ = ["faults"]


def faults(store: Store, progress: Callable[[int, int], object] = lambda done, total: None) -> dict[int, ScanFault]:
    """Check every block of every scan.

    Parameters
    ----------
    store : Store
        Of whichever kind: opening a peer's table has read every voxel of it already.
    progress : callable
        Told after each scan how many are done, and how many there are.

    Returns
    -------
    dict
        What is wrong, by the scan's key; empty if nothing is.
    """
    found: dict[int, ScanFault] = {}
    if not isinstance(store, SqliteStore):
        return found
    scans = store.scans()
    for done, scan in enumerate(scans, 1):
        try:
            store.verify(scan)
        except ScanFault as fault:
            found[scan.key] = fault
        progress(done, len(scans))
    return found
