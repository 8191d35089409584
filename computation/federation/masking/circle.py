"""Who masks with whom in a run, and what each weighs: whoever has the plan and the settings comes to the same."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from computation.errors import MessageError, SettingsError
from computation.federation import shares
from computation.secure import fixed
from computation.secure.fixed import Scale
from computation.secure.keys import Circle
from computation.settings import Settings
from computation.wire import payload
from computation.wire.messages import JoinOffer, Masking, Plan
from computation.wire.payload import Manifest

__all__ = ["WORD", "Terms", "agreed", "fingerprint", "length", "manifest", "weight"]

#: Masked words on the wire.
WORD = np.dtype("<u8")

#: Fewest sites in a masked sum: of two, each knows the other's.
_FEWEST = 3


@dataclass(frozen=True)
class Terms:
    """What a masked sum is made of.

    Attributes
    ----------
    circle : Circle
        The sites and their keys.
    weights : mapping of int
        As the plan has them.
    settings : Settings
        The owner's.
    """

    circle: Circle
    weights: Mapping[str, int]
    settings: Settings

    @classmethod
    def of(cls, plan: Plan, settings: Settings) -> Terms:
        """Return the terms that a plan names.

        Raises
        ------
        MessageError
            If it has none, or not those of the sites that train.
        SettingsError
            If there are too few of these.
        """
        masking, training = plan.masking, set(plan.sites) - set(plan.evaluators)
        if masking is None or set(masking.keys) != training or set(masking.weights) != training:
            raise MessageError("the plan has not a masking key and a weight of each site that trains; wanted both")
        keys = {site: bytes.fromhex(key) for site, key in masking.keys.items()}
        # A site that is told that it weighs nearly all, where others hear that they weigh nothing, would be the sum.
        told = json.dumps([masking.weights, settings.as_json()], sort_keys=True).encode()
        return cls(Circle(plan.run, keys, _least(settings, len(keys)), told), masking.weights, settings)

    @cached_property
    def shares(self) -> dict[str, float]:
        """Each site's share of the mean over all of them, capped as the owner allows."""
        held = shares.capped(dict(sorted(self.weights.items())), self.settings.most_share)
        total = math.fsum(held.values())
        return {site: weight / total for site, weight in held.items()}

    @cached_property
    def factor(self) -> float:
        """What an update is multiplied by before it is rounded."""
        return Scale(self.settings.secure_norm, len(self.weights)).factor

    @cached_property
    def loss_factor(self) -> float:
        """What a loss is multiplied by."""
        return Scale(fixed.LOSS, len(self.weights)).factor


def _least(settings: Settings, sites: int) -> int:
    least = settings.secure_least or max(_FEWEST, sites // 2 + 1)
    if sites < least:
        wanted = f"setting 'secure_least' asks for {least}" if settings.secure_least else f"wanted {_FEWEST} or more"
        raise SettingsError(
            f"setting 'secure_aggregation' is on and {sites} sites train; {wanted}, since of the sum of two each knows "
            "the other's update"
        )
    Scale(settings.secure_norm, sites)
    return least


def weight(settings: Settings, scans: int) -> int:
    """Return what a site with so many training scans weighs, as a whole number that all may know."""
    return scans if settings.weighting == "scans" else 1


def agreed(offers: Mapping[str, JoinOffer], settings: Settings) -> Masking | None:
    """Return what the plan says of the sites that mask, where the settings ask for it.

    Raises
    ------
    SettingsError
        If too few sites train.
    MessageError
        Naming a site that brought no key.
    """
    if not settings.secure_aggregation:
        return None
    training = {site: offer for site, offer in sorted(offers.items()) if offer.trains}
    _least(settings, len(training))
    for site, offer in training.items():
        if not offer.masking_key:
            raise MessageError(f"site {site} joined without a masking key; wanted one of each site that trains")
    return Masking(
        {site: offer.masking_key for site, offer in training.items()},
        {site: weight(settings, offer.scans["train"]) for site, offer in training.items()},
    )


@lru_cache(maxsize=8)
def manifest(model: Manifest) -> Manifest:
    """Return what the masked words are: one for each value of a model, and one for the loss."""
    return Manifest((*model.entries, ("masked loss", (1,))))


def length(model: Manifest) -> int:
    """Return the exact size of a payload of masked words in bytes."""
    return payload.length(manifest(model), WORD)


def fingerprint(plan: Plan, settings: Settings) -> str:
    """Return what sites compare to find a swapped key; empty where nothing is masked."""
    return Terms.of(plan, settings).circle.fingerprint if plan.masking else ""
