"""What screening makes of real updates: whom it names and when, and how near it comes to a site that did nothing wrong.

Run: `.venv/bin/python -m benchmarks.screened --data FOLDER [--rounds 200]`. Four honest sites of
the OASIS benchmark train at 3 mm; beside them each attack of `poison` is screened on the updates that they offer, as if
it had been there from the first round on: in the place of the last site, or as a fifth that knows the others' updates.
The training itself is not attacked, so this says nothing of Dice (`attacks` does). Prints one table and adds to
benchmarks/results/screened.csv. The bar: no honest site is refused.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.oasis import arms, effects, ledger
from benchmarks.oasis.clock import Watch
from benchmarks.oasis.effects import SITES
from benchmarks.oasis.options import RESULTS, commit
from benchmarks.oasis.prepare import prepare
from benchmarks.poison import ATTACKS, Seen
from computation.federation import screening
from computation.settings import Settings
from computation.strategies import Contribution, named
from computation.wire.payload import Vector

#: Local steps between two averages.
STEPS = {"gradient-mean": 1, "fedavg": 4}
#: Attacks that know the other sites' updates, and come as a site more.
KNOWING = ("ALIE", "ALIE less", "inner product", "mimic")
#: What is refused before anything is screened, and what needs a training of its own.
ELSEWHERE = ("NaN", "Inf", "labels")
SCREENED = [attack for attack in ATTACKS if attack not in ELSEWHERE]
FIFTH = "site4"


@dataclass
class Case:
    """One attack, and what screening found so far: of the attacker, or where there is none of whoever is refused."""

    attack: str
    state: screening.State = field(default_factory=screening.State)
    told: list[str] = field(default_factory=list)
    honest: int = 0
    account: float = 0.0
    drift: float = 0.0
    cosines: list[float] = field(default_factory=list)
    first: Vector | None = None

    @property
    def attacker(self) -> str:
        """Whose updates are not honest; nobody's where there is no attack."""
        if self.attack == "none":
            return ""
        return FIFTH if self.attack in KNOWING else SITES[-1]

    def screen(self, offers: Sequence[Contribution], origin: Vector, parts: Mapping[str, slice]) -> None:
        """Screen one round with this attack in it."""
        done = screening.screen(self._attacked(offers, origin), origin, parts, self.state, BOUNDS)
        self.state = done.state
        self.told.append(done.refused.get(self.attacker or next(iter(done.refused), ""), ""))
        self.honest += sum(site != self.attacker for site in done.refused)
        accounts = (value for site, value in done.state.opposed.items() if site != self.attacker)
        self.account = max([self.account, *accounts])
        drifts = (finding.drift for site, finding in done.findings.items() if site != self.attacker)
        self.drift = max([self.drift, *drifts])
        if self.attacker in done.findings:
            self.cosines.append(done.findings[self.attacker].cosine)

    def _attacked(self, offers: Sequence[Contribution], origin: Vector) -> list[Contribution]:
        if not self.attacker:
            return list(offers)
        *others, last = offers
        wide = [offer.values.astype(np.float64) for offer in offers]
        self.first = wide[-1] if self.first is None else self.first
        seen = Seen(last.round, origin.astype(np.float64), wide[-1], wide, self.first)
        values = ATTACKS[self.attack](seen).astype(last.values.dtype)
        poison = replace(last, site=self.attacker, values=values)
        return [*offers, poison] if self.attacker == FIFTH else [*others, poison]


BOUNDS = screening.Bounds.of(Settings(drifted_above=0.7))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with subjects.csv")
    parser.add_argument("--work", type=Path, help="folder that keeps the imported databases; default: thrown away")
    parser.add_argument("--spacing", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--effects", nargs="+", default=["none", "scanner", "unequal"], choices=effects.EFFECTS)
    parser.add_argument("--strategies", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--attacks", nargs="+", default=SCREENED, choices=SCREENED)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for effect in options.effects:
            for strategy in options.strategies:
                rows += _rows(options, options.work or Path(folder), effect, strategy)
    ledger.append(RESULTS / "screened.csv", rows, ("effect", "strategy", "attack", "commit"))
    return int(any(row["honest_refused"] for row in rows))


def _rows(options: argparse.Namespace, work: Path, effect: str, strategy: str) -> list[dict[str, Any]]:
    bench = prepare(options.data, work, options.spacing, effect, "quantile")
    steps = STEPS[strategy]
    try:
        training = arms.Training(
            bench=bench,
            changes={"patch_size": 32, "strategy": strategy, "local_steps": steps},
            seed=0,
            batches=options.rounds * steps,
            watch=Watch(f"{effect} {strategy}"),
        )
        cases = [Case(attack) for attack in options.attacks]
        _train(training, cases)
    finally:
        bench.close()
    found = [_row(effect, strategy, case) for case in cases]
    for row in found:
        print("  ".join(str(value) for value in row.values()), flush=True)
    return found


def _train(training: arms.Training, cases: Sequence[Case]) -> None:
    """Train honestly, and screen every case on what is offered."""
    settings = training.settings()
    strategy, rounds = named(settings), training.rounds(settings)
    with ExitStack() as opened:
        trainers = arms.opened_trainers(training, settings, opened)
        learner = trainers[SITES[0]]
        for number in range(1, rounds + 1):
            origin, offers = strategy.origin(learner), arms.offered(trainers, strategy, number)
            for case in cases:
                case.screen(offers, origin, learner.parts)
            combined = strategy.combine(offers)
            for trainer in trainers.values():
                strategy.apply(trainer, combined)
            training.watch.tell(number / rounds, f"round {number} of {rounds}, loss {combined.loss:.3f}")


def _row(effect: str, strategy: str, case: Case) -> dict[str, Any]:
    return {
        "effect": effect,
        "strategy": strategy,
        "attack": case.attack,
        "rounds": len(case.told),
        "first": next((number for number, word in enumerate(case.told, 1) if word), ""),
        "reasons": " ".join(sorted({word for word in case.told if word})),
        "honest_refused": case.honest,
        "honest_account": round(case.account, 2),
        "honest_drift": round(case.drift, 2),
        "attacker_cosine": round(float(np.mean(case.cosines)), 2) if case.cosines else "",
        "commit": commit(),
    }


if __name__ == "__main__":
    sys.exit(main())
