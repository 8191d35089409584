"""Masks: the key stream of a cipher, read as words and added modulo 2^64.

ChaCha20 (RFC 8439) with a key that is used once, so its counter and nonce may begin at zero.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from computation.secure.fixed import Words

__all__ = ["KEY_BYTES", "add", "subtract"]

KEY_BYTES = 32
#: Words made at a time: 256 KiB stay in the second-level cache.
_BLOCK = 32_768
_ZEROS = bytes(8 * _BLOCK)
_NONCE = bytes(16)


def add(words: Words, key: bytes) -> None:
    """Add the mask of a key to words, in place.

    Parameters
    ----------
    words : numpy.ndarray
        Shape `(n,)`, uint64.
    key : bytes
        32 of them; no other words may ever be hidden under it.
    """
    for here, mask in _blocks(words, key):
        here += mask


def subtract(words: Words, key: bytes) -> None:
    """Take the mask of a key off again, in place; parameters as for `add`."""
    for here, mask in _blocks(words, key):
        here -= mask


def _blocks(words: Words, key: bytes) -> Iterator[tuple[Words, Words]]:
    stream = Cipher(ChaCha20(key, _NONCE), mode=None).encryptor()
    mask = np.empty(min(_BLOCK, words.size), "<u8")
    for start in range(0, words.size, _BLOCK):
        here = words[start : start + _BLOCK]
        there = mask[: here.size]
        stream.update_into(_ZEROS[: there.nbytes], there.view(np.uint8).data)
        yield here, there
