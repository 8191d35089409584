"""Requests to one service: a bearer's token, bounded answers, and attempts until it works or patience is over.

All that comes back is somebody else's: it is read to a limit, never decompressed, never redirected, and it is JSON in
UTF-8 or nothing. Who asks twice gets one answer, so whatever fails on the way is asked again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import Any

import httpx

from computation.checks import is_text, parse_json
from computation.errors import IdentityError, ServiceError
from service.client.address import Address
from service.client.backoff import Backoff
from service.client.bearer import Bearer
from service.client.way import way, why

__all__ = ["Link", "Refused"]

#: Bytes of an answer in JSON: a result's message, and small files with it.
_MOST = 16 * 2**20
#: Seconds to connect, and to wait for any byte; an answer that is waited for takes so much longer.
_CONNECT, _SILENCE = 10.0, 30.0
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "coinstac-meshnet"}
#: Seconds for a whole answer once it has begun, and bytes a second that come at least: one byte at a time is no answer.
_WHOLE, _SLOWEST = 60.0, 50_000.0
#: What a service says when it cannot now; whatever else is no success, it means.
_LATER = frozenset((408, 425, 429, 500, 502, 503, 504))
#: Seconds that a service may ask for before the next attempt.
_LONGEST_PAUSE = 120.0


class Refused(ServiceError):
    """The service refused a request.

    Parameters
    ----------
    status : int
        Of the answer.
    code : str
        The refusal's word, for programs.
    public : str
        Its sentence.
    detail : mapping
        What came with it.
    """

    def __init__(self, status: int, code: str, public: str, detail: Mapping[str, Any]) -> None:
        super().__init__(public)
        self.status, self.code, self.detail = status, code, detail


class Link:
    """One service, as one client sees it; may be used by several threads.

    Parameters
    ----------
    address : Address
        Of the service.
    bearer : Bearer
        Whose token is shown.
    backoff : callable
        Makes what waits between attempts at one request.
    told : callable
        Told in a sentence when the service does not answer, and when it does again.
    """

    def __init__(
        self,
        address: Address,
        bearer: Bearer,
        backoff: Callable[[], Backoff],
        told: Callable[[str], object] = lambda text: None,
    ) -> None:
        self.address, self._bearer = address, bearer
        self._backoff, self._told = backoff, told
        # Not `httpx.Client`: it looks for cookies, redirections and logins at each request, of which there are none.
        self._ways: dict[str, httpx.HTTPTransport] = {}

    def close(self) -> None:
        """Let go of connections."""
        for one in self._ways.values():
            one.close()

    def get(self, path: str, *, seconds: float = 0.0, **query: str | int) -> dict[str, Any]:
        """Return what the service says under one of its paths.

        Parameters
        ----------
        path : str
            Below the service's address.
        seconds : float
            That the service may take longer than usual, since it was asked to wait for news.
        **query
            The query.

        Raises
        ------
        Refused
            If it will not say.
        IdentityError
            If it does not know this site, or no longer.
        ServiceError
            If it does not answer for too long, or not in JSON.
        """
        return self._asked("GET", path, seconds, params=query)

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        key: str = "",
        *,
        seconds: float = 0.0,
        query: Mapping[str, int] | None = None,
    ) -> dict[str, Any]:
        """Ask the service to do something; parameters and errors as for `get`, and an idempotency key.

        The body is plain JSON values, or their text where somebody has made it already.
        """
        headers = {"Idempotency-Key": key} if key else {}
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
            return self._asked("POST", path, seconds, params=query, content=body, headers=headers)
        return self._asked("POST", path, seconds, params=query, json=dict(body or {}), headers=headers)

    def once(self, path: str, body: Mapping[str, Any]) -> None:
        """Tell the service something that need not arrive."""
        with suppress(httpx.HTTPError, ServiceError, _Later):
            self._send("POST", self.address.url(path), _MOST, json=dict(body), headers=self._bearer.header())

    def put(self, url: str, headers: Mapping[str, str], content: bytes) -> int:
        """Send a file where the service said, and return the status: 2xx, or 4xx where it must be asked anew."""
        where = self.address.signed(url)
        return self._until(lambda: self._send("PUT", where, _MOST, content=content, headers=dict(headers)))[0]

    def fetch(self, url: str, headers: Mapping[str, str], size: int) -> bytes:
        """Return a file from where the service said.

        Raises
        ------
        Refused
            If the URL is too old, or nothing is there.
        ServiceError
            As `get`.
        """
        where = self.address.signed(url)
        status, content = self._until(lambda: self._send("GET", where, size, headers=dict(headers)))
        if status != 200:
            raise Refused(status, "file", f"a file of the run cannot be fetched (status {status})", {})
        return content

    def _asked(self, method: str, path: str, seconds: float, **given: Any) -> dict[str, Any]:
        url, extra = self.address.url(path), given.pop("headers", {})

        def attempt() -> tuple[int, bytes]:
            return self._send(method, url, _MOST, seconds, headers=extra | self._bearer.header(), **given)

        status, content = self._until(attempt)
        if status == 401 and self._bearer.renew():
            status, content = self._until(attempt)
        if status == 401:
            raise IdentityError("the service does not know these credentials, or no longer; have new ones made")
        return _read(status, content)

    def _until(self, attempt: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
        """Attempt until the service says something that is not `later`."""
        backoff, lost = self._backoff(), False
        while True:
            pause = 0.0
            try:
                status, content = attempt()
                if status not in _LATER:
                    if lost:
                        self._told("the service answers again")
                    return status, content
                what = f"the service says {status}"
            except _Later as later:
                what, pause = f"the service says {later.status}", later.pause
            except httpx.HTTPError as error:
                what = f"the service at {self.address.base} cannot be reached ({why(error)})"
            if not lost:
                self._told(f"{what}; asking again")
            lost = True
            if not backoff.wait(pause):
                raise ServiceError(f"{what}, and that for {backoff.patience:.0f} s; start again later: nothing is lost")

    def _send(self, method: str, url: str, most: int, seconds: float = 0.0, **given: Any) -> tuple[int, bytes]:
        headers, timeout = _HEADERS | given.pop("headers"), httpx.Timeout(_SILENCE + seconds, connect=_CONNECT)
        asked = httpx.Request(method, url, headers=headers, extensions={"timeout": timeout.as_dict()}, **given)
        with closing(self._way(asked.url).handle_request(asked)) as answer:
            if answer.status_code in _LATER:
                raise _Later(answer.status_code, _pause(answer.headers.get("Retry-After", "")))
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                raise ServiceError("the service's answer is compressed, which nobody asked for; tell its administrator")
            return answer.status_code, _bounded(answer, most)

    def _way(self, url: httpx.URL) -> httpx.HTTPTransport:
        """Return the way to a host, which is found once."""
        where = f"{url.scheme}://{url.host}"
        if where not in self._ways:
            self._ways[where] = way(url, self.address.local)
        return self._ways[where]


class _Later(Exception):
    """Not now."""

    def __init__(self, status: int, pause: float) -> None:
        super().__init__(status)
        self.status, self.pause = status, pause


def _bounded(answer: httpx.Response, most: int) -> bytes:
    pieces, size = [], 0
    latest = time.monotonic() + _WHOLE + most / _SLOWEST
    for piece in answer.iter_raw():
        size += len(piece)
        if time.monotonic() > latest:
            raise httpx.ReadTimeout("an answer came too slowly")
        if size > most:
            raise ServiceError(f"the service's answer has more than {most} bytes; wanted less: tell its administrator")
        pieces.append(piece)
    return b"".join(pieces)


def _pause(text: str) -> float:
    """Return the seconds of a Retry-After header; a date, or nonsense, is none."""
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), _LONGEST_PAUSE) if math.isfinite(seconds) else 0.0


def _read(status: int, content: bytes) -> dict[str, Any]:
    try:
        value = parse_json(content) if content else {}
    except ValueError:
        value = None
    if not isinstance(value, dict):
        if 200 <= status < 300:
            raise ServiceError("the service's answer is no JSON object; is the URL that of a service of this product?")
        value = {}
    if 200 <= status < 300:
        return value
    code, detail, more = value.get("code"), value.get("detail"), value.get("details")
    public = str(detail) if detail and is_text(detail, 1000) else f"the service refused a request (status {status})"
    raise Refused(status, str(code) if is_text(code, 60) else "", public, more if isinstance(more, dict) else {})
