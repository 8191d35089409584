"""Room for connections: as many as the system allows, and a line a minute, not thousands, where there is none left."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import time
from contextlib import suppress
from typing import Any

import uvicorn

__all__ = ["Full", "Server", "make_room"]

log = logging.getLogger(__name__)

#: Files that a process wants to have open at most: each connection is one.
_MOST = 65_536
_FULL = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
#: Names asyncio's next tries, which fail where the server has ended meanwhile: as many as there were failures.
_RETRY = "._start_serving"
#: Seconds between two lines in the log.
_SILENCE = 60.0


def make_room() -> None:
    """Let this process have as many files open as the system lets it; a shell's usual 1,024 are soon taken."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if most == resource.RLIM_INFINITY else min(_MOST, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


class Full:
    """What an event loop calls where something failed: that nobody more can be let in is said once a minute.

    asyncio tries as often as its queue is long and reports each failure with all its lines, every second.
    """

    def __init__(self) -> None:
        self._told = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Report a failure, unless it is that one and was reported lately."""
        error = context.get("exception")
        if _RETRY in context.get("message", ""):
            return
        if not (isinstance(error, OSError) and error.errno in _FULL):
            loop.default_exception_handler(context)
        elif time.monotonic() - self._told > _SILENCE:
            self._told = time.monotonic()
            log.error("no more connections can be taken (%s); who is there goes on", error.strerror)


class Server(uvicorn.Server):
    """uvicorn's server, in whose log a crowd is a line."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        asyncio.get_running_loop().set_exception_handler(Full())
        await super().startup(sockets)
