"""One SHA-256 over everything that is known of a scan, so that a change anywhere in it shows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from computation.scans.store.records import pack

__all__ = ["fingerprint"]


def fingerprint(cells: Sequence[str | float], volumes: Iterable[NDArray[Any]]) -> str:
    """Digest a scan.

    Parameters
    ----------
    cells : sequence
        The row of the table ``scans`` from `subject` to the column before `sha256`, as it is stored.
    volumes : iterable of ndarray
        The stored image, then the stored label map if there is one.

    Returns
    -------
    str
        SHA-256 in hexadecimal.
    """
    digest = hashlib.sha256(pack(list(cells)).encode())
    for volume in volumes:
        digest.update(volume.dtype.name.encode())
        # Plane by plane: a byte-order copy of a whole volume would double the memory.
        for plane in volume:
            digest.update(np.ascontiguousarray(plane, dtype=plane.dtype.newbyteorder("<")).data)
    return digest.hexdigest()
