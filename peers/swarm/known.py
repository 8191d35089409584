"""What a node knows of its swarm: lists, slices and who has used them, models on offer. All of it has bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from peers.swarm.words import HashList, Offer, Use, Word

__all__ = ["Known"]

_MOST_LISTS = 256
_MOST_SENDERS = 1024


@dataclass
class Known:
    """A node's memory.

    Attributes
    ----------
    most_slices : int
        That are wanted or kept at once; of others nothing is learned.
    lists : dict of str to str
        Lists heard of that are not here yet: address to who told.
    read : dict of str to str
        Lists that are here.
    wanted : dict of str to str
        Slices that are not here yet: address to who told.
    kept : dict of str to None
        Slices that are here and sound, in the order in which they came.
    used : dict of str to list of str
        Who has learned from a slice, as far as it was told.
    offers : dict of str to Offer
        Each sender's newest model that was not averaged with yet.
    heard : dict of str to int
        The highest maturity that each sender has told.
    maturity : int
        Training cycles of this node.
    mixed : int
        Times that it averaged with another's model.
    """

    most_slices: int = 4096
    lists: dict[str, str] = field(default_factory=dict)
    read: dict[str, str] = field(default_factory=dict)
    wanted: dict[str, str] = field(default_factory=dict)
    kept: dict[str, None] = field(default_factory=dict)
    used: dict[str, list[str]] = field(default_factory=dict)
    offers: dict[str, Offer] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)
    maturity: int = 0
    mixed: int = 0

    def hear(self, sender: str, word: Word) -> str:
        """Take in a message; return what is wrong with it, or nothing."""
        match word:
            case HashList(address):
                return self._hear_list(sender, address)
            case Use(slices):
                return next(filter(None, [self.use(slice, sender) for slice in slices]), "")
            case Offer():
                return self._hear_offer(sender, word)

    def _hear_list(self, sender: str, address: str) -> str:
        if address in self.read or address in self.lists:
            return ""
        if len(self.lists) >= _MOST_LISTS or len(self.read) >= _MOST_LISTS:
            return f"it tells of a list more than {_MOST_LISTS}"
        self.lists[address] = sender
        return ""

    def _hear_offer(self, sender: str, offer: Offer) -> str:
        if offer.maturity <= self.heard.get(sender, 0):
            return f"its model has maturity {offer.maturity} after {self.heard[sender]}; wanted a higher one"
        if sender not in self.heard and len(self.heard) >= _MOST_SENDERS:
            return f"it is one more than {_MOST_SENDERS} who offer models"
        self.heard[sender], self.offers[sender] = offer.maturity, offer
        return ""

    def use(self, slice: str, sender: str) -> str:
        """Remember who has used a slice; return what is wrong, or nothing."""
        users = self.used.get(slice, [])
        if sender in users:
            return ""
        if (not users and len(self.used) >= 2 * self.most_slices) or len(users) >= _MOST_SENDERS:
            return "it tells of a use more than can be remembered"
        self.used.setdefault(slice, users).append(sender)
        return ""

    def take_list(self, address: str, slices: tuple[str, ...]) -> int:
        """Want what a list names, as far as there is room; return how many found none."""
        sender = self.lists.pop(address)
        self.read[address] = sender
        fresh = [slice for slice in dict.fromkeys(slices) if slice not in self.kept and slice not in self.wanted]
        room = max(0, self.most_slices - len(self.kept) - len(self.wanted))
        self.wanted.update(dict.fromkeys(fresh[:room], sender))
        return len(fresh) - len(fresh[:room])

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain JSON, in order."""
        plain = {name: dict(value) if isinstance(value, dict) else value for name, value in vars(self).items()}
        offers = {sender: [one.address, one.accuracy, one.maturity] for sender, one in self.offers.items()}
        return {**plain, "offers": offers, "used": {slice: list(users) for slice, users in self.used.items()}}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Known:
        """Go back to what `as_json` returned."""
        offers = {sender: Offer(*one) for sender, one in plain["offers"].items()}
        return cls(**{**plain, "offers": offers})
