"""A site's part: it clips its update, hides it under masks, and gives what takes them off the sum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from computation.errors import ConsensusError, MeshNetError, MessageError
from computation.federation.masking import circle
from computation.federation.masking.book import Book
from computation.federation.masking.circle import Terms
from computation.secure import fixed, keys, round
from computation.secure.fixed import Words
from computation.secure.keys import Ring
from computation.settings import Settings
from computation.tracking import Tracker
from computation.training.trainer import Trainer
from computation.wire.messages import Arrived, Masked, Plan, RoundOffer, Unmasking
from computation.wire.payload import MASKED, Payload, Vector

__all__ = ["Masks", "RepeatedError", "joined"]


class RepeatedError(MeshNetError):
    """A round is masked once more, and its words are others than the first time."""


def joined(folder: Path) -> str:
    """Make a key for a run, keep it in the folder of the checkpoints, and return its public half in hexadecimal."""
    return keys.public(Book(folder).begin()).hex()


class Masks:
    """What a site knows of the masks of its run.

    Parameters
    ----------
    plan, settings : Plan and Settings
        Of the run.
    site : str
        Which trains.
    scans : int
        It trains on.
    folder : Path
        Of its checkpoints.
    tracker : Tracker
        Told what must not be hidden.

    Raises
    ------
    MessageError
        If the plan has not this site's own key and weight, or keys with which nothing can be masked.
    """

    def __init__(self, plan: Plan, settings: Settings, site: str, scans: int, folder: Path, tracker: Tracker) -> None:
        self.terms, self._site, self._tracker = Terms.of(plan, settings), site, tracker
        if self.terms.weights.get(site) != circle.weight(settings, scans):
            raise MessageError(f"the plan gives site {site} another weight than its training scans; wanted theirs")
        #: Mean loss of the round that was masked last: this site's own journal has it, and nobody else.
        self.loss: float | None = None
        self._book = Book(folder)
        self._ring = Ring(self.terms.circle, site, self._book.private())

    def tell(self) -> None:
        """Write down and show the fingerprint that people compare."""
        mask = self.terms.circle
        self._tracker.event("masking", fingerprint=mask.fingerprint, sites=list(mask.sites), least=mask.least)
        self._tracker.say(f"updates of {len(mask.sites)} sites are masked; their fingerprint is {mask.fingerprint}")

    def hide(
        self, values: Vector, origin: Vector, parts: Mapping[str, slice], loss: float, round_: int
    ) -> tuple[Words, Masked]:
        """Return an update and its loss as masked words, and what goes along with them.

        Parameters
        ----------
        values, origin : numpy.ndarray
            What the strategy offers, and what it would offer to change nothing.
        parts : mapping of slice
            Parts of the vector that are clipped apart.
        loss : float
            Mean loss of the round's batches.
        round_ : int
            The round.

        Raises
        ------
        RepeatedError
            If other words of this round were masked before.
        ContributionError
            If a value is not finite.
        """
        self.loss, words = loss, self._words(values, origin, parts, loss, round_)
        if not self._book.mask(round_, hashlib.sha256(words.data).hexdigest()):
            raise RepeatedError(f"round {round_} was masked before, with other words; wanted the same")
        sent = round.upload(self._ring, round_, words)
        return words, Masked(_hex(sent.shares), _hex(sent.marks))

    def _words(self, values: Vector, origin: Vector, parts: Mapping[str, slice], loss: float, round_: int) -> Words:
        words: Words = np.empty(values.size + 1, circle.WORD)
        share, bound = self.terms.shares[self._site], self.terms.settings.secure_norm
        for part, where in parts.items():
            size = fixed.norm(values[where], origin[where])
            if size > bound:
                text = (
                    f"the update was scaled down to the norm of {bound:g} before it was masked: setting 'secure_norm'"
                )
                self._tracker.notice("clipped", text, round=round_, part=part, norm=size)
            times = self.terms.factor * share * min(1.0, bound / size if size else 1.0)
            fixed.whole(values[where], origin[where], times, words[:-1][where])
        told = np.clip(np.array([loss]), -fixed.LOSS, fixed.LOSS)
        fixed.whole(told, np.zeros(1), self.terms.loss_factor * share, words[-1:])
        return words

    def answer(self, arrived: Arrived, offer: RoundOffer | None) -> Unmasking:
        """Give what takes the masks off the sum of those whose words came.

        Parameters
        ----------
        arrived : Arrived
            The centre's word.
        offer : RoundOffer or None
            What this site said in the round.

        Raises
        ------
        MessageError
            If the centre speaks of another round, or of too few sites or others than those of the run, or asks for
            one round in two ways: that would show what a single site sent.
        """
        if offer is None or arrived.round != offer.round:
            raise MessageError(f"the centre speaks of the masks of round {arrived.round}, which is not under way here")
        if offer.status != "ok":
            if self._site in arrived.there:
                raise ConsensusError(f"the centre has masked words of site {self._site}, which skipped the round")
            return Unmasking(arrived.round, offer.model, {}, {})
        sealed = arrived.shares.get(self._site, {})
        asked = json.dumps([arrived.there, sealed], sort_keys=True).encode()
        self._book.answer(arrived.round, hashlib.sha256(asked).hexdigest())
        heard = {site: bytes.fromhex(share) for site, share in sealed.items()}
        given, closed = round.answer(self._ring, arrived.round, heard, arrived.there)
        if self._site not in arrived.there:
            self._tracker.notice("refused", "this site's masked words did not come to the centre", round=arrived.round)
        for other in closed:
            text = f"what {other} sealed for this site cannot be opened: compare the fingerprints of both"
            self._tracker.notice("refused", text, round=arrived.round)
        return Unmasking(arrived.round, offer.model, _hex(given.shares), _hex(given.seeds), tuple(closed))


def payload_of(words: Words, trainer: Trainer, round_: int, model: str, site: str, run: str) -> Payload:
    """Return masked words as the payload that travels."""
    values: Any = words  # real numbers in every other payload
    return Payload(MASKED, round_, circle.manifest(trainer.manifest), values, model, site=site, run=run)


def _hex(table: Mapping[str, bytes]) -> dict[str, str]:
    return {name: value.hex() for name, value in table.items()}
