"""Build the zip of the API's functions: this code and what it needs, for a Lambda's system and Python.

    python -m infrastructure.package                      # build/api.zip, for Python 3.13 on x86_64
    python -m infrastructure.package --python 3.12 --architecture arm64 --output api.zip

Versions and hashes are those of requirements/lock.txt. There is no PyTorch in it, and no test; equal inputs make equal
bytes, so that a second `terraform plan` has nothing to do. Needs pip and `packaging`, as `make` installs them.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

# Its files are scripts that import each other by their plain names.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "requirements"))
from locked import LOCK, Pin, parse, written

__all__ = ["MOST", "build", "main", "wanted"]

ROOT = Path(__file__).resolve().parent.parent
#: What the functions import; the lock file knows what that needs.
_IMPORTED = (
    "argon2-cffi",
    "botocore",
    "jinja2",
    "mangum",
    "numpy",
    "pyjwt",
    "python-multipart",
    "safetensors",
    "starlette",
)
#: Of all services of AWS that botocore describes, those that are called.
_CALLED = ("cognito-idp", "dynamodb", "s3", "sqs")
_OURS = ("computation", "service")
_DATA = (".py", ".json", ".html", ".css", ".js", ".sql", ".svg", ".txt", ".ico", ".woff2")
#: Lambda takes no larger zip by itself.
MOST = 50 * 10**6
#: Of the C library on Amazon Linux 2023, newest first; pip does not know that one holds the others.
_LIBRARIES = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
_SYSTEM = {"x86_64": "x86_64", "arm64": "aarch64"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Build it and say how large it is; end the program if it is too large."""
    options = _options().parse_args(arguments)
    build(options.output, options.python, options.architecture)
    content = options.output.read_bytes()
    print(f"{options.output}: {len(content) / 1e6:.1f} MB, SHA-256 {hashlib.sha256(content).hexdigest()}")
    if len(content) >= MOST:
        sys.exit(f"the zip has {len(content) / 1e6:.1f} MB; Lambda takes less than {MOST / 1e6:.0f}")


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "api.zip", help="default: %(default)s")
    parser.add_argument("--python", default="3.13", help="the functions' Python; default: %(default)s")
    parser.add_argument("--architecture", choices=sorted(_SYSTEM), default="x86_64", help="default: %(default)s")
    return parser


def build(output: Path, python: str, architecture: str) -> None:
    """Write the zip.

    Parameters
    ----------
    output : Path
        Where; what is there is replaced.
    python : str
        The functions' Python, such as '3.13'.
    architecture : str
        `x86_64` or `arm64`.
    """
    with tempfile.TemporaryDirectory() as folder:
        content = Path(folder) / "content"
        pins = wanted(parse(LOCK.read_text(encoding="utf-8")), python, _SYSTEM[architecture])
        _install(pins, content, python, _SYSTEM[architecture])
        _trim(content)
        for name in _OURS:
            _copy(ROOT / name, content / name)
        _compile(content, python)
        _zip(content, output)


def wanted(pins: Iterable[Pin], python: str, machine: str) -> tuple[Pin, ...]:
    """Return what the functions import and what that needs, as one Python on Linux needs it, without markers.

    Raises
    ------
    SystemExit
        If the lock file lacks something.
    """
    from packaging.markers import Marker

    here = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": machine,
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }
    fitting = [pin for pin in pins if not pin.marker or Marker(pin.marker).evaluate(here)]
    names, before = set(_IMPORTED), 0
    while len(names) > before:
        before = len(names)
        names |= {pin.name for pin in fitting if names & set(pin.via)}
    if missing := names - {pin.name for pin in fitting}:
        sys.exit(f"the lock file has no {', '.join(sorted(missing))}; make it anew with `make lock`")
    return tuple(Pin(pin.name, pin.version, "", pin.hashes) for pin in fitting if pin.name in names)


def _install(pins: Iterable[Pin], folder: Path, python: str, machine: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as listed:
        listed.write(written(pins))
        listed.flush()
        where = [word for name in _LIBRARIES for word in ("--platform", f"{name}_{machine}")]
        how = ["--no-deps", "--no-compile", "--only-binary", ":all:", "--require-hashes", "--implementation", "cp"]
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        words = [*pip, *how, *where, "--python-version", python, "--target", str(folder), "--requirement", listed.name]
        if subprocess.run(words, check=False).returncode:
            sys.exit("pip could not install what the functions need; it has said why above")


def _trim(folder: Path) -> None:
    """Remove what no function ever opens."""
    described = {"endpoints.json", "partitions.json", "sdk-default-configuration.json", "_retry.json", *_CALLED}
    unused = [path for path in (folder / "botocore" / "data").iterdir() if path.name not in described]
    unused += [folder / name for name in ("bin", "numpy/_core/include")]
    unused += [path for path in folder.rglob("*") if path.name in ("test", "tests") or path.suffix == ".pyi"]
    for path in unused:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.suffix in _DATA and "__pycache__" not in path.parts:
            copied = target / path.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copied)


def _compile(folder: Path, python: str) -> None:
    """Compile everything, as a Lambda's folder takes no writing: else each cold start would do it again."""
    name = sys.executable if python == f"{sys.version_info.major}.{sys.version_info.minor}" else f"python{python}"
    words = [
        "-m",
        "compileall",
        "-q",
        "-j",
        "0",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        str(folder),
        str(folder),
    ]
    if shutil.which(name) is None or subprocess.run([name, *words], check=False, stderr=subprocess.DEVNULL).returncode:
        print(f"not compiled, so each cold start takes about a second longer: there is no {name} here", file=sys.stderr)


def _zip(folder: Path, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            # No time and no owner, so that equal files make equal archives.
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), (1980, 1, 1, 0, 0, 0))
            entry.external_attr, entry.compress_type = 0o100644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


if __name__ == "__main__":
    main()
