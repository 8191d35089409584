"""The embedded service: the API on one address, and a worker's process beside it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from computation.errors import ServiceError
from computation.isolation import variables
from service.behind import Behind, networks
from service.client.address import is_local
from service.heads import Heads
from service.logs import to_file
from service.place import Place
from service.room import Server, make_room
from service.site.root import Root
from service.site.work import Work
from service.supervision import Kept
from service.web import site
from service.web.app import application, pages_alone
from service.web.dashboard import Front, routes
from service.web.served import Served

__all__ = ["Wanted", "serve"]

#: Seconds that requests have to end when the service is ended; those that wait for news wait no longer.
_FAREWELL = 3


@dataclass(frozen=True)
class Wanted:
    """How to serve.

    Attributes
    ----------
    data : Path
        The data folder.
    host, port : str, int
        Address to listen on; port 0 is any free one.
    certificate, key : Path or None
        Of TLS, in PEM.
    proxy : str
        Addresses of the proxy before the service, which has the TLS, as for `behind.networks`; empty for none.
    site : Path or None
        Folder below which a site's scans and runs are, where its own pages are wanted and no centre.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None
    proxy: str = ""
    site: Path | None = None

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_local(self.host)

    def check(self) -> None:
        """Refuse an address at which passwords and tokens could be read on their way, or scans seen from elsewhere.

        Raises
        ------
        ServiceError
            Saying what to add.
        """
        if self.site and (not self.local or self.certificate or self.key or self.proxy):
            raise ServiceError(
                "a site's pages show its scans and are for its own machine alone; leave out --host, --tls-certificate, "
                "--tls-key and --behind-proxy"
            )
        if (self.certificate is None) != (self.key is None):
            raise ServiceError("half of TLS was named; wanted both --tls-certificate and --tls-key")
        for path in filter(None, (self.certificate, self.key)):
            if not path.is_file():
                raise ServiceError("a file of TLS is not there; wanted the certificate and its key, in PEM", str(path))
        if self.proxy and self.certificate:
            raise ServiceError("both TLS and a proxy were named; wanted one of them to have the TLS")
        if self.certificate and self.key:
            _expect_pair(self.certificate, self.key)
        if self.proxy:
            networks(self.proxy)
        if not (self.local or self.certificate or self.proxy):
            raise ServiceError(
                f"{self.host} is not this machine alone, and there is no TLS: whoever listens has the passwords. "
                "Add --tls-certificate and --tls-key, or --behind-proxy ADDRESS where a proxy has the TLS"
            )


def _expect_pair(certificate: Path, key: Path) -> None:
    """Refuse files that TLS cannot be had with, before anybody is told that the service is there."""

    def nobody() -> str:
        raise ServiceError("the key of TLS has a passphrase, which nobody is there to type; wanted one without")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, nobody)
    except OSError as error:  # `ssl.SSLError` is one
        text = "the files of TLS are no certificate and its key; wanted both in PEM, readable, the certificate's chain"
        raise ServiceError(f"{text} with its own first", str(error)) from None


def serve(wanted: Wanted, tell: Callable[[str], object] = lambda line: None) -> None:
    """Serve until a signal says stop.

    Parameters
    ----------
    wanted : Wanted
        How.
    tell : callable
        Told the URL once the address is the service's own, and then what is left to do before anybody can log in.

    Raises
    ------
    ServiceError
        If the address or the data folder cannot be had, or another process has it.
    """
    wanted.check()
    make_room()
    place = Place(wanted.data)
    with ExitStack() as stack:
        # Whatever this process and its worker write, nobody else reads.
        stack.callback(os.umask, os.umask(0o077))
        stack.enter_context(place.held())
        door = stack.enter_context(_listening(wanted))
        to_file(place.log)
        app = _site(wanted.site, place, stack) if wanted.site else _centre(wanted, place, stack)
        host, port = door.getsockname()[:2]
        scheme = "https" if wanted.certificate else "http"
        # What uvicorn has caught it raises again when it has ended; then everything here ends in order.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        tell(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")
        if not place.has_administrator():
            tell(f"nobody can log in yet; in another terminal: {place.founding}")
        Server(_config(app, wanted)).run(sockets=[door])


def _centre(wanted: Wanted, place: Place, stack: ExitStack) -> Starlette:
    shutil.rmtree(place.work, ignore_errors=True)  # of workers that were killed
    bell = place.bell()
    local = place.local()
    desk = place.desk(bell)
    front = Front(desk, local, bell, secure=bool(wanted.certificate or wanted.proxy))
    app = application(Served(desk, local, local=local, bell=bell), routes(front))
    stack.enter_context(_worker(place))
    return app


def _site(folder: Path, place: Place, stack: ExitStack) -> Starlette:
    work = stack.enter_context(Work(Root.of(folder), place.order))
    return pages_alone(site.routes(Front(None, place.local(), tabs=site.tabs, roles=site.ROLES), work))


@contextmanager
def _listening(wanted: Wanted) -> Iterator[socket.socket]:
    try:
        where = socket.getaddrinfo(wanted.host, wanted.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # asyncio sends small pieces at once only on what is named TCP: without it each answer waits 40 ms for an ACK.
        door = socket.socket(where[0], socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise ServiceError(f"{wanted.host} is no address of this machine; wanted one", str(error)) from None
    with door:
        # A port of a service that has just ended may be had again at once.
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(where[4])
            door.listen(2048)
        except OSError as error:
            why = "ports below 1024 are the system's" if isinstance(error, PermissionError) else "end what uses it"
            text = f"port {wanted.port} of {wanted.host} cannot be had ({error.strerror}); {why}, or name another with"
            raise ServiceError(f"{text} --port", str(error)) from None
        yield door


def _worker(place: Place) -> Kept:
    environment = {**os.environ, **variables()}
    return Kept(
        [sys.executable, "-m", "service.working", str(place.folder.absolute())], environment, "worker", place.log
    )


def _config(app: Starlette, wanted: Wanted) -> uvicorn.Config:
    return uvicorn.Config(
        Behind(app, wanted.proxy) if wanted.proxy else app,
        http=Heads,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=wanted.certificate,
        ssl_keyfile=wanted.key,
        timeout_graceful_shutdown=_FAREWELL,
        backlog=2048,
    )
