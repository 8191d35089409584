"""The verbs of a strategy, and what passes between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from computation.errors import ResumeError
from computation.strategies.rules import Rule
from computation.training.learner import Learner
from computation.training.trainer import Trainer
from computation.wire.payload import Vector

__all__ = ["Combined", "Contribution", "Ground", "Stateless", "Strategy"]


@dataclass(frozen=True)
class Contribution:
    """What one site offers in one round.

    Attributes
    ----------
    site : str
        Who offers it.
    round : int
        For which round, from 1.
    model : str
        Digest of the model that it was computed on.
    weight : float
        Its share before normalisation; positive.
    loss : float
        Mean loss over the samples behind it.
    values : numpy.ndarray
        Flat vector in the manifest's order.
    """

    site: str
    round: int
    model: str
    weight: float
    loss: float
    values: Vector


@dataclass(frozen=True)
class Combined:
    """What all sites apply at the end of a round.

    Attributes
    ----------
    round : int
        The round.
    sites : tuple of str
        Who is in it, sorted.
    loss : float
        Weighted mean loss, or the median one where each site has one voice.
    values : numpy.ndarray
        Flat vector in the manifest's order and the contributions' dtype.
    clipped : tuple of str
        Those in it whose update was scaled down before, sorted.
    """

    round: int
    sites: tuple[str, ...]
    loss: float
    values: Vector
    clipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ground:
    """What a rule must know beside the contributions.

    Attributes
    ----------
    origin : numpy.ndarray or None
        What updates are measured from, as `Strategy.origin` has it; zero where there is none.
    parts : mapping of slice
        Parts of the vector that are treated apart, as `Learner.parts` has them; the whole where there are none.
    found : int
        Sites whose contributions were left out of this round because of what they sent.
    """

    origin: Vector | None = None
    parts: Mapping[str, slice] = field(default_factory=dict)
    found: int = 0


class Strategy(Protocol):
    """How a site contributes, how contributions combine, how the combination is applied; and where a site starts.

    Attributes
    ----------
    rule : Rule
        How contributions become one.
    """

    rule: Rule

    def contribute(self, trainer: Trainer, round: int) -> tuple[Vector, float, int]:
        """Return the vector that a site offers, its mean loss, and the number of samples behind it.

        The trainer's model is the same after as before; its optimiser and its random streams may have moved on.
        """
        ...

    def origin(self, learner: Learner) -> Vector:
        """Return the contribution that would change nothing: what a site changes is its distance from this.

        Of the model's shape, from the model that the round's contributions were computed on.
        """
        ...

    def combine(self, contributions: Sequence[Contribution], ground: Ground = ...) -> Combined:
        """Combine the contributions of one round; the order in which they come never changes a bit.

        Raises
        ------
        ContributionError
            If one of them must not be averaged, and the message names the site; or if there are too few for the rule.
        """
        ...

    def apply(self, learner: Learner, combined: Combined) -> None:
        """Bring a model, at a site or at the centre, to the end of the round."""
        ...

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return what the next round needs besides the model: arrays that no later round changes, and plain JSON."""
        ...

    def load_state(self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> None:
        """Go back to a state.

        Raises
        ------
        ResumeError
            If it is not one of this strategy.
        """
        ...


class Stateless:
    """A strategy that remembers nothing but the model."""

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return nothing."""
        return {}, {}

    def load_state(self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> None:
        """Go back to nothing; raises `ResumeError` if there is something."""
        if arrays or values:
            raise ResumeError("the checkpoint holds the state of another strategy; start the run again")
