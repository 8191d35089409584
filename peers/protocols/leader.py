"""A leader averages asynchronously: each follower sends its model after a cycle and goes on from the mean of all.

CloudMesh (University of Waterloo, capstone report, 2025), "asynchronous parameter averaging"::

    leader    on (i, x_i):  L[i] <- x_i;  if |L| < n hold the reply, else reply mean(L), and release what is held
    follower  repeat: learn for one cycle; send x_i; x_i <- reply

The one barrier is the first cycle. The report bounds nothing; here a reply is held, too, as long as its cycle is more
than `staleness` ahead of the slowest follower's (Ho et al. 2013, "More effective distributed ML via a stale synchronous
parallel parameter server"), so that with 0 the run is the synchronous one. Means are weighted by samples, summed in
the order of names in float64.

Who goes is left out, and is taken in again when it comes back; so is who is late by its own measure. When the leader
goes, the next peer in order takes over with the last mean that it was sent, in the place of every model that it has not
seen since. Who takes over counts the terms one further: of two who claim to lead, the later term is believed. A leader
that learns itself answers between its own cycles; one without samples, always and at once.

The leader holds every follower's model, and judges each before it is in a mean: see `peers.sieve`. One that is left out
has no weight, and its sender is answered as the others are.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import ClassVar

from computation.checks import parse_json
from computation.errors import PeersError
from computation.federation.screening import NO_BOUNDS, Bounds
from computation.strategies import Rule
from computation.wire.messages import MOST_ROUNDS
from computation.wire.payload import Vector
from peers.deadlines import Deadline
from peers.mail import awaited
from peers.peer import Peer
from peers.protocols.base import RULES, SCREENING, within
from peers.requests import MEASUREMENT, MEMBERSHIP, POINT, Message, Peers, Report, Send, Steps
from peers.sieve import Said, Sieve

__all__ = ["Book", "Leader"]

SHARE, MEAN, LEADS = "leader-share", "leader-mean", "leader-is"
#: Times its patience that a follower waits for a leader that is there and says nothing.
_MOST_SILENCE = 100
_MOST_STALE = 1 << 20
_MEAN = Rule()


@dataclass(frozen=True)
class Leader:
    """Average at a leader.

    Parameters
    ----------
    staleness : int
        Cycles that a follower may be ahead of the slowest one when it is answered.
    together : bool
        Whether the run is over when all have done, together, as many cycles as there are rounds for each; otherwise
        when each has done its rounds. Together, a peer whom losses or an outage cut off may end with an earlier mean
        than the others: the last exact mean of a whole run makes them one again.
    first : str
        Who leads at first; by default the first peer without samples, or the first of all.
    bounds : Bounds
        By which models are judged; by default by none.
    combining : Rule
        How models become one; the weighted mean by default.
    """

    staleness: int = 16
    together: bool = False
    first: str = ""
    bounds: Bounds = NO_BOUNDS
    combining: Rule = _MEAN
    heeds: ClassVar[frozenset[str]] = SCREENING | RULES
    name: ClassVar[str] = "leader"
    needs: ClassVar[frozenset[str]] = frozenset({POINT, MEMBERSHIP, MEASUREMENT})
    common: ClassVar[bool] = False

    def __post_init__(self) -> None:
        within("staleness", self.staleness, 0, _MOST_STALE)

    def __call__(self, peer: Peer) -> Steps:
        """Learn and be answered, or answer, until the last mean."""
        if self.first and self.first not in peer.names:
            raise PeersError(f"{self.first} is to lead; wanted one of {', '.join(peer.names)}")
        return _Member(self, peer).steps()


@dataclass
class Book:
    """What a leader knows of each follower.

    Attributes
    ----------
    rule : Leader
        With what is promised.
    rounds : int
        Of the run.
    expected : set of str
        Followers whose models are to be in the mean.
    models : dict
        Newest model and its weight, by follower.
    cycles : dict of int
        Of the newest model.
    held : dict of int
        Followers that wait for an answer, and the cycle that it is for.
    """

    rule: Leader
    rounds: int
    expected: set[str]
    models: dict[str, tuple[Vector, float]] = field(default_factory=dict)
    cycles: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)

    def take(self, name: str, cycle: int, values: Vector | None, weight: float) -> None:
        """Take in a model; who had been left out goes on from the cycle of the slowest, and holds up nobody."""
        behind = 0 if name in self.expected else self.slowest
        self.expected.add(name)
        if values is not None and cycle >= self.cycles.get(name, 0):
            self.models[name] = values, weight
        self.cycles[name] = self.held[name] = max(cycle, self.cycles.get(name, 0), behind)

    def keep(self, names: Collection[str]) -> tuple[str, ...]:
        """Leave out everybody but these; return who that is."""
        gone = tuple(sorted(self.expected - set(names)))
        for name in gone:
            self.expected.discard(name)
            for table in (self.models, self.cycles, self.held):
                table.pop(name, None)
        return gone

    @property
    def slowest(self) -> int:
        """Cycles of whom has the fewest."""
        return min((self.cycles.get(name, 0) for name in self.expected), default=0)

    @property
    def ready(self) -> tuple[str, ...]:
        """Return names of those who can be answered, sorted: none before everybody's first model is here.

        Who has done all its rounds waits for the last mean.
        """
        if not self.models.keys() >= self.expected:
            return ()
        within = self.slowest + self.rule.staleness
        most = within if self.rule.together else min(within, self.rounds - 1)
        return tuple(sorted(name for name, cycle in self.held.items() if cycle <= most))

    @property
    def over(self) -> bool:
        """Whether the rounds of each, or as many for each in all, are done, and the models near enough for a mean."""
        if not self.models.keys() >= self.expected:
            return False
        if max(self.cycles.values()) - self.slowest > self.rule.staleness:
            return False
        if self.rule.together:
            return sum(self.cycles.values()) >= self.rounds * len(self.expected)
        return self.slowest >= self.rounds


class _Member:
    """One peer's part; `leader` and `cycle` say what it knows of the others and of itself."""

    def __init__(self, rule: Leader, peer: Peer) -> None:
        self.rule, self.peer = rule, peer
        able = {name for name in peer.names if peer.weights[name] > 0}
        self.order = sorted(peer.names, key=lambda name: (name != rule.first, name in able, name))
        self.able, self.book = able, Book(rule, peer.rounds, set(able))
        most = (peer.rounds + rule.staleness + 1) * len(able) if rule.together else peer.rounds
        self.sieve = Sieve(peer, rule.bounds, rule.combining, most)
        self.leader: str = peer.memory.setdefault("leader", self.order[0])
        self.term = int(peer.memory.setdefault("term", 0))
        self.cycle = self.answered = peer.done
        self.own: Message | None = None
        #: Shares that came from whoever knew earlier than this peer that it leads.
        self.early: dict[str, Message] = {}
        self.alive: tuple[str, ...] = peer.names
        self.deadlines = {name: Deadline(peer.patience) for name in able}
        self.since: dict[str, float] = {}
        self.silence, self.sent, self.over = 0, 0.0, False

    def steps(self) -> Steps:
        if self._leads and "average" in self.peer.memory:  # it was gone; perhaps nobody has noticed
            yield from self._take_over(self.term)
        while not self.over:
            if self._free:
                yield from self._learn()
            yield from self._hear(0.0)  # a last mean counts, though who sent it has gone
            if not self.over:
                yield from self._look()
                yield from self._hear(0.0 if self._free else self.peer.patience)

    @property
    def _leads(self) -> bool:
        return self.leader == self.peer.name

    @property
    def _free(self) -> bool:
        """Whether there is something to learn and the mean to go on from."""
        left = self.rule.together or self.cycle < self.peer.rounds
        return self.peer.trains and left and self.answered == self.cycle

    def _next(self) -> str:
        """Return who leads after the leader has gone."""
        place = self.order.index(self.leader)
        after = self.order[place + 1 :] + self.order[: place + 1]
        return next((name for name in after if name in self.alive), self.peer.name)

    def _learn(self) -> Steps:
        self.cycle += 1
        before = self.peer.learner.vector()
        worked = self.peer.step(self.cycle)
        yield worked.report(self.cycle)
        self.sieve.learnt(before, self.cycle)
        weight = self.peer.weights[self.peer.name] if worked.samples else 0.0
        self.own = Message(SHARE, self.cycle, self.peer.learner.vector(), weight)
        self.sent = self.peer.clock()
        yield from self._offer()

    def _offer(self) -> Steps:
        """Give the own model to who leads."""
        if self.own is None or self.answered == self.cycle:
            return
        if self._leads:
            self._enter(self.peer.name, self.own)
        else:
            yield Send(self.leader, self.own, reliable=True)

    def _look(self) -> Steps:
        """See who is there: leave out who has gone, and take over where it is this peer's turn."""
        before = self.alive
        self.alive = yield Peers()
        if self.leader not in self.alive:
            self.leader = self._next()
            if self._leads:
                yield from self._take_over(self.term + 1)
            else:
                yield from self._offer()
        if self._leads:
            self.book.keep([name for name in self.alive if not self._late(name)])
            for name in sorted(set(self.alive) - set(before) - {self.peer.name}):
                yield Send(name, self._claim(), reliable=True)
            if not self.book.expected:
                raise PeersError("all peers with something to learn from have gone; wanted one at least")
            yield from self._answer()

    def _claim(self) -> Message:
        """Return the word of who leads, and in which term."""
        return Message(LEADS, self.term, text=self.leader)

    def _take_over(self, term: int) -> Steps:
        """Begin a book with the last mean for everybody, as far as there has been one."""
        memory, self.leader, self.term = self.peer.memory, self.peer.name, term
        self.book = Book(self.rule, self.peer.rounds, self.able & set(self.alive))
        self.sieve.begin()
        if "average" in memory:
            for name in self.book.expected:
                self.book.models[name] = memory["average"], self.peer.weights[name]
                self.book.cycles[name] = int(memory["cycles"].get(name, 0))
        for name in self.alive:
            if name != self.peer.name:
                yield Send(name, self._claim(), reliable=True)
        early, self.early = self.early, {}
        for name, message in sorted(early.items()):
            self._enter(name, message)
        yield from self._offer()

    def _late(self, name: str) -> bool:
        """Tell whether a follower takes much longer than it used to."""
        if name not in self.since or name in self.book.held:
            return False
        return self.peer.clock() - self.since[name] > self.deadlines[name].seconds

    def _enter(self, name: str, message: Message) -> None:
        if name not in self.able:
            self.peer.refused(name, "a share of a peer that has no samples")
            return
        if name in self.since:
            self.deadlines[name].note(self.peer.clock() - self.since.pop(name))
        if message.round >= self.book.cycles.get(name, 0):  # an older one changes nothing
            message = self.sieve.take(name, message)
        self.book.take(name, message.round, message.values, message.weight)

    def _hear(self, seconds: float) -> Steps:
        """Take in what has come, or what comes within so many seconds."""
        if self.over:
            return
        came = yield from awaited(self.peer, (SHARE, MEAN, LEADS), seconds)
        self.silence = 0 if came or self._leads else self.silence + (seconds > 0)
        if self.silence > _MOST_SILENCE:
            raise PeersError(f"{self.leader} leads and has long said nothing; wanted an answer: look at its log")
        if self.silence:  # a share can have come to one who was not there, or who did not lead any more
            yield from self._offer()
        for message in came:
            if not self.over:  # what came with the last share is too late: whoever had the last mean is gone
                yield from self._understand(message)

    def _understand(self, message: Message) -> Steps:
        if message.topic == MEAN:
            yield from self._answered(message)
        elif message.topic == LEADS:
            yield from self._told(message)
        elif self._leads:
            self._enter(message.sender, message)
            yield from self._answer()
        else:
            self.early[message.sender] = message
            yield Send(message.sender, self._claim(), reliable=True)

    def _told(self, message: Message) -> Steps:
        """Hear who leads; of two claims the later term counts, and of one term who is first in order."""
        named, term = message.text, message.round
        if named not in self.order or named not in (yield Peers()):
            return
        if (-term, self.order.index(named)) > (-self.term, self.order.index(self.leader)):
            # Who was gone may believe an older word, and lead itself by the newer one.
            yield Send(message.sender, self._claim(), reliable=True)
            return
        if named == self.peer.name and not self._leads:
            yield from self._take_over(term)
        elif named != self.peer.name:
            self.leader, self.term = named, term
            yield from self._offer()

    def _answer(self) -> Steps:
        """Answer whom can be answered; all, when that was the last."""
        last = self.book.over
        ready = self.peer.names if last else self.book.ready
        if not ready:
            return
        values = self.sieve.mean(self.book.models, max(self.book.cycles.values(), default=0))
        said = self.sieve.said(self.book.models).as_json()
        for name in ready:
            cycle = self.book.held.pop(name, self.book.cycles.get(name, 0))
            told = {"cycles": self.book.cycles, "last": last, "term": self.term, **said}
            text = json.dumps(told, sort_keys=True)
            message = Message(MEAN, cycle, values, text=text, sender=self.peer.name)
            self.since[name] = self.peer.clock()
            self.sieve.sent(name, cycle, values)
            if name == self.peer.name:
                yield from self._answered(message)
            else:
                yield Send(name, message, reliable=True)

    def _answered(self, message: Message) -> Steps:
        """Go on from a mean."""
        told = _read(message.text, self.peer.names)
        if message.values is None or told is None:
            self.peer.refused(message.sender, "a mean without a model, or without the cycles that are in it")
            return
        cycles, last, term, said = told
        if term < self.term:
            return
        if not last and (message.round < self.cycle or self.answered == self.cycle):
            return  # an answer that had been given up
        self.leader, self.term, self.over = message.sender, term, last
        self.cycle = self.answered = max(message.round, self.cycle)
        self.peer.learner.load_vector(message.values)
        self.peer.memory.update(average=message.values, cycles=cycles, leader=self.leader, term=term)
        waited, ahead = self.peer.clock() - self.sent, message.round - min(cycles.values(), default=0)
        numbers = {"waited": waited, "ahead": float(ahead)} if self.peer.trains else {}
        # Who learns nothing has no rounds of its own; what it evaluates is the last model.
        rounds = (self.cycle,) if self.peer.trains else tuple(self.peer.to_do)
        counted = () if said.void else tuple(sorted({*cycles} - {*said.skipped}))
        for round in rounds:
            yield Report(
                round, closed=True, counted=counted, numbers=numbers, skipped=said.skipped, clipped=said.clipped
            )


def _read(text: str, names: Collection[str]) -> tuple[dict[str, int], bool, int, Said] | None:
    """Return whose models of which cycles are in a mean, whether it is the last, its term, and what is said of them.

    Nothing if it is odd.
    """
    try:
        found = parse_json(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.keys() - Said.NAMES != {"cycles", "last", "term"}:
        return None
    cycles, last, term, said = found["cycles"], found["last"], found["term"], Said.of(found, names)
    if not isinstance(cycles, dict) or not isinstance(last, bool) or said is None:
        return None
    sound = all(type(number) is int and 0 <= number < MOST_ROUNDS for number in (*cycles.values(), term))
    return (cycles, last, term, said) if sound and cycles.keys() <= set(names) else None
