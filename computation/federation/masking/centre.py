"""The centre's part: it adds up masked words as they come, says whose did, and takes the masks off the sum.

What it keeps from the first step to the second is the sum, what the sites said, and no site's words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from computation.errors import ContributionError, MeshNetError, MessageError
from computation.federation.masking import circle
from computation.federation.masking.circle import Terms
from computation.secure import fixed, round
from computation.secure.fixed import Words
from computation.secure.round import Answer, Upload
from computation.settings import Settings
from computation.strategies import Combined
from computation.tracking import Tracker
from computation.wire.messages import Arrived, Masked, Plan, RoundOffer, Unmasking
from computation.wire.payload import Vector

__all__ = ["Sums", "check_offer"]

#: The mean of clipped updates is no longer than the bound, but for the rounding of norms.
_SLACK = 1 + 1e-6


@dataclass
class Sums:
    """What the centre knows of the masks of its run.

    Attributes
    ----------
    terms : Terms
        Of the run.
    total : numpy.ndarray
        Sum of the masked words of the round that is open; empty between rounds.
    there : tuple of str
        Whose they are, sorted.
    offers : mapping of RoundOffer
        What all sites said in the first step.
    skipped : mapping of str
        Who is not in the sum, and why.
    """

    terms: Terms
    total: Words = field(default_factory=lambda: np.empty(0, circle.WORD))
    there: tuple[str, ...] = ()
    offers: dict[str, RoundOffer] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, settings: Settings) -> Sums:
        """Return what the centre knows before the first round; raises as `Terms.of`."""
        return cls(Terms.of(plan, settings))

    def tell(self, tracker: Tracker) -> None:
        """Write down and show the fingerprint that people compare, and what cannot be known any more."""
        mask = self.terms.circle
        tracker.event("masking", fingerprint=mask.fingerprint, sites=list(mask.sites), least=mask.least)
        tracker.say(f"updates of {len(mask.sites)} sites are masked; their fingerprint is {mask.fingerprint}")
        tracker.notice("difference", "updates are masked: no single one is screened, and none can be left out for it")

    @property
    def open(self) -> bool:
        """Whether masked words were added up and their masks are still on them."""
        return bool(self.there)

    @property
    def least(self) -> int:
        """Sites without which there is no sum."""
        return self.terms.circle.least

    def gather(
        self, offers: Mapping[str, RoundOffer], skipped: dict[str, str], size: int, receive: Callable[[str], Words]
    ) -> None:
        """Add up what the sites sent; whose words cannot be read is put among `skipped`, with what is wrong.

        Parameters
        ----------
        offers : mapping of RoundOffer
            Of all sites.
        skipped : dict of str
            Who is left out, and why.
        size : int
            Values of a model.
        receive : callable
            Reads a site's words.
        """
        self.total, there = np.zeros(size + 1, circle.WORD), []
        for site, offer in sorted(offers.items()):
            if site in skipped or offer.status != "ok":
                continue
            try:
                self.total += receive(site)
            except MeshNetError as error:
                skipped[site] = f"refused: {error.public}"[:200]
            else:
                there.append(site)
        self.there = tuple(there)

    def ask(self, round_: int, offers: Mapping[str, RoundOffer], skipped: Mapping[str, str]) -> Arrived:
        """Keep what was said, and return what the sites are told."""
        self.offers, self.skipped = dict(offers), dict(skipped)
        sealed = {
            site: {other: _masked(offers[other]).shares[site] for other in self.there if other != site}
            for site in self.there
        }
        return Arrived(round_, self.there, sealed)

    def close(self) -> None:
        """Forget the round."""
        self.total, self.there = np.empty(0, circle.WORD), ()
        self.offers, self.skipped = {}, {}

    def combined(
        self, round_: int, answers: Mapping[str, Unmasking], origin: Vector, parts: Mapping[str, slice]
    ) -> Combined:
        """Take the masks off, and return the mean update.

        Parameters
        ----------
        round_ : int
            The round.
        answers : mapping of Unmasking
            Of the sites whose words are in the sum.
        origin : numpy.ndarray
            What an update is the distance from.
        parts : mapping of slice
            Parts of the vector that each site clipped apart.

        Raises
        ------
        ContributionError
            If a mask is lost, or the mean is longer than each site's update may be.
        """
        uploads = {site: _upload(_masked(self.offers[site])) for site in self.there}
        given = {site: _answer(answers[site]) for site in self.there if site in answers}
        round.unmask(self.terms.circle, self.total, uploads, given)
        share = sum(self.terms.shares[site] for site in self.there)
        update = fixed.real(self.total[:-1], self.terms.factor * share)
        self._check(update, parts)
        (loss,) = fixed.real(self.total[-1:], self.terms.loss_factor * share)
        values = (update + origin).astype(origin.dtype)
        return Combined(round_, self.there, float(loss), values)

    def _check(self, update: Vector, parts: Mapping[str, slice]) -> None:
        bound = self.terms.settings.secure_norm
        nothing = np.zeros(1)
        for where in parts.values():
            size = fixed.norm(update[where], np.broadcast_to(nothing, update[where].shape))
            if size > bound * _SLACK:
                raise ContributionError(
                    f"the mean of the masked updates has a norm of {size:.3g}, and each site clips its own to "
                    f"{bound:g}: one of them or more did not, and nobody can say which"
                )

    def record(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return what a restarted centre needs: arrays, and plain JSON values."""
        if not self.open:
            return {}, {}
        said = {site: offer.as_json() for site, offer in self.offers.items()}
        values = {"there": list(self.there), "offers": said, "skipped": dict(self.skipped)}
        return {"masked_sum": self.total.view("<i8")}, values

    def restore(self, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
        """Go back to a recorded state."""
        self.close()
        if values:
            self.total = arrays["masked_sum"].view(circle.WORD)
            self.there, self.skipped = tuple(values["there"]), dict(values["skipped"])
            self.offers = {site: RoundOffer.parse(raw) for site, raw in values["offers"].items()}


def check_offer(site: str, offer: RoundOffer, terms: Terms | None) -> None:
    """Refuse an offer that is masked where it must not be, or not where it must.

    Raises
    ------
    MessageError
        Naming the site.
    """
    wanted = set(terms.circle.sites) - {site} if terms and offer.status == "ok" else None
    seen = offer.masked and set(offer.masked.shares)
    if seen != wanted or (offer.masked and set(offer.masked.marks) != wanted):
        raise MessageError(
            f"site {site} sent {'no' if seen is None else 'other'} shares of a mask in round {offer.round}; wanted "
            f"{'none' if wanted is None else 'one for each other site that trains'}"
        )
    if offer.masked and offer.loss:
        raise MessageError(f"site {site} told its loss in round {offer.round}; wanted it among its masked words alone")


def _masked(offer: RoundOffer) -> Masked:
    assert offer.masked is not None
    return offer.masked


def _upload(masked: Masked) -> Upload:
    return Upload(_bytes(masked.shares), _bytes(masked.marks))


def _answer(said: Unmasking) -> Answer:
    return Answer(_bytes(said.shares), _bytes(said.seeds))


def _bytes(table: Mapping[str, str]) -> dict[str, bytes]:
    return {name: bytes.fromhex(value) for name, value in table.items()}
