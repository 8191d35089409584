"""A secret in shares: any so many of them give it back, and fewer tell nothing of it.

Shamir 1979, "How to share a secret", Communications of the ACM 22(11), doi 10.1145/359168.359176: a polynomial over the
numbers modulo a prime, whose value at zero is the secret. The prime is 2^255 - 19, so shares and secrets have 32 bytes.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from computation.errors import ContributionError

__all__ = ["SHARE_BYTES", "joined", "made", "split"]

_PRIME = 2**255 - 19
SHARE_BYTES = 32


def made() -> bytes:
    """Return a new secret, from the machine's source of keys."""
    return secrets.randbelow(_PRIME).to_bytes(SHARE_BYTES, "little")


def split(secret: bytes, places: Sequence[int], needed: int) -> dict[int, bytes]:
    """Return one share for each place, of which `needed` give the secret back.

    Parameters
    ----------
    secret : bytes
        As `made` returns it.
    places : sequence of int
        Positive, each once.
    needed : int
        From 1 to the number of places.

    Raises
    ------
    ValueError
        If the places or the number needed cannot be.
    """
    if min(places, default=0) < 1 or len(set(places)) != len(places) or not 1 <= needed <= len(places):
        raise ValueError(f"{needed} of {len(places)} shares cannot be made; wanted places from 1, each once")
    terms = [_number(secret), *(secrets.randbelow(_PRIME) for _ in range(needed - 1))]
    return {place: _at(terms, place).to_bytes(SHARE_BYTES, "little") for place in places}


def _at(terms: Sequence[int], place: int) -> int:
    value = 0
    for term in reversed(terms):
        value = (value * place + term) % _PRIME
    return value


def joined(shares: Mapping[int, bytes]) -> bytes:
    """Return the secret from exactly as many shares as it needs, by place; from others, something else.

    Raises
    ------
    ContributionError
        If a share is none.
    """
    secret = 0
    for place, share in shares.items():
        above = below = 1
        for other in shares:
            if other != place:
                above = above * other % _PRIME
                below = below * (other - place) % _PRIME
        secret += _number(share) * above * pow(below, -1, _PRIME)
    return (secret % _PRIME).to_bytes(SHARE_BYTES, "little")


def _number(share: bytes) -> int:
    number = int.from_bytes(share, "little")
    if len(share) != SHARE_BYTES or number >= _PRIME:
        raise ContributionError("a share of a mask is none; wanted a number below the prime")
    return number
