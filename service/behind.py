"""A proxy before the service, which has the TLS: whom it asks for, and that nobody asks past it."""

from __future__ import annotations

import ipaddress
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from computation.errors import ServiceError
from service.web.answering import told
from service.web.problems import Problem

__all__ = ["Behind", "networks"]

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What says nothing, and is asked by what watches over machines.
_ANYBODYS = ("/healthz", "/readyz")


def networks(text: str) -> tuple[_Network, ...]:
    """Return where proxies are, as a person typed it.

    Raises
    ------
    ServiceError
        If it is a name, or anything else that no connection could be recognised by: then nothing would be believed.
    """
    try:
        return tuple(ipaddress.ip_network(one.strip()) for one in text.split(","))
    except ValueError as error:
        raise ServiceError(
            "--behind-proxy is no address; wanted that from which the proxy connects, such as 10.0.0.2, or a network "
            "such as 172.18.0.0/16, several with commas between them",
            str(error),
        ) from None


class Behind:
    """An ASGI application behind proxies.

    What they send comes from where they say it does, over TLS. Without them the service is reached by this machine
    alone: a connection past them has no TLS, and who listens would have the passwords.

    Parameters
    ----------
    app : ASGI application
        The service.
    proxies : str
        As for `networks`.
    """

    def __init__(self, app: ASGIApp, proxies: str) -> None:
        self._app, self._networks = app, networks(proxies)
        believing: Any = ProxyHeadersMiddleware  # uvicorn has types of its own for what Starlette calls an application
        self._believed = believing(app, [one.strip() for one in proxies.split(",")])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, or refuse."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        peer = _peer(scope)
        if peer and any(peer in one for one in self._networks):
            seen = {**scope, "client": (str(peer), 0), "scheme": "https"}
            await self._believed(seen, receive, send)
            return None
        if (peer and peer.is_loopback) or scope["path"] in _ANYBODYS:
            return await self._app(scope, receive, send)
        answer = await told(Request(scope, receive), "?", lambda: _past(peer))
        return await answer(scope, receive, send)


def _peer(scope: Scope) -> _Address | None:
    """Return who has connected; a door for both kinds of addresses spells the older kind in the newer one's way."""
    try:
        found = ipaddress.ip_address((scope.get("client") or ("",))[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


async def _past(peer: _Address | None) -> Response:
    raise Problem(
        421,
        "proxy",
        f"this address is for the service's proxy, and {peer or 'who asks'} is none that --behind-proxy names; ask at "
        "the service's own URL",
    )
