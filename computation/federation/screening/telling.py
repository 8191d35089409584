"""What is written down of a screening: at the centre, and at the site that it was about."""

from __future__ import annotations

from computation.federation.screening.state import State
from computation.federation.screening.together import Screened
from computation.tracking import Tracker
from computation.wire.messages import FINDINGS, LARGE, REASONS, Verdict

__all__ = ["report", "tell"]


def report(tracker: Tracker, round: int, before: State, done: Screened) -> None:
    """Write down at the centre all that was clipped, left out or excluded in a round, and what it was judged by."""
    for site, finding in done.findings.items():
        if finding.scale < 1:
            reason = done.refused.get(site, "clipped")
            tracker.event("screened", round=round, site=site, reason=reason, **vars(finding))
        if 0 < finding.scale < 1:
            tracker.notice("clipped", f"an update of {site} was scaled down: {LARGE}", round=round)
    for site, first in done.twins.items():
        if site in done.refused:
            text = (
                f"{site} and {first} offered the same values, which counted once: whose they are, the bytes do not say"
            )
            tracker.notice("twins", text, round=round)
    for site in sorted({*done.state.excluded} - {*before.excluded}):
        text = f"from round {round} on {site} is out of the run: {REASONS['excluded']}"
        tracker.notice("excluded", text, round=round, site=site)


def tell(tracker: Tracker, site: str, verdict: Verdict) -> None:
    """Note at a site what the centre made of its update, where that did not count as it was."""
    reason = verdict.skipped.get(site, "")
    if reason in FINDINGS:
        tracker.notice("refused", f"the centre left this site out: {REASONS[reason]}", round=verdict.round)
    if site in verdict.clipped:
        tracker.notice("clipped", f"the centre scaled this site's update down: {LARGE}", round=verdict.round)
