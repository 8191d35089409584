"""The lock file: what it holds, read and written. Needs nothing but Python, since it runs before anything is there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["APART", "HERE", "LOCK", "TORCH", "Pin", "lock_of", "parse", "selected", "torch_wheels", "written"]

HERE = Path(__file__).resolve().parent
LOCK = HERE / "lock.txt"
TORCH = HERE / "torch.txt"
#: Groups that ask for other versions than the rest: each has a lock file, and wants an environment, of its own.
APART = ("checkov",)

_ENTRY = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^\s;\\]+)(?: ; (?P<marker>[^\\\n]+?))?(?: \\)?$")
_HEADER = """\
# What `make`, the image and CI install, with the hash of every file that may be it. Made by `make lock` from
# pyproject.toml and torch.txt; do not edit. `for` names the extras and groups of pyproject.toml that need it (base:
# all; cuda: PyTorch's CUDA builds), `via` the packages that ask for it. install.py installs what is wanted of it.
#
# Packages are installed without what they ask for (--no-deps): everything is here already, but for one. `coinstac` asks
# for PyPI's `asyncio`, a dead package with the name of a module of Python itself, and does not need it.
"""


def lock_of(group: str) -> Path:
    """Return the lock file that has a group's pins."""
    return HERE / f"{group}.txt" if group in APART else LOCK


@dataclass(frozen=True)
class Pin:
    """One version of one package.

    Attributes
    ----------
    name, version : str
    marker : str
        For which Python and system it is; empty for all.
    hashes : tuple of str
        SHA-256, in hexadecimal, of each file that may be installed.
    groups : tuple of str
        What needs it: `base`, extras and dependency groups of pyproject.toml, `cuda`.
    via : tuple of str
        Packages that ask for it.
    """

    name: str
    version: str
    marker: str = ""
    hashes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    via: tuple[str, ...] = ()


def parse(text: str) -> tuple[Pin, ...]:
    """Read a lock file, ours or uv's.

    Raises
    ------
    ValueError
        If a line is none of a lock file.
    """
    pins: list[Pin] = []
    for block in re.split(r"^(?=\w)", re.sub(r"^#.*\n", "", text, flags=re.M), flags=re.M):
        if block.strip():
            pins.append(_pin(block.splitlines()))
    return tuple(pins)


def _pin(lines: list[str]) -> Pin:
    head = _ENTRY.match(lines[0])
    if head is None:
        raise ValueError(f"not a line of a lock file: {lines[0]!r}")
    rest = "\n".join(lines[1:])
    said = {word: tuple(re.split(r",\s*", names)) for word, names in re.findall(r"# (for|via):? (.+)$", rest, re.M)}
    return Pin(
        head["name"],
        head["version"],
        (head["marker"] or "").strip(),
        tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", rest)),
        said.get("for", ()),
        said.get("via", ()),
    )


def written(pins: Iterable[Pin], header: str = _HEADER) -> str:
    """Return pins as a requirements file that pip reads; the inverse of `parse`."""
    return header + "".join(map(_entry, pins))


def _entry(pin: Pin) -> str:
    marker = f" ; {pin.marker}" if pin.marker else ""
    lines = [f"{pin.name}=={pin.version}{marker}", *(f"    --hash=sha256:{value}" for value in pin.hashes)]
    notes = [f"    # {word}: {', '.join(names)}" for word, names in (("for", pin.groups), ("via", pin.via)) if names]
    return "\n".join([" \\\n".join(lines), *notes, ""])


def selected(pins: Iterable[Pin], groups: Iterable[str]) -> tuple[Pin, ...]:
    """Return the pins that any of the groups needs."""
    wanted = set(groups)
    return tuple(pin for pin in pins if wanted & set(pin.groups))


def torch_wheels(text: str) -> dict[str, tuple[str, ...]]:
    """Read torch.txt: the hashes of each public version, such as `2.13.0` for `2.13.0+cpu`."""
    found: dict[str, tuple[str, ...]] = {}
    for value, version in re.findall(r"^([0-9a-f]{64})  torch-([^-+]+)\+\S+\.whl$", text, re.M):
        found[version] = (*found.get(version, ()), value)
    return found
