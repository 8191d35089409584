"""Sessions of people who sign in at a user pool's own pages: this service never sees a password.

Authorization code with PKCE for a public client (RFC 6749, 7636, 9700; OpenID Connect for the nonce), at the paths that
Amazon Cognito has. A browser gets a random token, as from `Local`; the pool's tokens lie in the store, sealed with it.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.error import HTTPError
from urllib.parse import urlencode

from computation.checks import is_text, parse_json
from computation.errors import IdentityError, ServiceError
from service.clock import Clock, now
from service.identity import sealing, tokens
from service.identity.attempt import Attempt
from service.identity.cognito import Cognito
from service.identity.keys import fetched
from service.identity.principal import Principal
from service.identity.records import Account
from service.protocol import Answer, Session
from service.protocol.transitions import moved
from service.store.base import Contended, Create, Drop, Replace, Store

__all__ = ["Door", "Hosted"]

#: Milliseconds: how long somebody may take to sign in, how far another process's clock may be ahead, and how long a
#: session lasts.
_PATIENCE, _LEEWAY, _LASTS = 600_000, 60_000, 7 * 86_400_000
_OLD = "the sign-in was begun in another browser, too long ago, or was used before; log in again"
_REFUSED = "the user pool did not confirm the sign-in; log in again"
_OVER = "the session is unknown or has ended; log in again"


@dataclass(frozen=True)
class Door:
    """Where people sign in.

    Attributes
    ----------
    url : str
        Of the pool's own pages.
    client : str
        Id of the app client of this service's pages.
    back, after : str
        Addresses of this service to which the pool sends the browser with a code, and after it has signed out.
    """

    url: str
    client: str
    back: str
    after: str


class Hosted:
    """Begins, renews and ends sessions.

    Parameters
    ----------
    store : Store
        Where sessions are kept.
    pool : Cognito
        Verifies tokens of the door's client, and of no other.
    door : Door
        Where people sign in.
    people : callable
        Returns those users of the pool who may be sites or viewers of a run.
    clock : callable
        Milliseconds since 1970.
    """

    def __init__(
        self, store: Store, pool: Cognito, door: Door, people: Callable[[], tuple[Account, ...]], clock: Clock = now
    ) -> None:
        self._store, self._pool, self._door = store, pool, door
        self.people, self.clock = people, clock

    def begin(self, next: str) -> tuple[str, str]:
        """Return where the browser goes to sign in, and the cookie with which it comes back."""
        attempt = Attempt.new(self.clock(), next)
        asked = {
            "response_type": "code",
            "client_id": self._door.client,
            "redirect_uri": self._door.back,
            "scope": "openid",
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        return f"{self._door.url}/oauth2/authorize?{urlencode(asked)}", attempt.cookie

    def finish(self, cookie: str, state: str, code: str) -> tuple[str, str]:
        """Return the token of a new session, and the path to go on at.

        Raises
        ------
        IdentityError
            If this browser began no such sign-in, or not lately, or has finished it; or the pool does not confirm it.
        ServiceError
            If the pool or the store does not answer.
        """
        attempt = Attempt.parse(cookie)
        if attempt is None or not hmac.compare_digest(attempt.state.encode(), state.encode("utf-8", "replace")):
            raise IdentityError(_OLD)
        self._use(attempt)
        told = self._asked(
            "authorization_code", code=code, redirect_uri=self._door.back, code_verifier=attempt.verifier
        )
        subject, who = self._pool.signed_in(told.get("id_token", ""), attempt.nonce), self._pool.verify(_access(told))
        if who.sub != subject or not told.get("refresh_token"):
            raise IdentityError(_REFUSED)
        token, made = tokens.mint(tokens.REFRESH), self.clock()
        session = Session(tokens.digest(token), subject, "", made, made + _LASTS)
        self._store.write(Create(replace(session, sealed=_sealed(session, token, told))))
        return token, attempt.next

    def _use(self, attempt: Attempt) -> None:
        """Let an attempt be finished once: what was seen on its way is worth nothing afterwards."""
        ends = attempt.begun + _PATIENCE
        if not attempt.begun - _LEEWAY <= self.clock() < ends:
            raise IdentityError(_OLD)
        try:
            self._store.write(Create(Answer(tokens.digest(attempt.state), "sign-in", "", "", "", ends)))
        except Contended:
            raise IdentityError(_OLD) from None

    def holder(self, token: str) -> Principal:
        """Return whose session a browser's token is, with the roles that it had within the last hour.

        Raises
        ------
        IdentityError
            If it is nobody's, or no longer.
        ServiceError
            If that cannot be told now.
        """
        session, held = self._open(token)
        try:
            who = self._pool.verify(_access(held))
        except IdentityError:
            who = self._renewed(session, token, held)
        if who.sub != session.subject:
            raise IdentityError(_OVER)
        return replace(who, since=session.made)

    def _open(self, token: str) -> tuple[Session, Mapping[str, str]]:
        """Return a session that lasts, and the pool's tokens in it."""
        place = tokens.digest(token) if tokens.is_token(token, tokens.REFRESH) else ""
        session = self._store.session(place) if place else None
        if session is None or session.expires <= self.clock():
            raise IdentityError(_OVER)
        try:
            return session, _texts(sealing.opened(session.sealed, token, session.id).encode())
        except ValueError:
            raise IdentityError(_OVER) from None

    def _renewed(self, session: Session, token: str, held: Mapping[str, str]) -> Principal:
        """Return who it still is, by a new access token that the next page finds."""
        try:
            told = self._asked("refresh_token", refresh_token=held.get("refresh_token", ""))
            who = self._pool.verify(_access(told))
        except IdentityError:
            self._store.write(Drop(session))
            raise
        with suppress(Contended):  # another page did the same at this moment, or logged out
            self._store.write(Replace(moved(session, sealed=_sealed(session, token, {**held, **told}))))
        return who

    def logout(self, token: str) -> None:
        """End a session here and at the pool; a token that is nobody's ends nothing."""
        try:
            session, held = self._open(token)
        except IdentityError:
            return
        self._store.write(Drop(session))
        # The session is over here, whether the pool hears of it or not.
        with suppress(OSError):
            fetched(
                f"{self._door.url}/oauth2/revoke",
                form={"token": held.get("refresh_token", ""), "client_id": self._door.client},
            )

    @property
    def farewell(self) -> str:
        """Where a browser goes so that the pool, too, forgets who sat before it."""
        asked = {"client_id": self._door.client, "logout_uri": self._door.after}
        return f"{self._door.url}/logout?{urlencode(asked)}"

    def _asked(self, grant: str, **form: str) -> dict[str, str]:
        """Return the tokens that the pool gives for a code or for one that renews."""
        told = {"grant_type": grant, "client_id": self._door.client, **form}
        try:
            return _texts(fetched(f"{self._door.url}/oauth2/token", form=told))
        except HTTPError as error:
            if error.code in (400, 401, 403):
                raise IdentityError(_REFUSED) from None
            raise _silent(str(error.code)) from None
        except (OSError, ValueError) as error:
            raise _silent(type(error).__name__) from None


def _silent(why: str) -> ServiceError:
    return ServiceError("the user pool gives no answer that can be used now; try again in a minute", why)


def _texts(content: bytes) -> dict[str, str]:
    """Return the texts of a JSON object; raises ValueError if it is none."""
    raw = parse_json(content)
    if not isinstance(raw, dict):
        raise ValueError("no object")
    return {name: value for name, value in raw.items() if isinstance(value, str) and is_text(value, 16_384)}


def _access(told: Mapping[str, str]) -> str:
    return told.get("access_token", "")


def _sealed(session: Session, token: str, told: Mapping[str, str]) -> str:
    kept = {name: told[name] for name in ("access_token", "refresh_token")}
    return sealing.sealed(json.dumps(kept), token, session.id)
