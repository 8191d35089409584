"""Protocols by name, with the options that each takes; and which engine carries which."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from computation import strategies
from computation.errors import PeersError
from computation.federation.screening import Bounds
from computation.settings import Settings
from computation.strategies import Rule as RobustRule
from peers import topology
from peers.noise import Noisy
from peers.protocols.base import Rule
from peers.protocols.centred import Centred
from peers.protocols.gossip import Gossip
from peers.protocols.leader import Leader
from peers.protocols.mixing import Mixing
from peers.protocols.push_sum import PushSum
from peers.protocols.ring_broadcast import RingBroadcast
from peers.requests import COLLECTIVE, CONTENT, MEASUREMENT, MEMBERSHIP, POINT, PUBSUB

__all__ = ["ENGINES", "PROTOCOLS", "Choice"]

#: What each engine carries; written here so that a list of them needs none of them.
ENGINES: Mapping[str, frozenset[str]] = {
    "virtual": frozenset({COLLECTIVE, CONTENT, MEASUREMENT, MEMBERSHIP, POINT, PUBSUB}),
    "torchrun": frozenset({COLLECTIVE, MEASUREMENT, MEMBERSHIP, POINT}),
    "zeromq": frozenset({MEASUREMENT, MEMBERSHIP, POINT}),
}


#: What an option's value is.
_KINDS: Mapping[str, Any] = {
    "mixing": str,
    "graph": str,
    "tau": int,
    "probability": int | float,
    "clients": int | float,
    "noise": int | float,
    "staleness": int,
}


@dataclass(frozen=True)
class Choice:
    """A protocol and its options, as the command line has them; those that are not given have the protocol's default.

    Attributes
    ----------
    protocol : str
        One of `PROTOCOLS`.
    mixing : str or None
        `row`, `column` or `doubly`; or the path of a JSON file with a matrix, preceded by the kind and a colon.
    graph : str or None
        Who sends to whom: a name that `topology` knows.
    tau : int or None
        Rounds between two broadcasts.
    probability : float or None
        Of a push after a round.
    clients : float or None
        Share of the peers that work in a round.
    noise : float or None
        Standard deviation of the noise that a model gets on each link.
    staleness : int or None
        Cycles that a peer may be ahead of the slowest one.

    Raises
    ------
    PeersError
        If there is no such protocol, or it does not take an option that is given.
    """

    protocol: str
    mixing: str | None = None
    graph: str | None = None
    tau: int | None = None
    probability: float | None = None
    clients: float | None = None
    noise: float | None = None
    staleness: int | None = None

    def __post_init__(self) -> None:
        for name, value in self.given.items():
            kind = _KINDS[name]
            if not isinstance(value, kind) or isinstance(value, bool):
                raise PeersError(f"option {name} is {value!r}; wanted {'a text' if kind is str else 'a number'}")
        if self.protocol not in PROTOCOLS:
            raise PeersError(f"there is no protocol {self.protocol!r}; wanted one of {', '.join(PROTOCOLS)}")
        taken = PROTOCOLS[self.protocol].options
        for name, value in self.given.items():
            if name not in taken:
                listed = ", ".join(f"--{option}" for option in taken)
                raise PeersError(f"protocol {self.protocol} takes no --{name} (it has {value}); it takes {listed}")
        if self.graph is not None and self.graph not in topology.GRAPHS:
            raise PeersError(f"there is no graph {self.graph!r}; wanted one of {', '.join(topology.GRAPHS)}")

    @classmethod
    def read(cls, text: str) -> Choice:
        """Read a protocol with its options, such as `gossip:mixing=doubly,graph=ring`; raises `PeersError`."""
        name, _, rest = text.partition(":")
        pairs = [part.partition("=") for part in rest.split(",") if part]
        names = {one.name for one in fields(cls)} - {"protocol"}
        if not all(key in names and equals and value for key, equals, value in pairs):
            raise PeersError(f"{text[:80]!r} is no protocol with its options; wanted NAME or NAME:OPTION=VALUE,...")
        return cls(name, **{key: _value(value) for key, _, value in pairs})

    @property
    def given(self) -> dict[str, Any]:
        """The options that are given, by name."""
        everything = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "protocol"}
        return {name: value for name, value in everything.items() if value is not None}

    def as_json(self) -> dict[str, Any]:
        """Return the choice as plain JSON."""
        return {"protocol": self.protocol, **self.given}

    def __str__(self) -> str:
        return " ".join([self.protocol, *(f"{name}={value}" for name, value in self.given.items())])

    def rule(self, settings: Settings | None = None) -> Rule:
        """Make the protocol, for a run of these settings; raises `PeersError` if an option is out of range."""
        rule = PROTOCOLS[self.protocol].make(self, settings or Settings(strategy=self.strategy))
        return Noisy(rule, self.noise) if self.noise else rule

    @property
    def strategy(self) -> str:
        """The setting `strategy` that goes with it: what a peer does in a round by itself."""
        return PROTOCOLS[self.protocol].strategy


@dataclass(frozen=True)
class _Entry:
    """A protocol that can be asked for by name."""

    text: str
    strategy: str
    options: tuple[str, ...]
    make: Callable[[Choice, Settings], Rule]


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _centred(choice: Choice, settings: Settings) -> Rule:
    return Centred(strategies.named(settings), 1.0 if choice.clients is None else choice.clients)


def _ring_broadcast(choice: Choice, settings: Settings) -> Rule:
    return RingBroadcast() if choice.tau is None else RingBroadcast(choice.tau)


def _gossip(choice: Choice, settings: Settings) -> Rule:
    if choice.mixing is None and choice.graph is None:
        return Gossip() if choice.probability is None else Gossip(choice.probability)
    if choice.probability is not None:
        raise PeersError(
            "--probability is of pushes to random peers, --mixing and --graph are of fixed ones: one kind only"
        )
    kind, _, path = (choice.mixing or "doubly").partition(":")
    if not path:
        return Mixing(kind, choice.graph or "complete", bounds=Bounds.of(settings))
    if choice.graph is not None:
        raise PeersError("a matrix says itself who sends to whom; leave --graph out")
    return Mixing(kind, matrix=_matrix(Path(path)), bounds=Bounds.of(settings))


def _push_sum(choice: Choice, settings: Settings) -> Rule:
    if choice.mixing not in (None, "column"):
        raise PeersError(
            f"push-sum takes column-stochastic mixing only, not {choice.mixing}: each peer must share out all that it "
            "has, or its weights stay 1 and correct nothing"
        )
    return PushSum() if choice.graph is None else PushSum(choice.graph)


def _leader(choice: Choice, settings: Settings) -> Rule:
    judged: dict[str, Any] = {"bounds": Bounds.of(settings), "combining": RobustRule.of(settings)}
    return Leader(**judged) if choice.staleness is None else Leader(choice.staleness, **judged)


def _matrix(path: Path) -> topology.Matrix:
    try:
        return np.array(json.loads(path.read_text(encoding="utf-8")), dtype=np.float64)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise PeersError(
            "the mixing matrix cannot be read; wanted JSON, a list of rows of numbers", str(error)
        ) from None


def _averaged(name: str, text: str) -> _Entry:
    return _Entry(text, name, ("clients",), _centred)


PROTOCOLS: Mapping[str, _Entry] = {
    "gradient-mean": _averaged("gradient-mean", "one averaged gradient a round, as on COINSTAC"),
    "fedavg": _averaged("fedavg", "local steps, then the mean of the models, as on COINSTAC"),
    "fedprox": _averaged("fedprox", "fedavg whose local steps are drawn back to the common model"),
    "fedavgm": _averaged("fedavgm", "fedavg, then a step with momentum to the mean"),
    "fedadam": _averaged("fedadam", "fedavg, then Adam's step to the mean"),
    "fedyogi": _averaged("fedyogi", "fedavg, then Yogi's step to the mean"),
    "fedadagrad": _averaged("fedadagrad", "fedavg, then Adagrad's step to the mean"),
    "ring-broadcast": _Entry(
        "averaged gradients, and one peer's parameters for all every tau rounds",
        "gradient-mean",
        ("tau",),
        _ring_broadcast,
    ),
    "leader": _Entry(
        "local steps, then the mean of the newest models at a leader that waits for nobody after the first round",
        "fedavg",
        ("staleness",),
        _leader,
    ),
    "gossip": _Entry(
        "local steps, and a push to a random other; or fixed mixing with the neighbours",
        "fedavg",
        ("probability", "mixing", "graph", "noise"),
        _gossip,
    ),
    "push-sum": _Entry(
        "local steps, and shares of a weighted sum to the neighbours, over one-way links too",
        "fedavg",
        ("graph", "mixing", "noise"),
        _push_sum,
    ),
}
