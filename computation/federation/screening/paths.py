"""Where each site's updates have led, from a middle of all: what `drift` remembers from round to round."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from computation.federation.screening.sketching import SIZE

__all__ = ["Paths", "apart"]

#: What a round weighs in the next one: after 22 rounds it has half its weight.
_KEPT = 1 - 1 / 32


@dataclass(frozen=True)
class Paths:
    """Sums of sketched updates, in which a round counts the less the longer it is past.

    Attributes
    ----------
    seed : str
        Of the sketches; empty before the first.
    sites : tuple of str
        Whose paths they are, sorted.
    sums : bytes
        A row of float32 for each site.
    chance : bytes
        Inner product that each two sites' sums would have if no round had to do with any other; float64.
    rounds : int
        That they are made of.
    """

    seed: str = ""
    sites: tuple[str, ...] = ()
    sums: bytes = b""
    chance: bytes = b""
    rounds: int = 0

    def followed(self, sites: Sequence[str], steps: NDArray[np.float64], squares: NDArray[np.float64]) -> Paths:
        """Return the paths after a round.

        Parameters
        ----------
        sites : sequence of str
            Who took a step; the others are where the middle is.
        steps : numpy.ndarray
            From the middle, in units that make rounds alike; sketched.
        squares : numpy.ndarray
            Inner products of the steps.
        """
        everybody = tuple(sorted({*self.sites, *sites}))
        sums, chance = self._of(everybody)
        sums, chance = _KEPT * sums, _KEPT**2 * chance
        if everybody == tuple(sites):  # as in most rounds
            sums += steps
            chance += squares
        else:
            places = [everybody.index(site) for site in sites]
            sums[places] += steps
            chance[np.ix_(places, places)] += squares
        packed = sums.astype(np.float32).tobytes(), chance.tobytes()
        return Paths(self.seed, everybody, *packed, self.rounds + 1)

    def _of(self, everybody: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the sums and their chance, in the order of sites among which there may be new ones."""
        count = len(self.sites)
        old = np.frombuffer(self.sums, np.float32).reshape(count, SIZE)
        known = np.frombuffer(self.chance).reshape(count, count)
        if everybody == self.sites:
            return old.astype(np.float64), known
        sums, chance = np.zeros((len(everybody), SIZE)), np.zeros((len(everybody), len(everybody)))
        places = [everybody.index(site) for site in self.sites]
        sums[places], chance[np.ix_(places, places)] = old, known
        return sums, chance

    def distances(self, sites: Sequence[str]) -> list[list[float]]:
        """Return how far each two sites are led apart in a round, by what is common to rounds.

        What chance alone would have made of the sums is taken off their squared distance; of the rest, the root.
        """
        if self.rounds < 2:
            return [[0.0] * len(sites) for _ in sites]
        sums, chance = self._of(self.sites)
        pairs = _weight(self.rounds, _KEPT) ** 2 - _weight(self.rounds, _KEPT**2)
        # Not `dot`, as in `measuring`.
        found = np.sqrt(apart(np.einsum("ik,jk->ij", sums, sums) - chance) / pairs).tolist()
        places = [self.sites.index(site) for site in sites]
        return [[found[one][other] for other in places] for one in places]

    def as_json(self) -> dict[str, Any]:
        """Return the paths as plain JSON."""
        packed = {name: base64.b64encode(getattr(self, name)).decode() for name in ("sums", "chance")}
        return {"seed": self.seed, "sites": list(self.sites), "rounds": self.rounds, **packed}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Paths:
        """Read back what `as_json` returned."""
        sums, chance = (base64.b64decode(raw[name]) for name in ("sums", "chance"))
        return cls(raw["seed"], tuple(raw["sites"]), sums, chance, raw["rounds"])


def apart(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared distances behind a table of inner products."""
    squares = table.diagonal()
    return np.maximum(squares[:, None] + squares - 2 * table, 0.0)


def _weight(rounds: int, kept: float) -> float:
    return (1 - kept**rounds) / (1 - kept)
