"""Secret random numbers that can be had again: a stream cipher's, keyed by a secret and by what they are for.

A run that is resumed must repeat the noise of its round bit for bit, or whoever saw both would average it away; and
nobody without the secret may tell it from chance, so it cannot come from a seed that is shared.
"""

from __future__ import annotations

import hashlib

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

__all__ = ["Stream"]

#: Normal draws behind one value; see `Stream.normals`.
_DRAWS = 4
#: Values made at a time, so that a large model's noise needs no memory of its size for each draw.
_BLOCK = 32_768
_NONCE = bytes(16)


class Stream:
    """The key stream of ChaCha20 (RFC 8439), as numbers.

    Parameters
    ----------
    secret : bytes
        At least 16 random bytes.
    purpose : str
        What the numbers are for: no two uses share a stream.
    """

    def __init__(self, secret: bytes, purpose: str) -> None:
        # Each purpose has a key of its own, so that the nonce may be the same for all.
        key = hashlib.blake2b(purpose.encode(), key=secret, digest_size=32, person=b"meshnet-privacy").digest()
        self._cipher = Cipher(algorithms.ChaCha20(key, _NONCE), mode=None).encryptor()

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return the next words of 64 bits."""
        return np.frombuffer(self._cipher.update(bytes(8 * count)), "<u8").astype(np.uint64)

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """Return the next numbers above 0 and at most 1, each of 53 random bits."""
        return ((self.words(count) >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53

    def normals(self, count: int) -> NDArray[np.float64]:
        """Return the next independent standard normal numbers.

        Each is the sum of four draws by Box and Muller (1958) over two. One draw in floating point leaves gaps between
        its values, which tell what it was added to; of several the gaps close (Holohan and Braghin 2021, "Secure random
        sampling in differential privacy", arXiv 2107.10138, section 3).
        """
        found = np.empty(count)
        for start in range(0, count, _BLOCK):
            here = found[start : start + _BLOCK]
            here[:] = self._draws(here.size).sum(axis=0) / np.sqrt(_DRAWS)
        return found

    def _draws(self, count: int) -> NDArray[np.float64]:
        """Return standard normal numbers, shape `(_DRAWS, count)`: half of them cosines, half sines."""
        radius = np.sqrt(-2.0 * np.log(self.uniforms(_DRAWS // 2 * count)))
        angle = 2.0 * np.pi * self.uniforms(_DRAWS // 2 * count)
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)]).reshape(_DRAWS, count)
