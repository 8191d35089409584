"""The import or check that is under way, or the last one: how far it is, and what came of it."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from service.site.work import Work
from service.web.dashboard import guard, pulse
from service.web.dashboard.asking import Ask, go
from service.web.dashboard.front import Front
from service.web.site.places import page, show

__all__ = ["routes"]

#: Rows of each table.
_MOST = 500


def routes(front: Front, work: Work) -> list[BaseRoute]:
    """Return the routes of this file."""
    return [page(front, work, "/work", _show, form=_stop), page(front, work, "/work/pulse", _pulse)]


def _show(work: Work, ask: Ask) -> Response:
    return show(ask, work, "site-work.html", most=_MOST, pulse=work.pulse)


def _stop(work: Work, ask: Ask) -> Response:
    work.stop()
    return go("/work")


def _pulse(work: Work, ask: Ask) -> Response:
    return JSONResponse(pulse.told(work.pulse, ask.front.clock()), headers=dict(guard.HEADERS))
