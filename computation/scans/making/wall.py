"""The wall around reading one scan: whatever a reader raises, that scan alone is left out, with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nibabel.tripwire import TripWireError

from computation.errors import ImportScanError, MeshNetError

__all__ = ["wall"]


@contextmanager
def wall(path: Path) -> Iterator[None]:
    """Turn whatever reading or conforming a scan raises into the one error that leaves the scan out.

    nibabel reads a dozen formats with as many hierarchies of exceptions, and a header that lies can raise anything in
    NumPy, SciPy or zlib behind it. No list of these is ever complete, and one that is missing from it costs a person
    every scan that comes after; so here, and only here, everything is caught. What the user does (Ctrl-C) and what ends
    a process are no `Exception` and pass.

    Parameters
    ----------
    path : Path
        The scan, for the private half of the error.

    Raises
    ------
    ImportScanError
        Instead of any exception that is not one of ours; one that is already this and names no scan gets the path.
    """
    try:
        yield
    except ImportScanError as error:
        raise ImportScanError(error.public, error.private or str(path)) from error
    except MeshNetError:
        raise
    except Exception as error:
        raise ImportScanError(_reason(error), f"{path}: {type(error).__name__}: {error}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "the scan needs more memory than there is; do fewer at once, or crop or resample it first"
    if isinstance(error, ImportError | TripWireError):
        return "nibabel needs a further package to read this format; convert the scan to NIfTI"
    if type(error).__module__.startswith("nibabel"):
        return f"the file is not an image that nibabel can read ({type(error).__name__})"
    return f"the scan cannot be read ({type(error).__name__}); is the file whole? if so, convert it to NIfTI"
