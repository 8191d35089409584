"""Local accounts: a name and a password for tokens, and tokens for a principal."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from computation.errors import IdentityError
from service.clock import Clock, now
from service.identity import tokens
from service.identity.accounts import Accounts
from service.identity.passwords import Passwords
from service.identity.principal import Principal
from service.identity.records import Account, Records, Session
from service.identity.throttle import Throttle
from service.protocol import identifier

__all__ = ["Local", "Tokens"]

#: Tokens of one session that are good at once: a page in a few tabs.
_AT_ONCE = 16

#: One text for whatever was wrong, so that nobody learns which names exist.
_REFUSED = "the name or the password is wrong"
_UNKNOWN = "the token is unknown, expired or revoked; log in again"


@dataclass(frozen=True)
class Tokens:
    """What a login gives; times are milliseconds since 1970."""

    access: str = field(repr=False)
    until: int
    refresh: str = field(repr=False)
    refresh_until: int
    principal: Principal


class Local:
    """Logs in, renews, logs out and verifies.

    A session's renewing token stays the same as long as the session lasts: a lost answer, or two tabs that renew at
    once, must not log anybody out. It ends with a logout, a new password, or its time.

    Parameters
    ----------
    records : Records
        The accounts.
    clock : callable
        Milliseconds since 1970.
    passwords : Passwords, optional
        How passwords are checked.
    access, refresh : int
        Seconds that an access token and a session last.
    """

    def __init__(
        self,
        records: Records,
        clock: Clock = now,
        passwords: Passwords | None = None,
        access: int = 900,
        refresh: int = 7 * 86_400,
    ) -> None:
        self.records, self.clock = records, clock
        self.passwords = passwords or Passwords()
        self._access, self._refresh = 1000 * access, 1000 * refresh
        self._throttle = Throttle(records, clock)
        self.accounts = Accounts(records, clock, self.passwords)

    def login(self, name: str, password: str, address: str = "") -> Tokens:
        """Begin a session.

        Raises
        ------
        Throttled
            If too many attempts failed.
        IdentityError
            If name or password is wrong or the account is disabled, always with the same text, and after the same work.
        ServiceError
            If that cannot be told now.
        """
        self._throttle.admit(name, address)
        account = self._proven(name, password)
        self._throttle.succeeded(name, address)
        made, refresh = self.clock(), tokens.mint(tokens.REFRESH)
        session = Session(identifier(made), account.sub, tokens.digest(refresh), made, made + self._refresh)
        with self.records.changing():
            # Whoever takes a new password or disables the account at this moment has ended all its sessions but this.
            if self.records.account(account.sub) != account:
                raise IdentityError(_REFUSED)
            self.records.add_session(session)
            return self._tokens(account, session, refresh)

    def _proven(self, name: str, password: str) -> Account:
        account = self.records.account_named(name)
        fits = self.passwords.fits(account.password if account else "", password)
        if account is None or not fits or account.disabled:
            raise IdentityError(_REFUSED)
        return self._rehashed(account, password) if self.passwords.is_old(account.password) else account

    def _rehashed(self, account: Account, password: str) -> Account:
        """Keep the password with today's costs, now that it is known."""
        kept = self.passwords.again(password)
        return replace(account, password=kept) if self.records.replace_password(account, kept) else account

    def refresh(self, token: str) -> Tokens:
        """Return a new access token for a session.

        Raises
        ------
        IdentityError
            If the token renews none, or no longer.
        """
        session = self._lasting(self.records.session_renewed_by(tokens.digest(token)))
        return self._tokens(self._active(session.sub), session, token)

    def _tokens(self, account: Account, session: Session, refresh: str) -> Tokens:
        access = tokens.mint(tokens.ACCESS)
        until = min(self.clock() + self._access, session.until)
        self.records.add_access(tokens.digest(access), session.id, until, _AT_ONCE)
        return Tokens(access, until, refresh, session.until, _principal(account, session.made))

    def holder(self, token: str) -> Principal:
        """Return whose session a token renews; a page's cookie holds that one, and no script can read it.

        Raises
        ------
        IdentityError
            If it renews none, or no longer.
        """
        session = self._lasting(self.records.session_renewed_by(tokens.digest(token)))
        return _principal(self._active(session.sub), session.made)

    def logout(self, token: str) -> None:
        """End the session of an access token or of one that renews; one that is nobody's ends nothing."""
        kept = tokens.digest(token)
        session = self.records.session_renewed_by(kept) or self.records.session_of(kept)
        if session:
            self.records.end_session(session.id)

    def change_password(self, sub: str, old: str, new: str, address: str = "") -> None:
        """Let somebody take a new password, which ends all its sessions.

        Raises
        ------
        IdentityError
            If the old one is wrong.
        ServiceError
            If the new one is too easily guessed.
        """
        name = self._active(sub).name
        self._throttle.admit(name, address)
        account = self._proven(name, old)
        self._throttle.succeeded(name, address)
        kept = self.passwords.hash(new, name)
        with self.records.changing():
            if not self.records.replace_password(account, kept):
                raise IdentityError(_REFUSED)
            self.records.end_sessions(sub)

    def verify(self, token: str) -> Principal:
        """Return whose access token or site credential it is."""
        if tokens.is_token(token, tokens.ACCESS):
            return self._session_principal(token)
        if tokens.is_token(token, tokens.CREDENTIAL):
            return self._site_principal(token)
        raise IdentityError(_UNKNOWN)

    def _session_principal(self, token: str) -> Principal:
        session = self._lasting(self.records.session_of(tokens.digest(token)))
        return _principal(self._active(session.sub), session.made)

    def _site_principal(self, token: str) -> Principal:
        """Return a site; its credential lies on a disk for years, so whatever else its account may do, it may not."""
        held = self.records.credential_of(tokens.digest(token))
        if held is None or held[0].revoked or held[1].disabled:
            raise IdentityError(_UNKNOWN)
        credential, account = held
        return Principal(account.sub, account.roles & {"site"}, account.name, credential.made, machine=True)

    def _lasting(self, session: Session | None) -> Session:
        if session is None or session.until <= self.clock():
            raise IdentityError(_UNKNOWN)
        return session

    def _active(self, sub: str) -> Account:
        account = self.records.account(sub)
        if account is None or account.disabled:
            raise IdentityError(_UNKNOWN)
        return account


def _principal(account: Account, since: int) -> Principal:
    return Principal(account.sub, account.roles, account.name, since)
