"""The directories of a simulated consortium, laid out as COINSTAC lays them out.

`<root>/input/<client>/simulatorRun` is a node's base directory, and likewise `output` and `transfer`; `<root>/logs`
holds what each process printed, `<root>/course` how far the run has come. A user's own folder is only ever linked from,
never written to.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from computation.coinstac.claim import shelve
from computation.errors import SimulatorError, unwritable

__all__ = ["CENTRE", "RUN", "Layout", "left_out", "link_tree"]

#: The centre's client id, as in coinstac-simulator.
CENTRE = "remote"
#: The run id that coinstac-simulator uses.
RUN = "simulatorRun"

# Says that the folders beside it were made here: some are emptied for the next run, the others moved aside.
_MARK = ".coinstac-meshnet-simulator"
_SITE = re.compile(r"local(0|[1-9]\d*)", re.ASCII)
_EMPTIED = ("input", "transfer", "cache")
_MOVED = ("output", "logs", "course", "summary.json")


@dataclass(frozen=True)
class Layout:
    """Where everything of one run lies.

    Attributes
    ----------
    root : Path
        The user's output folder.
    """

    root: Path

    def base(self, client: str) -> Path:
        """Return the folder in which a node finds its inputs and what others sent."""
        return self.root / "input" / client / RUN

    def output(self, client: str) -> Path:
        """Return the folder in which a node leaves its results."""
        return self.root / "output" / client / RUN

    def transfer(self, client: str) -> Path:
        """Return the folder in which a node leaves files for others."""
        return self.root / "transfer" / client / RUN

    def cache(self, client: str) -> Path:
        """Return a node's private scratch folder, `/tmp` of a container."""
        return self.root / "cache" / client

    def log(self, client: str) -> Path:
        """Return the file with what a node's process printed."""
        return self.root / "logs" / f"{client}.log"

    @property
    def course(self) -> Path:
        """Return the folder in which the run's progress is written down."""
        return self.root / "course"

    @property
    def summary(self) -> Path:
        """Return the file with the figures of the finished run."""
        return self.root / "summary.json"

    def state(self, client: str) -> dict[str, Any]:
        """Return COINSTAC's `state` without the iteration; like coinstac-simulator's it names no owner."""
        return {
            "baseDirectory": str(self.base(client)),
            "outputDirectory": str(self.output(client)),
            "cacheDirectory": str(self.cache(client)),
            "transferDirectory": str(self.transfer(client)),
            "clientId": client,
        }

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other run out of the output folder meanwhile.

        Raises
        ------
        SimulatorError
            If another run is in it, or it cannot be made.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            folder = os.open(self.root, os.O_RDONLY)
        except OSError as error:
            raise SimulatorError("the output folder cannot be made; choose another one", str(error)) from error
        try:
            _lock(folder, self.root)
            yield
        finally:
            os.close(folder)

    def prepare(self, sites: Iterable[str], inputs: Path, brought: Mapping[str, bytes] | None = None) -> None:
        """Make all folders, and link each site's files into its base directory.

        Everything of an earlier run is moved aside first, so that nothing of it can be taken for this one's.

        Parameters
        ----------
        sites : iterable of str
            Their client ids.
        inputs : Path
            Folder with each site's own files.
        brought : mapping of bytes, optional
            Files, by their names, that the first site gets besides its own.

        Raises
        ------
        SimulatorError
            If a site has no input folder, if the output folder holds something that was not made here, or if it cannot
            be written.
        """
        sites = list(sites)
        _need(sites, inputs)
        for name in brought or {}:
            if os.path.lexists(inputs / sites[0] / RUN / name):
                raise SimulatorError(f"the first site has a file {name!r} of its own; rename it or the model's")
        try:
            self._refuse(inputs)
            self._clear()
            self._make(sites)
            for name, content in (brought or {}).items():
                (self.base(sites[0]) / name).write_bytes(content)
        except OSError as error:
            raise SimulatorError(unwritable("output"), str(error)) from error
        for site in sites:
            link_tree(inputs / site / RUN, self.base(site))

    def check(self, sites: Iterable[str]) -> None:
        """Refuse to go on with a run of which a folder is gone; raises `SimulatorError`."""
        for client in [*sites, CENTRE]:
            for folder in (self.base(client), self.output(client), self.transfer(client), self.cache(client)):
                if not folder.is_dir():
                    raise SimulatorError("a folder of the interrupted run is gone; start it anew", str(folder))

    def _make(self, sites: Sequence[str]) -> None:
        for client in [*sites, CENTRE]:
            for folder in (self.base(client), self.output(client), self.transfer(client), self.cache(client)):
                folder.mkdir(parents=True, exist_ok=True)
            self.log(client).parent.mkdir(exist_ok=True)
            self.log(client).write_bytes(b"")
        for site in sites:
            (self.base(CENTRE) / site).mkdir()

    def _refuse(self, inputs: Path) -> None:
        """Refuse to begin where something else would be emptied, moved or mixed."""
        made = [self.root / name for name in (*_EMPTIED, *_MOVED)]
        if any(inputs.is_relative_to(folder) or folder.is_relative_to(inputs) for folder in made):
            raise SimulatorError("the output folder overlaps the input folder; choose another one", str(self.root))
        foreign = [path for path in made if os.path.lexists(path)]
        if foreign and not (self.root / _MARK).exists():
            raise SimulatorError(
                f"the output folder holds {foreign[0].name!r} of something else; choose another one", str(foreign[0])
            )

    def _clear(self) -> None:
        """Move aside what an earlier run made, and empty what it only used."""
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / _MARK).touch()
        shelve(self.root, (path for path in (self.root / name for name in _MOVED) if os.path.lexists(path)))
        for folder in (self.root / name for name in _EMPTIED):
            if folder.exists():
                shutil.rmtree(folder)


def _need(sites: Sequence[str], inputs: Path) -> None:
    """Refuse a site without an input folder."""
    there = _site_folders(inputs)
    for site in sites:
        if site not in there:
            raise SimulatorError(
                f"site {site} has no input folder; wanted a folder {site}/{RUN} inside the input folder", str(inputs)
            )


def left_out(sites: Iterable[str], inputs: Path) -> list[str]:
    """Return the sites that have an input folder and take no part; raises `SimulatorError` if it cannot be read."""
    return sorted(_site_folders(inputs) - set(sites), key=lambda name: (len(name), name))


def _site_folders(inputs: Path) -> set[str]:
    try:
        return {path.name for path in inputs.iterdir() if _SITE.fullmatch(path.name) and (path / RUN).is_dir()}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise SimulatorError("the input folder cannot be read; mend its rights", str(error)) from error


def _lock(folder: int, root: Path) -> None:
    """Take the folder's lock, which goes with the process; where file systems have none, do without.

    Raises
    ------
    SimulatorError
        If another run has it.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SimulatorError("another run is using the output folder; choose another one", str(root)) from error
    except OSError:
        return


def link_tree(source: Path, target: Path) -> None:
    """Give `target` the files of `source` as hard links, or as copies where the file system allows no links.

    Raises
    ------
    SimulatorError
        If the folder cannot be read.
    """
    try:
        for path, name in _files(source):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            # A symbolic link is followed: the process must find the file itself, as in a mounted folder.
            _link(os.path.realpath(path), target / name)
    except OSError as error:
        raise SimulatorError("an input folder cannot be linked or copied", str(error)) from error


def _files(source: Path) -> Iterator[tuple[Path, Path]]:
    for folder, _, names in os.walk(source, followlinks=True):
        for name in sorted(names):
            path = Path(folder, name)
            yield path, path.relative_to(source)


def _link(source: str, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, another owner, or too many links
        shutil.copy2(source, target)
