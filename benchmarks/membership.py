"""Can somebody who holds the trained model tell whose scan it was trained on? Membership inference at the demo's size.

Run: `.venv/bin/python -m benchmarks.membership [--models 12] [--rounds 300]`. Of 16 people made from the template each
model learns from a random half, as the sites of the demo do together: one gradient a round over sub-volumes of four
scans, stepped by the product's learner. Two attacks say for each model and person whether the person was in it:

- `loss`: the model's loss on the whole scan, a low one being a member's (Yeom et al. 2018, arXiv 1709.01604);
- `ratio`: that loss against the losses of the other models, which did or did not learn from the person, as two normal
  distributions (the likelihood-ratio attack of Carlini et al. 2022, arXiv 2112.03570, with few shadow models).

With `--dp` the gradient of each drawn scan is bounded and noise is added to their sum, as setting `dp` does. Prints one
table and adds its rows to benchmarks/results/membership.csv. An area of 0.5 is guessing.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.oasis import ledger
from computation.model import architecture, vector
from computation.scans.store.opening import open_store
from computation.settings import Settings, parse
from computation.training import loss
from computation.training.learner import Learner
from computation.training.privacy.accountant import epsilon
from computation.training.privacy.mechanism import bounded
from sqlite_fixtures.build import Subjects, build

PEOPLE, DRAWN = 16, 4
RESULTS = Path(__file__).parent / "results" / "membership.csv"
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Person:
    """A whole scan and its labels."""

    image: NDArray[np.float32]
    label: NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--dp", type=float, nargs="*", default=[], metavar="NOISE", help="noise multipliers, too")
    parser.add_argument("--spacing", type=float, default=3.0)
    parser.add_argument("--side", type=int, default=32, help="of a sub-volume")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        people = _people(Path(folder), options.spacing)
    rows = [_row(people, options, noise) for noise in (0.0, *options.dp)]
    ledger.append(RESULTS, rows)


def _people(folder: Path, spacing: float) -> list[Person]:
    (path,) = build(folder, sites=1, subjects=Subjects(PEOPLE, 0, 0), spacing_mm=spacing)
    with open_store(path) as store:
        scans = [(scan, (0, 0, 0), scan.shape) for scan in store.scans("train")]
        return [Person(store.read_image(*where), store.read_label(*where).astype(np.int64)) for where in scans]


def _row(people: list[Person], options: argparse.Namespace, noise: float) -> dict[str, Any]:
    settings = parse({"model": "meshnet-10x5", "patch_size": options.side})[0]
    chance = np.random.default_rng(1)
    inside = np.stack([chance.permutation(PEOPLE) < PEOPLE // 2 for _ in range(options.models)])
    losses = np.stack([_losses(people, settings, options.rounds, n, inside[n], noise) for n in range(options.models)])
    found = {"loss": -losses, "ratio": _ratios(losses, inside)}
    row: dict[str, Any] = {
        "noise": noise,
        "epsilon": _epsilon(noise, options.rounds),
        "spacing_mm": options.spacing,
        "side": options.side,
        "rounds": options.rounds,
        "models": options.models,
        "loss_in": round(float(losses[inside].mean()), 4),
        "loss_out": round(float(losses[~inside].mean()), 4),
    }
    for name, scores in found.items():
        row[f"{name}_auc"] = round(_area(scores[inside], scores[~inside]), 3)
        row[f"{name}_spread"] = round(_spread(scores, inside), 3)
        row[f"{name}_found_at_5"] = round(float((scores[inside] > np.quantile(scores[~inside], 0.95)).mean()), 3)
    print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    return row


def _losses(
    people: list[Person], settings: Settings, rounds: int, seed: int, inside: NDArray[np.bool_], noise: float
) -> Floats:
    """Train one model on those inside, and return its loss on each person's whole scan."""
    learner = Learner(architecture.from_settings(settings), settings, rounds)
    members, chance = [people[place] for place in np.flatnonzero(inside)], np.random.default_rng([2, seed])
    for number in range(1, rounds + 1):
        mean = _private(learner, members, chance, noise) if noise else _mean(learner, members, chance)
        learner.apply_gradient(mean.astype(learner.dtype), number)
    judge = loss.criterion(settings)
    model = learner.model.eval()
    with torch.no_grad():
        tensors = [(torch.from_numpy(one.image[None, None]), torch.from_numpy(one.label[None])) for one in people]
        return np.array([float(judge(model(image), label)) for image, label in tensors])


def _mean(learner: Learner, members: list[Person], chance: np.random.Generator) -> Floats:
    drawn = chance.choice(len(members), DRAWN, replace=False)
    gradients = [_gradient(learner, members[place], chance) for place in drawn]
    return np.mean(gradients, axis=0, dtype=np.float64)


def _private(learner: Learner, members: list[Person], chance: np.random.Generator, noise: float) -> Floats:
    """Return the noisy mean of a Poisson draw, with a public divisor."""
    drawn = np.flatnonzero(chance.random(len(members)) < DRAWN / len(members))
    total = noise * chance.normal(size=learner.manifest.size)
    for place in drawn:
        total += bounded(_gradient(learner, members[place], chance), 1.0)
    return np.asarray(total / DRAWN)


def _gradient(learner: Learner, person: Person, chance: np.random.Generator) -> NDArray[Any]:
    """Return the gradient of one sub-volume around a voxel of the head."""
    where, side = chance.choice(np.flatnonzero(person.label)), learner.settings.patch_size[0]
    corner = np.clip(np.unravel_index(where, person.label.shape) - np.int64(side // 2), 0, person.label.shape[0] - side)
    here = tuple(slice(int(low), int(low) + side) for low in corner)
    model = learner.model.train()
    model.zero_grad(set_to_none=True)
    image, label = np.ascontiguousarray(person.image[here]), np.ascontiguousarray(person.label[here])
    scores = model(torch.from_numpy(image[None, None]))
    loss.criterion(learner.settings)(scores, torch.from_numpy(label[None])).backward()  # type: ignore[no-untyped-call]
    return vector.gradient(model)


def _ratios(losses: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Return for each model and person how much likelier the loss is if the person was in it, by the other models."""
    scores = np.zeros_like(losses)
    for target in range(len(losses)):
        others = np.arange(len(losses)) != target
        for person in range(losses.shape[1]):
            seen, member = losses[others, person], inside[others, person]
            if not 1 < member.sum() < len(seen) - 1:
                continue
            high, low = seen[~member], seen[member]
            deviation = np.sqrt((high.var() * len(high) + low.var() * len(low)) / (len(seen) - 2)) + 1e-12
            far, near = losses[target, person] - high.mean(), losses[target, person] - low.mean()
            scores[target, person] = (far**2 - near**2) / (2 * deviation**2)
    return scores


def _area(members: Floats, others: Floats) -> float:
    """Return the chance that a member's score is above another's: the area under the attack's curve."""
    above = (members[:, None] > others[None]).mean() + 0.5 * (members[:, None] == others[None]).mean()
    return float(above)


def _spread(scores: Floats, inside: NDArray[np.bool_]) -> float:
    """Return the standard error of the area, by drawing models anew."""
    chance = np.random.default_rng(3)
    draws = [chance.integers(0, len(scores), len(scores)) for _ in range(200)]
    return float(np.std([_area(scores[draw][inside[draw]], scores[draw][~inside[draw]]) for draw in draws]))


def _epsilon(noise: float, rounds: int) -> str:
    if not noise:
        return "none"
    return f"{epsilon(noise, DRAWN / (PEOPLE // 2), rounds, 1e-5):.1f}"


if __name__ == "__main__":
    main()
