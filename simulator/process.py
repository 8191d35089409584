"""One node's process: started with a port of its own, restarted when it died, and never left behind.

`Engine` and `Worker` are what a run needs of whatever its nodes run in: processes here, containers in containers/.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from computation import isolation
from computation.checks import is_encodable
from computation.coinstac.admission import TOKEN
from computation.errors import SimulatorError
from computation.federation.keys import VARIABLE as KEY
from computation.orphans import die_with_parent
from simulator.layout import Layout

__all__ = [
    "Engine",
    "NodeProcess",
    "ProcessEngine",
    "Reservation",
    "Worker",
    "environment",
    "share",
    "stop_all",
    "threads",
]

# Like the platform's, which takes ports from 8101 up; below the range from which systems pick outgoing ports, so that
# no connection can occupy a node's port by accident.
_PORTS = range(8101, 32768)
_PATIENCE = 5.0  # seconds from SIGTERM to SIGKILL
#: A node reads names and writes its log as UTF-8 wherever its caller does not.
_UTF8 = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}
#: As OpenMP reads it, which takes anything else, also an empty text, for all cores.
_THREADS = re.compile(r"[1-9]\d{0,4}( *, *[1-9]\d{0,4})*", re.ASCII)


class Worker(Protocol):
    """What runs one node's server, over all its restarts."""

    #: What its server asks of who connects; empty where it asks for nothing.
    token: str
    #: Seconds in which a worker that dropped a connection should be seen to have ended.
    dying: float
    starts: int

    @property
    def host(self) -> str:
        """Address at which the server listens."""

    @property
    def port(self) -> int:
        """Port on which the server listens."""

    @property
    def pid(self) -> int:
        """Process id on this machine; 0 before the first start."""

    @property
    def alive(self) -> bool:
        """Whether it is running."""

    def start(self) -> None:
        """Start it, or start it again; raises `SimulatorError` if that cannot be done."""

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most so long; tell whether it has."""

    def terminate(self) -> None:
        """Ask it to end."""

    def tell(self, line: str) -> None:
        """Add a line to the node's log."""

    def last_lines(self, count: int = 8) -> str:
        """Return the end of the node's log."""

    def close(self) -> None:
        """End it at once and leave nothing behind."""


class Engine(Protocol):
    """Runs the nodes of one consortium."""

    def worker(self, client: str) -> Worker:
        """Return what will run one node's server."""

    def state(self, client: str) -> dict[str, Any]:
        """Return COINSTAC's `state` of a node without the iteration, with the paths as the node sees them."""

    def close(self) -> None:
        """Leave nothing behind, after all workers were closed or instead."""


class Reservation:
    """A port that no other simulator takes, although the process that listens there is yet to start.

    The socket is bound exclusively but does not listen. Sharing is allowed afterwards, and a server's socket, which
    allows it too, can then listen on the port.

    Raises
    ------
    SimulatorError
        If no port is free.
    """

    def __init__(self) -> None:
        start = int.from_bytes(os.urandom(2), "big")
        for offset in range(len(_PORTS)):
            self._socket = socket.socket()
            self.port = _PORTS[(start + offset) % len(_PORTS)]
            try:
                self._socket.bind(("127.0.0.1", self.port))
            except OSError:
                self._socket.close()
                continue
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if sys.platform != "linux":  # elsewhere the holder would be in the server's way
                self._socket.close()
            return
        raise SimulatorError("no port is free for the nodes; end some other programs")

    def release(self) -> None:
        """Let others have the port."""
        self._socket.close()


def environment(port: int, sites: int, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return a node's environment: the caller's, without a key of its own, its port, and an equal share of the cores.

    Parameters
    ----------
    port : int
        Port on which the node listens.
    sites : int
        Number of sites that compute at the same time.
    given : mapping of str
        Environment to start from; an OMP_NUM_THREADS in it is kept if it is one.
    """
    own = {"COINSTAC_PORT": str(port), "COINSTAC_HOST": "127.0.0.1", "PYTHONUNBUFFERED": "1", **_UTF8}
    given = {name: value for name, value in given.items() if name != KEY}  # of one node: here there are several
    return {**given, **own, **isolation.variables(given), "OMP_NUM_THREADS": threads(share(sites), given)}


def threads(fair: int, given: Mapping[str, str] = os.environ) -> str:
    """Return a node's OMP_NUM_THREADS: the caller's, or a fair share where it is not set or is no number of threads."""
    wanted = given.get("OMP_NUM_THREADS", "").strip()
    return wanted if _THREADS.fullmatch(wanted) else str(fair)


def share(sites: int) -> int:
    """Return how many of this machine's cores each of so many sites may use."""
    return max(1, _cores() // max(1, sites))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class NodeProcess:
    """The process of one node, over all its restarts.

    Parameters
    ----------
    command : sequence of str
        Starts a server on COINSTAC_PORT.
    log : Path
        Where everything that it prints is appended.
    sites : int
        Number of sites, for its share of the cores.
    folder : Path
        Its working directory: one that nobody but the run writes to. What is looked for in the working directory, a
        module or a library's settings, must not be found among somebody's scans.
    """

    host = "127.0.0.1"
    dying = 1.0

    def __init__(self, command: Sequence[str], log: Path, sites: int, folder: Path) -> None:
        self._command, self._log, self._folder = tuple(command), log, folder
        self._reservation = Reservation()
        self.token = secrets.token_urlsafe()
        self._environment = {**environment(self.port, sites), TOKEN: self.token}
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    @property
    def port(self) -> int:
        """Port on which the process listens, the same after a restart."""
        return self._reservation.port

    @property
    def pid(self) -> int:
        """Process id; 0 before the first start."""
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Exit status of a process that has ended; None before."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start the process, or start it again.

        Raises
        ------
        SimulatorError
            If the command cannot be run.
        """
        self.kill()
        self.starts += 1
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    env=self._environment,
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a group of its own: it and what it starts can be ended together
                    preexec_fn=die_with_parent(),
                )
        except OSError as error:
            raise SimulatorError("a node's command cannot be started", str(error)) from error

    def wait(self, seconds: float) -> bool:
        """Wait until the process has ended, at most so long; tell whether it has."""
        deadline = time.monotonic() + seconds
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.002)
        return not self.alive

    def terminate(self) -> None:
        """Ask the process to end."""
        if self._process and self.alive:
            self._process.terminate()

    def kill(self) -> None:
        """End the process and everything that it started, at once."""
        if self._process:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it ended by itself
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def tell(self, line: str) -> None:
        """Add a line to the node's log, if it takes one."""
        with contextlib.suppress(OSError), self._log.open("ab") as log:
            log.write(f"{line}\n".encode(errors="backslashreplace"))

    def last_lines(self, count: int = 8) -> str:
        """Return the end of what the process printed; nothing where the log is gone."""
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-count:])
        return ""

    def close(self) -> None:
        """End everything and give the port back."""
        self.kill()
        self._reservation.release()


class ProcessEngine:
    """Runs every node as a process of this machine.

    Parameters
    ----------
    command : sequence of str
        Starts a server on COINSTAC_PORT.
    layout : Layout
        The run's folders.
    sites : mapping
        Inputs of each site.
    """

    def __init__(self, command: Sequence[str], layout: Layout, sites: Mapping[str, Mapping[str, Any]]) -> None:
        self._command, self._layout, self._sites = tuple(command), layout, len(sites)

    def worker(self, client: str) -> NodeProcess:
        """Return a process that will run one node's server."""
        layout = self._layout
        return NodeProcess(self._command, layout.log(client), self._sites, layout.cache(client))

    def state(self, client: str) -> dict[str, Any]:
        """Return COINSTAC's `state` of a node: a process sees the paths as they are.

        A path with a byte that is no text here cannot travel as JSON; it is given from the node's working directory.
        """
        state, here = self._layout.state(client), self._layout.cache(client)
        if is_encodable(str(here)):
            return state
        return {name: os.path.relpath(value, here) if name != "clientId" else value for name, value in state.items()}

    def close(self) -> None:
        """Do nothing: processes leave nothing behind."""


def stop_all(processes: Iterable[Worker]) -> None:
    """End all workers: ask first, wait for all together, then kill what is left, and what they started."""
    processes = list(processes)
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _PATIENCE
    for process in processes:
        process.wait(deadline - time.monotonic())
        process.close()
