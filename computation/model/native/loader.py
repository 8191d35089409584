"""Find, or make, the kernels' library and load it; say in one line what runs and why.

Search order: the library beside the sources (made when the package or the image was built), the user's cache, and
otherwise a compilation into that cache on first use. A library is looked up by the hash of its sources, so a stale one
is never loaded. ``COINSTAC_MESHNET_NATIVE=off`` turns the kernels off, ``avx512``, ``avx2`` or ``portable`` chooses.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch  # noqa: F401  # brings the OpenMP library that the kernels share with it: one pool of threads, not two

from computation.model.native import build

__all__ = ["Status", "library", "status", "use"]

VARIABLE = "COINSTAC_MESHNET_NATIVE"


@dataclass(frozen=True)
class Status:
    """What runs the convolutions.

    Parameters
    ----------
    available : bool
        Whether the native kernels run.
    instructions : str
        "avx512", "avx2" or "portable"; empty when they do not run.
    reason : str
        One line for the journal, in both cases.
    """

    available: bool
    instructions: str
    reason: str


@dataclass(frozen=True)
class _Loaded:
    handle: ctypes.CDLL | None
    reason: str


def library() -> ctypes.CDLL | None:
    """Return the loaded library, or None when the kernels cannot run; the first call may compile for some seconds."""
    return _load().handle


def status() -> Status:
    """Say whether the native kernels run, with which instructions, and why or why not.

    Returns
    -------
    Status
        Never raises: every failure is a reason.
    """
    loaded = _load()
    if loaded.handle is None:
        return Status(False, "", f"native kernels off, PyTorch computes: {loaded.reason}")
    name = loaded.handle.meshnet_name().decode()
    return Status(True, name, f"native kernels on ({name}): {loaded.reason}")


def use(instructions: str) -> bool:
    """Choose an instruction set by name; return whether this machine and build have it."""
    handle = library()
    return handle is not None and handle.meshnet_use(instructions.encode()) == 0


@cache
def _load() -> _Loaded:
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "off":
        return _Loaded(None, f"{VARIABLE}=off")
    try:
        path, origin = _find()
        handle = _declare(ctypes.CDLL(str(path)))
    except build.BuildError as error:
        return _Loaded(None, str(error))
    except (OSError, AttributeError) as error:
        return _Loaded(None, f"the compiled library does not load ({type(error).__name__})")
    if wanted and handle.meshnet_use(wanted.encode()):
        return _Loaded(None, f"{VARIABLE}={wanted}, which this machine does not have")
    return _Loaded(handle, origin)


def _find() -> tuple[Path, str]:
    name = build.library_name()
    packaged = build.FOLDER / name
    if packaged.exists():
        return packaged, "built with the package"
    folder = _cache_folder()
    cached = folder / name
    return (cached, "from the user's cache") if cached.exists() else (build.build(folder), "compiled on first use")


def _cache_folder() -> Path:
    """Return a folder that only this user can write, or raise: code is loaded from it."""
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = root / "coinstac-meshnet"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except (OSError, RuntimeError) as error:
        raise build.BuildError("no library with the package, and no writable cache folder to compile into") from error
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise build.BuildError("the cache folder belongs to, or is writable by, somebody else")
    return folder


def _declare(handle: ctypes.CDLL) -> ctypes.CDLL:
    handle.meshnet_name.restype = ctypes.c_char_p
    handle.meshnet_use.argtypes = [ctypes.c_char_p]
    handle.meshnet_advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    handle.meshnet_advise.restype = None
    for name in ("forward", "backward", "pointwise", "pointwise_backward", "affine", "scores", "scores_backward"):
        function = getattr(handle, f"meshnet_{name}")
        function.argtypes = [ctypes.c_int, ctypes.c_void_p]
        function.restype = ctypes.c_int
    return handle
