"""A key that only goes forward: k_{t+1} = HKDF(k_t), so who has k_t reads from message t on and nothing before.

HKDF is that of RFC 5869 with SHA-256, from the standard library.
"""

from __future__ import annotations

import hashlib
import hmac

from computation.errors import MessageError

__all__ = ["KEY_BYTES", "advanced", "derived", "following"]

KEY_BYTES = 32
#: Steps that a reader takes at once: about a second, and years of messages.
_MOST_STEPS = 1_000_000


def derived(key: bytes, purpose: bytes, salt: bytes = b"") -> bytes:
    """Return 32 bytes that tell nothing of the key: HKDF-SHA256 with one block of output."""
    extracted = hmac.digest(salt or bytes(KEY_BYTES), key, hashlib.sha256)
    return hmac.digest(extracted, purpose + b"\x01", hashlib.sha256)


def following(key: bytes) -> bytes:
    """Return the key of the next message."""
    return derived(key, b"coinstac-meshnet feed: next key")


def advanced(key: bytes, steps: int) -> bytes:
    """Return the key some messages later.

    Raises
    ------
    MessageError
        If that is before, or unreasonably far ahead.
    """
    if not 0 <= steps <= _MOST_STEPS:
        raise MessageError(f"the message is {steps} after the key; wanted 0 to {_MOST_STEPS}: keys only go forward")
    for _ in range(steps):
        key = following(key)
    return key
