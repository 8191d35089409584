"""A user pool's public keys (RFC 7517), fetched when they are needed and not more often."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

import jwt
from jwt.algorithms import RSAAlgorithm

from computation.checks import is_text, parse_json
from computation.errors import ServiceError
from service.clock import Clock

__all__ = ["Keys", "fetched"]

#: Bytes of a set of keys, and keys in it: a pool has two.
_LARGEST, _MOST = 65_536, 32
_SMALLEST_MODULUS = 2048
#: Milliseconds: how long keys are believed, how long where no newer ones can be had, and how often is asked.
_FRESH, _STALE, _PAUSE = 3_600_000, 86_400_000, 30_000


class _NoRedirects(HTTPRedirectHandler):
    """What is asked of a pool comes from itself, not from wherever it points to."""

    def redirect_request(self, *_: Any) -> None:
        return None


def fetched(url: str, seconds: float = 5.0, form: Mapping[str, str] | None = None) -> bytes:
    """Return what a pool answers at a URL, at most as much as a set of keys may have.

    Parameters
    ----------
    url : str
        Of the pool.
    seconds : float
        How long it may be silent.
    form : mapping of str, optional
        What is sent there.

    Raises
    ------
    HTTPError
        If it answers with another status than that of success.
    OSError
        If it cannot be had.
    """
    if not url.startswith(("https://", "http://")):
        raise OSError("the pool's URL is none of HTTPS")
    content = None if form is None else urlencode(form).encode()
    request = Request(url, content, {"Accept": "application/json"})
    try:
        with build_opener(_NoRedirects).open(request, timeout=seconds) as answer:
            found: bytes = answer.read(_LARGEST + 1)
    except HTTPException as error:
        raise OSError("the pool's host speaks no HTTP") from error
    if len(found) > _LARGEST:
        raise OSError("the pool's answer is too large")
    return found


@dataclass(frozen=True)
class _Known:
    keys: Mapping[str, Any]
    since: int


class Keys:
    """The keys of one pool by their ids; any thread may ask.

    A key that is not known is asked for, as pools change theirs; but whoever sends tokens with invented ids does not
    make the service ask more than twice a minute.

    Parameters
    ----------
    fetch : callable
        Returns the set of keys as JSON, or raises OSError.
    clock : callable
        Milliseconds since 1970.
    """

    def __init__(self, fetch: Callable[[], bytes], clock: Clock) -> None:
        self._fetch, self._clock = fetch, clock
        self._known = _Known({}, -_STALE)
        self._asked: int | None = None
        self._lock = threading.Lock()

    def key(self, identity: str) -> Any:
        """Return the public key of an id; nothing if the pool has none.

        Raises
        ------
        ServiceError
            If the pool's keys cannot be had.
        """
        known = self._known
        if identity in known.keys and self._clock() - known.since < _FRESH:
            return known.keys[identity]
        known = self._renewed(known)
        if self._clock() - known.since >= _STALE:
            raise ServiceError("the keys of the user pool cannot be fetched now; try again in a minute")
        return known.keys.get(identity)

    def _renewed(self, seen: _Known) -> _Known:
        with self._lock:
            now = self._clock()
            if self._known is not seen or (self._asked is not None and now - self._asked < _PAUSE):
                return self._known  # another thread has just asked
            self._asked = now
            with suppress(OSError, ValueError):  # those that are known go on being believed, for a while
                self._known = _Known(_read(self._fetch()), now)
            return self._known


def _read(content: bytes) -> dict[str, Any]:
    raw = parse_json(content)
    listed = raw.get("keys") if isinstance(raw, dict) else None
    if not isinstance(listed, list) or len(listed) > _MOST:
        raise ValueError("no set of keys")
    return {one["kid"]: _key(one) for one in listed if _is_usable(one)}


def _is_usable(raw: Any) -> bool:
    if not isinstance(raw, dict) or not is_text(raw.get("kid"), 200):
        return False
    return raw.get("kty") == "RSA" and raw.get("alg", "RS256") == "RS256" and raw.get("use", "sig") == "sig"


def _key(raw: Mapping[str, Any]) -> Any:
    try:
        key = RSAAlgorithm.from_jwk({name: raw[name] for name in ("kty", "n", "e")})
    except (jwt.InvalidKeyError, KeyError, TypeError) as error:
        raise ValueError("a malformed key") from error
    if key.key_size < _SMALLEST_MODULUS:
        raise ValueError("a key that is too short")
    return key
