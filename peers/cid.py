"""Addresses that say what they lead to: CIDv1 of raw bytes under SHA-256, as IPFS and libp2p write them."""

from __future__ import annotations

import base64
import hashlib
import string
from typing import Any

__all__ = ["belies", "is_address", "of_digest", "raw"]

#: Version 1, codec `raw`; then the multihash: SHA2-256, 32 bytes. `b` says base 32 in lower case, without padding.
_RAW = bytes.fromhex("01551220")
_LETTERS = frozenset(string.ascii_lowercase + "234567")
_LENGTH = 59
#: What stands before the digest: of raw bytes, and of a tree of blocks (codec `dag-pb`).
_BEGINS = (_RAW, bytes.fromhex("01701220"))
_RAW_BEGINS = "bafkrei"


def raw(content: bytes) -> str:
    """Return the address of some bytes that are kept as one block."""
    return of_digest(hashlib.sha256(content).digest())


def of_digest(digest: bytes) -> str:
    """Return the address of the bytes with this SHA-256."""
    return "b" + base64.b32encode(_RAW + digest).decode().lower().rstrip("=")


def is_address(value: Any) -> bool:
    """Tell whether a foreign value is a CIDv1 under SHA-256, of raw bytes or of a tree, in base 32."""
    if not isinstance(value, str) or len(value) != _LENGTH or value[0] != "b" or not set(value) <= _LETTERS:
        return False
    whole = base64.b32decode(value[1:].upper() + "=" * (-len(value[1:]) % 8))
    return whole[:4] in _BEGINS and base64.b32encode(whole).decode().lower().rstrip("=") == value[1:]


def belies(address: str, content: bytes) -> bool:
    """Tell whether a content is not the one that an address names.

    The address of a tree of blocks names its root: whether the leaves belong to it is for the engine to say.
    """
    return address.startswith(_RAW_BEGINS) and raw(content) != address
