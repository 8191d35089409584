"""All that a protocol may ask of the network: it yields one of these and is sent the answer.

Each has a kind. A protocol declares the kinds that it needs, an engine those that it offers, and `require` refuses a
pair that does not fit before anything has begun.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias, TypeVar

from computation.errors import PeersError
from computation.wire.payload import Vector

__all__ = [
    "COLLECTIVE",
    "CONTENT",
    "MEASUREMENT",
    "MEMBERSHIP",
    "POINT",
    "PUBSUB",
    "Broadcast",
    "Drop",
    "Get",
    "Mean",
    "Message",
    "Peers",
    "Poll",
    "Publish",
    "Put",
    "Report",
    "Request",
    "Send",
    "Steps",
    "Wait",
    "driven",
    "passed_on",
    "require",
]

T = TypeVar("T")

COLLECTIVE, POINT, PUBSUB, CONTENT, MEMBERSHIP, MEASUREMENT = (
    "collective",
    "point to point",
    "publish and subscribe",
    "content",
    "membership",
    "measurement",
)


@dataclass(frozen=True, eq=False)
class Message:
    """What one peer tells another.

    Attributes
    ----------
    topic : str
        What it is about: who waits for something else leaves it lying.
    round : int
        The sender's, from 1; 0 before the first.
    values : numpy.ndarray or None
        Flat vector in the manifest's order.
    weight : float
        That goes with the values; finite, not negative.
    text : str
        JSON of a small message, or nothing.
    sender : str
        Who sent it. The engine fills it in from the link: no peer can speak for another.
    refused : bool
        Whether its values were taken off because they could be no model, which has been told.
    """

    topic: str
    round: int = 0
    values: Vector | None = None
    weight: float = 1.0
    text: str = ""
    sender: str = ""
    refused: bool = False


@dataclass(frozen=True, eq=False)
class Mean:
    """Ask for `sum(weight * values) / sum(weight)` over all peers, the same bits at each; all ask together.

    A peer with weight 0 takes part and does not count. Where all weights are 0 the answer is nothing.

    Attributes
    ----------
    values : numpy.ndarray
        Of one shape and dtype at all.
    weight : float
        Of this peer's; finite, not negative.
    most : float
        To which all weights together may come, the same at all: beyond it somebody brings more than it said before.
    """

    values: Vector
    weight: float
    most: float = math.inf
    kind: ClassVar[str] = COLLECTIVE


@dataclass(frozen=True, eq=False)
class Broadcast:
    """Ask for the root's values; all ask together, each with values of one shape and dtype."""

    values: Vector
    root: str
    kind: ClassVar[str] = COLLECTIVE


@dataclass(frozen=True, eq=False)
class Send:
    """Give a message to one other peer. It never waits, and its values are copied. The answer is nothing.

    A network that loses messages loses this one too, unless it is to be reliable: then it is sent again.
    """

    to: str
    message: Message
    reliable: bool = False
    kind: ClassVar[str] = POINT


@dataclass(frozen=True)
class Poll:
    """Ask for the messages that have come, in the order in which they came; perhaps none."""

    kind: ClassVar[str] = POINT


@dataclass(frozen=True)
class Wait:
    """Ask for the messages that have come: at least one, or none after so many seconds or when a peer has gone."""

    seconds: float
    kind: ClassVar[str] = POINT


@dataclass(frozen=True)
class Publish:
    """Give a text of at most 64 kB to everybody; it comes like a message, and nobody knows whom it reached."""

    topic: str
    text: str
    kind: ClassVar[str] = PUBSUB


@dataclass(frozen=True)
class Put:
    """Keep some content where others find it; the answer is its address (`peers.cid`).

    Attributes
    ----------
    content : bytes
        What to keep.
    lasting : bool
        Whether others should find it by its address alone; else it will soon be replaced, and only who is told asks.
    """

    content: bytes
    lasting: bool = True
    kind: ClassVar[str] = CONTENT


@dataclass(frozen=True)
class Get:
    """Ask for the content at an address; the answer is nothing after so many seconds.

    Who gets it keeps it, and others find it there. With 0 seconds the answer is what is kept here already; where that
    is nothing, it is fetched meanwhile, so that asking again later finds it.

    Attributes
    ----------
    address : str
        Of the content.
    seconds : float
        See above.
    holder : str
        Who is known to have it, and may be asked first.
    lasting : bool
        Whether others should find it here by its address alone; else it will soon be replaced, and only who is told
        asks for it.
    """

    address: str
    seconds: float
    holder: str = ""
    lasting: bool = True
    kind: ClassVar[str] = CONTENT


@dataclass(frozen=True)
class Drop:
    """Keep the content at an address no longer. The answer is nothing."""

    address: str
    kind: ClassVar[str] = CONTENT


@dataclass(frozen=True)
class Peers:
    """Ask who is alive, as far as is known; the answer is a sorted tuple of names, with the own one."""

    kind: ClassVar[str] = MEMBERSHIP


@dataclass(frozen=True)
class Report:
    """Tell what was done. The answer is nothing.

    Attributes
    ----------
    round : int
        From 1.
    batches, samples : int
        Worked through since the last report: in virtual time they take time.
    loss : float or None
        Mean over them.
    closed : bool
        Whether the round is over: the learner and the peer's memory can be written down, and gone on from.
    counted : tuple of str
        Who is in a closed round's model, as far as the protocol knows; nobody where it is that of the round before.
    skipped : mapping of str
        Who is not in it because of what it sent, and why.
    clipped : tuple of str
        Whose model is in it scaled down.
    numbers : dict of float
        What else the protocol measured, by name.
    """

    round: int
    batches: int = 0
    samples: int = 0
    loss: float | None = None
    closed: bool = False
    counted: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    clipped: tuple[str, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    kind: ClassVar[str] = MEASUREMENT


Request: TypeAlias = Mean | Broadcast | Send | Poll | Wait | Publish | Put | Get | Drop | Peers | Report

#: A protocol at work; it ends when the peer has done all its rounds.
Steps: TypeAlias = Generator[Request, Any, None]


def driven(steps: Generator[Request, Any, T], perform: Callable[[Request], Any]) -> T:
    """Perform a generator's requests one after the other, to its end; return its result."""
    answer: Any = None
    try:
        while True:
            answer = perform(steps.send(answer))
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        steps.close()


def passed_on(steps: Generator[Request, Any, T], change: Callable[[Request], Request]) -> Generator[Request, Any, T]:
    """Pass a generator's requests on, as `change` makes them, or only sees them; and the answers as they are."""
    answer: Any = None
    while True:
        try:
            request = steps.send(answer)
        except StopIteration as end:
            value: T = end.value
            return value
        answer = yield change(request)


def require(protocol: str, needs: Iterable[str], engine: str, offers: Iterable[str]) -> None:
    """Refuse a protocol on an engine that cannot carry it.

    Raises
    ------
    PeersError
        Naming both, and what is missing.
    """
    missing = sorted(set(needs) - set(offers))
    if missing:
        raise PeersError(
            f"protocol {protocol} needs {' and '.join(missing)}, which engine {engine} does not carry; "
            "`coinstac-meshnet peers --list` says which protocol runs on which engine"
        )
