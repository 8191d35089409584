"""The three small messages of LEARNAE, and the list of slices that one of them names; all of them JSON.

A hashlist names a content that lists addresses of slices; a model's message names a content, and says its accuracy and
its maturity, which is the number of training cycles behind it; a use says which slices were learned from.
"""

from __future__ import annotations

import json
import string
from dataclasses import asdict, dataclass
from typing import TypeAlias

from computation.checks import parse_json
from computation.errors import MessageError
from computation.wire.messages.base import MOST_ROUNDS
from computation.wire.reader import Reader
from peers.cid import is_address

__all__ = [
    "MOST_SLICES",
    "MOST_USED",
    "TOPICS",
    "HashList",
    "Offer",
    "Use",
    "Word",
    "listed",
    "listing",
    "read",
    "write",
]

#: Slices in one list: 64 bytes each, so a list fits into one block of any content network.
MOST_SLICES = 4096
_LONGEST_LIST = 64 * (MOST_SLICES + 1)
#: Slices in one note of use: 67 letters each.
MOST_USED = 100
_LONGEST_WORD = 8192
_MARK = frozenset(string.digits + "abcdef")


@dataclass(frozen=True)
class HashList:
    """That slices can be had; `address` leads to their list."""

    address: str


@dataclass(frozen=True)
class Offer:
    """That a model can be had.

    Attributes
    ----------
    address : str
        Of its payload.
    accuracy : float
        From 0 to 1, as its sender says.
    maturity : int
        Training cycles behind it, from 1.
    """

    address: str
    accuracy: float
    maturity: int


@dataclass(frozen=True)
class Use:
    """That the sender has learned from slices: of each its address, or a mark of 64 hexadecimals that tells no more."""

    slices: tuple[str, ...]


Word: TypeAlias = HashList | Offer | Use
#: Topic of each.
TOPICS: dict[type[Word], str] = {HashList: "slices", Offer: "model", Use: "use"}
_KINDS = {topic: kind for kind, topic in TOPICS.items()}


def write(word: Word) -> str:
    """Return a message as JSON."""
    return json.dumps(asdict(word), separators=(",", ":"), allow_nan=False)


def read(topic: str, text: str) -> Word:
    """Read a message.

    Raises
    ------
    MessageError
        If it is none of the three.
    """
    if topic not in _KINDS or len(text) > _LONGEST_WORD:
        wanted = f"one of {', '.join(_KINDS)}, of at most {_LONGEST_WORD}"
        raise MessageError(f"a message of {len(text)} letters is none of a swarm; wanted {wanted}")
    reader = Reader(topic, _parsed(text))
    word = _read(_KINDS[topic], reader)
    reader.end()
    return word


def _read(kind: type[Word], reader: Reader) -> Word:
    if kind is Use:
        marks = reader.texts("slices", MOST_USED, 64)
        fits = bool(marks) and all(is_address(mark) or _is_mark(mark) for mark in marks)
        return Use(reader.take("slices", f"1 to {MOST_USED} addresses or marks", fits, marks))
    address = reader.pop("address")
    reader.take("address", "a CIDv1", is_address(address), address)
    if kind is HashList:
        return HashList(address)
    accuracy = reader.number("accuracy", 0.0)
    reader.take("accuracy", "a number from 0 to 1", accuracy <= 1.0, accuracy)
    return Offer(address, accuracy, reader.whole("maturity", MOST_ROUNDS, 1))


def _is_mark(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= _MARK


def listing(addresses: list[str]) -> bytes:
    """Return a list of slices as content."""
    return json.dumps(addresses, separators=(",", ":")).encode()


def listed(content: bytes) -> tuple[str, ...]:
    """Read a list of slices.

    Raises
    ------
    MessageError
        If it is no list, or too long a one.
    """
    if len(content) > _LONGEST_LIST:
        raise MessageError(f"a list of slices has {len(content)} bytes; wanted at most {_LONGEST_LIST}")
    addresses = _parsed(content)
    if not isinstance(addresses, list) or len(addresses) > MOST_SLICES or not all(map(is_address, addresses)):
        raise MessageError(f"what came is no list of at most {MOST_SLICES} addresses of slices; wanted one")
    return tuple(addresses)


def _parsed(text: bytes | str) -> object:
    try:
        return parse_json(text)
    except (ValueError, RecursionError) as error:
        raise MessageError("a message is not JSON; wanted an object or a list", str(error)) from None
