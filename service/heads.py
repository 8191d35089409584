"""How long a request's head may take: without an end, whoever opens connections and says nothing has all there are."""

from __future__ import annotations

import asyncio
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Heads"]


class Heads(H11Protocol):
    """A connection that is closed where a request's head has begun, or a first one is owed, and does not end.

    Bodies have a patience of their own (`web.bodies`), and uvicorn closes what has nothing to say after an answer.
    """

    #: Seconds from the connection, or a head's first byte, to its end.
    patience = 30.0
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first head."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait for as long as a head is not whole."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._rest()
        elif self._late is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._rest()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._late = self.loop.call_later(self.patience, self._close)

    def _rest(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _close(self) -> None:
        self._late = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()
