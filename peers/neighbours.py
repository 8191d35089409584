"""Models of others that one peer holds all at once: those far off are drawn nearer, or left out, by how far others are.

He, Karimireddy and Jaggi 2022, "Byzantine-robust decentralized learning via ClippedGossip", arXiv 2202.01545: what a
neighbour's model is away from a point that the peer trusts is clipped before it is mixed in. Their radius wants numbers
that nobody has; here it is a multiple of how far the others are away, as a centre has it for sizes of updates. Where
models point, and whether they are alike, says nothing here: all are away from one point, and may well be one model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from computation.federation.screening import Bounds, Screened, State, screen
from computation.strategies import Contribution, Rule
from computation.wire.payload import Vector
from peers.peer import Peer

__all__ = ["clipped", "moves", "near", "sifted"]

_KEPT = "screening"
#: Of the norm of the point: what is nearer than so much is no measure of others, and may be rounding.
_FLOOR = 1e-3
#: Of fewer, no majority says where they should be.
_FEWEST = 3


def moves(peer: Peer, before: Vector) -> dict[str, float]:
    """Return how far a peer's model is from what it was, by part: of the only update that it can be sure of."""
    away = peer.learner.vector().astype(np.float64) - before
    return {part: float(np.linalg.norm(away[where])) for part, where in peer.learner.parts.items()}


def near(peer: Peer, round: int, models: Mapping[str, Vector], before: Vector, bounds: Bounds) -> Screened:
    """Judge models by how far they are from the own one, and write down what comes of it.

    Where nothing is known of others yet, they are held against how far this peer itself has moved in this round.

    Parameters
    ----------
    peer : Peer
        Who does; it remembers what it found in rounds before.
    round : int
        In which.
    models : mapping of numpy.ndarray
        By name.
    before : numpy.ndarray
        The own model before this round's steps.
    bounds : Bounds
        The owner's.
    """
    state = State.from_json(peer.memory[_KEPT]) if _KEPT in peer.memory else State()
    state = state.seeded(peer.others, moves(peer, before))
    those = [Contribution(name, round, "", 1.0, 0.0, values) for name, values in models.items()]
    done = screen(those, peer.learner.vector(), peer.learner.parts, state, _sizes(bounds), _FLOOR)
    peer.memory[_KEPT] = done.state.as_json()
    peer.screened(round, state, done)
    return done


def sifted(peer: Peer, models: Mapping[str, Vector], bounds: Bounds) -> dict[str, Vector]:
    """Return the last models without those far from the middle of all; the same at all peers that hold the same.

    Nothing is remembered, since peers remember different things. Once so far as to be suspect is no reason here: one
    who was gone for long has the model of then.
    """
    if not bounds.any or len(models) < _FEWEST:
        return dict(models)
    names, parts = sorted(models), peer.learner.parts
    middle = Rule("median", byzantine=0).combine([models[name] for name in names], parts=parts)
    those = [Contribution(name, peer.rounds, "", 1.0, 0.0, models[name]) for name in names]
    done = screen(those, middle, parts, State(), replace(_sizes(bounds), suspect=0, rounds=0), _FLOOR)
    peer.screened(peer.rounds, State(), done)
    return {one.site: one.values for one in done.kept}


def clipped(done: Screened) -> tuple[str, ...]:
    """Return whose models were drawn nearer, sorted."""
    return tuple(name for name, finding in sorted(done.findings.items()) if 0 < finding.scale < 1)


def _sizes(bounds: Bounds) -> Bounds:
    return replace(bounds, opposed=0, copies=False, drifted=None)
