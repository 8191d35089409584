"""From a browser's request to a page: who asks, what the form says, and what is answered when it is refused."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, quote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import ImmutableMultiDict, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from computation.errors import IdentityError, MeshNetError
from service.cases.desk import Desk
from service.identity.principal import Principal
from service.protocol import Forbidden, Malformed
from service.web import bodies, problems
from service.web.answering import told
from service.web.dashboard import guard, words
from service.web.dashboard.front import Front
from service.web.dashboard.templates import template

__all__ = [
    "Ask",
    "Form",
    "Handler",
    "go",
    "page",
    "paged",
    "refused",
    "render",
    "sent",
    "sent_files",
    "session_of",
    "status_of",
]

#: Bytes of a form, and fields of it: a run of 64 sites with every setting has a few hundred.
_MOST_BODY, _MOST_FIELDS = 256 * 1024, 1000
#: Files of a form, and fields beside them.
_MOST_FILES = 8

#: Fields of a form with what each holds; a name may come several times.
Form: TypeAlias = ImmutableMultiDict[str, str]


@dataclass(frozen=True)
class Ask:
    """A request to a page, whose asker is known.

    Attributes
    ----------
    front : Front
        The surroundings.
    request : Request
        As it came.
    who : Principal
        Who asks.
    token : str
        The session's, from the cookie.
    form : Form
        What was sent; empty unless it was a form.
    files : mapping of bytes
        The files of a form that sends some, by its fields.
    """

    front: Front
    request: Request
    who: Principal
    token: str = field(repr=False)
    form: Form = field(default_factory=Form)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def desk(self) -> Desk:
        """Where cases are handled."""
        assert self.front.desk is not None, "a page of runs at a machine that keeps none"
        return self.front.desk

    @property
    def address(self) -> str:
        """The service's URL, without a slash at the end."""
        return (self.front.address or str(self.request.base_url)).rstrip("/")

    @property
    def done(self) -> str:
        """What the page before says was done."""
        return words.DONE.get(self.asked("done"), "")

    def path(self, name: str) -> str:
        """Return what stands in the path."""
        return str(self.request.path_params[name])

    def asked(self, name: str) -> str:
        """Return what the query says, or nothing."""
        return self.request.query_params.get(name, "")

    def said(self, name: str) -> str:
        """Return what a field of the form holds, or nothing."""
        return self.form.get(name, "").replace("\r\n", "\n")


Handler = Callable[[Ask], Response]


def page(
    front: Front,
    path: str,
    handler: Handler,
    *roles: str,
    form: Handler | None = None,
    most: int = 0,
    again: Handler | None = None,
) -> Route:
    """Return the route of a page that only somebody who has logged in sees.

    Parameters
    ----------
    front : Front
        The surroundings.
    path : str
        With names in braces.
    handler : callable
        Answers to a look; it runs in a thread.
    *roles : str
        Of which the asker needs one; none if everybody may ask.
    form : callable, optional
        Answers to the page's form.
    most : int
        Bytes of a form that sends files; 0 for one that sends none.
    again : callable, optional
        Shows a form as it was sent, for one that is long to fill: where the session has ended meanwhile, what was typed
        is kept, and where another one has begun, it is looked over and sent once more. Neither does anything by itself.
    """

    async def answer(request: Request) -> Response:
        asked = await run_in_threadpool(session_of, front, request)
        if asked is None:
            return await _to_login(front, request, keep=again is not None)
        ask = Ask(front, request, *asked)
        try:
            if roles and not ask.who.has(*roles):
                raise Forbidden("role", f"this page is for accounts with the role {' or '.join(roles)}")
            if request.method == "POST" and again is not None and guard.is_own_page(request):
                told = await _typed(request)
                known = guard.is_stamped(ask.token, told.get("stamp", ""))
                return await run_in_threadpool(form if form and known else again, replace(ask, form=told))
            if request.method == "POST" and form is not None:
                told, files = await (sent_files(request, ask.token, most) if most else _fields(request, ask.token))
                return await run_in_threadpool(form, replace(ask, form=told, files=files))
            return await run_in_threadpool(handler, ask)
        except MeshNetError as error:
            return await run_in_threadpool(refused, ask, error)

    async def endpoint(request: Request) -> Response:
        return paged(await told(request, path, lambda: answer(request)))

    return Route(path, endpoint, methods=["GET", "POST"] if form else ["GET"])


def paged(response: Response) -> Response:
    """Return an answer, or a page instead of a problem that nobody foresaw; the log has more under the same id."""
    if response.media_type != problems.MEDIA_TYPE:
        return response
    id = response.headers["X-Request-Id"]
    shown = template("broken.html").render(who=None, stamp="", now=0, id=id)
    return HTMLResponse(shown, response.status_code, {**guard.HEADERS, "X-Request-Id": id})


def session_of(front: Front, request: Request) -> tuple[Principal, str] | None:
    """Return who sits before the browser, and the session's token; None if nobody has logged in."""
    token = request.cookies.get(guard.cookie_name("session", front.secure), "")
    try:
        return front.identity.holder(token), token
    except IdentityError:
        return None


async def sent(request: Request, secret: str) -> Form:
    """Return a form that was sent from a page of this service.

    Raises
    ------
    Refusal
        If it was not.
    Problem
        As `bodies.pieces`.
    """
    form = await _typed(request)
    guard.expect_own_page(request, secret, form.get("stamp", ""))
    return form


async def _typed(request: Request) -> Form:
    """Return a form, whoever sent it."""
    body = await bodies.read_content(request, _MOST_BODY)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise _unreadable() from None
    return Form(pairs)


async def _fields(request: Request, secret: str) -> tuple[Form, Mapping[str, bytes]]:
    return await sent(request, secret), {}


async def sent_files(request: Request, secret: str, most: int) -> tuple[Form, Mapping[str, bytes]]:
    """Return the fields and the files of a form of at most so many bytes; errors as for `sent`."""
    body = await bodies.read_content(request, most)

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        parts = await MultiPartParser(request.headers, whole(), max_files=_MOST_FILES, max_fields=_MOST_FILES).parse()
    except (MultiPartException, ValueError, LookupError):
        raise _unreadable() from None
    try:
        told = [(name, part) for name, part in parts.multi_items() if isinstance(part, str)]
        files = {name: await part.read() for name, part in parts.multi_items() if isinstance(part, UploadFile)}
    finally:
        await parts.close()
    form = Form(told)
    guard.expect_own_page(request, secret, form.get("stamp", ""))
    return form, files


def _unreadable() -> Malformed:
    return Malformed("form", "the form cannot be read; load the page again")


async def _to_login(front: Front, request: Request, keep: bool) -> Response:
    """Send whoever has not logged in to do so, and then back to the page; what was typed is kept if wanted."""
    if keep and request.method == "POST" and guard.is_own_page(request):
        typed = [(name, value) for name, value in (await _typed(request)).multi_items() if name != "stamp"]
        shown = template("kept.html").render(who=None, stamp="", now=front.clock(), path=request.url.path, typed=typed)
        return HTMLResponse(shown, 401, dict(guard.HEADERS))
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    back = f"?next={quote(path, safe='')}" if request.method == "GET" and path != "/" else ""
    return go(f"/login{back}")


def go(path: str, **query: str) -> Response:
    """Send the browser to another page of this service."""
    return RedirectResponse(path + (f"?{urlencode(query)}" if query else ""), 303, dict(guard.HEADERS))


def render(ask: Ask, name: str, status: int = 200, **values: Any) -> Response:
    """Return a page."""
    told = {"ask": ask, "who": ask.who, "stamp": guard.stamp(ask.token), "now": ask.front.clock(), **values}
    return HTMLResponse(template(name).render(told), status, dict(guard.HEADERS))


def status_of(error: MeshNetError) -> int:
    """Return the status that tells of an error."""
    return problems.from_error(error).status


def refused(ask: Ask, error: MeshNetError, offers: Sequence[tuple[str, str]] = ()) -> Response:
    """Return a page that says why something was not done, and what can be done instead: else to begin anew."""
    problem = problems.from_error(error)
    first = ask.front.tabs(ask.who)[0]
    offers = offers or [(first.href, f"Go to the {first.name.lower()}")]
    told = {"title": HTTPStatus(problem.status).phrase, "code": problem.status, "text": error.public, "offers": offers}
    answer = render(ask, "error.html", problem.status, **told)
    answer.headers.update(problem.headers)
    return answer
