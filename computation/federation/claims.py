"""What a site says is held against what it joined with, where it arrives: whoever says too much is named, nobody else.

Numbers of scans cannot be proved, so they are bounded; everything after the join follows from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from computation.checks import is_plain_name
from computation.errors import ContributionError, MessageError
from computation.model import shapes
from computation.settings import Settings
from computation.wire.messages import Evaluation, JoinOffer, RoundOffer
from computation.wire.payload import Manifest, Vector

__all__ = ["check_counts", "check_evaluation", "check_join", "check_loss", "check_name", "check_round", "check_values"]

#: Beyond every weight, gradient and statistic that a network can still compute with; means of such values, and the
#: steps that they lead to, stay far within single precision.
_LARGEST = 1e9
#: A loss that single precision cannot square is no loss any more.
_LARGEST_LOSS = 1e18


def check_name(site: str) -> None:
    """Refuse a name of which no folder can be made, and no sentence; raises `MessageError`."""
    if not is_plain_name(site):
        raise MessageError("a site's id is no plain name; wanted at most 200 characters and no '/'", repr(site)[:200])


def check_join(site: str, offer: JoinOffer, settings: Settings) -> None:
    """Refuse a number of batches that does not follow from the training scans.

    Raises
    ------
    MessageError
        Naming the site.
    """
    wanted = math.ceil(offer.scans["train"] / settings.scans_a_batch)
    if offer.steps != wanted:
        raise MessageError(
            f"site {site} says that {offer.scans['train']} training scans are {offer.steps} batches of "
            f"{settings.scans_a_batch}; wanted {wanted}"
        )


def check_round(site: str, joined: JoinOffer, offer: RoundOffer, settings: Settings, batches: int) -> None:
    """Refuse a round that a site with these scans cannot have had.

    Parameters
    ----------
    site : str
        Who sent it.
    joined, offer : JoinOffer and RoundOffer
        What it said at join, and says now.
    settings : Settings
        What the sites share.
    batches : int
        That the plan gives it in a round.

    Raises
    ------
    MessageError
        Naming the site.
    """
    if (offer.status == "evaluates") is joined.trains:
        brought = f"{joined.scans['train']} training scans and says {offer.status!r} in round {offer.round}"
        raise MessageError(f"site {site} joined with {brought}; a site trains if, and only if, it has such scans")
    if offer.status == "ok" and (offer.loss is None) is not settings.dp:
        told = "no loss" if offer.loss is None else "a loss"
        raise MessageError(f"site {site} told {told} in round {offer.round}; wanted {'none' if settings.dp else 'one'}")
    most = batches * settings.batch_size
    for name, count in (("sub-volumes", offer.samples), ("unreadable scans", offer.unreadable)):
        if count > most:
            raise MessageError(f"site {site} says {count} {name} in round {offer.round}; wanted at most {most}")


def check_evaluation(site: str, joined: JoinOffer, split: str, counts: Evaluation, round: int, classes: int) -> None:
    """Refuse counts of another model or other classes, or of more scans or voxels than the site joined with.

    Raises
    ------
    MessageError
        Naming the site.
    """
    if counts.round != round or len(counts.truth) != classes:
        raise MessageError(
            f"site {site} evaluated round {counts.round} in {len(counts.truth)} classes; "
            f"wanted round {round} in {classes}"
        )
    scans, voxels = joined.labelled[split], joined.voxels[split]
    if counts.scans > scans or sum(counts.truth) > voxels:
        raise MessageError(
            f"site {site} counted {sum(counts.truth)} voxels of {counts.scans} scans in {split!r}; "
            f"it joined with {voxels} voxels of {scans} labelled scans"
        )


def check_counts(
    joined: Mapping[str, JoinOffer], split: str, counts: Mapping[str, Evaluation], round: int, classes: int
) -> None:
    """Do the same for the counts of several sites."""
    for site, one in counts.items():
        check_evaluation(site, joined[site], split, one, round, classes)


def check_values(manifest: Manifest, values: Vector) -> None:
    """Refuse finite values with which no network can compute.

    Parameters
    ----------
    manifest : Manifest
        What the values are.
    values : numpy.ndarray
        Shape `(manifest.size,)`, finite: a gradient or a model, and batch-norm statistics where they travel.

    Raises
    ------
    ContributionError
        If a value is larger than any that a network can compute with.
    ModelError
        If a batch-norm variance is negative.
    """
    shapes.check(manifest, values)
    largest = float(np.abs(values).max(initial=0.0))
    if largest > _LARGEST:
        raise ContributionError(f"the payload holds values up to {largest:.3g}; wanted at most {_LARGEST:g}")


def check_loss(loss: float | None) -> None:
    """Refuse a loss that would hide everybody else's.

    Raises
    ------
    ContributionError
        If it is absurd.
    """
    if loss is not None and abs(loss) > _LARGEST_LOSS:
        raise ContributionError(f"the loss is {loss:.3g}; wanted at most {_LARGEST_LOSS:g}")
