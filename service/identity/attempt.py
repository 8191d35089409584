"""A sign-in at a user pool that a browser has begun: its cookie alone knows of it until it comes back.

What the pool is shown is derived from the cookie's secret, so nothing is kept of the many that never come back. The
state ties the pool's answer to this browser (RFC 9700), the nonce ties the ID token to it (OpenID Connect), and the
verifier shows that who asked for the code also uses it (PKCE, RFC 7636).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

__all__ = ["Attempt"]

#: Characters of a path to go on at: a cookie has 4,096 at most.
_LONGEST = 1000
_COOKIE = re.compile(r"([A-Za-z0-9_-]{43})\.([0-9]{1,15})\.((?:[0-9a-f]{2}){0,1000})")


@dataclass(frozen=True)
class Attempt:
    """See above.

    Attributes
    ----------
    secret : str
        256 random bits.
    begun : int
        When, in milliseconds since 1970.
    next : str
        Path of the page to go on at.
    """

    secret: str = field(repr=False)
    begun: int
    next: str

    @classmethod
    def new(cls, now: int, next: str) -> Attempt:
        """Begin one; what is too long to go on at is the start page."""
        return cls(secrets.token_urlsafe(32), now, next if len(next.encode()) <= _LONGEST else "/")

    @classmethod
    def parse(cls, cookie: str) -> Attempt | None:
        """Return what a cookie holds, if it can be one of ours."""
        found = _COOKIE.fullmatch(cookie)
        try:
            return cls(found[1], int(found[2]), bytes.fromhex(found[3]).decode()) if found else None
        except ValueError:
            return None

    @property
    def cookie(self) -> str:
        """What the browser keeps."""
        return f"{self.secret}.{self.begun}.{self.next.encode().hex()}"

    @property
    def state(self) -> str:
        """What comes back with the browser."""
        return self._derived("state")

    @property
    def nonce(self) -> str:
        """What comes back inside the ID token."""
        return self._derived("nonce")

    @property
    def verifier(self) -> str:
        """What is shown together with the code."""
        return self._derived("verifier")

    @property
    def challenge(self) -> str:
        """What the pool is told of the verifier beforehand."""
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).decode().rstrip("=")

    def _derived(self, purpose: str) -> str:
        text = f"{purpose}\0{self.begun}\0{self.next}"
        return hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
