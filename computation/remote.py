"""The centre: joins the sites, averages what they contribute, and ends the run with the same model everywhere.

The course of a run, from top to bottom, is the three phases below; see architecture.md, section 3. What the centre
knows meanwhile, and does in each, is `centre.CentreRun`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from computation.coinstac.node import Phase, Service
from computation.errors import MessageError
from computation.federation import claims, ending, origin, results
from computation.federation.centre import CentreRun
from computation.federation.summary import Ended, summarise
from computation.model.network import parameter_count
from computation.strategies import Combined
from computation.wire.messages import FinishOffer, RoundOffer, Unmasking, Verdict
from computation.wire.payload import MODEL

__all__ = ["create"]

T = TypeVar("T")
#: Combines a round and steps the replica; nothing where the round is void.
Combine = Callable[[], Combined | None]


def create(run: str = "") -> Service:
    """Return the handler of the centre's calls.

    Parameters
    ----------
    run : str, optional
        What the run is called where it has a name already; a new random one by default.
    """
    return Service("remote", [(Join, False), (Train, True), (Finish, True)], partial(CentreRun, called=run), _examine)


def _examine(inputs: Mapping[str, Any]) -> None:
    """Raise what is wrong with the sites' first messages, or with their names, of which folders are made."""
    for site in inputs:
        claims.check_name(site)
    for site in sorted(inputs):
        origin.check_join(site, inputs[site])
    _expect_any(inputs)


def _from_each(run: CentreRun, inputs: Mapping[str, Any], parse: Callable[[Any], T]) -> dict[str, T]:
    """Read one message of each site, in site order; the error names the site."""
    _expect_any(inputs)
    _expect_members(run, inputs)
    return {site: run.origin.hear(site, parse, inputs[site]) for site in sorted(inputs)}


def _expect_any(inputs: Mapping[str, Any]) -> None:
    if not inputs:
        raise MessageError("no site sent a message; wanted one from each")


class Join(Phase):
    """Sites say what they were told and what they bring; the centre answers with the plan and the initial model."""

    def compute(self) -> dict[str, Any]:
        """Answer iteration 1."""
        run: CentreRun = self.run
        plan = run.begin(self.input)
        run.round = 0
        run.ship("model", MODEL, run.learner.vector())
        run.round = 1
        return run.origin.announce(plan)


class Train(Phase):
    """One round an iteration: check, pool, combine, step the replica, tell everybody."""

    def compute(self) -> dict[str, Any]:
        """Answer one round."""
        run: CentreRun = self.run
        if run.sums and run.sums.open:
            return self._unmask(run)
        offers = _from_each(run, self.input, RoundOffer.parse)
        _expect_all(run, offers)
        run.check(offers)
        skipped = {site: offer.reason for site, offer in offers.items() if offer.status == "skipped"}
        skipped.update({site: "absent" for site in run.offers if site not in offers})
        if not run.sums:
            return self._close(run, offers, skipped, lambda: run.close(run.contributions(offers, skipped), skipped))
        asked = run.gather(offers, skipped)
        return run.origin.sign(asked.as_json()) if asked else self._close(run, offers, skipped, lambda: None)

    def _unmask(self, run: CentreRun) -> dict[str, Any]:
        """Answer the second step of a masked round."""
        assert run.sums is not None
        answers = _from_each(run, self.input, Unmasking.parse)
        _expect_all(run, answers)
        offers, skipped = run.sums.offers, run.sums.skipped
        return self._close(run, offers, skipped, lambda: run.unmask(answers, skipped))

    def _close(
        self, run: CentreRun, offers: Mapping[str, RoundOffer], skipped: dict[str, str], combine: Combine
    ) -> dict[str, Any]:
        """Pool what was counted of the model as it was, combine, and tell everybody what the round came to."""
        done = run.validate(offers)
        combined = combine()
        stop = run.stop(done)
        verdict = Verdict(
            round=run.round,
            void=combined is None,
            counted=combined.sites if combined else (),
            skipped=skipped,
            loss=combined.loss if combined and not run.settings.dp else None,
            model=run.learner.digest(),
            validated=done.round if done else -1,
            dice=done.dice if done else {},
            best=run.selection.best,
            last=bool(stop) or run.plan is None or run.round == run.plan.rounds,
            missing=done.missing if done else {},
            clipped=run.clipped if combined else (),
            stop=stop,
        )
        run.tracker.round(run.numbers(verdict, offers))
        run.round += 1
        return run.origin.sign(verdict.as_json())


def _expect_members(run: CentreRun, offers: Mapping[str, Any]) -> None:
    for site in offers:
        if site not in run.offers:
            raise MessageError(
                f"site {site} never joined this run; wanted the {len(run.offers)} that did and nobody else"
            )


def _expect_all(run: CentreRun, offers: Mapping[str, RoundOffer] | Mapping[str, Unmasking]) -> None:
    """Refuse messages of another round, or of another model."""
    _expect_round(run, offers)
    run.consensus({site: offer.model for site, offer in offers.items()})


def _expect_round(run: CentreRun, offers: Mapping[str, RoundOffer] | Mapping[str, Unmasking]) -> None:
    for site, offer in offers.items():
        if offer.round != run.round:
            raise MessageError(f"site {site} contributed to round {offer.round}; wanted round {run.round}")


def _expect_step(wanted: str, offers: Mapping[str, FinishOffer]) -> None:
    for site, offer in offers.items():
        if offer.step != wanted:
            raise MessageError(f"site {site} says {offer.step!r} at the end; wanted {wanted!r} from each")


class Finish(Phase):
    """Two iterations: results travel on an ordinary one, and the run succeeds on the next, without files.

    COINSTAC may clear the files of the iteration that ends a run before every site has fetched them, so nothing that
    matters is shipped there (coinstac-platform.md, section 4).
    """

    def compute(self) -> dict[str, Any]:
        """Answer the sites' last counts with the results, and their acknowledgement with the summary."""
        run: CentreRun = self.run
        offers = _from_each(run, self.input, FinishOffer.parse)
        run.consensus({site: offer.model for site, offer in offers.items()})
        _expect_step("evaluated" if run.results is None else "done", offers)
        if run.results is None:
            return self._results(run, offers)
        assert run.plan is not None
        ended = Ended(run.settings, run.offers, run.results, run.evaluations, run.contributed, run.selection.dice)
        summary = summarise(ended)
        digests = {site: offer.model for site, offer in sorted(offers.items())}
        results.report_centre(
            results.CentreOutcome(
                folder=run.folders.output,
                settings=run.settings,
                plan=run.plan,
                offers=run.offers,
                announced=run.results,
                digests=digests,
                evaluations=run.evaluations,
                parameters=parameter_count(run.learner.model),
            )
        )
        run.tracker.close()
        return {"success": True, **summary}

    def _results(self, run: CentreRun, offers: Mapping[str, FinishOffer]) -> dict[str, Any]:
        run.evaluations = dict(offers)
        run.results, models = ending.results(
            run.selection, offers, run.learner, run.round - 1, run.stopped, run.tracker
        )
        for name, values in models.items():
            run.ship(name, MODEL, values)
        return run.origin.sign(run.results.as_json())
