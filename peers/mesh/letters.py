"""`PayloadMessage` as bytes and back: what is garbage, too long, foreign or spoken for another is one named error."""

from __future__ import annotations

import uuid
from typing import Any

from google.protobuf.message import DecodeError

from computation.errors import MessageError
from peers.mesh.messages_pb2 import PayloadMessage

__all__ = ["LONGEST", "answer", "letter", "payload", "read"]

#: Bytes of a message without a model.
LONGEST = 1 << 20
_FIELDS = {field.name: field.number for field in PayloadMessage.DESCRIPTOR.oneofs_by_name["payload"].fields}


def letter(sender: str, address: str, **content: Any) -> Any:
    """Return a message with one payload, by the name of its field, and an id of its own."""
    ((name, _),) = content.items()
    message = PayloadMessage(
        id=uuid.uuid4().hex, senderId=sender, senderIpAddress=address, payloadType=_FIELDS[name], **content
    )
    getattr(message, name).SetInParent()  # an empty payload is one, too
    return message


def answer(question: Any, sender: str, address: str, **content: Any) -> Any:
    """Return a message that answers another: it has that one's id."""
    message = letter(sender, address, **content)
    message.id = question.id
    return message


def read(blob: bytes, sender: str, longest: int = LONGEST) -> Any:
    """Return the message that bytes hold.

    Parameters
    ----------
    blob : bytes
        As they came.
    sender : str
        Who holds the key of the link.
    longest : int
        Bytes that it may have.

    Raises
    ------
    MessageError
        If it is none, too long, says that it is another's, or has no payload or another than it says.
    """
    if len(blob) > longest:
        raise MessageError(f"a message has {len(blob)} bytes; wanted at most {longest}")
    try:
        message = PayloadMessage.FromString(blob)
    except DecodeError as error:
        raise MessageError(
            "what came is no message of a mesh, or was cut off; wanted a PayloadMessage", str(error)
        ) from None
    kind = message.WhichOneof("payload")
    if kind is None or message.payloadType != _FIELDS[kind]:
        raise MessageError(
            f"a message says that it is of type {message.payloadType} and holds {kind or 'nothing'}; wanted one of "
            f"{', '.join(f'{number} {name}' for name, number in _FIELDS.items())}"
        )
    if message.senderId != sender:
        raise MessageError("a message names another sender than the one whose key it came with; wanted its own name")
    if not 0 < len(message.id) <= 64 or len(message.senderIpAddress) > 128:
        raise MessageError("a message has no id, or a longer one or a longer address than any; wanted 1 to 64 letters")
    return message


def payload(message: Any) -> Any:
    """Return the payload of a message that was read."""
    return getattr(message, message.WhichOneof("payload"))
