"""Nodes as Docker containers: one for each site and one for the centre, shut in as far as COINSTAC's protocol allows.

A container gets the folders of its own node, the input read-only, under the paths that COINSTAC gives them; the
caller's user id; a read-only root with a small /tmp; and no network but a bridge without a way out, on which no
container reaches another. Only this machine reaches them there, at their own addresses.

Whatever happens to the run, its containers go: they are removed at its end or at the interpreter's exit; by a guard, a
process that waits for the simulator's death, if it was killed; and by the next run, which knows them by their labels,
if the whole machine went down.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from computation.errors import SimulatorError
from simulator.layout import CENTRE, RUN, Layout
from simulator.process import Engine, share

__all__ = ["IMAGE", "NETWORKS", "DockerEngine", "DockerNode", "DockerOptions", "remove_stale"]

#: The image that `make image` builds.
IMAGE = "coinstacteam/coinstac-meshnet"
#: `none`: no way out of the containers; `bridge`: Docker's own default network.
NETWORKS = ("none", "bridge")

_RUN_LABEL = "org.coinstac-meshnet.run"
_OWNER_LABEL = "org.coinstac-meshnet.owner"
_PORT = 8881  # where the image listens when nobody names a port, as on the platform
_SCRATCH = "rw,nosuid,nodev,size=512m,mode=1777"
_FLUSH = 2.0  # seconds in which the last lines of an ended container should have arrived
_REMOVAL = 20.0  # seconds in which containers and networks should be gone
_MEMORY = re.compile(r"\d+[bkmg]?", re.IGNORECASE)


@dataclass(frozen=True)
class DockerOptions:
    """What containers may use.

    Attributes
    ----------
    image : str
        Image of every node.
    gpus : str
        `all`, a number of GPUs, or `device=0,1`; none by default. Only sites get them.
    memory : str
        Most memory of a container, such as `4g`; no limit by default. Nothing is swapped beyond it.
    cpus : float
        Most processors of a container; no limit by default.
    network : str
        One of `NETWORKS`.
    """

    image: str = IMAGE
    gpus: str = ""
    memory: str = ""
    cpus: float = 0.0
    network: str = "none"

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise SimulatorError(f"network {self.network!r} is unknown; wanted {' or '.join(NETWORKS)}")
        if self.memory and not _MEMORY.fullmatch(self.memory):
            raise SimulatorError(f"memory {self.memory!r} is no size; wanted a number and b, k, m or g, such as 4g")
        if not 0 <= self.cpus < 10_000:
            raise SimulatorError(f"cpus {self.cpus:g} is out of range; wanted a positive number of processors")
        _device_ids(self.gpus)

    def engine(self, layout: Layout, sites: int) -> Engine:
        """Return an engine for one run, as `embedded.run` wants it."""
        return DockerEngine(self, layout, sites)


def _device_ids(gpus: str) -> tuple[int, list[str]]:
    """Return the number of GPUs (-1 for all) and the names of those that are wanted by name."""
    if gpus.startswith("device=") and all(gpus.removeprefix("device=").split(",")):
        return 0, gpus.removeprefix("device=").split(",")
    if gpus in ("", "all"):
        return (-1 if gpus else 0), []
    if gpus.isdecimal():
        return int(gpus), []
    raise SimulatorError(f"gpus {gpus!r} is unknown; wanted all, a number, or device=0,1")


class DockerEngine:
    """Runs every node of one consortium in a container of its own.

    Parameters
    ----------
    options : DockerOptions
        What containers may use.
    layout : Layout
        The run's folders.
    sites : int
        Number of sites, for their share of the cores.

    Raises
    ------
    SimulatorError
        If the SDK is not installed, no engine answers, or the image is not there.
    """

    def __init__(self, options: DockerOptions, layout: Layout, sites: int) -> None:
        self._options, self._layout, self._sites = options, layout, sites
        self._client = _connect()
        self._run = secrets.token_hex(4)
        self._labels = {_RUN_LABEL: self._run, _OWNER_LABEL: _identity()}
        self._network = ""
        self._rootless = False
        try:
            with _asking("the run could not be prepared"):
                self._prepare()
        except BaseException:
            self._client.close()
            raise
        self._guard = _start_guard(self._run)
        atexit.register(self.close)

    def _prepare(self) -> None:
        information = self._client.info()
        self._rootless = any("rootless" in option for option in information.get("SecurityOptions") or ())
        remove_stale(self._client)
        _need_image(self._client, self._options.image)
        if self._options.network == "none":
            _need_own_addresses(information)
            self._network = f"coinstac-meshnet-{self._run}"
            self._client.networks.create(
                self._network,
                driver="bridge",
                internal=True,
                labels=self._labels,
                options={"com.docker.network.bridge.enable_icc": "false"},
            )

    def worker(self, client: str) -> DockerNode:
        """Return a container, yet to be made, that will run one node's server."""
        return DockerNode(self._client, self._settings(client), self._layout.log(client), self._network)

    def state(self, client: str) -> dict[str, Any]:
        """Return COINSTAC's `state` of a node, with the paths that COINSTAC's containers have."""
        kinds = {"baseDirectory": "input", "outputDirectory": "output", "transferDirectory": "transfer"}
        folders = {name: f"/{kind}/{client}/{RUN}" for name, kind in kinds.items()}
        return {**folders, "cacheDirectory": "/tmp", "clientId": client}

    def close(self) -> None:
        """Remove every container and the network of this run."""
        atexit.unregister(self.close)
        try:
            with _asking("its containers could not be removed"):
                _remove(self._client, {"label": f"{_RUN_LABEL}={self._run}"})
        finally:
            self._client.close()
        self._guard.kill()  # only now: had this failed, the guard would try once more
        self._guard.communicate()

    def _settings(self, client: str) -> dict[str, Any]:
        """Return the options with which one node's container is made."""
        return {
            "image": self._options.image,
            "name": f"coinstac-meshnet-{self._run}-{client}",
            "labels": self._labels,
            "environment": {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(self._threads()))},
            "volumes": self._volumes(client),
            "user": self._user(),
            "read_only": True,
            "tmpfs": {"/tmp": _SCRATCH},
            "security_opt": ["no-new-privileges"],
            **self._limits(client),
            **({"network": self._network} if self._network else {"ports": {f"{_PORT}/tcp": ("127.0.0.1", None)}}),
        }

    def _threads(self) -> int:
        threads = share(self._sites)
        return max(1, min(threads, int(self._options.cpus))) if self._options.cpus else threads

    def _volumes(self, client: str) -> dict[str, dict[str, str]]:
        layout = self._layout
        folders = {"input": layout.base(client), "output": layout.output(client), "transfer": layout.transfer(client)}
        return {
            str(folder): {"bind": f"/{kind}/{client}/{RUN}", "mode": "ro" if kind == "input" else "rw"}
            for kind, folder in folders.items()
        }

    def _user(self) -> str | None:
        """Return the caller's ids, so that what a node writes is the caller's own."""
        if not hasattr(os, "getuid"):
            return None
        # A rootless engine's root is the caller, and any other user of it nobody.
        return "0:0" if self._rootless else f"{os.getuid()}:{os.getgid()}"

    def _limits(self, client: str) -> dict[str, Any]:
        options, limits = self._options, dict[str, Any]()
        if options.memory:
            limits.update(mem_limit=options.memory, memswap_limit=options.memory)
        if options.cpus:
            limits.update(nano_cpus=int(options.cpus * 1e9))
        count, names = _device_ids(options.gpus)
        if client != CENTRE and (count or names):
            from docker.types import DeviceRequest

            limits["device_requests"] = [
                DeviceRequest(count=count, device_ids=names or None, capabilities=[["gpu"]], driver="nvidia")
            ]
        return limits


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
        self._client, self._settings, self._log, self._network = client, settings, log, network
        self._container: Any = None
        self._reader: threading.Thread | None = None
        self.host, self.port = "", _PORT
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
        with _asking("the state of a container could not be read"):
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
        self._remove()
        self.starts += 1
        with _asking("a container could not be started"):
            self._container = self._client.containers.create(**self._settings, detach=True)
            self._container.start()
            self._container.reload()
        self.host, self.port = self._address()
        self._reader = threading.Thread(target=self._follow, args=(self._container,), daemon=True)
        self._reader.start()

    def _address(self) -> tuple[str, int]:
        found = self._container.attrs["NetworkSettings"]
        if self._network:
            return str(found["Networks"][self._network]["IPAddress"]), _PORT
        published = (found["Ports"].get(f"{_PORT}/tcp") or [{}])[0]  # none if it has ended already
        return "127.0.0.1", int(published.get("HostPort", _PORT))

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
        """Add a line to the node's log."""
        with self._log.open("ab") as log:
            log.write(f"{line}\n".encode())

    def last_lines(self, count: int = 8) -> str:
        """Return the end of what the container printed, and how it ended if it has."""
        if not self.alive:
            self._conclude()
        return "\n".join(self._log.read_bytes()[-4096:].decode(errors="replace").splitlines()[-count:])

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
        self._remove()

    def _remove(self) -> None:
        if self._container is None:
            return
        with _asking("a container could not be removed"):
            from docker.errors import NotFound

            with contextlib.suppress(NotFound):
                if not self.alive:
                    self._conclude()
                _take_away(self._container)
        self._container = None


def remove_stale(client: Any) -> int:
    """Remove the containers and networks of runs on this machine whose simulator is no longer there.

    Parameters
    ----------
    client : docker.DockerClient
        Speaks to the engine.

    Returns
    -------
    int
        How many runs left something behind.
    """
    from docker.errors import APIError

    things = [*client.containers.list(all=True, filters={"label": _RUN_LABEL}, ignore_removed=True)]
    labels = [thing.labels for thing in things]
    labels += [thing.attrs["Labels"] for thing in client.networks.list(filters={"label": _RUN_LABEL})]
    stale = {label[_RUN_LABEL] for label in labels if _gone(label.get(_OWNER_LABEL, ""))}
    for run in sorted(stale):
        # Not being able to clear up after others is no reason to refuse a run.
        with contextlib.suppress(APIError):
            _remove(client, {"label": f"{_RUN_LABEL}={run}"})
    return len(stale)


def _remove(client: Any, filters: dict[str, str]) -> None:
    """Remove the containers and networks that pass some filters; somebody else may be about it at the same time."""
    from docker.errors import APIError

    deadline = time.monotonic() + _REMOVAL
    while True:
        containers = client.containers.list(all=True, filters=filters, ignore_removed=True)
        networks = client.networks.list(filters=filters)
        removals = [partial(container.remove, force=True, v=True) for container in containers]
        removals += [network.remove for network in networks]
        if not removals:
            return
        for remove in removals:
            try:
                remove()
            except APIError:  # it is gone, or going; what is still there is tried again
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def _take_away(container: Any) -> None:
    """Remove a container, or wait for whoever is removing it already, such as the guard of a dead run."""
    from docker.errors import APIError, NotFound

    try:
        container.remove(force=True, v=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != 409:
            raise
        with contextlib.suppress(NotFound):
            container.wait(condition="removed", timeout=30)


def _identity() -> str:
    """Return what tells this process from every other: machine, process id, and when it started."""
    return f"{_machine()} {os.getpid()} {_birth(os.getpid())}"


def _gone(identity: str) -> bool:
    """Whether a process of this machine is no longer there; one of another machine is never taken for gone."""
    machine, _, process = identity.rpartition(" ")[0].rpartition(" ")
    if machine != _machine() or not process.isdecimal():
        return False
    return _birth(int(process)) != identity.rpartition(" ")[2]


def _machine() -> str:
    """Return this machine's name, and on Linux which of its process namespaces this is."""
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _birth(process: int) -> str:
    """Return when a process started, as far as the system tells; empty if there is none."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except OSError:  # another user's
        return "alive"
    return "alive"


def _start_guard(run: str) -> subprocess.Popen[bytes]:
    """Start the process that removes the containers of a run when this one dies, however it dies."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "simulator.docker_engine", run]
    # In a session of its own, so that a Ctrl-C on the terminal does not reach it.
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}, start_new_session=True
    )


def _stand_guard(run: str) -> None:
    """Wait until the simulator has closed its end of our standard input by dying, then clear up after it."""
    sys.stdin.read()
    _remove(_connect(), {"label": f"{_RUN_LABEL}={run}"})


def _connect() -> Any:
    try:
        import docker
    except ImportError as error:
        raise SimulatorError(
            "the Docker SDK for Python is not installed; install coinstac-meshnet[docker]", str(error)
        ) from error
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        client = docker.from_env()
        client.ping()
    except (DockerException, RequestException, OSError) as error:
        raise SimulatorError(
            "no Docker Engine answers; start Docker, or simulate without --engine docker", str(error)
        ) from error
    return client


def _need_image(client: Any, image: str) -> None:
    from docker.errors import ImageNotFound

    try:
        client.images.get(image)
    except ImageNotFound as error:
        raise SimulatorError(
            f"there is no image {image}; build it with `make image`, or name one with --image"
        ) from error


def _need_own_addresses(information: dict[str, Any]) -> None:
    """Refuse an engine in a virtual machine, whose containers' own addresses lead nowhere."""
    if sys.platform != "linux" or "Docker Desktop" in information.get("OperatingSystem", ""):
        raise SimulatorError("Docker Desktop cannot reach containers that have no network; give --network bridge")


@contextlib.contextmanager
def _asking(failure: str) -> Iterator[None]:
    """Say in our words what the engine refused, and in its own why."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except (DockerException, RequestException) as error:
        raise SimulatorError(f"Docker: {failure}: {_reason(error)}", str(error)) from error


def _reason(error: Exception) -> str:
    text = str(getattr(error, "explanation", None) or error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


if __name__ == "__main__":
    _stand_guard(sys.argv[1])
