"""Python processes that import nothing from the working directory: it may be a folder of scans from anybody."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["isolated", "variables"]

#: With it Python 3.11 and later search neither the working directory nor a script's folder, and so do their children.
_SAFE = "PYTHONSAFEPATH"


def variables(given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what to set for a Python process that is started by its path and needs this package.

    Parameters
    ----------
    given : mapping of str
        The caller's environment. Of its PYTHONPATH only absolute folders are kept: an empty place in it, as a stray
        colon makes one, is the working directory.
    """
    package = str(Path(__file__).resolve().parents[1])
    others = [place for place in given.get("PYTHONPATH", "").split(os.pathsep) if Path(place).is_absolute()]
    return {"PYTHONPATH": os.pathsep.join([package, *others]), _SAFE: "1"}


@contextmanager
def isolated() -> Iterator[None]:
    """Start worker processes inside, by `multiprocessing`, that import nothing from the working directory."""
    before = os.environ.get(_SAFE)
    os.environ[_SAFE] = "1"
    try:
        yield
    finally:
        os.environ.pop(_SAFE)
        if before is not None:
            os.environ[_SAFE] = before
