"""Runs the nodes of one consortium as Docker containers.

A container gets the folders of its own node, the input read-only, under the paths that COINSTAC gives them; the
caller's user id; a read-only root with a small /tmp; and no network but a bridge without a way out, on which no
container reaches another. Only this machine reaches them there, at their own addresses.
"""

from __future__ import annotations

import atexit
import os
import secrets
from collections.abc import Mapping
from typing import Any

from simulator.containers import guard, wandb
from simulator.containers.client import asking, connect, need_image, need_own_addresses
from simulator.containers.node import PORT, DockerNode
from simulator.containers.options import DockerOptions, device_ids
from simulator.containers.removal import labels, remove_run, remove_stale
from simulator.layout import CENTRE, RUN, Layout
from simulator.process import share, threads

__all__ = ["DockerEngine"]

_SCRATCH = "rw,nosuid,nodev,size=512m,mode=1777"


class DockerEngine:
    """Runs every node of one consortium in a container of its own.

    Parameters
    ----------
    options : DockerOptions
        What containers may use.
    layout : Layout
        The run's folders.
    sites : mapping
        Inputs of each site.

    Raises
    ------
    SimulatorError
        If the SDK is not installed, no engine answers, or the image is not there.
    """

    def __init__(self, options: DockerOptions, layout: Layout, sites: Mapping[str, Mapping[str, Any]]) -> None:
        self._options, self._layout, self._sites = options, layout, sites
        self._client = connect()
        self._run = secrets.token_hex(4)
        self._labels = labels(self._run)
        self._network = ""
        self._rootless = False
        try:
            with asking("the run could not be prepared"):
                self._prepare()
        except BaseException:
            self._client.close()
            raise
        self._guard = guard.start(self._run)
        atexit.register(self.close)

    def _prepare(self) -> None:
        information = self._client.info()
        self._rootless = any("rootless" in option for option in information.get("SecurityOptions") or ())
        remove_stale(self._client)
        need_image(self._client, self._options.image)
        if self._options.network == "none":
            need_own_addresses(information)
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
            with asking("its containers could not be removed"):
                remove_run(self._client, self._run)
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
            "environment": self._environment(client),
            "volumes": self._volumes(client),
            "user": self._user(),
            "read_only": True,
            "tmpfs": {"/tmp": _SCRATCH},
            "security_opt": ["no-new-privileges"],
            **self._limits(client),
            **({"network": self._network} if self._network else {"ports": {f"{PORT}/tcp": ("127.0.0.1", None)}}),
        }

    def _environment(self, client: str) -> dict[str, str]:
        return {"OMP_NUM_THREADS": threads(self._threads()), **wandb.variables(self._sites.get(client, {}))}

    def _threads(self) -> int:
        fair = share(len(self._sites))
        return max(1, min(fair, int(self._options.cpus))) if self._options.cpus else fair

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
        count, names = device_ids(options.gpus)
        if client != CENTRE and (count or names):
            from docker.types import DeviceRequest

            limits["device_requests"] = [
                DeviceRequest(count=count, device_ids=names or None, capabilities=[["gpu"]], driver="nvidia")
            ]
        return limits
