"""A site: joins with its own scan database, contributes to every round, and ends with the common model.

The course of a run, from top to bottom, is the three phases below; see architecture.md, section 3. What a site knows
meanwhile, and does in each, is `site.SiteRun`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from computation.coinstac.node import Phase, Service
from computation.federation import initial
from computation.federation.origin import CENTRE
from computation.federation.site import SiteRun
from computation.settings import parse
from computation.training.trainer import Trainer
from computation.wire.messages import Arrived, Results, Verdict, is_arrived
from computation.wire.payload import MODEL

__all__ = ["create"]


def create(trainer: Callable[..., Trainer] = Trainer) -> Service:
    """Return the handler of a site's calls.

    Parameters
    ----------
    trainer : callable
        Makes the site's trainer; benchmarks that measure the protocol alone pass one that computes nothing.
    """
    return Service("local", [(Join, False), (Train, True), (Finish, True)], partial(SiteRun, trainer=trainer), parse)


class Join(Phase):
    """Say what this site was told and what it brings."""

    def compute(self) -> dict[str, Any]:
        """Answer iteration 1."""
        run: SiteRun = self.run
        offer = run.join(self.input)
        if run.brought is not None:
            initial.ship(run.folders, run.trainer, run.brought, run.origin)
        return run.origin.join(offer)


class _Site(Phase):
    @property
    def missed(self) -> bool:
        """Whether the others have closed this step already: then there is nothing to compute for it.

        Never so on COINSTAC, where nobody goes on without a site; see `Carried.call`.
        """
        return self.state.get("missed") is True


class Train(_Site):
    """Take over the plan or apply the last round's combination, and contribute to the next."""

    def compute(self) -> dict[str, Any]:
        """Answer one round."""
        run: SiteRun = self.run
        if run.plan is None:
            run.prepare(run.origin.welcome(self.input))
            run.start(run.receive("model", MODEL, 0))
        elif run.settings.secure_aggregation and is_arrived(self.input):
            return run.origin.sign(run.unmask(run.origin.hear(CENTRE, Arrived.parse, self.input)).as_json())
        else:
            run.absorb(run.origin.hear(CENTRE, Verdict.parse, self.input))
        return run.origin.sign((run.miss() if self.missed else run.contribute()).as_json())


class Finish(_Site):
    """Apply the last combination and count; then receive the results and confirm them."""

    def compute(self) -> dict[str, Any]:
        """Answer one of the two last iterations."""
        run: SiteRun = self.run
        if not run.ended:
            verdict = run.origin.hear(CENTRE, Verdict.parse, self.input)
            return run.origin.sign(run.finish(verdict, missed=self.missed).as_json())
        announced = run.origin.hear(CENTRE, Results.parse, self.input)
        models = {name: run.receive(name, MODEL, run.round) for name in ("final", "best")}
        return run.origin.sign(run.deliver(announced, models).as_json())
