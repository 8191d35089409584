"""The token that a site shows, and how it has a new one overnight."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from computation.checks import is_number, is_text, parse_json
from computation.errors import IdentityError
from service.client.address import Address
from service.client.credentials import Credentials
from service.client.way import way

__all__ = ["Bearer"]

_MOST = 64 * 1024
#: Seconds before its end at which a token is renewed, so that none ends on its way; and that any is believed to last.
_EARLY, _LONGEST = 60.0, 86_400.0
#: Seconds that a token is used for where nobody says how long it lasts.
_USUAL = 300.0
_POOL = {
    "Content-Type": "application/x-amz-json-1.1",
    "X-Amz-Target": "AWSCognitoIdentityProviderService.InitiateAuth",
}
_FACTOR = (
    "the user pool wants a second factor, which no machine has; leave this user without one, or put a refresh token "
    "into the file of credentials in the place of name and password"
)
#: What a user pool asks for before it makes a token, and what to do then.
_CHALLENGES = {
    "NEW_PASSWORD_REQUIRED": "the site's password is a temporary one; have the pool's administrator set a lasting one",
    "SOFTWARE_TOKEN_MFA": _FACTOR,
    "MFA_SETUP": _FACTOR,
}


class Bearer:
    """Shows a token, and renews it when it is old or was refused; may be used by several threads.

    Parameters
    ----------
    address : Address
        Of the service.
    load : callable
        Returns the credentials, and is asked again when they were refused: somebody may have put new ones there.
    clock : callable
        Seconds that never go back.

    Raises
    ------
    IdentityError
        If there are no credentials, or they are for another service.
    """

    def __init__(
        self, address: Address, load: Callable[[], Credentials], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address, self._load, self._clock = address, load, clock
        self._lock = threading.Lock()
        self._take(load())

    def _take(self, found: Credentials) -> None:
        if found.server and Address.parse(found.server).origin != self._address.origin:
            raise IdentityError("the credentials are for another service; name that of this one, or have new ones made")
        self._credentials, self._token, self._until = found, found.token, float("inf") if found.token else 0.0

    def header(self) -> dict[str, str]:
        """Return the header that says who asks.

        Raises
        ------
        IdentityError
            If no token is to be had for the credentials any more.
        httpx.HTTPError
            If who makes tokens cannot be reached.
        """
        with self._lock:
            if self._clock() >= self._until:
                self._renew()
            return {"Authorization": f"Bearer {self._token}"}

    def renew(self) -> bool:
        """Tell, after the token was refused, whether there is another one to try."""
        with self._lock:
            before, found = self._credentials, self._load()
            if found != before:
                self._take(found)
                return True
            self._until = 0.0 if not found.token else self._until
            return not found.token

    def _renew(self) -> None:
        answer = self._from_pool() if self._credentials.sign_in else self._from_service()
        token, seconds = answer.get("token"), answer.get("seconds")
        if not is_text(token, 8192) or not token or not str(token).isascii():
            raise IdentityError("the service made no token for the credentials; have new ones made")
        lasts = float(seconds) if is_number(seconds) and isinstance(seconds, int | float) else _USUAL
        # Of a token that lasts for less than two minutes, half that time.
        self._token = str(token)
        self._until = self._clock() + min(max(lasts - _EARLY, lasts / 2, 1.0), _LONGEST)

    def _from_service(self) -> dict[str, Any]:
        made = self._ask(self._address.url("/v1/auth/refresh"), {}, {"refresh": self._credentials.refresh})
        # The service says when the token ends by its own clock, which may not be this machine's.
        return {"token": made.get("access"), "seconds": _USUAL}

    def _from_pool(self) -> dict[str, Any]:
        held = self._credentials
        flow, given = ("REFRESH_TOKEN_AUTH", {"REFRESH_TOKEN": held.refresh})
        if held.password:
            flow, given = ("USER_PASSWORD_AUTH", {"USERNAME": held.username, "PASSWORD": held.password})
        body = {"AuthFlow": flow, "ClientId": held.client, "AuthParameters": given}
        answer = self._ask(Address.parse(held.sign_in).base + "/", _POOL, body)
        if why := _CHALLENGES.get(str(answer.get("ChallengeName"))):
            raise IdentityError(why)
        made = answer.get("AuthenticationResult")
        made = made if isinstance(made, dict) else {}
        return {"token": made.get("AccessToken"), "seconds": made.get("ExpiresIn")}

    def _ask(self, url: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for a token, with nothing of the secret in any error."""
        found = way(httpx.URL(url), Address.parse(url).local)
        with (
            httpx.Client(transport=found, trust_env=False, timeout=30.0) as http,
            http.stream("POST", url, json=dict(body), headers={"Accept-Encoding": "identity", **headers}) as answer,
        ):
            if answer.status_code >= 500 or answer.status_code == 429:
                raise httpx.HTTPError(f"status {answer.status_code}")
            content = b"".join(_some(answer))
        if answer.status_code != 200:
            raise IdentityError("the credentials make no new token any more; have new ones made")
        try:
            value = parse_json(content)
        except ValueError:
            value = {}
        return value if isinstance(value, dict) else {}


def _some(answer: httpx.Response) -> list[bytes]:
    pieces, size = [], 0
    for piece in answer.iter_raw():
        size += len(piece)
        if size > _MOST:
            raise IdentityError("who makes tokens answered with more than a token; is the URL the right one?")
        pieces.append(piece)
    return pieces
