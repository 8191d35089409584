"""The arms that are the product's own: its strategies and trainers, driven without COINSTAC in one process.

- `gradient-mean`, `fedavg`: four sites, each round weighted as the settings say. Federated averaging makes eight local
  steps between two averages, unless the settings say otherwise, and as many fewer rounds.
- `dp-8` and its kin: `gradient-mean` with differential privacy of each scan, the noise as little as lets all rounds be
  within the epsilon of the name.
- `pooled`: one machine with everybody's scans.
- `single`, `single-own`: each site alone; a row for each test person and site.

All but `single-own` learn from as many sub-volumes a step: four sites with one each, or one machine with four. Sites of
unequal size bring as many each as the product gives them (`portions`), and one machine the sum. In `single-own` a site
does what it does in the federation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.oasis.clock import Spent, Watch
from benchmarks.oasis.effects import SITES
from benchmarks.oasis.outcome import Outcome, Point, compare
from benchmarks.oasis.prepare import Bench
from computation.federation import portions, screening
from computation.model import architecture, network
from computation.scans.store.opening import Store
from computation.scans.store.records import Scan
from computation.settings import Settings, parse
from computation.strategies import Contribution, Ground, Strategy, named
from computation.training import inference
from computation.training.metrics import mean
from computation.training.privacy import accountant, mechanism
from computation.training.privacy.secret import Secret
from computation.training.trainer import Trainer
from computation.wire import payload

#: Local steps of federated averaging where the settings name none.
_LOCAL_STEPS = 8
_POOLED = "pooled"
#: Norm of a scan's gradient under differential privacy; about what one has early in a training.
_CLIP = 0.3


@dataclass(kw_only=True)
class Training:
    """All that an arm is given.

    Attributes
    ----------
    bench : Bench
        The data.
    changes : dict
        Settings other than the product's defaults.
    seed : int
        Of every draw.
    batches : int
        That a site works through on average: the rounds where a round is one batch.
    watch : Watch
        Times it.
    budget : float
        Seconds of training, for the arms that go by the clock.
    device : str
        As a member's setting.
    every : int
        Rounds between two points of the learning curve; 0 is none.
    curve : list of Point
        Filled on the way.
    """

    bench: Bench
    changes: dict[str, Any]
    seed: int
    batches: int
    watch: Watch
    budget: float = 0.0
    device: str = "cpu"
    every: int = 0
    curve: list[Point] = field(default_factory=list)

    def settings(self, **arm: Any) -> Settings:
        """Return the product's settings with the run's changes, then the arm's."""
        settings, _ = parse({**self.changes, "seed": self.seed, **arm})
        return settings

    def portions(self, settings: Settings) -> dict[str, int]:
        """Return the batches of each site in a round, by the rule of the product's centre."""
        return portions.batches(settings, {site: len(store.scans("train")) for site, store in self.bench.sites.items()})

    def rounds(self, settings: Settings) -> int:
        """Return the rounds of the federated arms, and the steps of one machine beside them."""
        return max(1, self.batches // settings.local_steps)


def gradient_mean(training: Training) -> list[Outcome]:
    """Average gradients."""
    return federated(training, training.settings(strategy="gradient-mean"))


def fedavg(training: Training) -> list[Outcome]:
    """Average models."""
    steps = training.changes.get("local_steps", _LOCAL_STEPS)
    return federated(training, training.settings(strategy="fedavg", local_steps=steps))


def private(training: Training, epsilon: float) -> list[Outcome]:
    """Average gradients with differential privacy, in as many rounds as without."""
    asked = {"strategy": "gradient-mean", "dp": True, "dp_clip": _CLIP, "dp_epsilon": epsilon}
    settings = training.settings(**asked)
    portion, rounds = training.portions(settings), training.rounds(settings)
    chances = (mechanism.rate(len(training.bench.sites[site].scans("train")), portion[site]) for site in SITES)
    noise = accountant.least_noise(max(chances), rounds, epsilon, settings.dp_delta)
    print(f"  epsilon {epsilon:g} in {rounds} rounds: noise of {noise:.3f} times the largest gradient", flush=True)
    return federated(training, training.settings(**asked, dp_noise=noise))


def federated(training: Training, settings: Settings) -> list[Outcome]:
    """Drive the product's strategy and trainers; every site ends with the same model, so one is tested."""
    rounds = training.rounds(settings)
    with ExitStack() as opened:
        trainers = opened_trainers(training, settings, opened)
        learner = trainers[SITES[0]]
        screened, found = screening.State(), list[screening.Finding]()
        training.watch.start()
        for number in range(1, rounds + 1):
            loss, done = _round(trainers, settings, number, screened)
            screened = done.state
            found.extend(done.findings.values())
            _look(training, list(trainers.values()), number, rounds, loss)
        spent = training.watch.spent
        if len({trainer.digest() for trainer in trainers.values()}) != 1:
            raise RuntimeError(f"after {rounds} rounds of {settings.strategy} the sites' models are not the same")
    one = payload.length(learner.manifest, learner.dtype)
    steps = rounds * (settings.local_steps if settings.strategy == "fedavg" else 1)
    # The initial model comes first; then a contribution goes and a combination comes in every round.
    outcome = _outcome("", learner, spent, steps, rounds, rounds * one, (1 + rounds) * one)
    touched = sum(finding.scale < 1 for finding in found)
    return [replace(outcome, multiple=max(finding.multiple for finding in found), touched=touched)]


def _round(
    trainers: dict[str, Trainer], settings: Settings, number: int, state: screening.State
) -> tuple[float, screening.Screened]:
    strategy, learner = named(settings), trainers[SITES[0]]
    origin = strategy.origin(learner)
    offers = offered(trainers, strategy, number)
    done = screening.screen(offers, origin, learner.parts, state, screening.Bounds.of(settings))
    combined = strategy.combine(done.kept, Ground(origin, learner.parts, len(done.refused)))
    for trainer in trainers.values():
        strategy.apply(trainer, combined)
    return combined.loss, done


def offered(trainers: dict[str, Trainer], strategy: Strategy, number: int) -> list[Contribution]:
    """Return what each site offers in a round."""
    offers = []
    for site, trainer in trainers.items():
        values, loss, samples = strategy.contribute(trainer, number)
        # The rule of the product's centre.
        weight = {"scans": trainer.samples, "samples": samples, "equal": 1}[trainer.settings.weighting]
        offers.append(Contribution(site, number, trainer.digest(), weight, loss, values))
    return offers


def pooled(training: Training) -> list[Outcome]:
    """Train one machine on everybody's scans."""
    return [_alone(training, _POOLED)]


def single(training: Training, site: str) -> list[Outcome]:
    """Train a site alone, with as many sub-volumes a step as all sites together have."""
    return [_alone(training, site)]


def single_own(training: Training, site: str) -> list[Outcome]:
    """Train a site alone, with the sub-volumes that it has in the federation."""
    return [_alone(training, site, (site,))]


def _alone(training: Training, site: str, work: Sequence[str] = SITES) -> Outcome:
    """Train one machine with the batches that the sites of `work` have in the federation."""
    settings = training.settings(strategy="gradient-mean")
    rounds, portion = training.rounds(settings), training.portions(settings)
    with ExitStack() as opened:
        trainer = _trainer(training, settings, rounds, site, sum(portion[one] for one in work), opened)
        training.watch.start()
        for number in range(1, rounds + 1):
            gradient = trainer.gradient(number)
            trainer.apply_gradient(gradient.vector, number)
            training.watch.tell(number / rounds, f"{site} step {number} of {rounds}, loss {gradient.loss:.3f}")
        spent = training.watch.spent
    return _outcome("" if site == _POOLED else site, trainer, spent, rounds, rounds, 0, 0)


def opened_trainers(training: Training, settings: Settings, opened: ExitStack) -> dict[str, Trainer]:
    """Return each site's trainer, all with the same model."""
    rounds, portion = training.rounds(settings), training.portions(settings)
    trainers = {site: _trainer(training, settings, rounds, site, portion[site], opened) for site in SITES}
    for trainer in trainers.values():
        trainer.load_vector(trainers[SITES[0]].vector())
    return trainers


def _trainer(
    training: Training, settings: Settings, rounds: int, site: str, batches: int, opened: ExitStack
) -> Trainer:
    store = training.bench.pooled if site == _POOLED else training.bench.sites[site]
    wanted = architecture.from_settings(settings)
    trainer = Trainer(wanted, settings, rounds, store=store, site=site, device=training.device, batches=batches)
    if settings.dp:
        secret = Secret(Path(opened.enter_context(tempfile.TemporaryDirectory())))
        noise = mechanism.Noise.of(settings, trainer.samples, batches)
        trainer.privacy = mechanism.Mechanism(noise, secret, "benchmark", rounds)
    return opened.enter_context(closing(trainer))


def _outcome(site: str, trainer: Trainer, spent: Spent, steps: int, rounds: int, sent: int, received: int) -> Outcome:
    settings, model = trainer.settings, trainer.model

    def shares(store: Store, scan: Scan) -> NDArray[np.float32]:
        image, tile = store.read_image(scan, (0, 0, 0), scan.shape), inference.learnt_tile(settings)
        return inference.probabilities(model, image, precision=settings.precision, tile=tile).numpy()

    return Outcome(site, shares, spent, rounds, steps, sent, received, network.parameter_count(model))


def _look(training: Training, trainers: list[Trainer], number: int, rounds: int, loss: float) -> None:
    training.watch.tell(number / rounds, f"round {number} of {rounds}, loss {loss:.3f}")
    if not training.every or (number % training.every and number != rounds):
        return
    seconds = training.watch.seconds
    with training.watch.held():
        dices = [person for trainer in trainers for person in _validation(trainer)]
        point = Point(number, seconds, loss, tuple(mean(values) for values in zip(*dices, strict=True)))
    training.curve.append(point)
    shown = " ".join(f"{value:.3f}" for value in point.dices if value is not None)
    print(f"  {training.watch.name}: round {number}, {seconds:.0f} s, validation Dice {shown}", flush=True)


def _validation(trainer: Trainer) -> list[tuple[float | None, ...]]:
    """Return the Dice of each class for each of a site's validation people."""
    found = compare(lambda _, scan: trainer.predict(scan), trainer.store, "valid", trainer.architecture.classes)
    return list(found.values())
