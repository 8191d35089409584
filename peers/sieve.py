"""What a leader makes of the shares that come: each is judged before it is in a mean, and the mean is by the rule.

A share is measured from the mean that its sender was to go on from, and told apart from the others by the same code as
a site's at a centre (`computation.federation.screening`). One that is left out is as if its sender had learnt nothing:
it is answered like the others, and has no weight.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from computation.checks import is_text
from computation.federation.screening import Arrivals, Bounds, State
from computation.strategies import Contribution, Rule
from computation.strategies.average import normalised, weighted_mean
from computation.wire.payload import Vector
from peers.mail import unsound
from peers.neighbours import moves
from peers.peer import Peer
from peers.requests import Message

__all__ = ["Said", "Sieve"]

_KEPT = "screening"
#: Characters of a reason.
_LONGEST = 200


@dataclass(frozen=True)
class Said:
    """What a leader says of the shares that are, or are not, in a mean.

    Attributes
    ----------
    skipped : mapping of str
        Why the newest shares of some are not in it.
    clipped : tuple of str
        Those whose newest share was scaled down.
    void : bool
        Whether too few were left for the rule, so that the mean is the one before.
    """

    skipped: Mapping[str, str] = field(default_factory=dict)
    clipped: tuple[str, ...] = ()
    void: bool = False
    NAMES: ClassVar[frozenset[str]] = frozenset({"skipped", "clipped", "void"})

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON; what is as always is not said."""
        everything = {"skipped": dict(self.skipped), "clipped": list(self.clipped), "void": self.void}
        return {name: value for name, value in everything.items() if value}

    @classmethod
    def of(cls, raw: Mapping[str, Any], names: Collection[str]) -> Said | None:
        """Read it back; nothing if it is odd."""
        skipped, clipped, void = raw.get("skipped", {}), raw.get("clipped", []), raw.get("void", False)
        if not isinstance(skipped, dict) or not isinstance(clipped, list) or not isinstance(void, bool):
            return None
        sound = all(isinstance(why, str) and is_text(why, _LONGEST) for why in skipped.values())
        sound = sound and all(isinstance(name, str) for name in clipped)
        return cls(skipped, tuple(clipped), void) if sound and {*skipped, *clipped} <= {*names} else None


class Sieve:
    """A leader's shares.

    Parameters
    ----------
    peer : Peer
        Who leads, or may come to.
    bounds : Bounds
        The owner's, of screening.
    rule : Rule
        How models become one.
    most : int
        Cycles that nobody can have done more of.
    """

    def __init__(self, peer: Peer, bounds: Bounds, rule: Rule, most: int) -> None:
        self.peer, self.bounds, self.rule, self.most = peer, bounds, rule, most
        self._size: dict[str, float] = {}
        self.begin()

    def begin(self) -> None:
        """Begin with what was remembered, if this peer led before, and the size of its own update for a measure."""
        memory, parts = self.peer.memory, self.peer.learner.parts
        state = State.from_json(memory[_KEPT]) if _KEPT in memory else State()
        self._arrivals = Arrivals(parts, self.bounds, state.seeded(self.peer.names, self._size))
        self._last: Vector = memory["average"] if "average" in memory else self.peer.learner.vector()
        self._sent: dict[str, tuple[int, Vector]] = {}
        #: What counts of those who have been judged, and what each goes back to whose share does not.
        self._counted: dict[str, tuple[Vector, float]] = {}
        self._origins: dict[str, Vector] = {}
        self._skipped: dict[str, str] = {}
        self._clipped: set[str] = set()
        self._void = False

    def learnt(self, before: Vector, cycle: int) -> None:
        """Note how far this peer itself has moved in a cycle."""
        moved = moves(self.peer, before)
        self._size = {part: size / self._rate(cycle) for part, size in moved.items()}

    def sent(self, name: str, cycle: int, mean: Vector) -> None:
        """Note from which mean somebody goes on after a cycle: the first that it was sent."""
        if self._sent.get(name, (-1,))[0] != cycle:
            self._sent[name] = cycle, mean

    def take(self, name: str, share: Message) -> Message:
        """Return a share as it may be kept, to be judged before the next mean; one that cannot be has no weight."""
        self._origins[name] = origin = self._sent[name][1] if name in self._sent else self._last
        share, fault = replace(share, round=min(share.round, self.most)), self._fault(name, share)
        if fault and not share.refused:
            self.peer.refused(name, fault)
        if fault or not share.weight:
            self._leave_out(name, f"refused: {fault}"[:_LONGEST] if fault else "")
            return replace(share, values=origin, weight=0.0)
        assert share.values is not None
        if self.bounds.any:
            one = Contribution(name, share.round, str(share.round), share.weight, 0.0, share.values)
            self._arrivals.add(one, origin, self._rate(share.round))
        else:
            self._count(name, share.values, share.weight)
        return share

    def _fault(self, name: str, share: Message) -> str:
        own = self.peer.weights[name]
        if share.round > self.most:
            return f"a share of cycle {share.round}; nobody can have done more than {self.most}"
        if share.weight not in (0, own):
            return f"a share that weighs {share.weight:g}; wanted the {own:g} that it joined with, or 0"
        return unsound(self.peer, share.values)

    def _rate(self, cycle: int) -> float:
        """Return the learning rate of a cycle; 1 where the learner knows none."""
        rate = getattr(self.peer.learner, "rate", None)
        return float(rate(min(cycle, self.peer.rounds))) if callable(rate) else 1.0

    def _count(self, name: str, values: Vector, weight: float) -> None:
        self._counted[name] = values, weight
        self._skipped.pop(name, None)
        self._clipped.discard(name)

    def _leave_out(self, name: str, why: str) -> None:
        self._count(name, self._origins[name], 0.0)
        if why:
            self._skipped[name] = why

    def _judge(self, cycle: int) -> None:
        before = self._arrivals.state
        done = self._arrivals.judge()
        for one in done.kept:
            self._count(one.site, one.values, one.weight)
            if done.findings[one.site].scale < 1:
                self._clipped.add(one.site)
        for name, why in done.refused.items():
            self._leave_out(name, why)
        self.peer.screened(cycle, before, done)
        if self.bounds.any:
            self.peer.memory[_KEPT] = self._arrivals.state.as_json()

    def mean(self, models: Mapping[str, tuple[Vector, float]], cycle: int) -> Vector:
        """Return what the newest models and their weights come to.

        By the weighted mean, of models without any weight the plain one, in the order of names; or by the rule, in
        which each has one voice. Too few for it leave the mean where it was.

        Parameters
        ----------
        models : mapping
            As they came, by name.
        cycle : int
            In which this happens, for whoever reads of it.
        """
        self._judge(cycle)
        found = {name: self._counted.get(name, models[name]) for name in sorted(models)}
        voices = [values for values, weight in found.values() if weight > 0]
        lost = sum(name in self._skipped for name in found)
        self._void = not self.rule.plain and len(voices) < self.rule.needed(lost)
        if not self._void:
            self._last = _weighted([*found.values()]) if self.rule.plain else self._ruled(voices, lost)
        return self._last

    def _ruled(self, voices: list[Vector], lost: int) -> Vector:
        return self.rule.combine(voices, self._last, self.peer.learner.parts, lost)

    def said(self, models: Collection[str]) -> Said:
        """Return what there is to say of the last mean, of those whose models are here."""
        skipped = {name: why for name, why in sorted(self._skipped.items()) if name in models}
        return Said(skipped, tuple(sorted(self._clipped & {*models})), self._void)


def _weighted(models: list[tuple[Vector, float]]) -> Vector:
    weights = [weight for _, weight in models]
    return weighted_mean([values for values, _ in models], normalised(weights if any(weights) else [1.0] * len(models)))
