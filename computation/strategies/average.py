"""Contributions become one: in site order, in float64, refusing what must not be averaged; usually by weighted mean."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median

import numpy as np

from computation.errors import ContributionError
from computation.strategies.base import Combined, Contribution, Ground
from computation.strategies.rules import Rule
from computation.wire.payload import Vector

__all__ = ["Averaging", "combine", "normalised", "weighted_mean"]

#: Values averaged at a time: two float64 blocks of this size stay in the second-level cache.
_BLOCK = 32_768
_MEAN, _NO_GROUND = Rule(), Ground()


class Averaging:
    """A strategy whose contributions become one by a rule.

    Attributes
    ----------
    rule : Rule
        The weighted mean, unless somebody chooses another one.
    """

    rule = _MEAN

    def combine(self, contributions: Sequence[Contribution], ground: Ground = _NO_GROUND) -> Combined:
        """Return what the rule makes of them."""
        return combine(contributions, self.rule, ground)


def combine(contributions: Sequence[Contribution], rule: Rule = _MEAN, ground: Ground = _NO_GROUND) -> Combined:
    """Return what one round's contributions come to.

    Parameters
    ----------
    contributions : sequence of Contribution
        At least one, in any order.
    rule : Rule
        The weighted mean by default. In every other one each site has one voice, whatever it weighs, and the loss is
        the median one, since no minority can move it far.
    ground : Ground
        What the rule must know beside them.

    Returns
    -------
    Combined

    Raises
    ------
    ContributionError
        If there is none, or if one is of another round, model, length or dtype than the others, has a weight that is
        not positive, or values that are not finite; or if there are fewer than the rule wants.
    """
    ordered = sorted(contributions, key=lambda contribution: contribution.site)
    if not ordered:
        raise ContributionError("there is nothing to combine; wanted at least one site's contribution")
    _refuse_strangers(ordered)
    # What is not finite is named below; NumPy's warning would come first and name nobody.
    with np.errstate(over="ignore", invalid="ignore"):
        loss, values = _weighted(ordered) if rule.plain else _ruled(ordered, rule, ground)
    if not np.isfinite(values).all():
        _name_the_infinite(ordered)
    sites = tuple(contribution.site for contribution in ordered)
    return Combined(ordered[0].round, sites, loss, values)


def _weighted(ordered: Sequence[Contribution]) -> tuple[float, Vector]:
    shares = normalised([contribution.weight for contribution in ordered])
    loss = math.fsum(share * contribution.loss for share, contribution in zip(shares, ordered, strict=True))
    return loss, weighted_mean([contribution.values for contribution in ordered], shares)


def _ruled(ordered: Sequence[Contribution], rule: Rule, ground: Ground) -> tuple[float, Vector]:
    # A robust rule would hide what is not finite, and whose it is.
    if not all(np.isfinite(contribution.values).all() for contribution in ordered):
        _name_the_infinite(ordered)
    vectors = [contribution.values for contribution in ordered]
    values = rule.combine(vectors, ground.origin, ground.parts, ground.found)
    return median(contribution.loss for contribution in ordered), values


def normalised(weights: Sequence[float]) -> list[float]:
    """Return shares that sum to one, from weights of which one at least is positive."""
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def weighted_mean(vectors: Sequence[Vector], shares: Sequence[float]) -> Vector:
    """Return `sum(share * vector)`, accumulated in float64 in the order given.

    Parameters
    ----------
    vectors : sequence of numpy.ndarray
        Each of shape `(n,)` and one dtype.
    shares : sequence of float
        One for each vector; they sum to one.

    Returns
    -------
    numpy.ndarray
        Shape `(n,)`, rounded once to the vectors' dtype.
    """
    mean = np.empty_like(vectors[0])
    total = np.empty(min(_BLOCK, mean.size))
    term = np.empty_like(total)
    for start in range(0, mean.size, _BLOCK):
        stop = min(start + _BLOCK, mean.size)
        here, part = total[: stop - start], term[: stop - start]
        np.multiply(vectors[0][start:stop], shares[0], out=here, dtype=np.float64)
        for vector, share in zip(vectors[1:], shares[1:], strict=True):
            np.multiply(vector[start:stop], share, out=part, dtype=np.float64)
            np.add(here, part, out=here)
        mean[start:stop] = here
    return mean


def _refuse_strangers(ordered: Sequence[Contribution]) -> None:
    first = ordered[0]
    names = Counter(contribution.site for contribution in ordered)
    for contribution in ordered:
        site = contribution.site
        if names[site] > 1:
            raise ContributionError(f"site {site} contributed {names[site]} times to one round; wanted once")
        if not (math.isfinite(contribution.weight) and contribution.weight > 0):
            raise ContributionError(f"site {site} has weight {contribution.weight}; wanted a positive number")
        if not math.isfinite(contribution.loss):
            raise ContributionError(f"site {site} reports a loss of {contribution.loss}; wanted a finite number")
        if contribution.round != first.round:
            raise ContributionError(
                f"site {site} contributed to round {contribution.round}; wanted round {first.round}"
            )
        if contribution.model != first.model:
            raise ContributionError(f"site {site} computed on another model than site {first.site}")
        if contribution.values.shape != first.values.shape or contribution.values.dtype != first.values.dtype:
            raise ContributionError(
                f"site {site} sent {contribution.values.size} values of {contribution.values.dtype}; "
                f"wanted {first.values.size} of {first.values.dtype}"
            )


def _name_the_infinite(ordered: Sequence[Contribution]) -> None:
    """Raise for the first site with a value that is not finite; the mean itself overflowed if there is none."""
    for contribution in ordered:
        bad = contribution.values.size - int(np.count_nonzero(np.isfinite(contribution.values)))
        if bad:
            raise ContributionError(f"site {contribution.site} sent {bad} values that are NaN or infinite")
    raise ContributionError("what the contributions come to is not finite although each of them is")
