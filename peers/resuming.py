"""Going on after an interruption: what is written down with every closed round, and from which round all go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from computation.coinstac.node import Folders
from computation.errors import ResumeError
from computation.federation.site import SiteRun
from computation.training import checkpoint
from computation.wire.messages import JoinOffer, Plan
from peers.peer import Peer
from peers.rounds import Rounds

__all__ = ["agreed_run", "chosen", "load", "offers", "run_of", "save"]

#: How the names of arrays that a protocol or the rounds keep begin, beside the site's own.
_MEMORY, _ROUNDS = "memory.", "rounds."


def run_of(folders: Folders, round: int) -> str:
    """Return the name of the run that a checkpoint is of."""
    _, values = checkpoint.load(folders.checkpoints, round)
    return Plan.parse(values["site"]["plan"]).run


def agreed_run(runs: Mapping[str, str], new: str) -> str:
    """Return the name of the run that the peers' checkpoints are of, or the new one where nobody has any.

    Raises
    ------
    ResumeError
        If they are of several.
    """
    held = {name: run for name, run in sorted(runs.items()) if run}
    if len(set(held.values())) > 1:
        have = "; ".join(f"{name}: {run}" for name, run in held.items())
        raise ResumeError(
            f"the peers' checkpoints are of different runs ({have}); give each peer the output folder of one run, or "
            "start it again"
        )
    return next(iter(held.values()), new)


def chosen(rounds: Mapping[str, tuple[int, ...]]) -> int:
    """Return the newest round after which all can go on.

    Raises
    ------
    ResumeError
        If there is none that all have.
    """
    shared = set.intersection(*(set(those) for those in rounds.values()))
    if not shared:
        have = "; ".join(f"{name}: {', '.join(map(str, those))}" for name, those in sorted(rounds.items()))
        raise ResumeError(
            f"the peers have no round in common to go on from ({have}); bring back the output folder of the one that "
            "lacks its checkpoints, or start the run again"
        )
    return max(shared)


def save(site: SiteRun, peer: Peer, rounds: Rounds, rule: str, round: int) -> None:
    """Write down where a peer that follows a rule stands after a round."""
    arrays, state = site.record()
    kept = {name: value for name, value in peer.memory.items() if isinstance(value, np.ndarray)}
    memory = {name: value for name, value in peer.memory.items() if name not in kept}
    vectors, known = rounds.record()
    arrays = {**arrays, **_named(_MEMORY, kept), **_named(_ROUNDS, vectors)}
    offers = {name: offer.as_json() for name, offer in rounds.offers.items()}
    values = {"site": state, "memory": memory, "rounds": known, "offers": offers, "rule": rule}
    checkpoint.save(site.folders.checkpoints, round, arrays, values, keep=site.keep)


def offers(folders: Folders, round: int) -> dict[str, JoinOffer]:
    """Return what each peer brought to the run of a checkpoint."""
    _, values = checkpoint.load(folders.checkpoints, round)
    return {name: JoinOffer.parse(raw) for name, raw in values["offers"].items()}


def load(
    site: SiteRun, peer: Peer, plan: Plan, rule: str, round: int
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Go back to where a peer stood after a round, and return what belongs to its `Rounds`.

    Raises
    ------
    ResumeError
        If the checkpoint is damaged, or of another run than the one that was agreed now.
    """
    arrays, values = checkpoint.load(site.folders.checkpoints, round)
    _expect_same(Plan.parse(values["site"]["plan"]), plan, values["rule"], rule)
    site.trainer.close()
    site.store.close()
    own = {name: array for name, array in arrays.items() if not name.startswith((_MEMORY, _ROUNDS))}
    site.restore(own, values["site"])
    peer.learner, peer.done = site.trainer, round
    peer.memory = {**values["memory"], **_taken(_MEMORY, arrays)}
    return _taken(_ROUNDS, arrays), values["rounds"]


def _expect_same(held: Plan, agreed: Plan, followed: str, rule: str) -> None:
    """Refuse a checkpoint of another plan; versions and devices, which the notes tell of, may have changed."""
    if followed != rule:
        raise ResumeError(f"the run began with the protocol {followed}; it cannot go on with {rule}")
    if replace(held, notes=()) != replace(agreed, notes=()):
        raise ResumeError(
            "the checkpoint in the output folder is of another run, or settings or scans have changed since it began; "
            "put them back, or start this run again in a folder of its own"
        )


def _named(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {f"{prefix}{name}": array for name, array in arrays.items()}


def _taken(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
