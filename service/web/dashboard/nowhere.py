"""What a browser is shown where there is no page."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from service.protocol import Unknown
from service.web.dashboard.asking import Ask, page
from service.web.dashboard.front import Front

__all__ = ["route"]


class _Rest(Route):
    """All paths that nobody else has, but those of the API, which tells of them in its own way."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See `Route`."""
        if scope["type"] == "http" and (scope["path"] + "/").startswith("/v1/"):
            return Match.NONE, {}
        found, inner = super().matches(scope)
        return (found, inner) if found is Match.FULL else (Match.NONE, {})


def _answer(ask: Ask) -> Response:
    raise Unknown("page", "there is no page of that name")


def route(front: Front) -> BaseRoute:
    """Return the route of this file; it comes after all others."""
    path = "/{rest:path}"
    return _Rest(path, page(front, path, _answer).endpoint, methods=["GET"])
