"""What is known about a scan without reading a voxel: frozen records, and their strict JSON form."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from computation.checks import is_number, parse_json
from computation.errors import StoreError
from computation.scans.store import geometry
from computation.scans.store.blocks import Triple

__all__ = [
    "SPLITS",
    "UNITS",
    "Affine",
    "Native",
    "Scan",
    "affine_of",
    "holds",
    "pack",
    "spacing_of",
    "triple_of",
    "unpack",
]

#: The parts of a split, in the order in which they are listed everywhere.
SPLITS = ("train", "valid", "test")

#: Millimetres in a NIfTI header's spatial units; one that names none is taken to count in millimetres.
UNITS = {"mm": 1.0, "meter": 1000.0, "micron": 0.001}

#: Voxel indices to RAS+ millimetres, four rows of four.
Affine = tuple[tuple[float, ...], ...]

#: No side and no volume is larger than this; a damaged file may claim anything.
_LONGEST, _MOST_VOXELS = 4096, 1 << 28


@dataclass(frozen=True)
class Native:
    """The image as it came, so that a prediction can go back to its space and header.

    Attributes
    ----------
    shape : tuple of int
        Voxels along the three axes, in the file's own orientation.
    affine : tuple
        The file's own affine, in its own unit.
    sform_code, qform_code : int
        NIfTI form codes; 0 where the format has none.
    units : str
        Spatial unit that the header names, such as ``mm``.
    qform : tuple or None
        The header's second affine, where it has one of its own that differs from `affine`.
    millimetres : float
        Length of the affines' unit. Databases made before units were converted have 1 here, whatever `units` says.
    pixdim : tuple of float
        A NIfTI header's `pixdim[0]` (the sign of its third axis) and three voxel sizes, where the affine does not
        already say them: a header whose form codes are both 0 has no other geometry than these. Empty otherwise.
    """

    shape: Triple
    affine: Affine
    sform_code: int = 0
    qform_code: int = 0
    units: str = "mm"
    qform: Affine | None = None
    millimetres: float = 1.0
    pixdim: tuple[float, ...] = ()

    @property
    def world(self) -> NDArray[np.float64]:
        """Voxel indices to RAS+ millimetres."""
        return geometry.in_millimetres(np.array(self.affine, np.float64), self.millimetres)


@dataclass(frozen=True)
class Scan:
    """One scan of a database: metadata only.

    Attributes
    ----------
    key : int
        Unique inside its database; the only name that may leave the site.
    subject, session : str
        Identifiers of the person and visit: for the owner of the machine only.
    split : str
        ``train``, ``valid`` or ``test``.
    shape : tuple of int
        Voxels along the three axes.
    spacing : tuple of float
        Millimetres between voxels.
    affine : tuple
        Voxel indices to RAS+ millimetres.
    dtype : str
        NumPy name of the stored image voxels.
    low, high : float
        Normalisation constants, in the image's own units.
    labelled : bool
        Whether there is a label map.
    native : Native or None
        The image as it came; None where the database does not know it.
    cut : float
        Share of the head that lay outside the grid when the scan was conformed.
    warnings : tuple of str
        What the import found odd about it.
    stripped : bool or None
        Whether everything outside the brain is 0; None where the database does not know.
    """

    key: int
    subject: str
    session: str
    split: str
    shape: Triple
    spacing: tuple[float, float, float]
    affine: Affine
    dtype: str
    low: float
    high: float
    labelled: bool
    native: Native | None = None
    cut: float = 0.0
    warnings: tuple[str, ...] = ()
    stripped: bool | None = None

    @property
    def axes(self) -> str:
        """Where the axes lead, by the nearest directions of the body: ``RAS``, ``LIA`` and the like."""
        return geometry.axes(np.array(self.affine))

    @property
    def head(self) -> str:
        """What is outside the brain, in a word: ``skull-stripped``, ``not stripped`` or ``unknown``."""
        return {True: "skull-stripped", False: "not stripped", None: "unknown"}[self.stripped]


def pack(value: Any) -> str:
    """Write a value as JSON that is the same for equal values, to the byte."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def unpack(text: object, what: str) -> Any:
    """Read JSON from a database cell.

    Raises
    ------
    StoreError
        If it is not JSON.
    """
    try:
        return parse_json(text if isinstance(text, str) else "")
    except ValueError as error:
        raise StoreError(f"the scan database holds a malformed {what}; import the scans again", str(error)) from error


def holds(sides: Sequence[int]) -> bool:
    """Tell whether a database may hold a volume of these sides: up to 4096 each, and 2^28 voxels."""
    return all(1 <= side <= _LONGEST for side in sides) and prod(sides) <= _MOST_VOXELS


def triple_of(value: Any, what: str = "shape") -> Triple:
    """Check a volume's shape.

    Raises
    ------
    StoreError
        If it is not three whole numbers from 1 to 4096, or the volume has more than 2^28 voxels.
    """
    sides = value if isinstance(value, list | tuple) else ()
    if len(sides) == 3 and all(type(side) is int for side in sides) and holds(sides):
        return (sides[0], sides[1], sides[2])
    raise StoreError(f"the scan database holds a malformed {what}; import the scans again", repr(value)[:200])


def affine_of(value: Any) -> Affine:
    """Check an affine.

    Raises
    ------
    StoreError
        If it is not an invertible 4 x 4 matrix of finite numbers.
    """
    rows = value if isinstance(value, list | tuple) else ()
    flat = [number for row in rows if isinstance(row, list | tuple) and len(row) == 4 for number in row]
    if len(rows) == 4 and len(flat) == 16 and all(map(is_number, flat)):
        matrix = np.array(flat, np.float64).reshape(4, 4)
        if math.isfinite(determinant := float(np.linalg.det(matrix))) and determinant != 0:
            return tuple(tuple(float(number) for number in row) for row in matrix)
    raise StoreError("the scan database holds a malformed affine; import the scans again", repr(value)[:400])


def spacing_of(affine: Affine) -> tuple[float, float, float]:
    """Return the millimetres between voxels along each axis, to a nanometre."""
    x, y, z = (round(float(size), 6) for size in geometry.spacing(np.array(affine)))
    return (x, y, z)
