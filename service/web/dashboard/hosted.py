"""Logging in at a user pool's own pages, and out of both; no password ever comes here.

A browser is sent away by a page that goes on by itself, not by a redirection: from a form, or from a script that asks
for news, it follows none to another address than its page's policy names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from computation.errors import MeshNetError
from service.web.answering import told
from service.web.dashboard import guard, words
from service.web.dashboard.asking import Ask, go, page, paged, session_of, status_of
from service.web.dashboard.front import Front
from service.web.dashboard.login import door, entered

__all__ = ["CALLBACK", "LEFT", "routes"]

#: Where the pool sends a browser with a code, and after it has signed out.
CALLBACK, LEFT = "/login/callback", "/logged-out"
#: Seconds that the cookie of a sign-in is kept; the sign-in itself ends sooner.
_KEPT = 3600


def routes(front: Front) -> list[BaseRoute]:
    """Return the routes of this file."""

    def open_(path: str, answer: Callable[[Front, Request], Awaitable[Response]]) -> Route:
        async def endpoint(request: Request) -> Response:
            return paged(await told(request, path, lambda: answer(front, request)))

        return Route(path, endpoint, methods=["GET"])

    return [
        open_("/login", _begin),
        open_(CALLBACK, _finish),
        open_(LEFT, _left),
        page(front, "/logout", lambda ask: go("/"), form=_leave),
    ]


async def _begin(front: Front, request: Request) -> Response:
    path = guard.inside(request.query_params.get("next", "/"))
    if await run_in_threadpool(session_of, front, request):
        return go(path)
    url, cookie = front.hosted.begin(path)
    answer = _away(front, url, "You are sent to the page at which you sign in.", "Go there")
    guard.give_cookie(answer, "form", cookie, front.secure, _KEPT)
    return answer


async def _finish(front: Front, request: Request) -> Response:
    asked, cookie = request.query_params, request.cookies.get(guard.cookie_name("form", front.secure), "")
    try:
        found = await run_in_threadpool(front.hosted.finish, cookie, asked.get("state", ""), asked.get("code", ""))
    except MeshNetError as error:
        answer = door(front, status_of(error), problem=error.public)
        guard.forget_cookie(answer, "form", front.secure)
        return answer
    return await entered(front, request, *found)


async def _left(front: Front, request: Request) -> Response:
    if await run_in_threadpool(session_of, front, request):
        return go("/")  # whoever comes here by hand is told nothing that is not so
    return door(front, said=words.DONE["logged-out"])


def _leave(ask: Ask) -> Response:
    ask.front.identity.logout(ask.token)
    answer = _away(ask.front, ask.front.hosted.farewell, words.DONE["logged-out"], "Log out of the user pool, too")
    guard.forget_cookie(answer, "session", ask.front.secure)
    return answer


def _away(front: Front, url: str, said: str, way: str) -> Response:
    answer = door(front, said=said, url=url, way=way)
    answer.headers["Refresh"] = f"0; url={url}"
    return answer
