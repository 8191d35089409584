"""What every page of a site has: the place that it is about, links to others, and errors for the owner's eyes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, quote

from starlette.responses import Response
from starlette.routing import Route

from computation.errors import MeshNetError
from service.protocol import Malformed, Refusal
from service.site.work import Work
from service.web.dashboard import asking
from service.web.dashboard.asking import Ask
from service.web.dashboard.front import Front

__all__ = ["Handler", "link", "page", "place", "query", "show"]

#: Who may look at a site's scans.
_ROLES = ("administrator", "site")
_MOST_FIELDS = 8

Handler: TypeAlias = Callable[[Work, Ask], Response]


def page(front: Front, work: Work, path: str, handler: Handler, form: Handler | None = None) -> Route:
    """Return the route of a page about a site's scans; parameters as for `asking.page`."""
    sent = _told(work, form) if form else None
    return asking.page(front, path, _told(work, handler), *_ROLES, form=sent)


def _told(work: Work, handler: Handler) -> asking.Handler:
    """Let both halves of an error be read: whoever looks at a site's own machine may see what is there."""

    def answer(ask: Ask) -> Response:
        try:
            return handler(work, ask)
        except Refusal:
            raise
        except MeshNetError as error:
            raise Malformed("scans", str(error)) from error

    return answer


def query(ask: Ask) -> dict[str, str]:
    """Return what the address asks for; a byte of a file's name that is no text stays as Python carries it."""
    text = ask.request.scope["query_string"].decode("ascii", "surrogateescape")
    try:
        return dict(parse_qsl(text, keep_blank_values=True, errors="surrogateescape", max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise Malformed("address", "the address asks for too much; go back and follow a link") from None


def place(ask: Ask) -> str:
    """Return the name below the root of what the page is about."""
    return query(ask).get("at", "")


def link(path: str, at: str, **more: object) -> str:
    """Return the address of a page about something below the root."""
    told = "".join(f"&{name}={quote(str(value), safe='')}" for name, value in more.items())
    return f"{path}?at={quote(os.fsencode(at), safe='/')}{told}"


def show(ask: Ask, work: Work, name: str, status: int = 200, **values: Any) -> Response:
    """Return a page."""
    at = place(ask)
    parts = at.split("/") if at else []
    crumbs = [(part, "/".join(parts[: number + 1])) for number, part in enumerate(parts)]
    told = {"link": link, "at": at, "crumbs": crumbs, "root": str(work.root.folder), "work": work.state}
    return asking.render(ask, name, status, **told, **values)
