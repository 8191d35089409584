"""Compile the kernels: one shared library, one object per instruction set, any C++17 compiler, no torch headers.

Standard library only, because it also runs inside the isolated environment in which the package is built. By hand:

    python -m computation.model.native.build            # beside the sources, as the image does
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["BuildError", "build", "library_name"]

FOLDER = Path(__file__).resolve().parent
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fopenmp", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math")
AVX512 = ("-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma", "-mprefer-vector-width=512")
AVX2 = ("-mavx2", "-mfma")
UNITS = ("avx512.cpp", "avx2.cpp", "portable.cpp", "double.cpp", "dispatch.cpp")
X86 = ("x86_64", "amd64")
SECONDS = 300


class BuildError(Exception):
    """The kernels could not be compiled; the text is the one line that explains why."""


def library_name() -> str:
    """Name of the library that belongs to these sources, flags and this machine type.

    Returns
    -------
    str
        ``kernels-<machine>-<hash>.so``: a library of other sources has another name and is never loaded.
    """
    digest = hashlib.sha256(repr((FLAGS, AVX512, AVX2)).encode())
    for path in sorted([*FOLDER.glob("*.cpp"), *FOLDER.glob("*.h"), *FOLDER.glob("*.inc")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"kernels-{sysconfig.get_platform()}-{digest.hexdigest()[:16]}.so"


def build(folder: Path = FOLDER) -> Path:
    """Compile the library into a folder, unless it is already there.

    Parameters
    ----------
    folder : Path
        Where the library goes; it appears under its name only when it is complete.

    Returns
    -------
    Path
        The library.

    Raises
    ------
    BuildError
        There is no compiler, it failed, or the folder cannot be written.
    """
    target = folder / library_name()
    if target.exists():
        return target
    compiler = _compiler()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = _compile(compiler, Path(scratch))
            made.replace(target)
    except OSError as error:
        raise BuildError(f"the kernels' folder cannot be written: {error.strerror}") from error
    return target


def _compile(compiler: str, scratch: Path) -> Path:
    def one(unit: str) -> Path:
        made = scratch / f"{unit}.o"
        _run([compiler, *FLAGS, *_machine_flags(unit), "-c", str(FOLDER / unit), "-o", str(made)])
        return made

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(one, UNITS))
    library = scratch / "kernels.so"
    _run([compiler, "-shared", "-fopenmp", *map(str, objects), "-o", str(library)])
    return library


def _machine_flags(unit: str) -> tuple[str, ...]:
    if platform.machine().lower() not in X86:
        return ()
    return {"avx512.cpp": AVX512, "avx2.cpp": AVX2}.get(unit, ())


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and shutil.which(name):
            return name
    raise BuildError("no C++ compiler (c++, g++ or clang++) was found")


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"the C++ compiler did not run to its end: {type(error).__name__}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()] or ["no message"]
        raise BuildError(f"the C++ compiler failed: {lines[0].rsplit('/', 1)[-1]}")


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{build().name}\n")
    except BuildError as error:
        sys.exit(str(error))
