"""The keys of one run: a pair of each site's own, a secret of each two sites, and of that a seed for every round.

X25519 (RFC 7748) makes the secret of two sites, HKDF-SHA256 (RFC 5869) all keys from it, and ChaCha20-Poly1305
(RFC 8439) seals what one site sends another through the centre. The digest of all sites' public keys goes into every
key: where a centre shows different keys to different sites, nothing between them can be opened.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from computation.errors import MessageError

__all__ = ["PUBLIC_BYTES", "SEALED_BYTES", "Circle", "Ring", "new", "public"]

PUBLIC_BYTES = 32
#: A sealed share: nonce, share and tag.
SEALED_BYTES = 12 + 32 + 16
_NONCE_BYTES = 12
_LABEL = b"coinstac-meshnet secure aggregation 1"


def new() -> bytes:
    """Return a new private key."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public(private: bytes) -> bytes:
    """Return the public key of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


@dataclass(frozen=True)
class Circle:
    """The sites that mask for each other in one run.

    Attributes
    ----------
    run : str
        Name of the run.
    keys : mapping of bytes
        Public key of each site; at least two.
    least : int
        Sites without which there is no sum; see `round`.
    terms : bytes
        What else all must have been told alike, such as their weights: who was told otherwise masks with nobody.
    """

    run: str
    keys: Mapping[str, bytes]
    least: int
    terms: bytes = b""

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """The sites, sorted."""
        return tuple(sorted(self.keys))

    @property
    def needed(self) -> int:
        """Shares that give back a mask: those of all but one of the fewest sites of a sum."""
        return self.least - 1

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the run, the sites, their keys, how many it takes, and the terms."""
        sha = hashlib.sha256(_packed(_LABEL, self.run.encode(), str(self.least).encode(), self.terms))
        for site in self.sites:
            sha.update(_packed(site.encode("utf-8", "surrogatepass"), self.keys[site]))
        return sha.digest()

    @property
    def fingerprint(self) -> str:
        """The digest as forty digits, for people to compare: equal at all sites, or somebody swapped a key.

        Who would have another set of keys with the same digits tries 2^66 of them, and that while the sites join.
        """
        digits = f"{int.from_bytes(self.digest, 'big') % 10**40:040d}"
        return " ".join(digits[start : start + 5] for start in range(0, 40, 5))

    def place(self, site: str) -> int:
        """Return at which place a site's shares are taken."""
        return self.sites.index(site) + 1


class Ring:
    """One site's keys.

    Parameters
    ----------
    circle : Circle
        Of the run.
    site : str
        Whose keys these are.
    private : bytes
        As `new` returns it.

    Raises
    ------
    MessageError
        If the circle has another key for this site, or one with which there can be no secret.
    """

    def __init__(self, circle: Circle, site: str, private: bytes) -> None:
        if circle.keys.get(site) != public(private):
            raise MessageError(f"the centre gave others another key than that of site {site}; the run must not go on")
        self.circle, self.site = circle, site
        own = X25519PrivateKey.from_private_bytes(private)
        self._pairs = {other: self._pair(own, other) for other in circle.sites if other != site}
        self._ciphers = {
            other: ChaCha20Poly1305(HKDFExpand(SHA256(), 32, b"seal").derive(pair))
            for other, pair in self._pairs.items()
        }

    @property
    def others(self) -> tuple[str, ...]:
        """The other sites, sorted."""
        return tuple(self._pairs)

    def _pair(self, own: X25519PrivateKey, other: str) -> bytes:
        try:
            shared = own.exchange(X25519PublicKey.from_public_bytes(self.circle.keys[other]))
        except ValueError as error:
            raise MessageError(f"the key of site {other} makes no secret; wanted an X25519 key") from error
        return HKDF(SHA256(), 32, self.circle.digest, b"pair").derive(shared)

    def seed(self, other: str, round: int) -> bytes:
        """Return the key of the mask that this site and another share in a round."""
        return HKDFExpand(SHA256(), 32, _packed(b"mask", str(round).encode())).derive(self._pairs[other])

    def adds(self, other: str) -> bool:
        """Whether this site adds the mask that it shares with another; the other one subtracts it."""
        return self.site < other

    def seal(self, other: str, round: int, share: bytes) -> bytes:
        """Return a share that only another site can read."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._ciphers[other].encrypt(nonce, share, _about(round, self.site, other))

    def open(self, other: str, round: int, sealed: bytes) -> bytes:
        """Return the share that another site sealed for this one.

        Raises
        ------
        MessageError
            If it is of another site, round or run, or altered.
        """
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._ciphers[other].decrypt(nonce, rest, _about(round, other, self.site))
        except (InvalidTag, ValueError) as error:
            raise MessageError(
                f"the share that site {other} sealed for site {self.site} cannot be opened; compare the fingerprints"
            ) from error


def _about(round: int, sender: str, receiver: str) -> bytes:
    return _packed(
        str(round).encode(), sender.encode("utf-8", "surrogatepass"), receiver.encode("utf-8", "surrogatepass")
    )


def _packed(*parts: bytes) -> bytes:
    """Return parts as one, so that no two lists of them are alike."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)
