"""A message between two peers as bytes: a small JSON head, then a payload as it travels everywhere else.

Layout, little-endian: 8 bytes of magic, "CXPEER" and the version; the length of the head, unsigned, in 4; the head,
`{"topic", "round", "weight", "text"}`; nothing more, or one payload (`computation.wire.payload`) written by the sender
for this run. Who the sender is, the engine knows from the link, and the payload must agree. What does not follow this
is a `MessageError` or a `PayloadError`, and no other outcome is possible.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from computation.checks import parse_json
from computation.errors import InfinitePayloadError, MessageError, PayloadError
from computation.wire import payload
from computation.wire.messages.base import MOST_ROUNDS
from computation.wire.payload import MODEL, Manifest, Payload
from computation.wire.reader import Reader
from peers.requests import Message

if TYPE_CHECKING:
    from peers.peer import Peer

__all__ = ["LONGEST_HEAD", "decode", "encode", "longest", "received", "size"]

_MAGIC = b"CXPEER\x00\x01"
_HEAD = struct.Struct("<8sI")
#: Bytes of JSON that a message may have: a join offer with a thousand settings and facts, and some more.
LONGEST_HEAD = 1 << 18


def encode(message: Message, manifest: Manifest, sender: str, run: str) -> bytes:
    """Return a message's bytes.

    Raises
    ------
    MessageError
        If its text is longer than any message may be, or its weight is not finite.
    """
    head = _head(message)
    if len(head) > LONGEST_HEAD:
        raise MessageError(f"a message's head has {len(head)} bytes; wanted at most {LONGEST_HEAD}")
    body = b""
    if message.values is not None:
        body = payload.encode(Payload(MODEL, message.round, manifest, message.values, site=sender, run=run))
    return _HEAD.pack(_MAGIC, len(head)) + head + body


def _head(message: Message) -> bytes:
    if not math.isfinite(message.weight):
        raise MessageError(f"a message on {message.topic!r} weighs {message.weight}; wanted a finite number")
    fields = {"topic": message.topic, "round": message.round, "weight": message.weight, "text": message.text}
    return json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()


def size(message: Message) -> int:
    """Return how many bytes a message takes on the wire; raises `MessageError` where its weight is none."""
    values = 0 if message.values is None else payload.HEADER_BYTES + message.values.nbytes
    return _HEAD.size + len(_head(message)) + values


def longest(manifest: Manifest, dtype: np.dtype[np.floating]) -> int:
    """Return the bytes of the longest message of a run."""
    return _HEAD.size + LONGEST_HEAD + payload.length(manifest, dtype)


def decode(blob: bytes, manifest: Manifest, dtype: np.dtype[np.floating], sender: str, run: str) -> Message:
    """Read a message from its bytes.

    Raises
    ------
    MessageError, PayloadError
        If it is malformed, truncated, of another run, sender or model, or not finite. The message does not name the
        sender: whoever holds the link does.
    """
    if len(blob) < _HEAD.size:
        raise MessageError(f"the message has {len(blob)} bytes; wanted {_HEAD.size} and more")
    magic, length = _HEAD.unpack_from(blob)
    if magic != _MAGIC or length > LONGEST_HEAD or _HEAD.size + length > len(blob):
        raise MessageError("the message is of another format or was cut off; wanted one of this version, whole")
    reader = Reader("message", _parsed(blob[_HEAD.size : _HEAD.size + length]))
    topic, round = reader.text("topic", 40), reader.whole("round", MOST_ROUNDS)
    weight, text = reader.number("weight", 0.0), reader.pop("text")
    if not isinstance(text, str):
        raise reader.fail("text", "a text")
    reader.end()
    body = blob[_HEAD.size + length :]
    if not body:
        return Message(topic, round, None, weight, text, sender)
    if len(body) != payload.length(manifest, dtype):
        wanted = payload.length(manifest, dtype)
        raise MessageError(f"the message carries {len(body)} bytes of values; wanted {wanted} or none")
    values = payload.decode(body, kind=MODEL, round=round, manifest=manifest, dtype=dtype, site=sender, run=run)
    return Message(topic, round, values, weight, text, sender)


def received(blob: bytes, peer: Peer, sender: str, run: str) -> Message | None:
    """Read a message for a peer, and tell of what cannot be read; nothing comes of it then.

    Of values that are no numbers the rest has come all the same: who waits for its sender waits no longer.
    """
    learner = peer.learner
    try:
        return decode(blob, learner.manifest, learner.dtype, sender, run)
    except InfinitePayloadError as error:
        peer.refused(sender, error.public)
        end = _HEAD.size + _HEAD.unpack_from(blob)[1]
        return replace(decode(blob[:end], learner.manifest, learner.dtype, sender, run), refused=True)
    except (MessageError, PayloadError) as error:
        peer.refused(sender, error.public)
        return None


def _parsed(head: bytes) -> object:
    try:
        return parse_json(head.decode())
    except (ValueError, RecursionError) as error:
        raise MessageError("the message's head is not JSON; wanted an object", str(error)) from None
