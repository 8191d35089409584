"""Taking messages in: who waits for one thing leaves the others lying; what is unsound is dropped, and told.

Parts of protocols, to be used with `yield from`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

import numpy as np

from computation.checks import parse_json
from computation.errors import MeshNetError, MessageError
from computation.federation import claims, foreign
from computation.wire.payload import Vector
from peers.message import LONGEST_HEAD
from peers.peer import Peer
from peers.requests import Message, Peers, Poll, Request, Send, Steps, Wait

__all__ = ["awaited", "collect", "gather", "is_model", "polled", "said", "sign", "unsound"]

T = TypeVar("T")
Mail: TypeAlias = Generator[Request, Any, dict[str, Message]]

#: Messages of one sender that may lie unread; more are dropped, the newest first.
_MOST_KEPT = 256
#: What a peer says that only wants to be known to be there.
_ALIVE = "alive"


def polled(peer: Peer, topic: str) -> Generator[Request, Any, list[Message]]:
    """Return the messages on a topic that have come, in their order; perhaps none."""
    _keep(peer, (yield Poll()))
    return _taken(peer, topic)


def awaited(peer: Peer, topics: Collection[str], seconds: float) -> Generator[Request, Any, list[Message]]:
    """Return the messages on some topics that have come, in their order; where none has, wait so long for any."""
    _keep(peer, (yield Poll()))
    if seconds > 0 and not any(one.topic in topics for one in peer.kept):
        _keep(peer, (yield Wait(seconds)))
    taken = [one for one in peer.kept if one.topic in topics]
    peer.kept = [one for one in peer.kept if one.topic not in topics]
    return taken


def sign(peer: Peer) -> Steps:
    """Let all others know that this peer is there, though it has nothing to say yet."""
    for other in peer.others:
        yield Send(other, Message(_ALIVE))


def collect(peer: Peer, topic: str, round: int, senders: Collection[str], patience: float | None = None) -> Mail:
    """Return one message of each sender on a topic and a round, by sender.

    Those that have gone, or of whom nothing at all was heard for the peer's patience, are missing from the result: it
    is for the caller to say what that means. Messages of earlier rounds on this topic are dropped.

    Parameters
    ----------
    peer : Peer
        Who collects.
    topic, round : str and int
        What the messages are about.
    senders : collection of str
        Who shall have sent one.
    patience : float, optional
        Seconds, other than the peer's.
    """
    found: dict[str, Message] = {}
    began, patience = peer.clock(), peer.patience if patience is None else patience
    while True:
        for message in _taken(peer, topic, round):
            if message.sender in senders and message.round == round:
                found.setdefault(message.sender, message)
        if found.keys() >= set(senders):
            return found
        alive = yield Peers()
        awaited = [max(began, peer.heard.get(name, began)) for name in senders if name not in found and name in alive]
        left = max(awaited, default=began - patience) + patience - peer.clock()
        if left <= 0:
            return found
        _keep(peer, (yield Wait(left)))


def gather(
    peer: Peer,
    topic: str,
    message: Message,
    among: Collection[str] | None = None,
    patience: float | None = None,
) -> Mail:
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
    patience : float, optional
        Seconds, other than the peer's.
    """
    others = [name for name in peer.others if among is None or name in among]
    for other in others:
        yield Send(other, message, reliable=True)
    found = yield from collect(peer, topic, message.round, others, patience)
    return {peer.name: message, **found}


def said(sender: str, message: Message, parse: Callable[[Any], T]) -> T:
    """Return what a peer said in the text of a message.

    Raises
    ------
    MeshNetError
        As `parse` does, or if the text is no JSON; it names the peer.
    """

    def read(text: str) -> T:
        try:
            plain = parse_json(text[: LONGEST_HEAD + 1])
        except ValueError as error:
            raise MessageError(f"its message on {message.topic!r} is not JSON", str(error)) from error
        return parse(plain)

    return foreign.read(f"peer {sender}", read, message.text)


def is_model(peer: Peer, message: Message, values: Vector | None = None) -> bool:
    """Tell whether a message's values, or others, are a model that can be computed with.

    Of what is not, the sender is told of by name.
    """
    if (fault := unsound(peer, message.values if values is None else values)) and not message.refused:
        peer.refused(message.sender, fault)
    return not fault


def unsound(peer: Peer, values: Vector | None) -> str:
    """Say why values are no model that can be computed with; nothing if they are one."""
    if values is None:
        return "a model without values"
    try:
        claims.check_values(peer.learner.manifest, values)
    except MeshNetError as error:
        return error.public
    return ""


def _keep(peer: Peer, messages: list[Message]) -> None:
    """Put sound messages behind those that lie there, and note of whom something was heard."""
    for message in messages:
        peer.heard[message.sender] = peer.clock()
        if message.topic == _ALIVE:
            continue
        if (fault := _fault(peer, message)) or sum(m.sender == message.sender for m in peer.kept) >= _MOST_KEPT:
            peer.refused(message.sender, fault or "too many messages that nobody waits for")
            continue
        if odd := _odd(peer, message):
            peer.refused(message.sender, odd)
            # Its sender has spoken: who waits for it waits no longer.
            message = replace(message, values=None, refused=True)
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
    # A weight is a share of a whole that is 1 for each peer, of which nobody can have more than all; or what the peer
    # joined with.
    most = max(len(peer.names), peer.weights[message.sender])
    if not 0 <= message.weight <= most:
        return f"its weight is {message.weight:g}; wanted a number from 0 to {most:g}"
    return ""


def _odd(peer: Peer, message: Message) -> str:
    """Say why a message's values are none of this run's models; nothing if they may be."""
    if message.values is None:
        return ""
    wanted = peer.learner.manifest.size
    if message.values.shape != (wanted,) or message.values.dtype != peer.learner.dtype:
        return f"it holds {message.values.size} values of {message.values.dtype}; wanted {wanted} of this run's model"
    return "" if np.isfinite(message.values).all() else "it holds values that are NaN or infinite"
