"""Masked rounds: what goes along with masked words, the centre's word on whose came, and what sites answer.

Keys, shares and seeds are bytes in hexadecimal, each kind of one length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from computation.checks import is_text
from computation.wire.messages.base import MOST_ROUNDS, enveloped, opened
from computation.wire.reader import MANY, Reader

__all__ = ["Arrived", "Masked", "Masking", "Unmasking", "is_arrived"]

#: Hexadecimal digits of a sealed share: nonce, share and tag are 60 bytes.
_SEALED = 120
_PHASE = "unmask"


@dataclass(frozen=True)
class Masking:
    """What the plan says of the sites that mask for each other.

    Attributes
    ----------
    keys : dict of str
        Public X25519 key of each.
    weights : dict of int
        What each weighs before the cap: its training scans, or one.
    """

    keys: dict[str, str]
    weights: dict[str, int]

    @classmethod
    def parse(cls, raw: Any) -> Masking:
        """Read it; raises `MessageError`."""
        reader = Reader("field 'masking'", raw)
        record = cls(reader.digests_by_name("keys"), reader.wholes_by_name("weights", MOST_ROUNDS, 1))
        reader.end()
        return record


@dataclass(frozen=True)
class Masked:
    """What goes along with a site's masked words.

    Attributes
    ----------
    shares : dict of str
        Of its own mask, sealed for each other site.
    marks : dict of str
        SHA-256 by which each share is known again.
    """

    shares: dict[str, str]
    marks: dict[str, str]

    @classmethod
    def parse(cls, raw: Any) -> Masked:
        """Read it; raises `MessageError`."""
        reader = Reader("field 'masked'", raw)
        record = cls(_sealed(reader, "shares"), reader.digests_by_name("marks"))
        reader.end()
        return record


@dataclass(frozen=True)
class Arrived:
    """The centre's word on whose masked words are in the sum of a round.

    Attributes
    ----------
    round : int
        The round.
    there : tuple of str
        The sites, sorted.
    shares : dict of dict
        For each of these, what each other one of them sealed for it.
    """

    round: int
    there: tuple[str, ...]
    shares: dict[str, dict[str, str]]

    @classmethod
    def parse(cls, raw: Any) -> Arrived:
        """Read it; raises `MessageError`."""
        reader = opened("word on the masks", _PHASE, raw)
        record = cls(
            round=reader.whole("round", MOST_ROUNDS, 1),
            there=reader.texts("there", MANY),
            shares=_tables(reader, "shares"),
        )
        reader.end()
        return record

    def as_json(self) -> dict[str, Any]:
        """Return the message as plain JSON."""
        return enveloped(_PHASE, self)


@dataclass(frozen=True)
class Unmasking:
    """What a site gives so that the masks can be taken off the sum.

    Attributes
    ----------
    round : int
        The round.
    model : str
        Digest of the site's model, as in every message.
    shares : dict of str
        Of the own mask of each other site that is there.
    seeds : dict of str
        Of the mask that it has in common with each site that is not.
    closed : tuple of str
        Sites whose sealed share it could not open.
    """

    round: int
    model: str
    shares: dict[str, str]
    seeds: dict[str, str]
    closed: tuple[str, ...] = ()

    @classmethod
    def parse(cls, raw: Any) -> Unmasking:
        """Read it; raises `MessageError`."""
        reader = opened("answer on the masks", _PHASE, raw)
        record = cls(
            round=reader.whole("round", MOST_ROUNDS, 1),
            model=reader.digest("model"),
            shares=reader.digests_by_name("shares"),
            seeds=reader.digests_by_name("seeds"),
            closed=reader.texts("closed", MANY),
        )
        reader.end()
        return record

    def as_json(self) -> dict[str, Any]:
        """Return the message as plain JSON."""
        return enveloped(_PHASE, self)


def is_arrived(raw: Any) -> bool:
    """Tell whether a message of the centre is its word on the masks, and not its verdict."""
    return isinstance(raw, Mapping) and raw.get("phase") == _PHASE


def _is_sealed(value: Any) -> bool:
    """Tell whether a foreign value has a sealed share's length and digits."""
    return isinstance(value, str) and len(value) == _SEALED and set(value) <= set("0123456789abcdef")


def _sealed(reader: Reader, name: str) -> dict[str, str]:
    table = reader.mapping(name, MANY)
    wanted = "an object of sealed shares of 60 bytes in hexadecimal"
    return reader.take(name, wanted, all(map(_is_sealed, table.values())), table)


def _tables(reader: Reader, name: str) -> dict[str, dict[str, str]]:
    table = reader.mapping(name, MANY)
    fits = all(
        isinstance(inner, Mapping)
        and len(inner) <= MANY
        and all(is_text(key, 200) for key in inner)
        and all(map(_is_sealed, inner.values()))
        for inner in table.values()
    )
    return reader.take(name, "an object of sealed shares by site, for each site", fits, table)
