"""Python processes that import nothing from the working directory: it may be a folder of scans from anybody."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import util
from pathlib import Path
from typing import Any

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
        with _flagged():
            yield
    finally:
        os.environ.pop(_SAFE)
        if before is not None:
            os.environ[_SAFE] = before


@contextmanager
def _flagged() -> Iterator[None]:
    """Tell Python 3.10, which does not know the variable, by a flag; what a worker may import it hears from its parent.

    `multiprocessing` takes the flags of its processes from this function of its own and has no better way in.
    """
    if hasattr(sys.flags, "safe_path"):
        yield
        return
    room: Any = util
    plain = room._args_from_interpreter_flags
    room._args_from_interpreter_flags = lambda: [*plain(), "-I"]
    try:
        yield
    finally:
        room._args_from_interpreter_flags = plain
