"""The pages of a site's own machine: the frame, login and accounts of a centre's, about its own scans."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.routing import BaseRoute

from service.identity.principal import Principal
from service.site.work import Work
from service.web.dashboard import assets, login, nowhere, people
from service.web.dashboard.front import Front
from service.web.dashboard.tabs import Tab, of_accounts
from service.web.site import databases, folders, imports, runs, working

__all__ = ["ROLES", "routes", "tabs"]

#: No run is made here, and nobody is let in to look on at one.
ROLES: Mapping[str, str] = {
    "administrator": "keeps the accounts of this machine, and does what a site may",
    "site": "sees the scans and what runs have left, imports and checks",
}


def routes(front: Front, work: Work) -> list[BaseRoute]:
    """Return the routes of all pages."""
    own = [route for room in (folders, imports, working, databases, runs) for route in room.routes(front, work)]
    return [*assets.routes(), *login.routes(front), *people.routes(front), *own, nowhere.route(front)]


def tabs(who: Principal) -> list[Tab]:
    """Return what leads to a site's pages."""
    return [Tab("/", "Scans", ("/import", "/database", "/run")), Tab("/work", "Imports"), *of_accounts(who)]
