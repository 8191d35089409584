"""What every protocol is: what it needs of an engine, what it promises, and the generator itself."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from computation.errors import PeersError
from peers import topology
from peers.peer import Peer
from peers.requests import Steps
from peers.topology import Graph

__all__ = ["LAST", "RULES", "SCREENING", "SIZES", "Rule", "graph", "heeded", "within"]

#: Settings by which single contributions are judged, and become one; a protocol names those that it heeds.
#: The last mean that a run ends with, where each peer has a model of its own, heeds `LAST`.
LAST = frozenset({"clip_above", "refuse_above"})
SIZES = LAST | {"suspect_above", "exclude_after"}
SCREENING = SIZES | {"opposed_above", "copies"}
RULES = frozenset({"rule", "byzantine", "mixing_neighbours", "clip_norms"})

#: Others to whom each peer of a random graph sends, where there are as many.
_DEGREE = 2


class Rule(Protocol):
    """How peers come to one model; a frozen record of its options.

    Where not all peers hold one model after every round, each has its own, and the run ends with a last exact mean,
    weighted by what the protocol leaves in `peer.memory["weight"]`.
    """

    @property
    def name(self) -> str:
        """As the command line has it."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """Kinds of requests that it makes."""
        ...

    @property
    def common(self) -> bool:
        """Whether all peers hold one model after every round; see above."""
        ...

    def __call__(self, peer: Peer) -> Steps:
        """Do all of a peer's rounds."""
        ...


def heeded(rule: object) -> frozenset[str]:
    """Return the settings of screening and rules that a protocol heeds: those for which it sees enough."""
    found: frozenset[str] = getattr(rule, "heeds", frozenset())
    return found


def within(name: str, value: float, low: float, high: float) -> None:
    """Refuse an option that is out of range; raises `PeersError`."""
    if not low <= value <= high:
        raise PeersError(f"option {name} is {value}; wanted a number from {low:g} to {high:g}")


@lru_cache(maxsize=16)
def graph(name: str, peers: int, seed: int) -> Graph:
    """Return a graph by its name; in one process, all peers of a run share it."""
    return topology.named(name, peers, min(_DEGREE, max(peers - 1, 1)), seed)
