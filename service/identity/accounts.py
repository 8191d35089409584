"""Keeping accounts: the first administrator, others, their roles, and the credentials of sites."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import replace

from service.clock import Clock
from service.identity import tokens
from service.identity.passwords import Passwords
from service.identity.principal import ROLES
from service.identity.records import Account, Credential, Records
from service.protocol import Conflict, Malformed, Unknown, identifier

__all__ = ["Accounts"]

_LONGEST_NAME = 64
#: Credentials of one site that count at once.
_MOST_CREDENTIALS = 20


class Accounts:
    """Makes and changes accounts; who may ask for that is for the caller to say.

    Parameters
    ----------
    records : Records
        Where they are kept.
    clock : callable
        Milliseconds since 1970.
    passwords : Passwords
        How passwords are kept.
    """

    def __init__(self, records: Records, clock: Clock, passwords: Passwords) -> None:
        self.records, self._clock, self._passwords = records, clock, passwords

    @property
    def administrators(self) -> tuple[Account, ...]:
        """Who keeps the accounts; nobody before the command line has made the first."""
        return tuple(one for one in self.records.accounts() if "administrator" in one.roles and not one.disabled)

    def first_administrator(self, name: str, password: str) -> Account:
        """Make the one account that nobody with an account can make: for the command line of the server's machine.

        Raises
        ------
        Refusal
            If there is an administrator, or the name or the password cannot be one.
        """
        kept = self._passwords.hash(password, name)
        with self.records.changing():
            if self.administrators:
                raise Conflict("administrator", "there is an administrator already; log in as it and make others there")
            return self._added(name, {"administrator", "coordinator"}, kept)

    def add(self, name: str, roles: Iterable[str], password: str = "") -> Account:
        """Make an account; without a password nobody can log in to it, but credentials count.

        Raises
        ------
        Refusal
            If the name is taken or cannot be one, a role does not exist, or the password is too easily guessed.
        """
        return self._added(name, set(roles), self._passwords.hash(password, name) if password else "")

    def _added(self, name: str, roles: set[str], password: str) -> Account:
        now = self._clock()
        account = Account(identifier(now), _named(name), _known(roles), password, made=now)
        if not self.records.add_account(account):
            raise Conflict("name_taken", "the name is taken; choose another")
        return account

    def change(
        self,
        sub: str,
        roles: Iterable[str] | None = None,
        disabled: bool | None = None,
        password: str | None = None,
    ) -> Account:
        """Change what is given of an account; a new password or a disabled account ends its sessions.

        Raises
        ------
        Refusal
            If there is no such account, a value cannot be, or no administrator would be left.
        """
        kept = self._passwords.hash(password) if password else None
        with self.records.changing():
            account = self._account(sub)
            account = replace(account, roles=account.roles if roles is None else _known(roles))
            account = replace(account, disabled=account.disabled if disabled is None else disabled)
            self.records.replace_account(account if kept is None else replace(account, password=kept))
            if not self.administrators:
                raise Conflict("last_administrator", "no administrator would be left; make another one first")
            if kept is not None or account.disabled:
                self.records.end_sessions(sub)
        return account

    def add_credential(self, sub: str, label: str) -> tuple[Credential, str]:
        """Make a site's credential; its token is returned this once and kept nowhere.

        Raises
        ------
        Refusal
            If there is no such account, it is not a site's, or it has too many.
        """
        now, token = self._clock(), tokens.mint(tokens.CREDENTIAL)
        with self.records.changing():
            if "site" not in self._account(sub).roles:
                raise Conflict("no_site", "the account is not a site's; give it that role first")
            if sum(not one.revoked for one in self.records.credentials(sub)) >= _MOST_CREDENTIALS:
                raise Conflict(
                    "credentials", f"the site has {_MOST_CREDENTIALS} credentials; revoke those that are not used"
                )
            credential = Credential(identifier(now), sub, _named(label), tokens.digest(token), now)
            self.records.add_credential(credential)
        return credential, token

    def _account(self, sub: str) -> Account:
        account = self.records.account(sub)
        if account is None:
            raise Unknown("account", "there is no such account")
        return account


def _named(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).strip()
    if not 0 < len(plain) <= _LONGEST_NAME or not plain.isprintable():
        raise Malformed("name", f"the name is empty, too long or not printable; wanted 1 to {_LONGEST_NAME} characters")
    return plain


def _known(roles: Iterable[str]) -> frozenset[str]:
    known = frozenset(roles)
    if not known <= set(ROLES):
        raise Malformed("roles", f"a role does not exist; wanted some of {', '.join(ROLES)}")
    return known
