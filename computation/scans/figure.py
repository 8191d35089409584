"""A mosaic of scans with their label outlines, for eyes to check what an import made."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from computation.colours import colour_of
from computation.errors import StoreError
from computation.scans.store.faults import ScanFault
from computation.scans.store.opening import SqliteStore, Store
from computation.scans.store.records import Scan

__all__ = ["mosaic"]


def mosaic(
    store: Store,
    scans: Sequence[Scan],
    path: Path | BinaryIO,
    predicted: Mapping[int, NDArray[Any]] | None = None,
) -> None:
    """Write a PNG: a row for each scan, its three middle planes with the outlines of its classes.

    Parameters
    ----------
    store : Store
        Where the scans are.
    scans : sequence of Scan
        Which; a scan that cannot be read has a row that says so.
    path : Path or binary file
        The PNG to write.
    predicted : mapping of ndarray, optional
        What a model made of some of the scans, by their keys, each of its scan's shape: a second row for each of them.

    Raises
    ------
    StoreError
        If there is nothing to show, matplotlib is not installed, or the file cannot be written.
    """
    if not scans:
        raise StoreError("there is no scan to draw; check the scan numbers")
    try:
        figure = importlib.import_module("matplotlib.figure")
        colours = importlib.import_module("matplotlib.colors")
    except ImportError as error:
        text = "the figure needs the matplotlib package; install this software with its `figures` extra"
        raise StoreError(text, str(error)) from error
    rows = [row for scan in scans for row in _rows(scan, predicted or {})]
    page = figure.Figure(figsize=(7.5, 2.6 * len(rows)), layout="constrained", facecolor="black")
    grid = page.subplots(len(rows), 3, squeeze=False)
    palette = colours.ListedColormap(_palette(store))
    for (scan, labels, told), axes in zip(rows, grid, strict=True):
        _row(store, scan, labels, axes, palette)
        axes[0].set_title(f"scan {scan.key} · {scan.split}{told}", color="white", fontsize=8, loc="left")
    try:
        page.savefig(path, format="png", dpi=110)
    except OSError as error:
        raise StoreError("the figure cannot be written; check its folder", f"{path}: {error}") from error


def _palette(store: Store) -> list[str]:
    known = store.meta.get("label_colours", ()) if isinstance(store, SqliteStore) else ()
    count = len(store.label_names)
    return list(known) if len(known) == count else list(map(colour_of, range(count)))


def _rows(scan: Scan, predicted: Mapping[int, NDArray[Any]]) -> list[tuple[Scan, NDArray[Any] | None, str]]:
    """Return the rows of a scan: which it is, what is outlined if that is not its own label, and what it is called."""
    if scan.key not in predicted:
        return [(scan, None, "")]
    own = "the label" if scan.labelled else "no label"
    return [(scan, None, f" · {own}"), (scan, predicted[scan.key], " · the prediction")]


def _row(store: Store, scan: Scan, labels: NDArray[Any] | None, axes: Sequence[Any], palette: Any) -> None:
    for plot in axes:
        plot.set_axis_off()
    for plot, axis in zip(axes, range(3), strict=True):
        try:
            image, label = _plane(store, scan, axis)
            if labels is not None:
                label = labels.take(scan.shape[axis] // 2, axis)
        except ScanFault as fault:
            plot.text(0.5, 0.5, fault.fault.value, color="red", ha="center", va="center", transform=plot.transAxes)
            continue
        plot.imshow(image.T, cmap="gray", origin="lower", interpolation="nearest")
        if label is not None and label.any():
            edges = np.ma.masked_equal(_outline(label), 0)
            plot.imshow(edges.T, cmap=palette, vmin=0, vmax=palette.N - 1, origin="lower", interpolation="nearest")


def _plane(store: Store, scan: Scan, axis: int) -> tuple[NDArray[np.float32], NDArray[Any] | None]:
    """Read the middle plane across an axis."""
    origin, size = [0, 0, 0], list(scan.shape)
    origin[axis], size[axis] = scan.shape[axis] // 2, 1
    image, label = store.read(scan, (origin[0], origin[1], origin[2]), (size[0], size[1], size[2]))
    return image.squeeze(axis), None if label is None else label.squeeze(axis)


def _outline(label: NDArray[Any]) -> NDArray[Any]:
    """Keep the voxels of a plane that have a neighbour of another class."""
    padded = np.pad(label, 1, mode="edge")
    inside = padded[1:-1, 1:-1]
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.where(np.any([inside != other for other in around], axis=0), inside, 0)
