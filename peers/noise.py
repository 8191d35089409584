"""Gaussian noise on links: a wrapper around whatever carries a protocol, so that every protocol and engine can have it.

Each message's values get fresh noise, `x_j + xi` with `xi ~ N(0, sigma^2 I)`, on their way; the own model gets none.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from peers.peer import Peer
from peers.protocols.base import Rule, heeded, within
from peers.requests import Message, Request, Send, Steps, passed_on

__all__ = ["Noisy", "noisy"]


@dataclass(frozen=True)
class Noisy:
    """A protocol whose links are noisy.

    Parameters
    ----------
    rule : Rule
        The protocol.
    sigma : float
        Standard deviation for each value.
    """

    rule: Rule
    sigma: float

    def __post_init__(self) -> None:
        within("noise", self.sigma, 0.0, 1e6)

    @property
    def name(self) -> str:
        """Name of the protocol."""
        return self.rule.name

    @property
    def needs(self) -> frozenset[str]:
        """Kinds of requests that the protocol makes."""
        return self.rule.needs

    @property
    def common(self) -> bool:
        """Whether all peers hold one model after every round."""
        return self.rule.common

    @property
    def heeds(self) -> frozenset[str]:
        """Settings of screening and rules that the protocol heeds."""
        return heeded(self.rule)

    def __call__(self, peer: Peer) -> Steps:
        """Do all of a peer's rounds."""
        return noisy(self.rule(peer), self.sigma, peer)


def noisy(steps: Steps, sigma: float, peer: Peer) -> Steps:
    """Carry a protocol's requests on, with noise on the models that it sends.

    Parameters
    ----------
    steps : generator
        The protocol at work.
    sigma : float
        Standard deviation for each value; 0 or more.
    peer : Peer
        Whose it is; its chance draws the noise.
    """
    numbers = itertools.count(1)

    def change(request: Request) -> Request:
        if not (sigma and isinstance(request, Send) and request.message.values is not None):
            return request
        which = f"{request.to}\0{next(numbers)}"
        return replace(request, message=_with_noise(request.message, sigma, peer, which))

    return passed_on(steps, change)


def _with_noise(message: Message, sigma: float, peer: Peer, which: str) -> Message:
    assert message.values is not None
    noise = peer.draw(message.round, f"noise\0{which}").normal(0.0, sigma, message.values.shape)
    return replace(message, values=(message.values + noise).astype(message.values.dtype))
