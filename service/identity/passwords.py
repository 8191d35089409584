"""Passwords: what may be one, and Argon2id, which makes guessing dear (RFC 9106)."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from service.protocol.refusals import Malformed, TooMany

__all__ = ["LONGEST", "SHORTEST", "Passwords"]

#: Characters of a password; the longest only bounds the work.
SHORTEST, LONGEST = 12, 1024
#: Different characters that it has at least.
_VARIED = 5
#: Characters that one can be typed with: a letter and its accents.
_MARKED = 4


class Passwords:
    """Hashes and checks passwords, a few at a time: each takes 64 MiB, and many at once would take the machine.

    Parameters
    ----------
    hasher : PasswordHasher, optional
        Argon2id with RFC 9106's second recommendation by default.
    at_once : int
        How many are worked on together.
    patience : float
        Seconds that the next one waits for its turn.
    """

    def __init__(self, hasher: PasswordHasher | None = None, at_once: int = 2, patience: float = 10.0) -> None:
        self._hasher = hasher or PasswordHasher()
        self._patience = patience
        self._places = threading.BoundedSemaphore(at_once)
        self._nobodys = self._hasher.hash("nobody's password, against which unknown names are checked")

    def hash(self, password: str, name: str = "") -> str:
        """Return what is kept of a new password.

        Raises
        ------
        Malformed
            If it is too easily guessed.
        TooMany
            If too many wait.
        """
        plain = _plain(password)
        if not SHORTEST <= len(plain) <= LONGEST or len(set(plain)) < _VARIED or plain.casefold() == name.casefold():
            raise Malformed(
                "password",
                f"the password is too easily guessed or too long; wanted {SHORTEST} to {LONGEST} characters, at least "
                f"{_VARIED} different ones, and not the name",
            )
        return self.again(password)

    def again(self, password: str) -> str:
        """Return what is kept of a password that was accepted before."""
        with self._place():
            return self._hasher.hash(_plain(password))

    def fits(self, kept: str, password: str) -> bool:
        """Tell whether a password is the one that was kept; for an empty one, of nobody, it takes as long to say no.

        Raises
        ------
        TooMany
            If too many wait.
        """
        plain = _plain(password[: _MARKED * LONGEST])
        with self._place():
            try:
                fits = self._hasher.verify(kept or self._nobodys, plain[:LONGEST])
            except (VerificationError, InvalidHashError):
                return False
        return fits and bool(kept) and len(plain) <= LONGEST and len(password) <= _MARKED * LONGEST

    def is_old(self, kept: str) -> bool:
        """Tell whether a password was kept with other costs than today's."""
        return self._hasher.check_needs_rehash(kept)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(timeout=self._patience):
            raise TooMany("logins", "too many log in at this moment; try again in a few seconds")
        try:
            yield
        finally:
            self._places.release()


def _plain(password: str) -> str:
    """One password whatever keyboard it is typed on: an accented letter can be one character or two."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "replace").decode()
