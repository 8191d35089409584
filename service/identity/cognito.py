"""Tokens of an Amazon Cognito user pool, verified here as well as at the gateway.

A gateway's route can be misconfigured, and some let tokens pass that never expire, or ID tokens. What must hold is in
RFC 8725 and Amazon's "Verifying JSON web tokens". A token that was revoked at the pool is good until it expires, since
that can be seen only there: let the pool's access tokens live for minutes.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jwt
from jwt.types import Options

from computation.checks import is_number, is_text
from computation.errors import IdentityError
from service.clock import Clock, now
from service.identity.keys import Keys, fetched
from service.identity.principal import ROLES, Principal

__all__ = ["Cognito"]

#: Characters of a token; Cognito's have one to three thousand.
_LONGEST = 8192
#: Seconds by which another clock may differ from ours.
_LEEWAY = 60
#: Times are checked by the clock that was given, and an access token has no audience.
_SIGNATURE_ALONE: Options = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}
_REFUSED = "the token is not one of this service's user pool, or no longer; log in again"


class Cognito:
    """Makes principals out of access tokens; a user's roles are its groups.

    Parameters
    ----------
    issuer : str
        `https://cognito-idp.REGION.amazonaws.com/POOL`.
    clients : collection of str
        Ids of the app clients whose tokens count.
    scope : str, optional
        A client that logs in with its own secret, as a machine does, is a site if it was given this scope.
    fetch : callable, optional
        Returns the pool's keys; by default from the issuer.
    clock : callable
        Milliseconds since 1970.
    """

    def __init__(
        self,
        issuer: str,
        clients: Collection[str],
        scope: str = "",
        fetch: Callable[[], bytes] | None = None,
        clock: Clock = now,
    ) -> None:
        self._issuer, self._clients, self._scope, self._clock = issuer, frozenset(clients), scope, clock
        self._keys = Keys(fetch or (lambda: fetched(f"{issuer}/.well-known/jwks.json")), clock)

    def verify(self, token: str) -> Principal:
        """Return whose access token it is."""
        claims = self._signed(token)
        self._check(claims, "access", "client_id")
        name = claims.get("username", "")
        return Principal(
            claims["sub"],
            self._roles(claims),
            name if is_text(name, 128) else "",
            int(claims["iat"] * 1000),
            machine=claims["sub"] == claims["client_id"],
        )

    def signed_in(self, token: str, nonce: str) -> str:
        """Return the subject of the ID token that the pool made for one sign-in and no other.

        Raises
        ------
        IdentityError
            If it is none, or was made for another sign-in.
        """
        claims = self._signed(token)
        self._check(claims, "id", "aud")
        told = claims.get("nonce")
        if not isinstance(told, str) or not hmac.compare_digest(told.encode("utf-8", "replace"), nonce.encode()):
            raise IdentityError(_REFUSED)
        return str(claims["sub"])

    def _signed(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a token that the pool signed; only RS256 counts, whatever the token says."""
        if len(token) > _LONGEST:
            raise IdentityError(_REFUSED)
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.key(header["kid"]) if _is_plain(header) else None
            if key is None:
                raise IdentityError(_REFUSED)
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                options=_SIGNATURE_ALONE,
            )
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise IdentityError(_REFUSED) from None
        return claims

    def _check(self, claims: Mapping[str, Any], use: str, client: str) -> None:
        """Refuse a token for another use, or whose claim of that name is none of the clients."""
        now = self._clock() / 1000
        begins, issued = claims.get("nbf", 0), claims.get("iat")
        sound = (
            claims.get("iss") == self._issuer
            and claims.get("token_use") == use
            and isinstance(claims.get(client), str)
            and claims[client] in self._clients
            and is_text(claims.get("sub"), 128)
            and claims["sub"] != ""
            and all(map(is_number, (claims.get("exp"), begins, issued)))
            and now < claims["exp"]
            and claims["iat"] >= 0
            and max(begins, claims["iat"]) <= now + _LEEWAY
        )
        if not sound:
            raise IdentityError(_REFUSED)

    def _roles(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """Return a user's groups that are roles; of a client that logged in for itself, whether it is a site."""
        if claims["sub"] == claims["client_id"]:
            scopes = claims.get("scope", "")
            granted = isinstance(scopes, str) and self._scope != "" and self._scope in scopes.split()
            return frozenset({"site"} if granted else ())
        groups = claims.get("cognito:groups", [])
        return frozenset(role for role in ROLES if isinstance(groups, list) and role in groups)


def _is_plain(header: Mapping[str, Any]) -> bool:
    """Tell whether a header names the one algorithm and a key, and asks for nothing that must be understood."""
    return header.get("alg") == "RS256" and is_text(header.get("kid"), 200) and "crit" not in header
