"""A bootstrap node: it knows who is there, and sends those who are elsewhere to one that is nearer to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from computation.errors import MessageError
from peers.mesh import letters, post
from peers.mesh.keys import Known, Pair
from peers.mesh.node import Contact, Member, discovered, nearest
from peers.mesh.offers import Criteria, Offer
from peers.mesh.place import Place
from peers.mesh.registry import Registry

__all__ = ["Bootstrap"]


class Bootstrap:
    """Global when it knows no other; local when it is registered with another.

    Parameters
    ----------
    pair, known : Pair and Known
        Keys.
    registry : Registry
        Of those who are there.
    host, port : str and int
        Where to listen.
    place : Place, optional
        Where it is.
    contacts : sequence of Contact
        Bootstrap nodes above this one.
    told : callable
        Hears what was refused.
    allowed : collection of str
        IP addresses that may connect; all when empty.
    cache : Path, optional
        Where nodes that were met are remembered.
    """

    def __init__(
        self,
        pair: Pair,
        known: Known,
        registry: Registry,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        place: Place | None = None,
        contacts: Sequence[Contact] = (),
        told: Callable[[str], None] = lambda _: None,
        allowed: Collection[str] = (),
        cache: Path | None = None,
    ) -> None:
        self.registry = registry
        self._offer = Offer(pair.name, f"tcp://{host}:1", pair.public, "bootstrap", place=place)
        self._server = post.Server(pair, known, self._handle, host=host, port=port, told=told, allowed=allowed)
        self._offer = replace(self._offer, address=self._server.address)
        self._member = Member(pair, known, lambda: self._offer, contacts, cache, told)
        if contacts:
            self._member.stay()

    @property
    def address(self) -> str:
        """Where it listens."""
        return self._server.address

    def _handle(self, name: str, message: Any) -> Any:
        match message.WhichOneof("payload"):
            case "registration":
                return self._answer(message, registrationResponse=self._registered(name, message))
            case "discoveryRequest":
                return self._answer(message, discoveryResponse=discovered(self.registry, message, self._offer))
        raise MessageError(f"{name} sent a {message.WhichOneof('payload')} to a bootstrap node; wanted a registration")

    def _answer(self, message: Any, **content: Any) -> Any:
        return letters.answer(message, self._offer.name, self.address, **content)

    def _registered(self, name: str, message: Any) -> dict[str, Any]:
        offer = Offer.read(message.registration.node)
        if offer.name != name:
            raise MessageError(f"{name} registers {offer.name}; wanted itself")
        caller = {"callerAddr": message.senderIpAddress}
        if message.registration.leave:
            self.registry.leave(name)
            return caller
        near = nearest(self.registry, Criteria(place=offer.place), self._offer)
        if near and offer.role != "bootstrap":
            self.registry.leave(name)
            return {**caller, "redirect": near.address, "redirectKey": near.key}
        return {**caller, "lease": self.registry.renew(offer)}

    def close(self) -> None:
        """Leave and stop."""
        self._member.leave()
        self._server.close()
