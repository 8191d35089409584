"""Bringing databases forward: from an older schema version, or from the peer's table, into a new file of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from computation.errors import ImportScanError, StoreError
from computation.scans.making import images, labels
from computation.scans.store import writer
from computation.scans.store.blocks import Box
from computation.scans.store.exclusive import exclusive
from computation.scans.store.opening import SqliteStore, open_store
from computation.scans.store.peer import PeerStore
from computation.scans.store.provenance import versions
from computation.scans.store.records import Scan

__all__ = ["from_peer", "migrate"]

#: Called after each scan with how many are done, how many there are, and the subject.
Progress = Callable[[int, int, str], None]

_TISSUE = "gwm-white1-grey2"


def migrate(source: Path, target: Path, *, overwrite: bool = False, progress: Progress | None = None) -> int:
    """Write a database of any readable schema version as one of this software's.

    Voxels, splits, constants and notes stay as they are; only blocks and checksums are made anew. Each scan is checked
    against its SHA-256 first.

    Parameters
    ----------
    source : Path
        The old file; it is only read.
    target : Path
        The new file; it may be the old one's own path.
    overwrite : bool
        Replace an existing target.
    progress : callable, optional
        Called after each scan.

    Returns
    -------
    int
        Number of scans.

    Raises
    ------
    StoreError, ScanFault
        If the old file is not one of ours, or a scan in it is damaged.
    ImportScanError
        If the target exists unasked, cannot be written or is being written by another process.
    """
    with _alone(target, overwrite), open_store(source, cache_bytes=0) as store:
        if not isinstance(store, SqliteStore):
            raise StoreError("this is not one of our databases; a peer's is taken with `import --from-peer`")
        notes = {"skipped": store.meta["skipped"]} if "skipped" in store.meta else {}
        return _write(target, _header(store), store.scans(), lambda scan: _entry(store, scan), notes, progress)


def from_peer(
    source: Path,
    target: Path,
    *,
    table: str | None = None,
    label_set: str = _TISSUE,
    storage: str = images.STORAGES[0],
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write a peer's table as a database of ours.

    The grid stays: the peer knows no affine, so nothing can be reoriented, and the identity is written. Rows become
    subjects, in the split in which `PeerStore` reads them. Labels are scaled or refused as `PeerStore` does.

    Parameters
    ----------
    source, target : Path
        The peer's file, and ours.
    table : str, optional
        Which table; see `PeerStore`.
    label_set : str
        What the class numbers mean. ``GWlabels`` has white matter first.
    storage : str
        One of `images.STORAGES`.
    overwrite : bool
        Replace an existing target.
    progress : callable, optional
        Called after each scan.

    Returns
    -------
    int
        Number of scans.

    Raises
    ------
    StoreError, ImportScanError
        If the peer's table is damaged or ambiguous, or the target exists unasked, cannot be written or is being written
        by another process.
    """
    chosen = labels.named(label_set)
    with _alone(target, overwrite), open_store(source, table=table, classes=chosen.names) as store:
        if not isinstance(store, PeerStore):
            raise StoreError("this is one of our databases already; there is nothing to take from a peer")
        header = writer.Header(
            label_set=chosen.name,
            label_names=chosen.names,
            label_colours=chosen.colours,
            normalisation=store.normalisation,
            split={"by": "row", "as": "the peer's table is read"},
            provenance={"made": "from the peer's table", "versions": versions(), "parameters": {"storage": storage}},
        )
        return _write(target, header, store.scans(), lambda scan: _peer_entry(store, scan, storage), {}, progress)


@contextmanager
def _alone(target: Path, overwrite: bool) -> Iterator[None]:
    """Be the only process that writes a target, which is not there already or may be replaced."""
    _check_target(target, overwrite)
    with exclusive(target):
        _check_target(target, overwrite)
        yield


def _check_target(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise ImportScanError("the database exists already; choose another name or ask to replace it", str(target))


def _write(
    target: Path,
    header: writer.Header,
    scans: Sequence[Scan],
    entry: Callable[[Scan], writer.Entry],
    notes: Mapping[str, Any],
    progress: Progress | None,
) -> int:
    """Write each scan's entry, one at a time, and return how many there were."""
    with writer.create(target, header) as out:
        for done, scan in enumerate(scans, 1):
            out.add(entry(scan))
            if progress is not None:
                progress(done, len(scans), scan.subject)
        for name, value in notes.items():
            out.note(name, value)
    return len(scans)


def _header(store: SqliteStore) -> writer.Header:
    meta = store.meta
    return writer.Header(
        label_set=str(meta.get("label_set", "")),
        label_names=store.label_names,
        label_colours=tuple(meta.get("label_colours", ())),
        normalisation=store.normalisation,
        split=meta.get("split", {}),
        provenance=meta.get("provenance", {}),
        block_side=store.block_side,
    )


def _entry(store: SqliteStore, scan: Scan) -> writer.Entry:
    store.verify(scan)
    whole = Box((0, 0, 0), scan.shape)
    image, *label = (store.stored(scan, volume.kind, whole) for volume in store.volumes(scan))
    return writer.Entry(
        **_known(scan),
        image=image,
        label=label[0] if label else None,
        slope=store.volumes(scan)[0].slope,
        native=scan.native,
        source=store.source(scan),
        cut=scan.cut,
        warnings=scan.warnings,
        stripped=scan.stripped,
    )


def _known(scan: Scan) -> dict[str, Any]:
    """Return what both kinds of store know of a scan."""
    return {name: getattr(scan, name) for name in ("subject", "session", "split", "affine", "low", "high")}


def _peer_entry(store: PeerStore, scan: Scan, storage: str) -> writer.Entry:
    whole = (0, 0, 0), scan.shape
    values = store.values(scan, *whole)
    stored, slope = images.storable(values, storage)
    digest = hashlib.sha256(np.ascontiguousarray(values, "<f4").data).hexdigest()
    return writer.Entry(
        **_known(scan),
        image=stored,
        label=store.read_label(scan, *whole),
        slope=slope,
        source={"image": digest},
        warnings=("from the peer's table: neither orientation nor voxel size is known",),
    )
