"""How providers are found: bootstrap nodes first, then neighbours, and theirs, until enough fit."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from computation.errors import MessageError, PeersError
from peers.mesh.node import Member
from peers.mesh.offers import Criteria, Offer
from peers.mesh.place import refuted

__all__ = ["Found", "commonest", "search"]

_MOST_VISITED, _MOST_ASKED = 64, 256


@dataclass(frozen=True)
class Found:
    """A provider and how long it took to answer, in seconds."""

    offer: Offer
    round_trip: float


def search(
    member: Member, criteria: Criteria, count: int, told: Callable[[str], None] = lambda _: None
) -> tuple[Found, ...]:
    """Return providers that fit and answer, the quickest first.

    Parameters
    ----------
    member : Member
        Who asks; its contacts are asked first, then who was met before.
    criteria : Criteria
        What is wanted of each.
    count : int
        How many are wanted; more may be returned.
    told : callable
        Hears of those who are left out.

    Raises
    ------
    PeersError
        If no node answers at all.
    """
    ways = deque((one.address, member.known.key(one.name)) for one in member.contacts)
    ways.extend((one.address, one.key) for one in member.remembered())
    visited, offers, answered = set[str](), dict[str, Offer](), 0
    while ways and len(visited) < _MOST_VISITED and len(offers) < count:
        address, key = ways.popleft()
        if address in visited:
            continue
        visited.add(address)
        answer = member.ask(address, key, discoveryRequest=criteria.fields(min(count + 8, _MOST_ASKED)))
        if answer is None or not answer.HasField("discoveryResponse"):
            continue
        answered += 1
        told_of = answer.discoveryResponse
        if told_of.redirect:
            # Nearer first; whoever sent us on may still know others.
            ways.appendleft((told_of.redirect, bytes(told_of.redirectKey)))
            continue
        for offer in _offers(told_of.availablePeers, told):
            ways.append((offer.address, offer.key))
            if criteria.fits(offer):
                offers[offer.name] = offer
    if not answered:
        raise PeersError("no bootstrap node answers, nor a node that was met before; wanted one: look at its address")
    member.remember(list(offers.values()))
    return _measured(member, criteria, offers, told)


def _offers(nodes: object, told: Callable[[str], None]) -> list[Offer]:
    found = []
    for node in nodes:  # type: ignore[attr-defined]  # a repeated field
        try:
            found.append(Offer.read(node))
        except (MessageError, PeersError) as error:
            told(f"a node is left out: {error.public}")
    return found


def _measured(
    member: Member, criteria: Criteria, offers: dict[str, Offer], told: Callable[[str], None]
) -> tuple[Found, ...]:
    """Leave out who is not known, does not answer, or cannot be where it says."""
    found = []
    for name, offer in sorted(offers.items()):
        if member.known.name(offer.key) != name:
            told(f"{name} is left out: its key is not known here")
            continue
        began = time.monotonic()
        if member.ask(offer.address, offer.key, acknowledgement={"note": "there?"}) is None:
            told(f"{name} is left out: it does not answer")
            continue
        seconds = time.monotonic() - began
        if offer.place and criteria.place and refuted(criteria.far(offer), seconds):
            told(f"{name} answers sooner than it can from where it says that it is; its place is not believed")
            offer = replace(offer, place=None)
            if criteria.kilometres:
                continue
        found.append(Found(offer, seconds))
    return tuple(sorted(found, key=lambda one: (one.round_trip, one.offer.name)))


def commonest(found: tuple[Found, ...]) -> str:
    """Return the device that most have, of equally many the first by name."""
    counts = Counter(one.offer.device for one in found)
    return min(counts, key=lambda device: (-counts[device], device)) if counts else ""
