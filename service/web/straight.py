"""The short way to an endpoint: a path's words are looked up one by one, where Starlette tries each route's pattern."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Straight"]


@dataclass
class _Crossing:
    """Where a path may go on, by its next word or by whatever stands for a name; or end, with the names so far."""

    words: dict[str, _Crossing] = field(default_factory=dict)
    named: _Crossing | None = None
    route: Route | None = None
    names: tuple[str, ...] = ()


class Straight:
    """Middleware that answers what it finds at once, and leaves all else as it is: other paths, verbs and protocols.

    Parameters
    ----------
    app : ASGI application
        Which answers the rest; it knows the routes, too.
    routes : sequence of routes
        Whose endpoints raise nothing.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app, self._start = app, _Crossing()
        for route in routes:
            # A name with a converter may stand for several words.
            if isinstance(route, Route) and ":" not in route.path:
                self._add(route)

    def _add(self, route: Route) -> None:
        at, names = self._start, []
        for word in route.path.split("/"):
            if word.startswith("{"):
                names.append(word[1:-1])
                at.named = at = at.named or _Crossing()
            else:
                at = at.words.setdefault(word, _Crossing())
        at.route, at.names = route, tuple(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application behind it."""
        found = self._found(scope) if scope["type"] == "http" and not scope.get("root_path") else None
        if found is None:
            await self._app(scope, receive, send)
            return
        route, scope["path_params"] = found
        response = await route.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    def _found(self, scope: Scope) -> tuple[Route, dict[str, str]] | None:
        at, given = self._start, []
        for word in scope["path"].split("/"):
            if word in at.words:
                at = at.words[word]
            elif word and at.named:
                at = at.named
                given.append(word)
            else:
                return None
        if at.route is None or scope["method"] not in (at.route.methods or ()):
            return None
        return at.route, dict(zip(at.names, given, strict=True))
