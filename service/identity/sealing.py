"""Texts that only the holder of a random token can open (AES-256-GCM): whoever reads the store learns none of them."""

from __future__ import annotations

import base64
import hashlib
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["opened", "sealed"]

#: Bytes of what differs each time that something is sealed, as GCM wants it.
_ONCE = 12


def sealed(text: str, token: str, place: str) -> str:
    """Return a text that `token`, of 256 random bits, opens at this place and no other."""
    once = secrets.token_bytes(_ONCE)
    return base64.b64encode(once + _box(token).encrypt(once, text.encode(), place.encode())).decode()


def opened(text: str, token: str, place: str) -> str:
    """Return what was sealed.

    Raises
    ------
    ValueError
        If it was sealed with another token, lay elsewhere, or was altered.
    """
    raw = base64.b64decode(text, validate=True)
    try:
        return _box(token).decrypt(raw[:_ONCE], raw[_ONCE:], place.encode()).decode()
    except InvalidTag:
        raise ValueError("sealed by another token, or altered") from None


def _box(token: str) -> AESGCM:
    # Where it is kept the token's own SHA-256 is known, so the key is another digest.
    return AESGCM(hashlib.sha256(b"seal\0" + token.encode()).digest())
