"""Rules: how contributions of which some may lie become one. One small file a rule, each with its paper.

`Rule` puts them together: first the longest updates are clipped where the owner wants it, then neighbours are mixed,
then the rule itself. Everything is in float64, in the order of sites, and rounded once. Parts of a vector that are
measured in different units, gradients and batch-norm statistics, are treated apart.

What comes out of each lies between the vectors in every coordinate, or between them and the common model: variances
stay positive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from computation.errors import ContributionError
from computation.settings import Settings
from computation.strategies.rules.base import Coordinatewise, Weighing
from computation.strategies.rules.centred_clipping import centred_clipping
from computation.strategies.rules.clipping import scales
from computation.strategies.rules.geometric_median import geometric_median
from computation.strategies.rules.krum import krum, multi_krum
from computation.strategies.rules.mean import mean
from computation.strategies.rules.median import median
from computation.strategies.rules.neighbours import mixing
from computation.strategies.rules.trimmed_mean import trimmed_mean
from computation.strategies.rules.updates import Updates
from computation.wire.payload import Vector

__all__ = ["Rule"]

_COORDINATEWISE: dict[str, Coordinatewise] = {"mean": mean, "median": median, "trimmed-mean": trimmed_mean}
_WEIGHING: dict[str, Weighing] = {
    "geometric-median": geometric_median,
    "centred-clipping": centred_clipping,
    "krum": krum,
    "multi-krum": multi_krum,
}


@dataclass(frozen=True)
class Rule:
    """How one round's vectors become one.

    Attributes
    ----------
    name : str
        As in setting `rule`.
    byzantine : int
        Sites that may send whatever they like.
    mixes : bool
        Whether neighbours are mixed first.
    clips : bool
        Whether the longest updates are clipped before that.
    """

    name: str = "mean"
    byzantine: int = 1
    mixes: bool = False
    clips: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Rule:
        """Return the rule that the settings name."""
        return cls(settings.rule, settings.byzantine, settings.mixing_neighbours, settings.clip_norms)

    @property
    def plain(self) -> bool:
        """Whether it is the weighted mean; in every other rule each site has one voice, since a weight is a claim."""
        return self.name == "mean" and not self.clips

    def needed(self, found: int = 0) -> int:
        """Return how many contributions a round must have at least.

        Parameters
        ----------
        found : int
            Sites whose contributions were left out because of what they sent: so many fewer are still to be tolerated.
        """
        return self._least(max(self.byzantine - found, 0))

    def _least(self, byzantine: int) -> int:
        if self.plain:
            return 1
        return 2 * byzantine + (3 if self.name in ("krum", "multi-krum") else 1)

    def tolerated(self, count: int, found: int = 0) -> int:
        """Return how many false ones among so many contributions the rule tolerates: those not found yet, or more.

        Raises
        ------
        ContributionError
            If there are too few contributions.
        """
        if count < self.needed(found):
            raise ContributionError(
                f"rule {self.name!r} wants {self.needed(found)} contributions in a round; here are {count}"
            )
        return max(f for f in range(self.byzantine + 1) if self._least(f) <= count)

    def combine(
        self,
        vectors: Sequence[Vector],
        origin: Vector | None = None,
        parts: Mapping[str, slice] | None = None,
        found: int = 0,
    ) -> Vector:
        """Return what the vectors come to.

        Parameters
        ----------
        vectors : sequence of numpy.ndarray
            One of each site, in the order of sites, all finite, of one dtype and shape `(d,)`.
        origin : numpy.ndarray, optional
            What updates are measured from when the longest are clipped; zero by default.
        parts : mapping of slice, optional
            Parts of the vectors that are treated apart; together they are the whole.
        found : int
            As for `needed`.

        Raises
        ------
        ContributionError
            If there are too few.
        """
        byzantine = self.tolerated(len(vectors), found)
        result = np.empty_like(vectors[0])
        for where in (parts or {"all": slice(None)}).values():
            start = None if origin is None else origin[where]
            self._of(Updates([vector[where] for vector in vectors], start), byzantine, result[where])
        return result

    def _of(self, updates: Updates, byzantine: int, result: Vector) -> None:
        if self.clips:
            updates = replace(updates, scales=scales(updates.norms(), byzantine))
        if self.name in _WEIGHING:
            self._weighed(updates, byzantine, result)
            return
        if self.mixes:
            updates = replace(updates, rows=mixing(updates.cloud(), byzantine))
        for where, block in updates.blocks():
            result[where] = _COORDINATEWISE[self.name](block, byzantine)

    def _weighed(self, updates: Updates, byzantine: int, result: Vector) -> None:
        cloud, weigh = updates.cloud(), _WEIGHING[self.name]
        if self.mixes:
            rows = mixing(cloud, byzantine)
            weights = weigh(cloud.mixed(rows), byzantine) @ rows
        else:
            weights = weigh(cloud, byzantine)
        updates.weigh(weights, result)
