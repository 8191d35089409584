"""The platform's half of the WebSocket protocol: a probe, a call, and the reading of the reply.

Opening a connection costs more than all else that carries a call, and the platform opens two for each. Here one is kept
from call to call, and its handshake is done on a bare socket, in the few fixed lines of RFC 6455, section 4.1; the
frames are the library's.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from computation.checks import parse_json
from computation.coinstac.admission import bearer
from computation.errors import MessageError

__all__ = ["REPLY_LIMIT", "ConnectionLost", "Line", "probe", "read_reply", "request_text"]

#: Longest reply that the platform's client takes (`ws` 7.4.6, maxPayload).
REPLY_LIMIT = 100 * 2**20

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CHUNK = 2**18
_PATIENCE = 2.0  # seconds to connect; only a container that is no longer there takes any
_KEPT = 20.0  # seconds without a word after which a connection is not used again; a node ends one after 60
_MORE = getattr(socket, "MSG_MORE", 0)
_quiet = logging.getLogger(__name__)
_quiet.disabled = True


class ConnectionLost(ConnectionError):
    """The connection ended before the reply came."""


class _Connection:
    """One open WebSocket."""

    def __init__(self, sock: socket.socket, received: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._frames = Protocol(Side.CLIENT, max_size=REPLY_LIMIT, logger=_quiet)
        self._frames.receive_data(received)

    async def send(self, text: bytes) -> None:
        self._frames.send_text(text)
        await self._flush()

    async def receive(self) -> bytes:
        """Return the next message; raises `ConnectionLost` if the connection ends first."""
        message = b""
        while True:
            for frame in self._frames.events_received():
                if isinstance(frame, Frame) and frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                    message += frame.data
                    if frame.fin:
                        return message
            await self._read()

    @property
    def quiet(self) -> bool:
        """Whether the other end has neither left nor said anything that nobody asked for."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return self._frames.state is State.OPEN
        except OSError:
            return False
        return False

    def close(self, reason: str) -> None:
        """Send the closing frame and leave: the platform's client does not wait for the answer either."""
        if self._frames.state is State.OPEN:
            self._frames.send_close(1000, reason)
        with contextlib.suppress(OSError):  # what was to be said has been said
            # Held back until the socket closes, so that the frame and the end travel, and wake the node, together.
            self._socket.send(b"".join(self._frames.data_to_send()), _MORE)
        self._socket.close()

    def abort(self) -> None:
        self._socket.close()

    async def _read(self) -> None:
        closed = self._frames.close_rcvd or self._frames.close_sent
        if closed:
            raise ConnectionLost(f"closed without a reply: {closed}")
        data = await self._loop.sock_recv(self._socket, _CHUNK)
        if not data:
            raise ConnectionLost("ended without a reply")
        self._frames.receive_data(data)
        await self._flush()

    async def _flush(self) -> None:
        for data in self._frames.data_to_send():
            if data:
                await self._loop.sock_sendall(self._socket, data)


async def _open(host: str, port: int, token: str) -> _Connection:
    sock = socket.socket()
    try:
        # On the machine itself the kernel connects, or refuses, at once, and a new socket has room for the handshake.
        sock.settimeout(_PATIENCE)
        _connect(sock, host, port)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16))
        sock.send(_handshake(host, port, key, token))
        return _Connection(sock, await _accepted(sock, key))
    except BaseException:
        sock.close()
        raise


def _connect(sock: socket.socket, host: str, port: int) -> None:
    try:
        sock.connect((host, port))
    except TimeoutError as error:  # the address is that of a container which has just ended
        raise ConnectionLost("was not accepted in time") from error


def _handshake(host: str, port: int, key: bytes, token: str) -> bytes:
    proof = f"Authorization: {bearer(token)}\r\n" if token else ""
    return (
        b"GET / HTTP/1.1\r\nHost: %b:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n%b\r\n" % (host.encode(), port, key, proof.encode())
    )


async def _accepted(sock: socket.socket, key: bytes) -> bytes:
    """Read the answer to the handshake; return what came after it."""
    loop = asyncio.get_running_loop()
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = await loop.sock_recv(sock, _CHUNK)
        if not data:
            raise ConnectionLost("ended in the handshake")
        answer += data
    head, _, rest = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 ") or base64.b64encode(hashlib.sha1(key + _GUID).digest()) not in head:
        raise ConnectionLost("refused the WebSocket handshake")
    return rest


async def probe(host: str, port: int, seconds: float, token: str = "") -> None:
    """Open and close a connection without a word, as the platform does before each call.

    Parameters
    ----------
    host, port
        Where the node listens.
    seconds : float
        How long its answer to the handshake may take.
    token : str
        What the node asks for; see `computation.coinstac.admission`.

    Raises
    ------
    OSError
        If nothing listens, or not a WebSocket server, or it does not answer in time.
    """
    try:
        connection = await asyncio.wait_for(_open(host, port, token), seconds)
    except asyncio.TimeoutError as error:
        raise ConnectionLost("did not answer the handshake in time") from error
    connection.close("Test Connection")


class Line:
    """Calls to one node, over one connection for as long as it holds."""

    def __init__(self) -> None:
        self._kept: _Connection | None = None
        self._since = 0.0

    async def call(self, host: str, port: int, request: bytes, token: str = "") -> bytes:
        """Send one request and return the reply's text.

        Raises
        ------
        ConnectionLost
            If the connection ends without a reply, or the reply is longer than `REPLY_LIMIT`.
        OSError
            If the connection breaks.
        """
        connection = self._take() or await _open(host, port, token)
        try:
            await connection.send(request)
            reply = await connection.receive()
        except TimeoutError as error:
            # ETIMEDOUT of the socket. Since Python 3.11 a caller could not tell it from its own limit, which cancels.
            connection.abort()
            raise ConnectionLost("was given up: the other end no longer answers") from error
        except BaseException:
            connection.abort()
            raise
        self._kept, self._since = connection, time.monotonic()
        return reply

    def _take(self) -> _Connection | None:
        """Return the connection of the last call, if the node can still be expected to listen there."""
        connection, self._kept = self._kept, None
        if connection is None or (connection.quiet and time.monotonic() - self._since < _KEPT):
            return connection
        connection.abort()
        return None

    def close(self) -> None:
        """Leave: a node that is to end would wait for who is still connected."""
        connection, self._kept = self._kept, None
        if connection is not None:
            connection.close("Normal Client disconnect")


def request_text(mode: str, input_text: str, cache: Mapping[str, Any], state: Mapping[str, Any]) -> bytes:
    """Return one call as text; `input_text` is JSON already, for it was made once for all who get it."""
    rest = f'"cache":{json.dumps(cache)},"state":{json.dumps(state)}'
    return f'{{"mode":"{mode}","data":{{"input":{input_text},{rest}}}}}'.encode()


def read_reply(text: bytes) -> dict[str, Any]:
    """Return what the computation returned.

    Raises
    ------
    MessageError
        With the computation's own error text if it sent one, or with what is wrong with the reply: the platform would
        stop the run, or wait for ever.
    """
    try:
        reply = parse_json(text)
    except ValueError as error:
        raise MessageError("the reply is not JSON", str(error)) from error
    kind = reply.get("type") if isinstance(reply, dict) else None
    if kind == "stderr":
        raise MessageError(str(reply.get("data")))
    if kind != "stdout" or reply.get("end") is not True or not isinstance(reply.get("data"), dict):
        raise MessageError("the reply is neither a result nor an error; the platform would wait for ever")
    data: dict[str, Any] = reply["data"]
    return data
