"""One message of a feed as bytes: signed, linked to the one before, sealed with a key of its own.

Layout, big-endian: 8 bytes of magic, "CXFEED" and the version; one for the mode, 1 public, 2 restricted, 3 private; the
number of the message in its feed, from 0, in 8; the SHA-256 of the message before, zero for the first; the author's
Ed25519 key, 32 bytes; the length of what is sealed, in 4; what is sealed, by ChaCha20-Poly1305, with all that stands
before as associated data; the Ed25519 signature of everything before it, 64 bytes.

In every mode what travels is sealed. What differs is who can have the key: in public mode the author announces k_t, and
who heard it reads from t on; in restricted mode a side key is needed besides; in private mode k_t is never given away.
This replaces the masked messages of IOTA, whose ledger is gone; what it does not replace is the ledger's time stamps.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from computation.errors import MessageError
from peers.swarm.ratchet import derived

__all__ = ["MODES", "MOST_BYTES", "Entry", "opened", "parsed", "sealed"]

MODES = {"public": 1, "restricted": 2, "private": 3}
#: Of a whole entry, so that it can be published as it is.
MOST_BYTES = 49_152
_MAGIC = b"CXFEED\x00\x01"
_HEAD = struct.Struct(">8sBQ32s32sI")
_SIGNATURE, _TAG = 64, 16
_NONCE = bytes(12)  # each key seals one message


@dataclass(frozen=True)
class Entry:
    """A message whose signature is its author's.

    Attributes
    ----------
    mode : int
        One of `MODES`.
    number : int
        In its feed, from 0.
    previous : bytes
        SHA-256 of the message before.
    author : bytes
        Ed25519 key.
    sealed : bytes
        What it says.
    whole : bytes
        All of its bytes.
    """

    mode: int
    number: int
    previous: bytes
    author: bytes
    sealed: bytes
    whole: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of the message, to which the next one is linked; also its address (`peers.cid`)."""
        return hashlib.sha256(self.whole).digest()


def sealed(content: bytes, mode: int, number: int, previous: bytes, signer: Ed25519PrivateKey, key: bytes) -> Entry:
    """Make a message; `key` is that of `message_key`.

    Raises
    ------
    MessageError
        If it would be too long to be published.
    """
    length = len(content) + _TAG
    if _HEAD.size + length + _SIGNATURE > MOST_BYTES:
        raise MessageError(
            f"a message of {len(content)} bytes is too long for a feed; wanted at most "
            f"{MOST_BYTES - _HEAD.size - _TAG - _SIGNATURE}: put it into the swarm and send its address"
        )
    author = signer.public_key().public_bytes_raw()
    head = _HEAD.pack(_MAGIC, mode, number, previous, author, length)
    body = ChaCha20Poly1305(key).encrypt(_NONCE, content, head)
    return Entry(mode, number, previous, author, body, head + body + signer.sign(head + body))


def parsed(blob: bytes) -> Entry:
    """Read a message and check its signature.

    Raises
    ------
    MessageError
        If it is malformed, cut off, altered or forged.
    """
    if not _HEAD.size + _TAG + _SIGNATURE <= len(blob) <= MOST_BYTES:
        raise MessageError(f"a feed's message has {len(blob)} bytes; wanted at most {MOST_BYTES}, whole")
    magic, mode, number, previous, author, length = _HEAD.unpack_from(blob)
    if magic != _MAGIC or mode not in MODES.values() or _HEAD.size + length + _SIGNATURE != len(blob):
        raise MessageError("a feed's message is of another format or was cut off; wanted one of this version")
    try:
        Ed25519PublicKey.from_public_bytes(author).verify(blob[-_SIGNATURE:], blob[:-_SIGNATURE])
    except (InvalidSignature, ValueError):
        raise MessageError("a feed's message was altered or forged: its signature is not its author's") from None
    return Entry(mode, number, previous, author, blob[_HEAD.size : -_SIGNATURE], blob)


def opened(entry: Entry, key: bytes, side: bytes = b"") -> bytes:
    """Return what a message says.

    Parameters
    ----------
    entry : Entry
        The message.
    key : bytes
        k_t of this very message.
    side : bytes
        The side key, in restricted mode.

    Raises
    ------
    MessageError
        If a key is the wrong one.
    """
    try:
        head = entry.whole[: _HEAD.size]
        content: bytes = ChaCha20Poly1305(message_key(entry.mode, key, side)).decrypt(_NONCE, entry.sealed, head)
        return content
    except InvalidTag:
        raise MessageError(
            "a feed's message does not open with this key; wanted the key of this message or of an earlier one, and in "
            "restricted mode the side key"
        ) from None


def message_key(mode: int, key: bytes, side: bytes) -> bytes:
    """Return the key that seals one message."""
    return derived(key, b"coinstac-meshnet feed: message %d" % mode, side if mode == MODES["restricted"] else b"")
