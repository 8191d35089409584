"""A page of slices with outlines of the labels, for eyes to check a segmentation."""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from computation.colours import colour_of
from computation.errors import MeshNetError

__all__ = ["mosaic"]

#: Slices across each axis.
_SLICES = 6


def mosaic(voxels: NDArray[np.float32], labels: NDArray[np.uint8], names: Sequence[str], title: str) -> bytes:
    """Draw slices across the three axes, evenly spread over what is labelled.

    Parameters
    ----------
    voxels, labels : numpy.ndarray
        Equal shapes; the image as the network saw it, and the classes.
    names : sequence of str
        Of the classes.
    title : str
        Heading; whoever looks at the page sees it.

    Returns
    -------
    bytes
        A PNG.

    Raises
    ------
    MeshNetError
        If matplotlib is not installed.
    """
    try:
        figure, patches = (importlib.import_module(f"matplotlib.{name}") for name in ("figure", "patches"))
    except ImportError as error:
        text = "the figure needs the matplotlib package; install this software with its `figures` extra"
        raise MeshNetError(text, str(error)) from error
    page = figure.Figure(figsize=(2 * _SLICES, 7), layout="constrained", facecolor="black")
    low, high = (float(value) for value in np.quantile(voxels, (0.0, 0.999)))
    for axis, row in enumerate(page.subplots(3, _SLICES)):
        planes = zip(row, _places(labels, axis), strict=True)
        for plot, place in planes:
            here = (slice(None),) * axis + (place,)
            _slice(plot, voxels[here], labels[here], (low, max(high, low + 1e-6)))
    shown = list(enumerate(names))[1:9]
    handles = [patches.Patch(color=colour_of(index), label=name) for index, name in shown]
    legend = page.legend(
        handles=handles, loc="outside lower center", ncols=4, fontsize=8, labelcolor="white", frameon=False
    )
    # Names are the user's: what stands between two dollars is no formula.
    for text in (page.suptitle(title, color="white", fontsize=9), *legend.get_texts()):
        text.set_parse_math(False)
    blob = io.BytesIO()
    page.savefig(blob, format="png", dpi=90)
    return blob.getvalue()


def _places(labels: NDArray[np.uint8], axis: int) -> list[int]:
    """Spread slices over the labelled part of an axis, or over all of it if nothing is labelled."""
    others = tuple(other for other in range(3) if other != axis)
    there = np.flatnonzero(labels.any(axis=others))
    first, last = (there[0], there[-1]) if there.size else (0, labels.shape[axis] - 1)
    return [int(place) for place in np.rint(np.linspace(first, last, _SLICES + 2)[1:-1])]


def _slice(plot: Any, image: NDArray[np.float32], labels: NDArray[np.uint8], span: tuple[float, float]) -> None:
    plot.set_axis_off()
    plot.imshow(image.T, cmap="gray", origin="lower", vmin=span[0], vmax=span[1])
    for value in np.unique(labels[labels > 0]):
        mask = np.asarray((value == labels).T, np.float32)
        # A class that fills or misses the plane has no outline to draw.
        if min(mask.shape) > 1 and mask.min() < mask.max():
            plot.contour(mask, levels=[0.5], colors=[colour_of(int(value))], linewidths=0.6)
