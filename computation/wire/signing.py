"""Signatures: whose words these are. Keys and signatures are Ed25519's (RFC 8032).

A statement is a purpose and JSON values, so that what was signed for one purpose is good for no other. Its text is the
same whatever carried it: names sorted, and a number written as itself, since JavaScript turns 1.0 into 1 on its way.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["KEY_BYTES", "SIGNATURE_BYTES", "Key", "digest_of", "fingerprint", "statement", "verify"]

KEY_BYTES, SIGNATURE_BYTES = 32, 64
#: Whole numbers up to here are exact in every language that reads JSON; larger ones are written as floats.
_EXACT = 2**53
#: Encodings of the points whose order divides 8, their sign aside: with such a key signatures are good that nobody made
#: (RFC 8032, section 5.1, leaves open whether they are taken).
_SMALL = frozenset(
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)
#: What is written as it is, most of what messages hold.
_AS_IT_IS = frozenset((str, bool, type(None)))
_LISTS = (list, tuple)
#: Made once: this runs for each message of each node. What holds itself, `_plain` has failed at before.
_encoded = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, check_circular=False).encode
#: Without those that are taken for others.
_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"


class Key:
    """A private key.

    Parameters
    ----------
    seed : bytes
        Its 32 secret bytes.
    """

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.seed = seed
        #: The public half, in hexadecimal.
        self.public = self._key.public_key().public_bytes_raw().hex()

    @classmethod
    def make(cls) -> Key:
        """Return a new key from the system's secure random source."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    def __repr__(self) -> str:
        return f"Key({self.public})"

    def sign(self, text: bytes) -> str:
        """Return the signature of a text, in hexadecimal; the same key and text have the same one."""
        return self._key.sign(text).hex()


def verify(public: str, signature: str, text: bytes) -> bool:
    """Tell whether a text was signed with the private half of a key.

    Parameters
    ----------
    public, signature : str
        In hexadecimal, from anywhere: what is none is no signature.
    text : bytes
        As `statement` makes it.
    """
    try:
        _loaded(public).verify(bytes.fromhex(signature), text)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=4096)
def _loaded(public: str) -> Ed25519PublicKey:
    content = bytes.fromhex(public)
    if content[:-1] + bytes(byte & 0x7F for byte in content[-1:]) in _SMALL:
        raise ValueError("a key of small order: anybody can sign for it")
    return Ed25519PublicKey.from_public_bytes(content)


def statement(purpose: str, *facts: Any) -> bytes:
    """Return the text of a statement, for `Key.sign` and `verify`.

    Parameters
    ----------
    purpose : str
        What the signature is for, such as `message`; it is good for nothing else.
    *facts : object
        JSON values: who says it, in which run, and what.

    Raises
    ------
    ValueError, TypeError
        If a fact is not JSON, or a number is not finite.
    """
    return _text([f"coinstac-meshnet {purpose}", *facts])


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value's text, in hexadecimal; errors as for `statement`."""
    return hashlib.sha256(_text(value)).hexdigest()


def _text(value: Any) -> bytes:
    return _encoded(_plain(value)).encode("ascii")


def _plain(value: Any) -> Any:
    """Return a JSON value in which equal numbers are written alike."""
    if isinstance(value, dict):
        return {key: item if type(item) in _AS_IT_IS else _plain(item) for key, item in value.items()}
    if isinstance(value, _LISTS):
        return [item if type(item) in _AS_IT_IS else _plain(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _EXACT:
        return float(value)
    return value


def fingerprint(digits: str, groups: int = 4) -> str:
    """Return a public key, or a digest, in the few letters that people compare.

    Parameters
    ----------
    digits : str
        In hexadecimal.
    groups : int
        Of five letters, 25 bits each. Four are enough of one key, since nobody finds another with the same ones; of
        what an attacker makes two of and looks for equal ones, take six.
    """
    number = int(hashlib.sha256(b"fingerprint" + bytes.fromhex(digits)).hexdigest(), 16) >> 256 - 25 * groups
    letters = "".join(_LETTERS[number >> 5 * place & 31] for place in reversed(range(5 * groups)))
    return "-".join(letters[start : start + 5] for start in range(0, len(letters), 5))
