"""Reading the files that MRI comes in: NIfTI-1 and -2, .mgz and whatever else nibabel knows."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from computation.errors import ImportScanError
from computation.scans.making import headers
from computation.scans.making.oddities import other_affine
from computation.scans.making.wall import wall
from computation.scans.store import geometry
from computation.scans.store.normalise import ordinary
from computation.scans.store.records import Affine, Native, affine_of

__all__ = ["STORAGES", "checksum", "load", "native", "opened", "storable"]

#: How precisely an image may be stored, the default first.
STORAGES = ("8bit", "12bit", "exact")

#: Highest level of 12 bits: scanners digitise at 12 bits, and anything finer stores noise.
_LEVELS = 4095

#: Highest level of 8 bits, and the quantile that it stands for: a few bright vessels must not cost all others levels.
_TOP, _ROBUST = 255, 0.999

_WHOLE_TYPES = ("uint8", "int16", "uint16")

#: How a compressed file is opened, by the end of its name.
_OPENERS: dict[str, Callable[[Path], io.BufferedIOBase]] = {
    ".gz": gzip.GzipFile,
    ".mgz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
}

#: Ends of the names of images that are spread over several files.
_PAIRED = {end or "" for kind in nib.all_image_classes if len(kind.files_types) > 1 for _, end in kind.files_types}

#: How much of a file is held at once, in bytes.
_PIECE = 1 << 20


def load(path: Path) -> nib.spatialimages.SpatialImage:
    """Read an image or label file into memory.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    SpatialImage
        With its voxels read, and a compressed file decompressed to its end, so that a truncated or damaged one is found
        here.

    Raises
    ------
    ImportScanError
        If the file is missing, of no known format, truncated, fails the checksum of its compression, its header lies
        about its size, or what the header tells cannot be a scan of a head.
    """
    image = opened(path)
    with _told(path):
        voxels = np.asanyarray(image.dataobj)
        _drain(image)
        return image.__class__(voxels, image.affine, image.header)


def opened(path: Path) -> nib.spatialimages.SpatialImage:
    """Read the header of an image or label file, and refuse what cannot be a scan of a head.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    SpatialImage
        Its voxels are still in the file.

    Raises
    ------
    ImportScanError
        As `load` for what the header tells, and as `headers.check`.
    """
    _check_there(path)
    with _told(path):
        image = nib.load(path)
        if not isinstance(image, nib.spatialimages.SpatialImage):
            raise ImportScanError("the file holds no volume", str(path))
        headers.check(image)
        return image


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say so where what a reader raises is of a file that is cut or changed; all else is for the wall."""
    with wall(path):
        try:
            yield
        except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
            raise ImportScanError("the file is truncated or damaged", f"{path}: {error}") from error


def native(image: nib.spatialimages.SpatialImage) -> Native:
    """Keep what is needed to bring a prediction back to the space and header of its image."""
    i, j, k = image.shape[:3]
    affine = tuple(tuple(float(value) for value in row) for row in np.asarray(image.affine, np.float64))
    if not isinstance(image.header, nib.Nifti1Header):
        return Native((i, j, k), affine)
    header: Any = image.header
    codes = (int(header["sform_code"]), int(header["qform_code"]))
    second = other_affine(image)
    same = second is None or bool(np.allclose(second, image.affine, rtol=0, atol=1e-4))
    qform = None if second is None or same else affine_of(second.tolist())
    forms = (*codes, headers.unit(image), qform, headers.millimetres(image))
    if min(codes) > 0 and second is None:
        # A qform that is none: its axes will be those of the sform, and the old signs would turn them round.
        return Native((i, j, k), affine, *forms)
    return Native((i, j, k), affine, *forms, _pixdim(header, affine if qform is None else qform, max(codes) > 0))


def _pixdim(header: Any, affine: Affine, placed: bool) -> tuple[float, ...]:
    """Return a header's `pixdim[:4]`, unless it is placed by form codes and this is what its affine gives anyway."""
    found, matrix = np.array(header["pixdim"][:4], np.float64), np.array(affine)
    usual = np.append(np.sign(np.linalg.det(matrix[:3, :3])), geometry.spacing(matrix))
    same = placed and np.allclose(found, usual, rtol=1e-6, atol=0)
    return () if same or not np.isfinite(found).all() else tuple(found.tolist())


def checksum(path: Path) -> str:
    """Return the SHA-256 of an image in hexadecimal: of its file, or of those of all its files where it has several.

    Raises
    ------
    ImportScanError
        If one is missing or cannot be read.
    """
    _check_there(path)
    digests = [_digest(file) for file in _files(path)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _files(path: Path) -> list[Path]:
    """List the files of an image, by what nibabel holds each to be: the same whichever of them is named."""
    if not _paired(path):
        return [path]
    try:
        held = nib.load(path).file_map
    except Exception:  # reading it will say what is wrong
        return [path]
    found = [Path(held[part].filename or "") for part in sorted(held)]
    # A matrix beside an Analyze image need not be there.
    return [file for file in found if file.is_file()] or [path]


def _paired(path: Path) -> bool:
    return _plain(path).suffix.lower() in _PAIRED


def _plain(path: Path) -> Path:
    """Return the name of a file without the end that says how it is compressed."""
    return path.with_suffix("") if path.suffix.lower() in _OPENERS else path


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    except OSError as error:
        raise ImportScanError(
            "the file cannot be read; check its permissions and its disk", f"{path}: {error}"
        ) from error
    return digest.hexdigest()


def _check_there(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except PermissionError as error:
        text = "a folder on the way to the file is closed to this user; mend its permissions"
        raise ImportScanError(text, f"{path}: {error}") from error
    except (OSError, ValueError) as error:
        raise ImportScanError("the file is missing or out of reach; check its path", f"{path}: {error}") from error
    if not stat.S_ISREG(mode):
        raise ImportScanError("this is a folder or a device, not a file; name the image itself", str(path))
    if _paired(path):
        _check_partners(path)


def _check_partners(path: Path) -> None:
    """Refuse an image whose other file is a pipe or a device: opening one would wait for ever."""
    for end in sorted({*_PAIRED, *map(str.upper, _PAIRED)}):
        for partner in (_plain(path).with_suffix(end), _plain(path).with_suffix(end + path.suffix)):
            if partner.exists() and not partner.is_file():
                text = "the image's other file is a folder or a device, not a file"
                raise ImportScanError(text, str(partner))


def _drain(image: nib.spatialimages.SpatialImage) -> None:
    """Read an image's compressed files to their ends: nibabel stops at the last voxel, and the checksum follows it."""
    for holder in image.file_map.values():
        path = Path(holder.filename or "")
        # An Analyze image names a third file, which need not be there.
        if path.suffix.lower() in _OPENERS and path.is_file():
            with _OPENERS[path.suffix.lower()](path) as file:
                while file.read(_PIECE):
                    pass


def storable(image: NDArray[Any], storage: str = STORAGES[0]) -> tuple[NDArray[Any], float]:
    """Choose the type in which an image is stored.

    - ``8bit``: 256 levels from 0 to the 99.9 % quantile of the voxels that are not zero; brighter ones at the top
      level. Exact for whole numbers from 0 to 255. FreeSurfer's conformed images have as many.
    - ``12bit``: 4,096 levels from 0 to the brightest voxel that is no outlier (`normalise.ordinary`); those are at the
      top level. Exact for whole numbers that fit into 16 bits.
    - ``exact``: whole numbers that fit into 16 bits as such, all else as float32.

    Parameters
    ----------
    image : ndarray
        Finite values of any type.
    storage : str
        One of `STORAGES`. An image with negative values takes 12 bits where 8 were asked for.

    Returns
    -------
    stored : ndarray of uint8, int16, uint16 or float32
        A zero stays zero.
    slope : float
        The value is ``stored * slope``.

    Raises
    ------
    ImportScanError
        If `storage` is unknown.
    """
    if storage not in STORAGES:
        raise ImportScanError(f"storage {storage!r} is unknown; choose one of {', '.join(STORAGES)}")
    low, high = float(image.min()), float(image.max())
    whole = image.dtype.kind != "f" or bool((image == np.rint(image)).all())
    for name in _WHOLE_TYPES if whole else ():
        fits = np.iinfo(name).min <= low and high <= np.iinfo(name).max
        if fits and (name == "uint8" or storage != "8bit" or low < 0):
            return image.astype(name), 1.0
    if storage == "exact":
        return image.astype(np.float32), 1.0
    return _eight(image, high) if storage == "8bit" and low >= 0 else _twelve(image, low)


def _eight(image: NDArray[Any], high: float) -> tuple[NDArray[Any], float]:
    # A scan with hardly a voxel that is not zero may have its quantile at its only bright one.
    slope = float(np.quantile(image[image > 0], _ROBUST)) / _TOP or high / _TOP
    return np.minimum(np.rint(np.asarray(image, np.float32) / np.float32(slope)), _TOP).astype(np.uint8), slope


def _twelve(image: NDArray[Any], low: float) -> tuple[NDArray[Any], float]:
    slope = max(map(abs, ordinary(image[image != 0]))) / _LEVELS
    return np.rint(np.clip(image / slope, -_LEVELS, _LEVELS)).astype("uint16" if low >= 0 else "int16"), slope
