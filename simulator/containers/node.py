"""The container of one node, over all its restarts."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from pathlib import Path
from typing import Any

from computation.coinstac.admission import TOKEN
from simulator.containers.client import asking
from simulator.containers.removal import remove_container

__all__ = ["PORT", "DockerNode"]

#: Where the image listens when nobody names a port, as on the platform.
PORT = 8881

_FLUSH = 2.0  # seconds in which the last lines of an ended container should have arrived


class DockerNode:
    """The container of one node, over all its restarts.

    Parameters
    ----------
    client : docker.DockerClient
        Speaks to the engine.
    settings : dict
        Options of the container.
    log : Path
        Where everything that it prints is appended while it runs.
    network : str
        Network on which the container is reached at its own address; empty where its port is published instead.
    """

    dying = 10.0

    def __init__(self, client: Any, settings: dict[str, Any], log: Path, network: str) -> None:
        self.token = secrets.token_urlsafe()
        given = {**settings, "environment": {**settings.get("environment", {}), TOKEN: self.token}}
        self._client, self._settings, self._log, self._network = client, given, log, network
        self._container: Any = None
        self._reader: threading.Thread | None = None
        self.host, self.port = "", PORT
        self.starts = 0

    @property
    def pid(self) -> int:
        """Process id on the engine's machine; 0 before the first start."""
        return int(self._container.attrs["State"]["Pid"]) if self._container else 0

    @property
    def alive(self) -> bool:
        """Whether the container runs."""
        if self._container is None:
            return False
        with asking("the state of a container could not be read"):
            from docker.errors import NotFound

            try:
                self._container.reload()
            except NotFound:
                return False
            return str(self._container.status) == "running"

    def start(self) -> None:
        """Make a container and start it; one that ended is removed first, as its /tmp is gone anyway.

        Raises
        ------
        SimulatorError
            If the engine refuses.
        """
        self.close()
        self.starts += 1
        with asking("a container could not be started"):
            self._container = self._client.containers.create(**self._settings, detach=True)
            self._container.start()
            self._container.reload()
        self.host, self.port = self._address()
        self._reader = threading.Thread(target=self._follow, args=(self._container,), daemon=True)
        self._reader.start()

    def _address(self) -> tuple[str, int]:
        found = self._container.attrs["NetworkSettings"]
        if self._network:
            return str(found["Networks"][self._network]["IPAddress"]), PORT
        published = (found["Ports"].get(f"{PORT}/tcp") or [{}])[0]  # none if it has ended already
        return "127.0.0.1", int(published.get("HostPort", PORT))

    def _follow(self, container: Any) -> None:
        """Append to the log what the container prints, until it ends or is removed."""
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        with contextlib.suppress(DockerException, RequestException, OSError), self._log.open("ab", 0) as log:
            for piece in container.logs(stream=True, follow=True):
                log.write(piece)

    def wait(self, seconds: float) -> bool:
        """Wait until the container has ended, at most so long; tell whether it has."""
        deadline = time.monotonic() + seconds
        while self.alive:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        return True

    def terminate(self) -> None:
        """Ask the server to end."""
        from docker.errors import APIError

        with contextlib.suppress(APIError):  # it has ended
            if self._container is not None:
                self._container.kill("SIGTERM")

    def tell(self, line: str) -> None:
        """Add a line to the node's log, if it takes one."""
        with contextlib.suppress(OSError), self._log.open("ab") as log:
            log.write(f"{line}\n".encode(errors="backslashreplace"))

    def last_lines(self, count: int = 8) -> str:
        """Return the end of what the container printed, and how it ended if it has."""
        if not self.alive:
            self._conclude()
        with contextlib.suppress(OSError):
            return "\n".join(self._log.read_bytes()[-4096:].decode(errors="replace").splitlines()[-count:])
        return ""

    def _conclude(self) -> None:
        """Have all that an ended container printed in the log, and how it ended if not in peace."""
        if self._reader is None:
            return
        self._reader.join(_FLUSH)
        self._reader = None
        state = self._container.attrs["State"]
        if state["ExitCode"]:
            why = "; it needed more memory than its limit" if state.get("OOMKilled") else ""
            self.tell(f"the container ended with status {state['ExitCode']}{why}")

    def close(self) -> None:
        """Remove the container, running or not."""
        if self._container is None:
            return
        with asking("a container could not be removed"):
            if not self.alive:
                self._conclude()
            remove_container(self._client, self._container)
        self._container = None
