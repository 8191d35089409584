"""Reversible filters that make a block compress better; chosen by `benchmarks/scans_store.py`.

- ``zstd``: none. What version 1 of the schema wrote.
- ``zstd+delta``: for images of whole numbers. The difference to the neighbour before it along all three axes, modulo
  2^8 or 2^16; then, for two-byte voxels, all low bytes before all high bytes. Axes are stored in the order (k, i, j),
  so that undoing it needs one transposition and otherwise adds whole planes.
- ``zstd+shuffle``: for float32. All lowest bytes, then all second bytes, and so on.
- ``zstd+bits2``, ``zstd+bits4``: for label maps of at most 4 or 16 classes. Four or two voxels to a byte, lowest bits
  first, in C order; the last byte is filled up with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CODECS", "Triple", "apply", "codec_of", "size_of", "undo"]

Triple = tuple[int, int, int]

#: How blocks may be filtered and compressed. A later codec joins the list and old files stay readable.
CODECS = ("zstd", "zstd+delta", "zstd+shuffle", "zstd+bits2", "zstd+bits4")

_BITS = {"zstd+bits2": 2, "zstd+bits4": 4}


def _table(bits: int) -> NDArray[np.generic]:
    """Return the 8 / bits voxels of each byte, as one number each, so that one look-up unpacks them together."""
    voxels = np.arange(256)[:, None] >> np.arange(0, 8, bits) & ((1 << bits) - 1)
    return np.ascontiguousarray(voxels.astype(np.uint8)).view(f"V{8 // bits}").ravel()


_TABLES = {2: _table(2).view("<u4"), 4: _table(4).view("<u2")}


def codec_of(kind: str, voxels: NDArray[np.generic]) -> str:
    """Choose the codec of a volume.

    Parameters
    ----------
    kind : str
        ``image`` or ``label``.
    voxels : ndarray
        The whole volume.

    Returns
    -------
    str
        One of `CODECS`.
    """
    if kind == "image":
        return "zstd+shuffle" if voxels.dtype.kind == "f" else "zstd+delta"
    highest = int(voxels.max())
    if voxels.dtype != np.uint8 or highest > 15:
        return "zstd"
    return "zstd+bits2" if highest < 4 else "zstd+bits4"


def size_of(codec: str, size: Triple, dtype: np.dtype[np.generic]) -> int:
    """Return the number of bytes of a filtered block."""
    voxels = prod(size)
    return -(-voxels * _BITS[codec] // 8) if codec in _BITS else voxels * dtype.itemsize


def apply(codec: str, voxels: NDArray[np.generic]) -> bytes:
    """Filter one block.

    Parameters
    ----------
    codec : str
        One of `CODECS` that fits the type: see the top of this module.
    voxels : ndarray
        The block.

    Returns
    -------
    bytes
        `size_of` of them.
    """
    little: NDArray[Any] = np.ascontiguousarray(voxels, dtype=voxels.dtype.newbyteorder("<"))
    if codec in _BITS:
        return _packed(little, _BITS[codec])
    if codec == "zstd+delta":
        little = _differences(little)
    return little.tobytes() if codec == "zstd" else _planes(little)


def undo(codec: str, raws: Sequence[bytes], size: Triple, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Undo `apply` for several blocks at once: one sweep over all costs much less than one over each.

    Parameters
    ----------
    codec : str
        One of `CODECS`.
    raws : sequence of bytes
        Exactly `size_of` bytes each.
    size : tuple of int
        Shape of each block.
    dtype : dtype
        Voxel type of the volume.

    Returns
    -------
    ndarray, shape (blocks, `size`)
    """
    little = dtype.newbyteorder("<")
    flat = np.frombuffer(b"".join(raws), np.uint8).reshape(len(raws), -1)
    if codec in _BITS:
        voxels = np.take(_TABLES[_BITS[codec]], flat).view(np.uint8)[:, : prod(size)]
        return voxels.reshape(len(raws), *size).astype(dtype, copy=False)
    if codec != "zstd":
        flat = _joined(flat, dtype.itemsize)
    if codec != "zstd+delta":
        return flat.view(little).reshape(len(raws), *size)
    wrapped = flat.view(f"<u{dtype.itemsize}").reshape(len(raws), size[2], size[0], size[1])
    return _sums(wrapped).view(little)


def _packed(voxels: NDArray[Any], bits: int) -> bytes:
    share = 8 // bits
    flat = np.zeros(-(-voxels.size // share) * share, np.uint8)
    flat[: voxels.size] = voxels.ravel()
    shifted = flat.reshape(-1, share) << np.arange(0, 8, bits, dtype=np.uint8)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(shifted, axis=1).astype(np.uint8)
    return packed.tobytes()


def _planes(voxels: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(voxels.reshape(-1).view(np.uint8).reshape(-1, voxels.itemsize).T).tobytes()


def _joined(flat: NDArray[np.uint8], itemsize: int) -> NDArray[np.uint8]:
    """Return the bytes of each block's voxels from their planes, as a copy of its own."""
    return flat.reshape(len(flat), itemsize, -1).transpose(0, 2, 1).copy(order="C").reshape(len(flat), -1)


def _differences(voxels: NDArray[Any]) -> NDArray[Any]:
    """Difference along all axes, wrapping, in the order (k, i, j)."""
    wrapped = voxels.view(f"<u{voxels.itemsize}").transpose(2, 0, 1).copy(order="C")
    for axis in range(3):
        before = wrapped.copy()
        here, there = [slice(None)] * 3, [slice(None)] * 3
        here[axis], there[axis] = slice(1, None), slice(None, -1)
        wrapped[tuple(here)] -= before[tuple(there)]
    return wrapped


def _sums(wrapped: NDArray[Any]) -> NDArray[Any]:
    """Undo `_differences` for all blocks along the first axis; the array is overwritten."""
    for plane in range(1, wrapped.shape[1]):
        wrapped[:, plane] += wrapped[:, plane - 1]
    _add_up(wrapped)
    voxels = np.ascontiguousarray(wrapped.transpose(0, 2, 3, 1))
    _add_up(voxels)
    return voxels


def _add_up(voxels: NDArray[Any]) -> None:
    """Sum along the last axis but one in doubling steps: five sweeps over 32 rows cost less than 31 additions."""
    step = 1
    while step < voxels.shape[2]:
        voxels[:, :, step:] += voxels[:, :, :-step].copy()
        step *= 2
