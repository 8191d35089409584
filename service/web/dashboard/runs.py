"""The list of runs, one run as it goes, and what can be done to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from computation.errors import MeshNetError
from service.cases import coordinator, looking, reading, site, starting
from service.cases.reading import Member
from service.identity.principal import Principal
from service.protocol import Membership, Run, Step
from service.protocol.records import ENDED
from service.web.dashboard import pulse, words
from service.web.dashboard.asking import Ask, go, page, refused, render
from service.web.dashboard.charts import figures
from service.web.dashboard.front import Front
from service.web.dashboard.making import differing
from service.web.dashboard.templates import safe

__all__ = ["decides", "overview", "routes", "site_state", "starting_model"]

#: Lines of the events that the run's page shows.
_EVENTS = 12
#: Milliseconds after which a site that trains and says nothing is not heard of; its client does every 15 seconds.
_SILENT = 180_000

_VERBS: Mapping[str, tuple[Callable[..., Any], str]] = {
    "start": (coordinator.start, "started"),
    "pause": (coordinator.pause, "paused"),
    "resume": (coordinator.resume, "resumed"),
    "abort": (coordinator.abort, "aborted"),
    "leave": (site.leave, "left"),
    "decline": (site.decline, "declined"),
}


def routes(front: Front) -> list[BaseRoute]:
    """Return the routes of this file."""
    return [
        page(front, "/", _list),
        page(front, "/runs/{run}", _show, form=_act),
        page(front, "/runs/{run}/audit", _audit),
        page(front, "/invitations", _invitations),
    ]


def _list(ask: Ask) -> Response:
    seen = pulse.of_list(ask.desk, ask.who)
    found, cursor = reading.runs(ask.desk, ask.who, ask.asked("after"), 50)
    rows = [(run, _progress(run), reading.own(ask.desk, ask.who, run.id)) for run in found]
    invited = sum(1 for _, _, own in rows if own and own.state == "invited")
    return render(ask, "runs.html", pulse=seen, rows=rows, cursor=cursor, invited=invited, said=ask.done)


def _progress(run: Run) -> int:
    """Return the training round that is under way, or the last one of a run that has ended."""
    return max(0, min(run.step, run.rounds))


def decides(who: Principal, own: Membership | None) -> bool:
    """Tell whether somebody decides about a run."""
    return who.has("administrator") or (own is not None and own.role == "coordinator" and who.has("coordinator"))


def overview(ask: Ask) -> dict[str, Any]:
    """Return what every page of one run shows of it."""
    run = reading.run(ask.desk, ask.who, ask.path("run"))
    own = reading.own(ask.desk, ask.who, run.id)
    spec = run.wanted
    told = {"run": run, "spec": spec, "own": own, "differing": differing(spec)}
    return {**told, "decides": decides(ask.who, own), "said": ask.done}


def _show(ask: Ask) -> Response:
    values = overview(ask)
    run: Run = values["run"]
    if run.state == "draft":
        return render(ask, "draft.html", **values, **starting_model(ask, run))
    seen = pulse.of_run(ask.desk, ask.who, run.id)
    step, members = reading.step(ask.desk, ask.who, run.id), reading.members(ask.desk, ask.who, run.id)
    course = ask.front.courses.of(ask.who, run)
    sites = [(one, site_state(run, step, one, ask.desk.clock())) for one in members if one.membership.role == "site"]
    return render(
        ask,
        "run.html",
        **values,
        pulse=seen,
        step=step,
        sites=sites,
        others=[one for one in members if one.membership.role != "site"],
        accepted=sum(one.membership.state == "accepted" for one, _ in sites),
        sent=sum(state == "uploaded" for _, state in sites),
        events=looking.latest(ask.desk, ask.who, run.id, _EVENTS),
        course=course,
        progress=len(course.rounds),
        figures=safe(figures(course.rounds, run.wanted.settings["classes"])),
        ended=run.state in ENDED,
        command=command(ask, run),
    )


def starting_model(ask: Ask, run: Run) -> dict[str, Any]:
    """Return what a draft's page shows of the model to start from."""
    named = str(run.wanted.settings["initial_model"])
    return {"initial": named, "uploaded": bool(named) and starting.kept(ask.desk, run.id, run.wanted) is not None}


def command(ask: Ask, run: Run) -> str:
    """Return what a site types to accept a run and take part."""
    place = "--data SCANS.db --output FOLDER --credentials SITE.json"
    return f"coinstac-meshnet join {ask.address} --run {run.id} --consent {run.digest} {place}"


def site_state(run: Run, step: Step, one: Member, now: int) -> str:
    """Return in one word of `words.SITES` what a site is doing."""
    member, presence = one.membership, one.presence
    if member.state != "accepted":
        return member.state
    if run.state in ENDED:
        return "finished" if run.state == "completed" else "accepted"
    if run.state == "inviting" or member.site not in step.expected:
        return "accepted" if run.state == "inviting" else "waiting"
    if one.committed:
        return "uploaded"
    if step.deadline and now >= step.deadline and run.state == "running":
        return "late"
    if presence is None or (now - presence.seen > _SILENT and run.state == "running"):
        return "silent"
    return presence.status if presence.status in words.SITES else "waiting"


def _act(ask: Ask) -> Response:
    """Do what a button of the run's page asks for."""
    run, verb = ask.path("run"), ask.said("verb")
    if verb not in (*_VERBS, "invite", "delete", "remove"):
        return _show(ask)
    try:
        if verb == "delete":
            coordinator.forget(ask.desk, ask.who, run, ask.said("digest"))
            return go("/", done="deleted")
        if verb == "remove":
            coordinator.remove(ask.desk, ask.who, run, ask.said("site"))
            return go(f"/runs/{run}", done="removed")
        if verb == "invite":
            coordinator.invite(ask.desk, ask.who, run, ask.said("seen"))
            return go(f"/runs/{run}", done="invited")
        case, done = _VERBS[verb]
        case(ask.desk, ask.who, run)
    except MeshNetError as error:
        return refused(ask, error, [(f"/runs/{run}", "Go back to the run")])
    return go(f"/runs/{run}", done=done)


def _audit(ask: Ask) -> Response:
    values = overview(ask)
    found, cursor = reading.events(ask.desk, ask.who, values["run"].id, ask.asked("after"), 200)
    return render(ask, "audit.html", **values, events=found, cursor=cursor if len(found) == 200 else "")


def _invitations(ask: Ask) -> Response:
    seen = pulse.of_list(ask.desk, ask.who)
    found, _ = reading.runs(ask.desk, ask.who, "", 200)
    asked = [(run, own) for run in found if (own := reading.own(ask.desk, ask.who, run.id)) and own.role == "site"]
    waiting = [(run, own, command(ask, run)) for run, own in asked if own.state == "invited" and run.state not in ENDED]
    answered = [(run, own) for run, own in asked if own.state != "invited"]
    return render(ask, "invitations.html", pulse=seen, waiting=waiting, answered=answered, said=ask.done)
