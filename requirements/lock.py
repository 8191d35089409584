"""Make the lock files and sbom.cdx.json anew from pyproject.toml; `make lock` runs it with the locked uv.

    python requirements/lock.py                      # what pyproject.toml changed, the rest stays as it is
    python requirements/lock.py --upgrade            # the newest of everything that pyproject.toml leaves open
    python requirements/lock.py --torch-index URL    # torch.txt anew too, from URL/cpu and URL/cu130

One resolution for all of Python 3.10 and newer and all systems: where they need different versions, both are listed,
each with a marker. Needs Python 3.11 or newer itself.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

# The folder of a script is not searched where PYTHONSAFEPATH is set.
sys.path.insert(0, str(Path(__file__).resolve().parent))
from locked import APART, HERE, LOCK, TORCH, Pin, lock_of, parse, torch_wheels, written
from sbom import SBOM, bill, encoded

PROJECT = HERE.parent / "pyproject.toml"
#: Dead on PyPI, and a module of Python itself; `coinstac` still asks for it.
LEFT_OUT = "asyncio"
#: What only PyTorch's CUDA builds ask for.
CUDA = re.compile(r"nvidia-|cuda-|triton$")
#: What of PyTorch's own index PyPI does not have and is used here: CPU builds for Linux (elsewhere PyPI's are), and
#: the CUDA of the image's FLAVOUR.
FLAVOURS = ("cpu", "cu130")
TOLD = ("# Wheels of PyTorch that PyPI does not have, as its own index told them to lock.py --torch-index.",)
WHEEL = re.compile(r'href="([^"#]*torch-[^"#]*\.whl)#sha256=([0-9a-f]{64})"')


def main(arguments: Sequence[str] | None = None) -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--upgrade", action="store_true", help="take the newest of what is left open")
    parser.add_argument("--torch-index", metavar="URL", help="renew torch.txt from here first")
    options = parser.parse_args(arguments)
    import tomllib  # Python 3.10, where the tests read this file, has none

    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    if options.torch_index:
        renew_torch(options.torch_index, pinned_torch(project))
    pins = locked(project, options.upgrade)
    LOCK.write_text(written(pins), encoding="utf-8")
    SBOM.write_text(encoded(bill(pins, project["project"]["version"])), encoding="utf-8")
    print(f"{len(pins)} pins in {LOCK.name} and {SBOM.name}")
    for name in APART:
        pins = locked_apart(name, options.upgrade)
        lock_of(name).write_text(written(pins), encoding="utf-8")
        print(f"{len(pins)} pins in {lock_of(name).name}")


def locked(project: dict[str, Any], upgrade: bool) -> tuple[Pin, ...]:
    """Resolve everything at once, then each extra and group by itself within that, to know who needs what."""
    extras = list(project["project"]["optional-dependencies"])
    groups = [name for name in project["dependency-groups"] if name not in APART]
    wanted = [word for name in groups for word in ("--group", name)]
    everything = resolve([str(PROJECT), "--all-extras", *wanted, "--generate-hashes"], keep=not upgrade)
    within = written(everything, "")
    needs = {"base": _names([str(PROJECT)], within)}
    needs |= {name: _names([str(PROJECT), "--extra", name], within) - needs["base"] for name in extras}
    needs |= {name: _names(["--group", name], within) for name in groups}
    return tuple(_told(pin, needs) for pin in with_torch(everything, TORCH.read_text(encoding="utf-8")))


def locked_apart(name: str, upgrade: bool) -> tuple[Pin, ...]:
    """Resolve a group by itself, whatever the rest asks for."""
    pins = resolve(["--group", name, "--generate-hashes"], keep=not upgrade, lock=lock_of(name))
    return tuple(_told(pin, {name: {pin.name}}) for pin in pins)


def resolve(words: list[str], *, keep: bool = False, within: str = "", lock: Path = LOCK) -> tuple[Pin, ...]:
    """Let uv resolve, from what a lock file has if that is kept; end the program if it cannot, which has said why."""
    with tempfile.TemporaryDirectory() as folder:
        out, left_out, limits = (Path(folder) / name for name in ("out.txt", "left-out.txt", "limits.txt"))
        left_out.write_text(f"{LEFT_OUT} ; python_version < '3'\n", encoding="utf-8")
        limits.write_text(within, encoding="utf-8")
        if keep and lock.is_file():
            out.write_text(lock.read_text(encoding="utf-8"), encoding="utf-8")
        files = ["--override", str(left_out), "--constraint", str(limits), "--output-file", str(out)]
        how = ["--universal", "--python-version", "3.10", "--annotation-style", "line", "--no-header", "--no-config"]
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", *how, *files, *words]
        if subprocess.run(command, cwd=PROJECT.parent, check=False).returncode:
            sys.exit("the lock file stays as it is")
        return parse(out.read_text(encoding="utf-8"))


def _names(words: list[str], within: str) -> set[str]:
    return {pin.name for pin in resolve([*words, "--no-annotate"], within=within)}


def _told(pin: Pin, needs: dict[str, set[str]]) -> Pin:
    """Return a pin with who needs it; names of this machine's folders become this software's name."""
    groups = ["cuda"] if CUDA.match(pin.name) else [group for group, names in needs.items() if pin.name in names]
    via = (name.partition(" (")[0] for name in pin.via)
    ours = {"coinstac-meshnet" if ":" in name or "/" in name else name for name in via}
    return replace(pin, groups=tuple(groups), via=tuple(sorted(ours)))


def with_torch(pins: Sequence[Pin], listed: str) -> tuple[Pin, ...]:
    """Add the hashes of PyTorch's own index to torch's; end the program if that version has none."""
    wheels = torch_wheels(listed)
    torch = next(pin for pin in pins if pin.name == "torch")
    if torch.version not in wheels:
        sys.exit(f"torch.txt has no hash for torch {torch.version}; renew it with --torch-index")
    both = replace(torch, hashes=tuple(sorted({*torch.hashes, *wheels[torch.version]})))
    return tuple(both if pin.name == "torch" else pin for pin in pins)


def pinned_torch(project: dict[str, Any]) -> str:
    """Return the version of torch that pyproject.toml pins."""
    return next(line.partition("==")[2] for line in project["project"]["dependencies"] if line.startswith("torch=="))


def renew_torch(index: str, version: str) -> None:
    """Write torch.txt as PyTorch's index tells it; end the program if it lacks a flavour of this version."""
    lines: list[str] = []
    for flavour in FLAVOURS:
        with urllib.request.urlopen(f"{index.rstrip('/')}/{flavour}/torch/", timeout=60) as reply:
            found = torch_lines(reply.read().decode(), version, flavour)
        if not found:
            sys.exit(f"{index} names no Linux wheel of torch {version}+{flavour} with a SHA-256")
        lines += found
    TORCH.write_text("\n".join([*TOLD, *lines, ""]), encoding="utf-8")


def torch_lines(page: str, version: str, flavour: str) -> list[str]:
    """Return the lines of torch.txt for the Linux wheels of one flavour that a page of an index names."""
    found = ((urllib.parse.unquote(link).rpartition("/")[2], value) for link, value in WHEEL.findall(page))
    mine = [
        (name, value) for name, value in found if name.startswith(f"torch-{version}+{flavour}-") and "linux" in name
    ]
    return [f"{value}  {name}" for name, value in sorted(mine)]


if __name__ == "__main__":
    main()
