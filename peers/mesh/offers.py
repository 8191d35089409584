"""What a node offers, as it travels and as it is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from computation.errors import MessageError
from peers.mesh.keys import is_name
from peers.mesh.place import Place, distance
from peers.mesh.post import host_of

__all__ = ["DEVICES", "Criteria", "Offer"]

DEVICES = ("cpu", "cuda", "mps")
_ROLES = ("bootstrap", "provider", "requester")
_MOST_BYTES, _MOST_CORES = 2.0**53, 1 << 16


@dataclass(frozen=True, slots=True)
class Offer:
    """One node.

    Attributes
    ----------
    name, address, role : str
        Who it is, where it listens, what it does.
    key : bytes
        Its public key.
    device : str
        The best that was found there.
    memory, disk : float
        Bytes.
    cores : int
        That it gives.
    place : Place or None
        Where it says that it is.
    busy : bool
        Whether it works for somebody.
    """

    name: str
    address: str
    key: bytes
    role: str
    device: str = "cpu"
    memory: float = 0.0
    cores: int = 0
    place: Place | None = None
    disk: float = 0.0
    busy: bool = False

    @classmethod
    def read(cls, node: Any) -> Offer:
        """Return what a `Node` says.

        Raises
        ------
        MessageError
            If it cannot be.
        """
        host_of(node.address)
        if not is_name(node.id) or len(node.key) != 40 or node.role not in _ROLES or node.device not in DEVICES:
            raise MessageError(
                f"a node is not described as one: {node.id[:40]!r}, {node.role[:20]!r}, {node.device[:20]!r}"
            )
        sizes = (node.memory, node.disk)
        if not all(math.isfinite(size) and 0 <= size <= _MOST_BYTES for size in sizes) or node.cores > _MOST_CORES:
            raise MessageError(f"node {node.id} says that it has {node.memory} bytes and {node.cores} cores")
        place = Place(node.latitude, node.longitude) if node.placed else None
        kinds = node.id, node.address, bytes(node.key), node.role, node.device, node.memory, node.cores
        return cls(*kinds, place, node.disk, node.busy)

    def node(self) -> dict[str, Any]:
        """Return it as the fields of a `Node`."""
        fields = {name: getattr(self, name) for name in ("address", "key", "role", "device", "memory", "cores", "disk")}
        return {"id": self.name, "busy": self.busy, **fields, **_degrees(self.place)}


@dataclass(frozen=True)
class Criteria:
    """What a requester wants of each provider.

    Attributes
    ----------
    device : str
        One of `DEVICES`, or nothing for any.
    memory : float
        Bytes, at least.
    cores : int
        At least.
    place : Place or None
        From where it counts.
    kilometres : float
        At most; 0 for any.
    """

    device: str = ""
    memory: float = 0.0
    cores: int = 0
    place: Place | None = None
    kilometres: float = 0.0

    def fits(self, offer: Offer) -> bool:
        """Tell whether an offer is good enough; one without a place is nowhere near."""
        if offer.role != "provider" or offer.busy or self.device not in ("", offer.device):
            return False
        if offer.memory < self.memory or offer.cores < self.cores:
            return False
        return not (self.place and self.kilometres) or self.far(offer) <= self.kilometres

    def far(self, offer: Offer) -> float:
        """Return kilometres; infinite where nobody knows."""
        return distance(self.place, offer.place) if self.place and offer.place else math.inf

    @classmethod
    def read(cls, request: Any) -> Criteria:
        """Return what a `DiscoveryRequest` says; raises `MessageError`."""
        if request.device not in ("", *DEVICES) or not all(map(math.isfinite, (request.memory, request.distance))):
            raise MessageError(f"a search is for device {request.device[:20]!r}; wanted one of {', '.join(DEVICES)}")
        place = Place(request.latitude, request.longitude) if request.placed else None
        return cls(request.device, request.memory, request.cores, place, request.distance)

    def fields(self, count: int) -> dict[str, Any]:
        """Return it as the fields of a `DiscoveryRequest`."""
        own = {"device": self.device, "memory": self.memory, "cores": self.cores, "distance": self.kilometres}
        return {"peersRequested": count, **own, **_degrees(self.place)}


def _degrees(place: Place | None) -> dict[str, Any]:
    return {"placed": True, "latitude": place.latitude, "longitude": place.longitude} if place else {}
