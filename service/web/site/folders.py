"""What lies in a folder of the site, and what can be done with it."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import BaseRoute

from service.site.folder import look
from service.site.work import Work
from service.web.dashboard.asking import Ask
from service.web.dashboard.front import Front
from service.web.site.places import page, place, show

__all__ = ["routes"]


def routes(front: Front, work: Work) -> list[BaseRoute]:
    """Return the routes of this file."""
    return [page(front, work, "/", _show)]


def _show(work: Work, ask: Ask) -> Response:
    return show(ask, work, "site-folder.html", folder=look(work.root, place(ask)))
