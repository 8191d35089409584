"""LEARNAE: nodes without a coordinator share slices of data and models, and average with one another as they like.

Nikolaidis and Refanidis 2019, "LEARNAE: distributed and resilient deep neural network training for heterogeneous peer
to peer topologies", and 2020, "Privacy preserving distributed training of neural networks". Every node::

    listening:  a list of slices -> to be fetched;  a model -> to be averaged with;  a use -> used[s].add(sender)
    training:   choose a slice s that is here with |used[s]| < T; learn from it; after a cycle: maturity <- maturity + 1
    telling:    publish what was learned from since; put the model; publish (address, accuracy, maturity)
    averaging:  a remote model that passes the rule of acceptance:  x <- (1 - w) x + w x_r

The papers' figures show the two work flows, their text does not state them; so three rules are choices of ours, and
settings: the slice that was used least is chosen, ties by chance; a model is accepted whose maturity is at least half
of ours and whose accuracy is not worse than ours by more than `delta`; its weight w is 1/2, or goes by maturity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from computation.errors import PeersError
from peers.peer import Peer
from peers.protocols.base import within
from peers.requests import CONTENT, MEASUREMENT, POINT, PUBSUB, Report, Steps
from peers.swarm.tasks import Node

__all__ = ["Swarm"]

_ROLES = ("full", "trainer", "feeder")
_WEIGHTS = ("half", "maturity")
#: How much longer than a turn's work the rest after it is, and how many paces at most: where a machine is so busy that
#: little work takes long, the network in the same process would never have its turn.
_REST, _LONGEST_REST = 4.0, 10.0


@dataclass(frozen=True)
class Swarm:
    """Learn from slices, and average with whom one likes.

    Parameters
    ----------
    role : str
        `full` brings slices and trains; `trainer` only trains; `feeder` only brings.
    share : bool
        Whether slices go to others at all; the member must want it too, and slices of people never do. Otherwise each
        node learns from its own, and others hear marks that tell nothing of them.
    overuse : int
        Threshold T: a slice is not chosen that so many different nodes have used, as far as was told; 0 for no limit.
    cycle : int
        Slices in one training cycle.
    maturity : float
        A model is accepted from this share of the own maturity on.
    delta : float
        A model is accepted whose accuracy is at most this much below the own one.
    weight : str
        Of a remote model in the average: `half`, or by `maturity`.
    verify : bool
        Whether a remote model's accuracy is measured here before it is averaged with; otherwise its sender is believed.
    pause : float
        Seconds to wait for news where there is nothing to learn from.
    pace : float
        Seconds that a turn takes at least: what is left of them is the network's, and for hearing others. On a busy
        machine it rests for up to ten times as long.
    every : float
        Seconds between two times that a node tells what it learned from and offers its model, at least: who learns
        quickly would flood the others. Where more than two others speak meanwhile, it is half as long for each of them.
    announce : int
        Turns after which a list of slices is told of again, and never sooner than after four such times.
    most_slices : int
        That a node keeps.
    """

    role: str = "full"
    share: bool = False
    overuse: int = 0
    cycle: int = 1
    maturity: float = 0.5
    delta: float = 0.05
    weight: str = "half"
    verify: bool = False
    pause: float = 1.0
    pace: float = 0.0
    every: float = 0.0
    announce: int = 10
    most_slices: int = 4096
    name: ClassVar[str] = "swarm"
    needs: ClassVar[frozenset[str]] = frozenset({CONTENT, MEASUREMENT, POINT, PUBSUB})
    common: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, low, high in _BOUNDS:
            within(name, getattr(self, name), low, high)
        for value, allowed in ((self.role, _ROLES), (self.weight, _WEIGHTS)):
            if value not in allowed:
                raise PeersError(f"a swarm has no {value[:40]!r}; wanted one of {', '.join(allowed)}")

    def __call__(self, peer: Peer) -> Steps:
        """Do a peer's turns; in each, hear, fetch, learn where there is something, and average."""
        node = Node(self, peer)
        peer.memory["weight"] = float(self.role != "feeder")
        for round in peer.to_do:
            yield from self._turn(node, round)

    def _turn(self, node: Node, round: int) -> Steps:
        began = node.peer.clock()
        if self.role != "trainer":
            yield from node.add()
        yield from node.listen()
        mixed, learned = None, False
        if self.role != "feeder":
            yield from node.pin()
            learned = (yield from node.train(round)).batches > 0
            yield from node.speak()
            mixed = yield from node.average()
        if not learned:
            yield from node.rest(self.pause)
        took = node.peer.clock() - began
        until = began + max(self.pace, took + min(_REST * took, _LONGEST_REST * self.pace))
        while (left := until - node.peer.clock()) > 0:
            yield from node.rest(left)
        if round % self.announce == 0:
            yield from node.announce(round // self.announce)
        node.remember()
        with_whom = tuple(sorted({node.peer.name, mixed or node.peer.name}))
        yield Report(round, closed=True, counted=with_whom, numbers=node.numbers())


_BOUNDS = (
    ("overuse", 0, 1_000_000),
    ("cycle", 1, 10_000),
    ("maturity", 0.0, 1000.0),
    ("delta", 0.0, 1.0),
    ("pause", 0.001, 3600.0),
    ("pace", 0.0, 3600.0),
    ("every", 0.0, 86_400.0),
    ("announce", 1, 1_000_000),
    ("most_slices", 1, 1_000_000),
)
