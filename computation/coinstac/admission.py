"""Who may connect to a node, how many at a time, and for how long without a word.

The platform opens one connection at a time, closes it after the reply, and speaks as soon as it is open. COINSTAC sends
no token, so one is asked for only where whoever started the process gave it one. See RFC 6750, section 2.1.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

__all__ = ["MOST", "TOKEN", "Guest", "Hall", "bearer"]

#: The environment variable with the token, for whoever starts the process.
TOKEN = "COINSTAC_MESHNET_TOKEN"

#: Connections at a time; each may hold one request in memory.
MOST = 8


def bearer(token: str) -> str:
    """Return the value of the header `Authorization` that carries a token."""
    return f"Bearer {token}"


class Hall:
    """The connections of one server.

    Parameters
    ----------
    token : str
        What each must bring; empty where anybody is let in.
    """

    def __init__(self, token: str = "") -> None:
        self._token = token
        self._guests: list[ServerConnection] = []
        self._busy: set[ServerConnection] = set()

    def enter(self, guest: Guest) -> None:
        """Take a connection in. Where there are too many, the oldest whose call is not being answered goes."""
        self._guests.append(guest)
        if len(self._guests) > MOST:
            # The newcomer itself is idle, so there is one.
            next(one for one in self._guests if one not in self._busy).transport.abort()

    def leave(self, guest: Guest) -> None:
        """Forget a connection that has ended."""
        if guest in self._guests:
            self._guests.remove(guest)

    @contextmanager
    def calling(self, connection: ServerConnection) -> Iterator[None]:
        """Keep a connection while its call is being answered."""
        self._busy.add(connection)
        try:
            yield
        finally:
            self._busy.discard(connection)

    def check(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse a handshake without the token; for `process_request` of the library."""
        if not self._token:
            return None
        brought = "".join(request.headers.get_all("Authorization")[:1]).encode("utf-8", "replace")
        if hmac.compare_digest(brought, bearer(self._token).encode()):
            return None
        return connection.respond(HTTPStatus.UNAUTHORIZED, f"wanted the token of {TOKEN}\n")


class Guest(ServerConnection):
    """A connection that is counted from the moment when it is made, before any handshake."""

    def __init__(self, hall: Hall, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.hall = hall

    def connection_made(self, transport: Any) -> None:
        """Count it."""
        super().connection_made(transport)
        self.hall.enter(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Count it no longer."""
        self.hall.leave(self)
        super().connection_lost(error)
