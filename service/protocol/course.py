"""What follows from the centre's answer to a step: the next one, or the end. The centre's course is `remote`'s."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from computation.errors import MeshNetError, MessageError
from computation.federation import claims
from computation.federation.origin import Charter, check_join
from computation.wire.messages import FinishOffer, JoinOffer, Plan, Results, RoundOffer, Verdict
from service.protocol.records import Phase, Run, Step
from service.protocol.refusals import Conflict, Malformed

__all__ = ["Course", "Known", "Offer", "check", "follow", "known"]

Offer = JoinOffer | RoundOffer | FinishOffer


@dataclass(frozen=True)
class Course:
    """What the sites are to send next.

    Attributes
    ----------
    phase, round, model : str, int, str
        As of the `Step` to come.
    rounds, manifest : int, str
        As of the `Run`; zero and empty where they stay as they are.
    """

    phase: Phase
    round: int
    model: str
    rounds: int = 0
    manifest: str = ""


def follow(step: Step, message: Mapping[str, Any]) -> Course:
    """Return what comes after a step that the centre answered so; not for its last answer, which has no next.

    Raises
    ------
    MessageError
        If the answer is none of the centre's.
    """
    if step.phase == "join":
        plan = Plan.parse(message)
        return Course("train", 1, plan.model, plan.rounds, plan.manifest)
    if step.phase == "train":
        verdict = Verdict.parse(message)
        return Course("finish" if verdict.last else "train", 0 if verdict.last else step.round + 1, verdict.model)
    if step.phase == "finish":
        return Course("done", 0, Results.parse(message).final)
    raise MessageError("the centre went on after the end of a run; wanted its success")


@dataclass(frozen=True)
class Known:
    """What a run knows of a site since the join.

    Attributes
    ----------
    joined : JoinOffer
        What the site said then.
    plan : Plan
        What the centre answered.
    """

    joined: JoinOffer
    plan: Plan

    @cached_property
    def charter(self) -> Charter:
        """What all of the run is held against."""
        return Charter.of(self.plan)


@lru_cache(maxsize=256)
def known(update: str, answer: str) -> Known:
    """Return what a site's message at the join and the centre's answer to it say; both were checked when they came."""
    return Known(JoinOffer.parse(json.loads(update)), Plan.parse(json.loads(answer)))


def check(run: Run, step: Step, site: str, message: Any, known: Known | None) -> Offer:
    """Read what a site wants to commit to a step, and hold it against what the step asks for.

    Whatever the centre would end a run for is refused here, so that it costs the site that said it and nobody else.

    Parameters
    ----------
    run, step, site : Run, Step, str
        Who commits to what.
    message : object
        The site's, as JSON.
    known : Known or None
        Since the join; None at the join.

    Raises
    ------
    Malformed
        If it is no such message, or of another round.
    Conflict
        If it was computed on another model than all hold: it must not be averaged.
    """
    try:
        offer = _parse(step.phase, site, message, known)
    except MeshNetError as error:
        raise Malformed("message", error.public) from None
    if isinstance(offer, JoinOffer):
        _check_join(run, site, offer)
        return offer
    if isinstance(offer, RoundOffer) and offer.round != step.round:
        raise Malformed("message", f"the contribution is to round {offer.round}; wanted round {step.round}")
    wanted = "evaluated" if step.phase == "finish" else "done"
    if isinstance(offer, FinishOffer) and offer.step != wanted:
        raise Malformed("message", f"the message says {offer.step!r}; wanted {wanted!r}")
    if offer.model != step.model:
        text = f"the site's model is {offer.model[:12]} and not the common one, {step.model[:12]}; begin this site anew"
        raise Conflict("wrong_model", text, model=step.model)
    assert known is not None
    try:
        _check_claims(run, step, site, offer, known)
    except MeshNetError as error:
        raise Malformed("claim", error.public) from None
    return offer


def _check_claims(run: Run, step: Step, site: str, offer: RoundOffer | FinishOffer, known: Known) -> None:
    """Hold numbers against what the site joined with, as the centre does; raises `MeshNetError`."""
    settings = run.wanted.record
    classes, joined = len(settings.classes), known.joined
    if isinstance(offer, FinishOffer):
        for split, counts in offer.evaluations.items():
            # Step n is round n, and the last counts come in the step after the last round.
            claims.check_evaluation(site, joined, split, counts, step.number - 1, classes)
        return
    claims.check_round(site, joined, offer, settings, known.plan.batches.get(site, 0))
    after = step.round - 1
    if offer.validation is None:
        return
    if after < 1 or after % settings.validate_every or not joined.labelled["valid"]:
        raise MessageError(f"site {site} sent counts in round {step.round}, in which it validates nothing")
    claims.check_evaluation(site, joined, "valid", offer.validation, after, classes)


def _parse(phase: Phase, site: str, message: Any, known: Known | None) -> Offer:
    if known is None:
        return check_join(site, message)
    known.charter.check(site, message)
    return RoundOffer.parse(message) if phase == "train" else FinishOffer.parse(message)


def _check_join(run: Run, site: str, offer: JoinOffer) -> None:
    """Tell a site before it trains that its scans, or what it was told, are of another run."""
    spec = run.wanted
    different = sorted(name for name, value in spec.settings.items() if offer.settings.get(name) != value)
    different += sorted(set(offer.settings) - set(spec.settings))
    if different:
        raise Malformed("settings", f"setting {different[0]!r} differs from the run's; take all of them from its spec")
    if offer.classes != tuple(spec.settings["classes"]):
        seen, wanted = ", ".join(offer.classes)[:200], ", ".join(spec.settings["classes"])[:200]
        raise Malformed("classes", f"the scans are labelled ({seen}), but the run is for ({wanted}); import them so")
    for name, value in spec.preparation.items():
        if offer.preparation.get(name) != value:
            seen = offer.preparation.get(name, "unknown")
            raise Malformed("preparation", f"the scans' {name} is {seen}; the run is for {value}: import them so")
    try:
        claims.check_join(site, offer, spec.record)
    except MeshNetError as error:
        raise Malformed("claim", error.public) from None
