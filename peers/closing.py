"""The end: one model for all where each has its own, by a last exact mean; then the last counts of that model."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from computation.errors import MessageError, PeersError
from computation.federation.screening import NO_BOUNDS, Bounds
from computation.strategies.average import normalised, weighted_mean
from computation.wire.messages import MOST_ROUNDS, FinishOffer
from computation.wire.payload import Vector
from computation.wire.reader import Reader
from peers.mail import gather, is_model, said
from peers.neighbours import sifted
from peers.peer import Peer
from peers.requests import Message, Request
from peers.rounds import EVALUATING, usual

__all__ = ["LastMean", "finish", "last_mean"]

_LAST, _HEARD, _FINISH = "last", "heard", "finish"


@dataclass(frozen=True, eq=False)
class LastMean:
    """The one model that peers with models of their own come to.

    Attributes
    ----------
    values : numpy.ndarray
        The weighted mean of the peers' last models.
    shares : dict of float
        Of each peer that is in it.
    distance : float
        Consensus distance: root mean square, over those peers, of the Euclidean distance of their models to the mean.
    relative : float
        The same in units of the mean's own norm.
    learnt : dict of int
        Rounds in which each peer that is still there learnt something.
    """

    values: Vector
    shares: dict[str, float]
    distance: float
    relative: float
    learnt: dict[str, int]


@dataclass(frozen=True)
class _Heard:
    """Whose last models a peer has, and in how many rounds it learnt."""

    names: frozenset[str]
    learnt: int

    @classmethod
    def parse(cls, raw: Any) -> _Heard:
        reader = Reader("list of whom was heard", raw)
        record = cls(frozenset(reader.texts("names")), reader.whole("learnt", MOST_ROUNDS))
        reader.end()
        return record

    def text(self) -> str:
        return json.dumps({"names": sorted(self.names), "learnt": self.learnt})


def last_mean(peer: Peer, learnt: int, bounds: Bounds = NO_BOUNDS) -> Generator[Request, Any, LastMean]:
    """Take the exact mean of the last models of all peers that all who are still there have heard.

    Each weighs what its protocol left in `peer.memory["weight"]`, or 1; in the order of names, in float64. Models far
    from the middle of all are left out or drawn nearer, as the owner bounds it: alike at all, who hold the same.

    Raises
    ------
    PeersError
        If no model with weight is among them.
    MessageError
        Naming a peer whose message is malformed.
    """
    weight = float(peer.memory.get("weight", 1.0))
    told = yield from gather(peer, _LAST, Message(_LAST, peer.rounds, peer.learner.vector(), weight))
    whole = {name: one for name, one in told.items() if is_model(peer, one)}
    own = _Heard(frozenset(whole), learnt)
    lists = yield from gather(peer, _HEARD, Message(_HEARD, peer.rounds, text=own.text()), among=whole)
    heard = {name: said(name, one, _Heard.parse) for name, one in sorted(lists.items())}
    for name, one in heard.items():
        if name in whole and name not in one.names:
            raise MessageError(f"peer {name} says that it has not heard of its own last model; wanted its own at least")
    shared = sorted(frozenset.intersection(*(one.names for one in heard.values())))
    models = {name: values for name in shared if (values := whole[name].values) is not None}
    near = sifted(peer, models, bounds)
    kept = {name: replace(whole[name], values=near[name]) for name in shared if name in near}
    return _mean(kept, {name: one.learnt for name, one in heard.items()})


def _mean(models: Mapping[str, Message], learnt: dict[str, int]) -> LastMean:
    weights = [one.weight for one in models.values()]
    if not sum(weights) > 0:
        raise PeersError("no peer that is still there has a last model that weighs anything; start the run again")
    vectors = [one.values for one in models.values() if one.values is not None]
    shares = normalised(weights)
    mean = weighted_mean(vectors, shares)
    wide = mean.astype(np.float64)
    squares = [float(np.sum((values.astype(np.float64) - wide) ** 2)) for values in vectors]
    distance, norm = math.sqrt(math.fsum(squares) / len(squares)), float(np.linalg.norm(wide))
    relative = distance / norm if norm else 0.0
    return LastMean(mean, dict(zip(models, shares, strict=True)), distance, relative, learnt)


def finish(
    peer: Peer, own: FinishOffer, there: Collection[str]
) -> Generator[Request, Any, tuple[dict[str, FinishOffer], str]]:
    """Tell the others who are there the last counts, and return each one's and the digest that most hold.

    Raises
    ------
    MessageError
        Naming a peer whose message is malformed or of another step.
    """
    text = json.dumps(own.as_json(), allow_nan=False)
    told = yield from gather(peer, _FINISH, Message(_FINISH, peer.rounds, text=text), there, EVALUATING)
    offers = {name: said(name, told[name], FinishOffer.parse) for name in sorted(told)}
    odd = [name for name, offer in offers.items() if offer.step != "evaluated"]
    if odd:
        raise MessageError(f"peer {odd[0]} says {offers[odd[0]].step!r} at the end; wanted 'evaluated' from each")
    return offers, usual({name: offer.model for name, offer in offers.items()})
