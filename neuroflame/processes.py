"""NVFlare's own processes: started by us and not by its shell scripts, in a private folder, with a log of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata, util
from pathlib import Path
from types import FrameType
from typing import NoReturn

from computation import isolation
from computation.errors import MeshNetError, public_text
from computation.orphans import die_with_parent
from neuroflame.places import Places
from neuroflame.words import complain, say

__all__ = ["WANTED", "Child", "copy_kit", "exit_status", "is_alive", "leave", "private_folder"]

#: The version that this was measured with.
WANTED = "2.8.0"
_CLIENT = "nvflare.private.fed.app.client.client_train"
_SERVER = "nvflare.private.fed.app.server.server_train"
_SET = ("secure_train=true", "org=meshnet", "config_folder=config")
#: A job process that dies before its first heartbeat would otherwise never be missed by NVFlare's server.
_SERVER_KNOWS = {"NVFLARE_SYNC_CLIENT_JOBS_REQUIRE_PREVIOUS_REPORT": "false"}
_PATIENCE = 3.0  # seconds from SIGTERM to SIGKILL
_STATUS = "_process_rc.txt"
#: gRPC's own variable; where it is set, `no_proxy` counts for nothing.
_NO_PROXY = "no_grpc_proxy"
_LONGEST_LOG = 64 * 2**20


def exit_status(work: Callable[[], int]) -> int:
    """Do a script's work and return its exit status, having told what NVFlare's version or an early end calls for.

    Parameters
    ----------
    work : callable
        Returns the status of a work that came to its end.

    Returns
    -------
    int
        That of the work, 1 for what nobody foresaw, 2 for what a `MeshNetError` refused, 130 for Ctrl-C; SIGTERM ends
        in 143.
    """
    try:
        with _stoppable(), _direct():
            if note := _check_version():
                say(note)
            return work()
    except MeshNetError as error:
        complain(error.public)
        return 2
    except KeyboardInterrupt:
        complain("stopped")
        return 130
    except Exception as error:  # the platform sends what is on stderr to its own centre: no traceback, no path
        complain(public_text(error))
        return 1


def leave(main: Callable[[], int]) -> NoReturn:
    """End this process with the status of its work; a thread that NVFlare has left would keep it for ever."""
    try:
        status = main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status)


def _check_version() -> str:
    """Return a sentence about NVFlare's version if it is another than was tested; empty if it is that.

    Raises
    ------
    MeshNetError
        If NVFlare is not installed.
    """
    if util.find_spec("nvflare") is None:
        raise MeshNetError("NVFlare is not installed; install the extra: pip install 'coinstac-meshnet[nvflare]'")
    found = metadata.version("nvflare")
    return "" if found == WANTED else f"NVFlare is {found}; this computation was tested with {WANTED}"


@contextmanager
def private_folder(place: Path | None = None) -> Iterator[Path]:
    """Lend a folder that only this user may enter.

    Parameters
    ----------
    place : Path, optional
        Where; the system's temporary folder by default, and in the place of one whose name has a blank, since NVFlare
        passes the path through command lines without quotes.
    """
    text = str(place.absolute() if place else tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix="meshnet-", dir="/tmp" if any(map(str.isspace, text)) else text) as name:
        yield Path(name)


def copy_kit(source: Path, target: Path, *names: str) -> None:
    """Copy folders of a kit to where NVFlare may write into them: what is mounted may be read-only.

    Raises
    ------
    MeshNetError
        If it is missing.
    """
    try:
        for name in names:
            shutil.copytree(source / name, target / name)
    except OSError as error:
        raise MeshNetError("the run kit is missing or not whole; provision the run again", str(error)) from error


class Child:
    """NVFlare's server or client process.

    Parameters
    ----------
    kit : Path
        Its startup kit, in a private folder.
    places : Places
        What the job process that it will start must know.
    site : str
        A site's id; empty for the centre.
    """

    def __init__(self, kit: Path, places: Places, site: str = "") -> None:
        self.log = places.folder / "nvflare.log"
        module, config = (_CLIENT, "fed_client.json") if site else (_SERVER, "fed_server.json")
        self._kit, self._told, self._seen = kit, places.tell(), 0
        self._arguments = [module, "-m", str(kit), "-s", config, "--set", *_SET, *([f"uid={site}"] if site else [])]
        self._process = self._started()

    def start_again(self) -> None:
        """Start it once more after its end."""
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **isolation.variables(), **self._told, **_SERVER_KNOWS, "PYTHONUNBUFFERED": "1"}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-u", "-m", *self._arguments],
                env=environment,
                cwd=self._kit,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )

    @property
    def alive(self) -> bool:
        """Whether it runs; while it does, its job process is noted, which may outlive it."""
        self._seen = self.job or self._seen
        return self._process.poll() is None

    @property
    def failed(self) -> bool:
        """Whether it ended with a failure of NVFlare's; where threads are left it kills itself, and a file says it."""
        status = self._process.poll() or 0
        with suppress(OSError, ValueError):
            status = int((self._kit / _STATUS).read_text(encoding="ascii"))
        return status > 0

    @property
    def job(self) -> int:
        """Id of the job process that it started; 0 where there is none, or the system does not say."""
        told = ""
        if self._process.returncode is not None:  # its id may be another process's by now
            return 0
        for thread in Path(f"/proc/{self._process.pid}/task").glob("*/children"):
            with suppress(OSError):
                told += f" {thread.read_text(encoding='ascii')}"
        return next((pid for pid in map(int, told.split()) if is_alive(pid)), 0)

    @property
    def _orphan(self) -> int:
        """Id of a job process that has outlived it: one that is frozen hears no SIGTERM."""
        with suppress(OSError):
            mark = "".join(f"{name}={value}\0" for name, value in self._told.items())
            if mark.encode() in Path(f"/proc/{self._seen}/environ").read_bytes():
                return self._seen
        return 0

    def close(self) -> None:
        """End it, and the job process that it started, which has a group of its own."""
        job = self.job or self._orphan
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        for pid in filter(None, (job, self._process.pid)):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        self._process.wait()

    def keep_log(self, output: Path) -> None:
        """Leave the log among this node's own results, where it is of use; it goes nowhere else."""
        with suppress(OSError):
            if self.log.stat().st_size <= _LONGEST_LOG:
                shutil.copyfile(self.log, output / self.log.name)


def is_alive(pid: int) -> bool:
    """Tell whether a process of this container is there, and not only waiting to be collected."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")


@contextmanager
def _direct() -> Iterator[None]:
    """Have gRPC reach this machine without the proxy that the environment may name: a node speaks with itself by it."""
    before = os.environ.get(_NO_PROXY)
    own = before or os.environ.get("no_proxy", "")
    os.environ[_NO_PROXY] = ",".join(filter(None, [own, "localhost", "127.0.0.1"]))
    try:
        yield
    finally:
        os.environ.pop(_NO_PROXY)
        if before is not None:
            os.environ[_NO_PROXY] = before


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turn SIGTERM, which a container's first process would not feel, into an orderly end with status 143."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
