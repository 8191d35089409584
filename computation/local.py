"""A site: joins with its own scan database, contributes to every round, and ends with the common model.

The course of a run, from top to bottom, is the three phases below; see architecture.md, section 3. What a site knows
meanwhile, and does in each, is `site.SiteRun`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from computation.coinstac.node import Phase, Service
from computation.errors import MessageError
from computation.federation.site import SiteRun
from computation.settings import parse
from computation.training.trainer import Trainer
from computation.wire.messages import Plan, Results, Verdict

__all__ = ["create"]

T = TypeVar("T")


def create(trainer: Callable[..., Trainer] = Trainer) -> Service:
    """Return the handler of a site's calls.

    Parameters
    ----------
    trainer : callable
        Makes the site's trainer; benchmarks that measure the protocol alone pass one that computes nothing.
    """
    return Service("local", [(Join, False), (Train, True), (Finish, True)], partial(SiteRun, trainer=trainer), parse)


def _from_centre(parse: Callable[[Any], T], raw: Any) -> T:
    """Read a message of the centre's; what is wrong with it is put down to the centre, as the centre names a site."""
    try:
        return parse(raw)
    except MessageError as error:
        raise MessageError(f"the centre: {error.public}", error.private) from error


class Join(Phase):
    """Say what this site was told and what it brings."""

    def compute(self) -> dict[str, Any]:
        """Answer iteration 1."""
        run: SiteRun = self.run
        return run.join(self.input).as_json()


class Train(Phase):
    """Take over the plan or apply the last round's combination, and contribute to the next."""

    def compute(self) -> dict[str, Any]:
        """Answer one round."""
        run: SiteRun = self.run
        if run.plan is None:
            run.start(_from_centre(Plan.parse, self.input))
        else:
            run.absorb(_from_centre(Verdict.parse, self.input))
        return run.contribute().as_json()


class Finish(Phase):
    """Apply the last combination and count; then receive the results and confirm them."""

    def compute(self) -> dict[str, Any]:
        """Answer one of the two last iterations."""
        run: SiteRun = self.run
        if not run.ended:
            return run.finish(_from_centre(Verdict.parse, self.input)).as_json()
        return run.deliver(_from_centre(Results.parse, self.input)).as_json()
