"""Opaque tokens: 256 random bits with a prefix that tells their kind; only their digests are kept.

A digest without salt is enough for what cannot be guessed, and lets a token be found by one look into an index. The
prefixes are there for scanners that look for secrets in files.
"""

from __future__ import annotations

import hashlib
import re
import secrets

__all__ = ["ACCESS", "CREDENTIAL", "REFRESH", "digest", "is_token", "mint"]

#: A session's token for some minutes, the one that renews it, and a site's own for as long as it is not revoked.
ACCESS, REFRESH, CREDENTIAL = "mna_", "mnr_", "mnc_"

_REST = re.compile(r"[A-Za-z0-9_-]{43}")


def mint(kind: str) -> str:
    """Return a new token of a kind."""
    return kind + secrets.token_urlsafe(32)


def is_token(text: str, kind: str) -> bool:
    """Tell whether a text has the form of a token of a kind."""
    return text.startswith(kind) and bool(_REST.fullmatch(text.removeprefix(kind)))


def digest(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
