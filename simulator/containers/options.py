"""What the containers of a run may use."""

from __future__ import annotations

import re
from dataclasses import dataclass

from computation.errors import SimulatorError

__all__ = ["IMAGE", "NETWORKS", "DockerOptions", "device_ids"]

#: The image that `make image` builds.
IMAGE = "coinstacteam/coinstac-meshnet"
#: `none`: no way out of the containers; `bridge`: Docker's own default network.
NETWORKS = ("none", "bridge")

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
        device_ids(self.gpus)


def device_ids(gpus: str) -> tuple[int, list[str]]:
    """Return the number of GPUs (-1 for all) and the names of those that are wanted by name."""
    if gpus.startswith("device=") and all(gpus.removeprefix("device=").split(",")):
        return 0, gpus.removeprefix("device=").split(",")
    if gpus in ("", "all"):
        return (-1 if gpus else 0), []
    if gpus.isdecimal():
        return int(gpus), []
    raise SimulatorError(f"gpus {gpus!r} is unknown; wanted all, a number, or device=0,1")
