"""A node's tasks: adding, pinning, training and averaging, each a part of a protocol.

Adding and pinning only ask the engine to keep and to fetch, which it does beside everything else; training and
averaging both write the model and never overlap, since a protocol does one thing at a time.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections import Counter
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from computation.errors import MeshNetError, MessageError, PayloadError, PeersError
from computation.wire import payload
from computation.wire.payload import MODEL, Payload, Vector
from peers.cid import belies
from peers.learners import Learner
from peers.peer import Peer, Worked
from peers.requests import Drop, Get, Message, Poll, Publish, Put, Request, Steps, Wait
from peers.swarm import words
from peers.swarm.known import Known
from peers.swarm.words import TOPICS, HashList, Offer, Use, Word

if TYPE_CHECKING:
    from peers.protocols.swarm import Swarm

__all__ = ["Node", "Studies"]

Part: TypeAlias = Generator[Request, Any, Any]

#: Slices that are added, or asked for, in one turn.
_AT_ONCE = 64
#: Models that are fetched at once: the best ones, so that another is there where one cannot be had.
_FETCHED = 3
#: Messages of one sender that are read in one turn.
_MOST_HEARD = 256
#: Others for each of whom half of `every` is waited before this node speaks again, where there are more than two: so
#: that all together say as much, however many they are. More than so many change no more.
_CROWD, _MOST_CROWD = 2, 100
#: How much rarer lists are told of again than news.
_RARER = 4
#: Own models that are kept, for those who heard of an earlier one; who has not got the oldest by then never will.
_OWN_MODELS = 8


class Studies(Learner, Protocol):
    """A learner from slices; `peers.slices.SliceLearner` is one."""

    own: list[bytes]
    shares: bool
    people: bool

    def check(self, content: bytes) -> None:
        """Refuse what is no slice of this swarm; raises `PayloadError`."""
        ...

    def study(self, content: bytes, cycle: int) -> Worked:
        """Learn from one slice."""
        ...

    def accuracy(self) -> float:
        """Return the model's accuracy, from 0 to 1, on what this node holds out."""
        ...


class Node:
    """One node at work.

    Parameters
    ----------
    chosen : peers.protocols.swarm.Swarm
        Settings.
    peer : Peer
        Whose learner studies slices.

    Raises
    ------
    PeersError
        If its slices are of people and would go to others.
    """

    def __init__(self, chosen: Swarm, peer: Peer) -> None:
        learner: Studies = peer.learner  # type: ignore[assignment]
        self.chosen, self.peer, self.learner = chosen, peer, learner
        self.gives = chosen.share and learner.shares
        if self.gives and learner.people:
            raise PeersError("the slices are of people: they are never shared; set `share_slices` to false")
        memory = peer.memory
        self.secret = bytes.fromhex(memory.setdefault("secret", secrets.token_hex(32)))
        self.known = Known.from_json(memory["known"]) if "known" in memory else Known(chosen.most_slices)
        self.mine: list[str] = memory.get("mine", [])
        self.taken: dict[str, str] = memory.get("taken", {})
        self.added, self.hidden = 0, dict[str, int]()
        self.accuracy = learner.accuracy()
        self.since: dict[str, float] = {}
        self.spoken = self.announced = -math.inf
        self.offered = self.known.maturity  # of the model that was offered last
        self.uses: list[str] = []  # what was learned from and not told of yet
        self.lately: set[str] = set()  # who has spoken since this node did
        self.fetched: dict[str, Offer] = {}
        self.passed: Counter[str] = Counter()  # models that a sender has offered since the one that is fetched

    def remember(self) -> None:
        """Put into the peer's memory what a restart needs."""
        self.peer.memory |= {"known": self.known.as_json(), "mine": self.mine, "taken": self.taken}

    def numbers(self) -> dict[str, float]:
        """Return what is measured after every turn."""
        known = self.known
        return {"accuracy": self.accuracy, "maturity": float(known.maturity), "kept": float(len(known.kept))}

    def add(self) -> Steps:
        """Bring in own slices that are new, and tell where they are; or keep them here, where they are not given."""
        fresh = self.learner.own[self.added : self.added + _AT_ONCE]
        addresses = []
        for content in fresh:
            address = (yield Put(content)) if self.gives else self._hide(content)
            addresses.append(address)
            self.added += 1
        self.known.kept.update(dict.fromkeys(addresses))
        if addresses and self.gives:
            listing = yield Put(words.listing(addresses))
            self.known.read[listing] = self.peer.name
            yield self._said(HashList(listing))

    def _hide(self, content: bytes) -> str:
        mark = hmac.digest(self.secret, hashlib.sha256(content).digest(), "sha256").hex()
        self.hidden[mark] = self.added
        return mark

    def listen(self) -> Steps:
        """Hear what came."""
        self.hear((yield Poll()))

    def rest(self, seconds: float) -> Steps:
        """Wait for something to come, and hear it."""
        self.hear((yield Wait(seconds)))

    def hear(self, messages: Iterable[Message]) -> None:
        """Take messages in; what is unsound, or too much, is dropped and its sender named."""
        count: Counter[str] = Counter()
        for one in messages:
            count[one.sender] += 1
            if count[one.sender] <= _MOST_HEARD:
                self._hear(one)
            elif count[one.sender] == _MOST_HEARD + 1:
                self.peer.refused(one.sender, f"more than {_MOST_HEARD} messages at once")

    def _hear(self, message: Message) -> None:
        try:
            word = words.read(message.topic, message.text)
        except MessageError as error:
            self.peer.refused(message.sender, error.public)
            return
        if isinstance(word, HashList) and not self.chosen.share:
            self.peer.refused(message.sender, "it offers slices, and this swarm shares none")
        elif fault := self.known.hear(message.sender, word):
            self.peer.refused(message.sender, fault)
        elif isinstance(word, Offer):
            self.passed[message.sender] += 1
        if len(self.lately) < _MOST_CROWD:
            self.lately.add(message.sender)

    def pin(self) -> Steps:
        """Fetch lists and slices that were told of, and keep what is sound."""
        for address in list(self.known.lists)[:_AT_ONCE]:
            yield from self._pin_list(address)
        for address in list(self.known.wanted)[:_AT_ONCE]:
            yield from self._pin_slice(address)

    def _pin_list(self, address: str) -> Steps:
        sender = self.known.lists[address]
        content = yield from self._fetch(self.known.lists, address, sender, "its list of slices")
        if content is None:
            return
        try:
            over = self.known.take_list(address, words.listed(content))
        except MessageError as error:
            yield from self._refuse(self.known.lists, address, sender, error)
            return
        if over:
            self.peer.refused(sender, f"{over} slices more than the {self.chosen.most_slices} that find room here")

    def _pin_slice(self, address: str) -> Steps:
        sender = self.known.wanted[address]
        content = yield from self._fetch(self.known.wanted, address, sender, "its slice")
        if content is None:
            return
        try:
            self.learner.check(content)
        except PayloadError as error:
            yield from self._refuse(self.known.wanted, address, sender, error)
            return
        del self.known.wanted[address]
        self.known.kept[address] = None

    def _fetch(self, queue: dict[str, Any], key: str, sender: str, what: str, address: str = "") -> Part:
        """Return a content that is here by now; what cannot be had, or is another one, leaves the queue.

        A content that is known under another key than its address is a model, which is soon replaced.
        """
        lasting, address = not address, address or key
        content: bytes | None = yield Get(address, 0.0, sender, lasting)
        if content is None:
            if self.peer.clock() - self.since.setdefault(address, self.peer.clock()) > self.peer.patience:
                del queue[key], self.since[address]
                self.peer.refused(sender, f"{what} cannot be had: nobody who holds it answers")
            else:
                queue[key] = queue.pop(key)  # behind the others
            return None
        self.since.pop(address, None)
        if belies(address, content):
            yield from self._refuse(queue, key, sender, PayloadError(f"{what} is not what its address names"), address)
            return None
        return content

    def _refuse(self, queue: dict[str, Any], key: str, sender: str, error: MeshNetError, address: str = "") -> Steps:
        queue.pop(key, None)
        self.peer.refused(sender, error.public)
        yield Drop(address or key)

    def train(self, round: int) -> Part:
        """Learn from some slices; return what was done, nothing where none is left."""
        chance, done = self.peer.draw(round, "slice"), Worked()
        for _ in range(self.chosen.cycle):
            worked = yield from self._study(chance, round)
            done = worked if not done.batches else _both(done, worked)
        if done.batches:
            self.known.maturity += 1
            self.accuracy = self.learner.accuracy()
            yield done.report(round)
        return done

    def _study(self, chance: np.random.Generator, round: int) -> Part:
        slice = self.choose(chance)
        if slice is None or (content := (yield from self._content(slice))) is None:
            return Worked()
        try:
            worked = self.learner.study(content, self.known.maturity + 1)
        except Exception as error:  # one slice is not worth the node
            self.peer.failed(round, error)
            return Worked()
        self.known.use(slice, self.peer.name)
        self.uses.append(slice)
        return worked

    def speak(self) -> Steps:
        """Tell what was learned from, and offer the model, where that is news and this node has not just spoken."""
        if self._just(self.spoken, 1) or not (self.uses or self.known.maturity > self.offered):
            return
        self.spoken = self.peer.clock()
        self.lately.clear()
        while self.uses:
            told, self.uses = tuple(self.uses[: words.MOST_USED]), self.uses[words.MOST_USED :]
            yield self._said(Use(told))
        if self.known.maturity > self.offered:
            yield from self._offer()

    def _just(self, when: float, times: int) -> bool:
        """Tell whether something was so short a while ago that the others should not hear it again yet."""
        crowd = max(1.0, len(self.lately) / _CROWD)
        return self.peer.clock() - when < times * crowd * self.chosen.every

    def choose(self, chance: np.random.Generator) -> str | None:
        """Return the slice that was used least, below the threshold; ties by chance. None where there is none."""
        counts = {slice: len(self.known.used.get(slice, ())) for slice in self.known.kept}
        least = min(counts.values(), default=0)
        if not counts or 0 < self.chosen.overuse <= least:
            return None
        among = [slice for slice, count in counts.items() if count == least]
        return among[int(chance.integers(len(among)))]

    def _content(self, slice: str) -> Part:
        if slice in self.hidden:
            return self.learner.own[self.hidden[slice]]
        content = yield Get(slice, 0.0)
        if content is None:  # the store had no room for it any more
            del self.known.kept[slice]
            self.known.wanted[slice] = self.peer.name
        return content

    def _offer(self) -> Steps:
        maturity = self.offered = self.known.maturity
        whole = Payload(MODEL, maturity, self.learner.manifest, self.learner.vector(), site=self.peer.name)
        address = yield Put(payload.encode(whole), lasting=False)
        yield self._said(Offer(address, self.accuracy, maturity))
        self.mine.append(address)
        while len(self.mine) > _OWN_MODELS:
            yield Drop(self.mine.pop(0))

    def average(self) -> Part:
        """Mix with a model that may be and is here; return whose it was, or nothing. Meanwhile fetch the best ones."""
        self._choose_models()
        for sender in list(self.fetched):
            offer = self.fetched[sender]
            content = yield from self._fetch(self.fetched, sender, sender, "its model", offer.address)
            if content is not None and (yield from self._take(sender, offer, content)):
                return sender
        return None

    def _choose_models(self) -> None:
        """Fill up what is fetched; a model that its sender has replaced still is, as long as the sender keeps it."""
        offers = self.known.offers
        for sender in list(self.fetched):
            if self.passed[sender] >= _OWN_MODELS:
                del self.fetched[sender]
        able = [
            (one.accuracy, sender) for sender, one in offers.items() if sender not in self.fetched and self.accepts(one)
        ]
        for _, sender in sorted(able, reverse=True)[: _FETCHED - len(self.fetched)]:
            self.fetched[sender] = offers.pop(sender)
            self.passed[sender] = 0

    def accepts(self, offer: Offer) -> bool:
        """Tell whether a model is mature and accurate enough to be mixed with."""
        ripe = offer.maturity >= self.chosen.maturity * self.known.maturity
        return ripe and offer.accuracy >= self.accuracy - self.chosen.delta

    def _take(self, sender: str, offer: Offer, content: bytes) -> Part:
        self.fetched.pop(sender)
        try:
            self._mix(sender, offer, self._decoded(sender, offer, content))
        except PayloadError as error:
            self.peer.refused(sender, error.public)
            yield Drop(offer.address)
            return False
        self.known.mixed += 1
        if earlier := self.taken.pop(sender, None):
            yield Drop(earlier)
        self.taken[sender] = offer.address
        return True

    def _decoded(self, sender: str, offer: Offer, content: bytes) -> Vector:
        manifest, dtype = self.learner.manifest, self.learner.dtype
        if len(content) != payload.length(manifest, dtype):
            raise PayloadError(f"its model has {len(content)} bytes; wanted {payload.length(manifest, dtype)}")
        return payload.decode(
            content, kind=MODEL, round=offer.maturity, manifest=manifest, dtype=dtype.type, site=sender
        )

    def _mix(self, sender: str, offer: Offer, values: Vector) -> None:
        before = self.learner.vector()
        if self.chosen.verify:
            self.learner.load_vector(values)
            if (seen := self.learner.accuracy()) < self.accuracy - self.chosen.delta:
                self.learner.load_vector(before)
                raise PayloadError(f"its model has accuracy {seen:.3f} here; it said {offer.accuracy:.3f}")
        share = self._share(offer)
        mixed = share * values.astype(np.float64) + (1 - share) * before.astype(np.float64)
        self.learner.load_vector(mixed.astype(self.learner.dtype))
        self.accuracy = self.learner.accuracy()

    def _share(self, offer: Offer) -> float:
        return offer.maturity / (offer.maturity + self.known.maturity) if self.chosen.weight == "maturity" else 0.5

    def announce(self, turn: int) -> Steps:
        """Tell again of one list that is here, whoever made it: who came late hears of it, also from those who stay."""
        if self.known.read and not self._just(self.announced, _RARER):
            self.announced = self.peer.clock()
            yield self._said(HashList(list(self.known.read)[turn % len(self.known.read)]))

    def _said(self, word: Word) -> Publish:
        return Publish(TOPICS[type(word)], words.write(word))


def _both(one: Worked, other: Worked) -> Worked:
    samples = one.samples + other.samples
    loss = sum(part.samples * part.loss for part in (one, other) if part.loss is not None) / max(samples, 1)
    return Worked(one.batches + other.batches, samples, loss)
