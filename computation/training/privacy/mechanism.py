"""The Gaussian mechanism over scans: which are drawn, how much each may say, and the noise on their sum.

After Abadi et al. 2016 (arXiv 1607.00133, algorithm 1): each scan is in a round with the same chance, independently of
all others; its gradient is scaled down to a bound; noise is added to the sum; and the sum is divided by the number of
scans that is expected, which is public, and not by the number that was drawn, which is not. A drawn scan that cannot
be read, or whose gradient is not finite, counts as a gradient of nothing, so that what is sent shows no sign of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from computation.errors import PrivacyError, ScanError, StoreError
from computation.settings import Settings
from computation.training.faults import NotFiniteError
from computation.training.privacy.secret import Secret
from computation.training.privacy.stream import Stream
from computation.wire.payload import Vector

__all__ = ["Mechanism", "Noise", "bounded", "rate"]


def rate(scans: int, expected: int) -> float:
    """Return the chance with which each of so many scans is drawn, so that `expected` of them are; at most 1."""
    return min(1.0, expected / scans)


def bounded(gradient: Vector, most: float) -> NDArray[np.float64]:
    """Return a gradient in float64, scaled down so that its Euclidean norm is at most `most`."""
    wide = gradient.astype(np.float64)
    norm = float(np.sqrt(np.square(wide).sum()))
    return wide * (most / norm) if norm > most else wide


@dataclass(frozen=True)
class Noise:
    """How much is drawn, and how well it is hidden: all of it public.

    Attributes
    ----------
    scans : int
        Training scans of the site.
    expected : int
        Scans that a round asks for; no more are drawn on average than there are.
    clip : float
        Largest norm of one scan's gradient.
    multiplier : float
        Standard deviation of the noise on the sum, in units of `clip`.
    share : float
        Of that standard deviation, what this site adds: 1 where its sum is seen alone.
    """

    scans: int
    expected: int
    clip: float
    multiplier: float
    share: float = 1.0

    @classmethod
    def of(cls, settings: Settings, scans: int, expected: int, share: float = 1.0) -> Noise:
        """Return what the settings ask of a site."""
        return cls(scans, expected, settings.dp_clip, settings.dp_noise, share)

    @property
    def rate(self) -> float:
        """Chance of each scan to be in a round."""
        return rate(self.scans, self.expected)

    @property
    def divisor(self) -> float:
        """Scans that are in a round on average."""
        return self.rate * self.scans

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise that this site adds to each value of its sum."""
        return self.share * self.multiplier * self.clip


class Mechanism:
    """Makes a round's private mean gradient.

    Parameters
    ----------
    noise : Noise
        How.
    secret : Secret
        The site's.
    run : str
        Name of the run.
    rounds : int
        That the site's budget was computed for: no later one is answered, whatever it is asked.

    Attributes
    ----------
    lost : int
        Scans that were drawn in the latest round and counted as nothing. For the site alone.
    """

    def __init__(self, noise: Noise, secret: Secret, run: str, rounds: int) -> None:
        self.noise, self._secret, self._run, self._rounds = noise, secret, run, rounds
        self.lost = 0

    def mean(self, gradient: Callable[[int], Vector], size: int, model: str, round: int) -> NDArray[np.float64]:
        """Return the noisy sum of the drawn scans' bounded gradients, divided by the number that is expected.

        Parameters
        ----------
        gradient : callable
            Takes the number of a scan, from 0, and returns its gradient, shape `(size,)`.
        size : int
            Values of a gradient.
        model : str
            Digest of the model that the gradients are of.
        round : int
            From 1. The same round of the same model has the same scans and noise.

        Raises
        ------
        PrivacyError
            If the round was answered for another model, or is not one of those that the budget is for.
        """
        if not 1 <= round <= self._rounds:
            raise PrivacyError(f"round {round} is not among the {self._rounds} that this site's budget is for")
        use = self._secret.use(round, f"{self._run} {model} {self.noise}")
        total = np.zeros(size)
        self.lost = 0
        for scan in self.drawn(use):
            total += self._one(gradient, int(scan), size)
        total += self.noise.deviation * Stream(self._secret.key, f"noise {use}").normals(size)
        return total / self.noise.divisor

    def drawn(self, use: str) -> NDArray[np.intp]:
        """Return the scans of a round, in ascending order: each is in it with the same chance, or is not."""
        chances = Stream(self._secret.key, f"scans {use}").uniforms(self.noise.scans)
        return np.flatnonzero(chances <= self.noise.rate)

    def _one(self, gradient: Callable[[int], Vector], scan: int, size: int) -> NDArray[np.float64]:
        try:
            return bounded(gradient(scan), self.noise.clip)
        except (ScanError, StoreError, NotFiniteError):
            self.lost += 1
            return np.zeros(size)
