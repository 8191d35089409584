"""Sockets of a node: a ROUTER that answers whoever has a known key, and DEALERs that ask.

All of them speak CURVE. A peer whose key is not known, or whose address is not allowed, gets no answer at all, not
even a refusal; a message that is too long closes its connection. A question that is lost is asked again, and the same
id has the same answer, so that nothing is done twice.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from computation.errors import MessageError, PeersError
from peers.mesh import letters
from peers.mesh.keys import Known, Pair

__all__ = ["Server", "ask", "checked", "dealer", "host_of"]

_LOOK_MS = 50
#: Answers that are kept for questions that are asked again, and bytes that they may have together.
_MOST_KEPT, _MOST_BYTES = 256, 1 << 24
_TRIES = 3
#: Ports that are tried where the wanted one is taken.
_MORE_PORTS = 20

#: Makes an answer to a message of a node with this name, or none.
Handler = Callable[[str, Any], Any]
Told = Callable[[str], None]


def checked(port: int) -> int:
    """Return a port that there is; raises `PeersError`."""
    if not 1 <= port <= 65_535:
        raise PeersError(f"the port is {port}; wanted a number from 1 to 65535")
    return port


def host_of(address: str) -> str:
    """Return the host of a `tcp://HOST:PORT`.

    Raises
    ------
    MessageError
        If it is none.
    """
    scheme, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    if scheme != "tcp" or not host or not port.isdigit() or not 1 <= int(port) <= 65_535 or len(address) > 128:
        raise MessageError(f"{address[:128]!r} is no address; wanted tcp://HOST:PORT")
    return host.strip("[]")


@dataclass(frozen=True)
class _Allowed:
    """Answers the sockets' question whether a key is known."""

    known: Known

    def callback(self, domain: str, key: bytes) -> bool:
        return bool(self.known.name(key))


class Server:
    """A bound ROUTER and the thread that answers with it.

    Parameters
    ----------
    pair : Pair
        The node's.
    known : Known
        Whom it lets in.
    handler : callable
        Called in the thread with a name and a message.
    host : str
        Address on which to listen, and which others are told.
    port : int
        Wanted; where it is taken, one of the next ones, and that is told.
    longest : int
        Bytes of a message.
    told : callable
        Hears what was refused or done otherwise.
    allowed : collection of str
        IP addresses that may connect; all when empty.

    Attributes
    ----------
    address : str
        Where it listens.

    Raises
    ------
    PeersError
        If no port is free, or an address is none.
    """

    def __init__(
        self,
        pair: Pair,
        known: Known,
        handler: Handler,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        longest: int = letters.LONGEST,
        told: Told = lambda _: None,
        allowed: Collection[str] = (),
    ) -> None:
        for one in allowed:
            with _Named(f"{one[:60]!r} is no IP address; wanted one such as 192.0.2.7"):
                ipaddress.ip_address(one)
        self._pair, self._known, self._handler, self._longest, self._told = pair, known, handler, longest, told
        self._answers: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._context: Any = zmq.Context()
        self._authenticator = ThreadAuthenticator(self._context)
        self._authenticator.start()
        if allowed:
            self._authenticator.allow(*allowed)
        self._authenticator.configure_curve_callback(domain="*", credentials_provider=_Allowed(known))
        self._over = threading.Event()
        try:
            self.address = self._bind(host, port)
        except BaseException:
            self._end()
            raise
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _bind(self, host: str, port: int) -> str:
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 500
        self._socket.maxmsgsize = self._longest
        self._socket.curve_secretkey, self._socket.curve_publickey = self._pair.secret, self._pair.public
        self._socket.curve_server = True
        where = f"[{host}]" if ":" in host else host
        self._socket.ipv6 = ":" in host
        tries = [port + more for more in range(_MORE_PORTS) if port + more <= 65_535] if port else [0]
        for one in tries:
            try:
                self._socket.bind(f"tcp://{where}:{one or '*'}")
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE:
                    raise PeersError(
                        f"cannot listen on {host}; wanted an address of this machine", str(error)
                    ) from error
                continue
            found = bytes(self._socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode().rpartition(":")[2]
            if port and one != port:
                self._told(f"port {port} is taken; this node listens on {found}")
            return f"tcp://{where}:{found}"
        raise PeersError(f"ports {port} to {tries[-1]} are taken; wanted a free one: give another with --port")

    def _serve(self) -> None:
        while not self._over.is_set():
            if self._socket.poll(_LOOK_MS):
                self._one()

    def _one(self) -> None:
        """Answer one message; whatever is wrong with it is told and harms nobody else."""
        frames = self._socket.recv_multipart(copy=False)
        name = ""
        try:
            name = self._known.name(str(frames[-1].get("User-Id")).encode())
            if len(frames) != 2 or not name:
                raise MessageError(f"what came has {len(frames)} parts; wanted 2, from a known node")
            self._reply(frames[0].bytes, name, letters.read(frames[1].bytes, name, self._longest))
        except Exception as error:  # a stranger's message must not end the node
            public = error.public if isinstance(error, MessageError | PeersError) else f"unexpected {error!r}"
            self._told(f"dropped a message of {name or 'somebody unknown'}: {public}")

    def _reply(self, route: bytes, name: str, message: Any) -> None:
        kept = self._answers.get((name, message.id))
        if kept is None:
            made = self._handler(name, message)
            if made is None:
                return
            kept = made.SerializeToString()
            self._keep((name, message.id), kept)
        with suppress(zmq.Again):  # who does not read is not waited for
            self._socket.send_multipart([route, kept], zmq.NOBLOCK)

    def _keep(self, question: tuple[str, str], blob: bytes) -> None:
        self._answers[question] = blob
        while len(self._answers) > _MOST_KEPT or sum(map(len, self._answers.values())) > _MOST_BYTES:
            self._answers.popitem(last=False)

    def close(self) -> None:
        """Stop answering."""
        self._over.set()
        self._thread.join()
        self._end()

    def _end(self) -> None:
        self._authenticator.stop()
        self._context.destroy(linger=500)


class _Named:
    """Turn a `ValueError` inside into a `PeersError` that says what was wanted."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ValueError):
            raise PeersError(self._text) from error


def dealer(context: Any, pair: Pair, address: str, key: bytes, longest: int = letters.LONGEST) -> Any:
    """Return a DEALER that is connected, or will be, with the node of this key, and with no other."""
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.maxmsgsize = longest
    socket.ipv6 = "[" in address
    socket.curve_secretkey, socket.curve_publickey, socket.curve_serverkey = pair.secret, pair.public, key
    socket.connect(address)
    return socket


def ask(
    pair: Pair,
    known: Known,
    address: str,
    key: bytes,
    message: Any,
    *,
    seconds: float = 2.0,
    tries: int = _TRIES,
    longest: int = letters.LONGEST,
) -> Any:
    """Return the answer to a message, asked several times, or nothing where none came.

    Parameters
    ----------
    pair, known : Pair and Known
        The node's own, and of whom it believes an answer.
    address, key : str and bytes
        Whom to ask.
    message : PayloadMessage
        The question.
    seconds : float
        For each of the tries.
    tries : int
        At most.
    longest : int
        Bytes of the answer.

    Raises
    ------
    MessageError
        If the address is none, or what came is no answer.
    """
    host_of(address)
    name = known.name(key)
    context = zmq.Context()
    try:
        for _ in range(tries):
            socket = dealer(context, pair, address, key, longest)
            socket.send(message.SerializeToString())
            deadline = time.monotonic() + seconds
            while (left := deadline - time.monotonic()) > 0 and socket.poll(int(1000 * left) + 1):
                found = letters.read(socket.recv(), name, longest)
                if found.id == message.id:
                    return found
            socket.close()
    finally:
        context.destroy(linger=0)
    return None
