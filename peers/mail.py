"""Taking messages in: who waits for one thing leaves the others lying; what is unsound is dropped, and told.

Parts of protocols, to be used with `yield from`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator
from typing import Any, TypeAlias

import numpy as np

from peers.peer import Peer
from peers.requests import Message, Peers, Poll, Request, Send, Wait

__all__ = ["collect", "gather", "polled"]

Mail: TypeAlias = Generator[Request, Any, dict[str, Message]]

#: Messages of one sender that may lie unread; more are dropped, the newest first.
_MOST_KEPT = 256


def polled(peer: Peer, topic: str) -> Generator[Request, Any, list[Message]]:
    """Return the messages on a topic that have come, in their order; perhaps none."""
    _keep(peer, (yield Poll()))
    return _taken(peer, topic)


def collect(peer: Peer, topic: str, round: int, senders: Collection[str]) -> Mail:
    """Return one message of each sender on a topic and a round, by sender.

    Those that have gone, or have sent none after the peer's patience, are missing from the result: it is for the caller
    to say what that means. Messages of earlier rounds on this topic are dropped.
    """
    found: dict[str, Message] = {}
    deadline = peer.clock() + peer.patience
    while True:
        for message in _taken(peer, topic, round):
            if message.sender in senders and message.round == round:
                found.setdefault(message.sender, message)
        if found.keys() >= set(senders):
            return found
        left, alive = deadline - peer.clock(), (yield Peers())
        if left <= 0 or not any(name in alive for name in senders if name not in found):
            return found
        _keep(peer, (yield Wait(left)))


def gather(peer: Peer, topic: str, message: Message, among: Collection[str] | None = None) -> Mail:
    """Tell all others the same and return what each said, the own message too; by sender.

    Parameters
    ----------
    peer : Peer
        Who asks.
    topic : str
        What it is about; unlike that of any other gathering in the round.
    message : Message
        To all; its topic is the one above.
    among : collection of str, optional
        Names of those who gather, this peer among them; all by default.
    """
    others = [name for name in peer.others if among is None or name in among]
    for other in others:
        yield Send(other, message, reliable=True)
    found = yield from collect(peer, topic, message.round, others)
    return {peer.name: message, **found}


def _keep(peer: Peer, messages: list[Message]) -> None:
    """Put sound messages behind those that lie there."""
    for message in messages:
        if (fault := _fault(peer, message)) or sum(m.sender == message.sender for m in peer.kept) >= _MOST_KEPT:
            peer.refused(message.sender, fault or "too many messages that nobody waits for")
        else:
            peer.kept.append(message)


def _taken(peer: Peer, topic: str, until: int | None = None) -> list[Message]:
    """Take out the messages on a topic, where a round is given only those up to it."""
    taken = [one for one in peer.kept if one.topic == topic and (until is None or one.round <= until)]
    peer.kept = [one for one in peer.kept if one not in taken] if taken else peer.kept
    return taken


def _fault(peer: Peer, message: Message) -> str:
    """Say what is wrong with a message; nothing if it may be used."""
    if message.sender not in peer.others:
        return "its sender is not of this run"
    if not (math.isfinite(message.weight) and message.weight >= 0):
        return f"its weight is {message.weight}; wanted a number from 0"
    if message.values is None:
        return ""
    wanted = peer.learner.manifest.size
    if message.values.shape != (wanted,) or message.values.dtype != peer.learner.dtype:
        return f"it holds {message.values.size} values of {message.values.dtype}; wanted {wanted} of this run's model"
    return "" if np.isfinite(message.values).all() else "it holds values that are NaN or infinite"
