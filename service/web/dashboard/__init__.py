"""The web application: pages from templates in the service's own process, over the same cases as the API.

Its only authority is a cookie that no script reads; the API takes no cookies, and these pages take no bearer's token.
"""

from __future__ import annotations

from starlette.routing import BaseRoute

from service.web.dashboard import assets, hosted, live, login, making, nowhere, people, results, runs, starting
from service.web.dashboard.front import Front

__all__ = ["Front", "routes"]


def routes(front: Front) -> list[BaseRoute]:
    """Return the routes of all pages."""
    doors = (login, people) if front.keeps_accounts else (hosted,)
    rooms = (*doors, making, starting, live, results, runs)
    return [*assets.routes(), *(route for room in rooms for route in room.routes(front)), nowhere.route(front)]
