"""Reversible filters that make a block compress better; chosen by `benchmarks/scans_store/`.

- ``zstd``: none. What version 1 of the schema wrote.
- ``zstd+delta``: for images of whole numbers. The difference to the neighbour before it along all three axes, modulo
  2^8 or 2^16; then, for two-byte voxels, all low bytes before all high bytes. Axes are stored in the order (k, i, j),
  so that undoing it needs one transposition and otherwise adds whole planes.
- ``zstd+shuffle``: for float32. All lowest bytes, then all second bytes, and so on.
- ``zstd+bits2``, ``zstd+bits4``: for label maps of at most 4 or 16 classes. Four or two voxels to a byte, lowest bits
  first, in C order; the last byte is filled up with zeros.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CODECS",
    "DELTA",
    "Triple",
    "apply",
    "codec_of",
    "differences",
    "share",
    "size_of",
    "summed",
    "undo",
    "unpacked",
]

Triple = tuple[int, int, int]

#: How blocks may be filtered and compressed. A later codec joins the list and old files stay readable.
CODECS = ("zstd", "zstd+delta", "zstd+shuffle", "zstd+bits2", "zstd+bits4")

#: The one codec that `summed` undoes for many blocks at once.
DELTA = "zstd+delta"

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
        return "zstd+shuffle" if voxels.dtype.kind == "f" else DELTA
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
    if codec == DELTA:
        little = _differences(little)
    return little.tobytes() if codec == "zstd" else _planes(little)


def undo(codec: str, raw: bytes, size: Triple, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Undo `apply` for one block.

    Parameters
    ----------
    codec : str
        One of `CODECS`.
    raw : bytes
        Exactly `size_of` bytes.
    size : tuple of int
        Shape of the block.
    dtype : dtype
        Voxel type of the volume.

    Returns
    -------
    ndarray, shape `size`
    """
    little = dtype.newbyteorder("<")
    if codec in _BITS:
        voxels = unpacked(codec, np.frombuffer(raw, np.uint8))
        return voxels[: prod(size)].reshape(size).astype(dtype, copy=False)
    if codec == DELTA:
        field = differences(raw, size, dtype)[:, None, None].copy()
        return summed(field, size[2], (slice(None), slice(None), slice(None))).view(little)
    flat = np.frombuffer(raw, np.uint8) if codec == "zstd" else _joined(raw, dtype.itemsize)
    return flat.view(little).reshape(size)


def share(codec: str) -> int:
    """Return how many voxels a byte holds; 1 where the codec does not pack."""
    return 8 // _BITS.get(codec, 8)


def unpacked(codec: str, packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the voxels of bytes that hold `share` of them, along the last axis."""
    return np.take(_TABLES[_BITS[codec]], packed).view(np.uint8)


def differences(raw: bytes, size: Triple, dtype: np.dtype[np.generic]) -> NDArray[Any]:
    """Return a block's differences from what ``zstd+delta`` stores.

    Parameters
    ----------
    raw, size, dtype
        As for `undo`.

    Returns
    -------
    ndarray of an unsigned type, shape (k, i, j)
        Not to be written to.
    """
    flat = np.frombuffer(raw, np.uint8) if dtype.itemsize == 1 else _joined(raw, dtype.itemsize)
    return flat.view(f"<u{dtype.itemsize}").reshape(size[2], size[0], size[1])


def summed(field: NDArray[Any], depth: int, crop: tuple[slice, slice, slice]) -> NDArray[Any]:
    """Undo the differences of all blocks of a region at once, and cut out what is wanted.

    What the crop leaves out along k and i is not summed along j, and each addition takes in all blocks: about half the
    time of undoing block after block.

    Parameters
    ----------
    field : ndarray of an unsigned type, shape (k of all blocks, blocks along i, blocks along j, i, j)
        `differences` of the blocks of a region. It is overwritten.
    depth : int
        Side of a block along k.
    crop : tuple of slice
        What is wanted of the region, along i, j and k.

    Returns
    -------
    ndarray, axes (i, j, k)
    """
    rows, columns, layers = crop
    _, high, wide, i, j = field.shape
    _add_up(field.reshape(-1, depth, high * wide * i * j))
    turned = np.ascontiguousarray(field[layers].transpose(1, 3, 2, 4, 0))
    _add_up(turned.reshape(high, i, -1))
    kept = turned.reshape(high * i, wide * j, -1)[rows]
    _add_up(kept.reshape(-1, j, kept.shape[2]))
    return kept[:, columns]


def _packed(voxels: NDArray[Any], bits: int) -> bytes:
    share = 8 // bits
    flat = np.zeros(-(-voxels.size // share) * share, np.uint8)
    flat[: voxels.size] = voxels.ravel()
    shifted = flat.reshape(-1, share) << np.arange(0, 8, bits, dtype=np.uint8)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(shifted, axis=1).astype(np.uint8)
    return packed.tobytes()


def _planes(voxels: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(voxels.reshape(-1).view(np.uint8).reshape(-1, voxels.itemsize).T).tobytes()


def _joined(raw: bytes, itemsize: int) -> NDArray[np.uint8]:
    """Return the bytes of a block's voxels from their planes."""
    return np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(itemsize, -1).T).reshape(-1)


def _differences(voxels: NDArray[Any]) -> NDArray[Any]:
    """Difference along all axes, wrapping, in the order (k, i, j)."""
    wrapped = voxels.view(f"<u{voxels.itemsize}").transpose(2, 0, 1).copy(order="C")
    for axis in range(3):
        before = wrapped.copy()
        here, there = [slice(None)] * 3, [slice(None)] * 3
        here[axis], there[axis] = slice(1, None), slice(None, -1)
        wrapped[tuple(here)] -= before[tuple(there)]
    return wrapped


def _add_up(cells: NDArray[Any]) -> None:
    """Sum along the middle axis, in place."""
    for place in range(1, cells.shape[1]):
        cells[:, place] += cells[:, place - 1]
