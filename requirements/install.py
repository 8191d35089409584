"""Install what the lock file lists, and nothing else, with hashes checked.

    python requirements/install.py --extras demo,dev             # into this Python, with base
    python requirements/install.py --only build                  # one group alone
    python requirements/install.py --only checkov --python .checkov/bin/python   # one with a lock file of its own
    python requirements/install.py --python /opt/venv/bin/python # into another environment
    python requirements/install.py --torch-index URL             # PyTorch from its own index

Needs nothing but Python and its pip. Where one of pip's indexes or folders has PyTorch's CPU build, that is taken; else
PyPI's, which on Linux asks for CUDA's libraries, several GB, and only then they are installed as well.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

# The folder of a script is not searched where PYTHONSAFEPATH is set.
sys.path.insert(0, str(Path(__file__).resolve().parent))
from locked import Pin, lock_of, parse, selected, written

#: Published as source alone: their hash is checked as well, then their setup.py runs, with the locked setuptools.
SOURCES = ("coinstac", "coinstac-computation", "fastecdsa", "pyftpdlib", "pyhocon", "python-baseconv", "varint")
#: What `pip check` may say: the one dependency that is left out on purpose (see lock.txt).
EXPECTED = "requires asyncio, which is not installed."
_ASKS_FOR_CUDA = "import importlib.metadata as m, sys; sys.exit('cuda' not in ' '.join(m.requires('torch') or ()))"


def main(arguments: Sequence[str] | None = None) -> None:
    """Install the wanted groups and check that what is installed fits together."""
    options = _options().parse_args(arguments)
    pins = parse(lock_of(options.only).read_text(encoding="utf-8"))
    names = [options.only] if options.only else ["base", *options.extras.replace(",", " ").split()]
    unknown = set(names) - {group for pin in pins for group in pin.groups}
    if unknown:
        sys.exit(f"the lock file knows nothing of {', '.join(sorted(unknown))}; see the extras of pyproject.toml")
    wanted = selected(pins, names)
    torch, first = (tuple(pin for pin in wanted if pin.name == name) for name in ("torch", "setuptools"))
    pip(options.python, first)
    if options.torch_index:
        pip(options.python, torch, "--index-url", options.torch_index)
    elif torch and not took_cpu_build(options.python, torch):
        pip(options.python, torch)
    pip(options.python, [pin for pin in wanted if pin not in (*first, *torch)])
    if torch and subprocess.run([options.python, "-c", _ASKS_FOR_CUDA], check=False).returncode == 0:
        pip(options.python, selected(pins, ["cuda"]))
    if not options.only:
        check(options.python)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--extras", default="", help="extras of pyproject.toml besides base, by commas or blanks")
    parser.add_argument("--only", default="", help="one group without base")
    parser.add_argument("--python", default=sys.executable, help="the environment's Python; by default this one")
    parser.add_argument("--torch-index", help="where PyTorch comes from, if not from where the others do")
    return parser


def pip(python: str, pins: Sequence[Pin], *more: str) -> None:
    """Install pins into an environment; end the program if pip fails, which has then said why."""
    if pins and (status := _install(python, pins, *more).returncode):
        sys.exit(status)


def took_cpu_build(python: str, torch: Sequence[Pin]) -> bool:
    """Install PyTorch's CPU build if there is one; end the program if one was offered that is not the locked one."""
    if sys.platform != "linux":
        return False
    cpu = [replace(pin, version=f"{pin.version}+cpu") for pin in torch]
    done = _install(python, cpu, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if b"DO NOT MATCH THE HASHES" in done.stderr:
        sys.exit(done.stderr.decode(errors="replace"))
    return done.returncode == 0


def _install(python: str, pins: Sequence[Pin], *more: str, **streams: int) -> subprocess.CompletedProcess[bytes]:
    strict = ("--require-hashes", "--no-deps", "--no-build-isolation", "--only-binary", ":all:")
    sources = [word for name in SOURCES for word in ("--no-binary", name)]
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "requirements.txt"
        listed.write_text(written(pins, ""), encoding="utf-8")
        command = [*_program(python), "install", "--quiet", *strict, *sources, *more, "-r", str(listed)]
        return subprocess.run(command, check=False, **streams)


def check(python: str) -> None:
    """End the program if an installed package misses another, but for the one that is left out."""
    done = subprocess.run([*_program(python), "check"], stdout=subprocess.PIPE, check=False, encoding="utf-8")
    wrong = [line for line in done.stdout.splitlines() if not line.endswith(EXPECTED)]
    if done.returncode and wrong:
        sys.exit("\n".join(["the lock file does not fit together:", *wrong]))


def _program(python: str) -> list[str]:
    here = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    return here if python == sys.executable else [*here, "--python", python]


if __name__ == "__main__":
    main()
