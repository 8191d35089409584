"""Logging in and out, and a new password."""

from __future__ import annotations

import secrets
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from computation.errors import IdentityError, MeshNetError
from service.protocol import Forbidden
from service.web.answering import told
from service.web.costly import Costly
from service.web.dashboard import guard, words
from service.web.dashboard.asking import Ask, Form, go, page, paged, render, sent, session_of, status_of
from service.web.dashboard.front import Front
from service.web.dashboard.templates import template

__all__ = ["door", "entered", "routes"]

#: Seconds that a session's cookie and a login form's are kept; the service itself ends the session.
_SESSION, _FORM = 7 * 86_400, 3600
#: Characters of a secret cookie that this service made.
_LONGEST = 100


def routes(front: Front) -> list[BaseRoute]:
    """Return the routes of this file."""

    costly = Costly()

    async def answer(request: Request) -> Response:
        if request.method == "POST":
            return await _enter(front, costly, request)
        if await run_in_threadpool(session_of, front, request):
            return go(guard.inside(request.query_params.get("next", "/")))
        return _form(front, request, said=words.DONE.get(request.query_params.get("done", ""), ""))

    async def login(request: Request) -> Response:
        return paged(await told(request, "/login", lambda: answer(request)))

    return [
        Route("/login", login, methods=["GET", "POST"]),
        page(front, "/logout", lambda ask: go("/"), form=_leave),
        page(front, "/password", lambda ask: render(ask, "password.html", problem=""), form=_renew),
    ]


def _form(front: Front, request: Request, status: int = 200, **changes: str) -> Response:
    """Return the login form with a cookie of its own, so that nobody logs another one in as himself."""
    secret = request.cookies.get(guard.cookie_name("form", front.secure), "")
    if not 40 <= len(secret) <= _LONGEST:
        secret = secrets.token_urlsafe(32)
    values = {"name": "", "next": request.query_params.get("next", "/"), **changes}
    answer = door(front, status, stamp=guard.stamp(secret), **values)
    guard.give_cookie(answer, "form", secret, front.secure, _FORM)
    return answer


def door(front: Front, status: int = 200, **changes: str) -> Response:
    """Return the page before which somebody stands who has not logged in."""
    values = {"problem": "", "said": "", "stamp": "", "url": "/login", "way": "Log in", **changes}
    founded = not front.keeps_accounts or bool(front.local.accounts.administrators)
    shown = template("login.html").render(front=front, who=None, now=front.clock(), founded=founded, **values)
    return HTMLResponse(shown, status, dict(guard.HEADERS))


async def _enter(front: Front, costly: Costly, request: Request) -> Response:
    form = Form()
    try:
        form = await sent(request, request.cookies.get(guard.cookie_name("form", front.secure), ""))
        address = request.client.host if request.client else ""
        given = form.get("name", ""), form.get("password", ""), address
        tokens = await costly.run(partial(front.local.login, *given))
    except Forbidden as error:
        # A form that lay open for long, or beside another tab in which somebody has logged in since.
        own, inside = guard.is_own_page(request), await run_in_threadpool(session_of, front, request)
        if own and inside:
            return go("/")
        text = "the page lay open for too long; type both once more" if own else error.public
        return _form(front, request, status_of(error), problem=text)
    except MeshNetError as error:
        shown = {"problem": error.public, "name": form.get("name", "")[:64], "next": form.get("next", "/")[:2000]}
        return _form(front, request, status_of(error), **shown)
    return await entered(front, request, tokens.refresh, form.get("next", "/"))


async def entered(front: Front, request: Request, token: str, path: str) -> Response:
    """Give the browser the token of its new session, and let it go on at a path."""
    answer = go(guard.inside(path))
    # A session that the browser had before, whoever gave it, ends: nobody goes on in another's.
    old = request.cookies.get(guard.cookie_name("session", front.secure), "")
    if old:
        await run_in_threadpool(front.identity.logout, old)
    guard.give_cookie(answer, "session", token, front.secure, _SESSION)
    guard.forget_cookie(answer, "form", front.secure)
    return answer


def _leave(ask: Ask) -> Response:
    ask.front.identity.logout(ask.token)
    answer = go("/login", done="logged-out")
    guard.forget_cookie(answer, "session", ask.front.secure)
    return answer


def _renew(ask: Ask) -> Response:
    if ask.said("new") != ask.said("again"):
        return render(ask, "password.html", 422, problem="the new password and its repetition differ; type both again")
    address = ask.request.client.host if ask.request.client else ""
    try:
        ask.front.local.change_password(ask.who.sub, ask.said("old"), ask.said("new"), address)
    except MeshNetError as error:
        status = 422 if isinstance(error, IdentityError) else status_of(error)
        text = "the old password is wrong" if isinstance(error, IdentityError) else error.public
        return render(ask, "password.html", status, problem=text)
    answer = go("/login", done="password")
    guard.forget_cookie(answer, "session", ask.front.secure)
    return answer
