"""MeshFL's way of learning, written from a description of it alone: own steps, and one with a shared gradient.

In each round a site passes over its scans, a whole volume at a time, and steps its own optimiser after each. Then the
gradients of the last volumes are averaged over the sites, and every site steps once more with the average. Weights are
never averaged. Adam at 5e-4 with a one-cycle course, cross-entropy with class weights 0.2, 1 and 0.8 and label
smoothing 0.01. `meshfl` has the time of the gradient-mean arm, `meshfl-10x` ten times that.

As it runs, both of its sites hold the same data; here each site has its own, which is the case that federated learning
is for, and all start from one model. Where the description leaves a choice: the network is that of `peer`, five
channels and batch normalisation whose statistics stay at each site; scans are normalised as for the product; the course
follows the clock, with a rise over a tenth of the time. Each site's model labels the test people, and whether the sites
hold one model is said: the largest difference between any two.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor, nn

from benchmarks.oasis import peer
from benchmarks.oasis.arms import Training
from benchmarks.oasis.effects import SITES
from benchmarks.oasis.outcome import Outcome

__all__ = ["RECIPE", "WEIGHTS", "Site", "apart", "train"]

RECIPE = replace(peer.INTENDED, rate=5e-4, weighted=False)
WEIGHTS = (0.2, 1.0, 0.8)
_BYTES = 4


class Site(peer.Site):
    """One site: as the prototype's, with another optimiser and loss, and steps of its own."""

    def __init__(self, name: str, training: Training) -> None:
        super().__init__(name, RECIPE, training, 0)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=RECIPE.rate)  # type: ignore[assignment]
        weights = torch.tensor(WEIGHTS, device=self.device)
        self.loss = nn.CrossEntropyLoss(weight=weights, label_smoothing=RECIPE.smoothing)
        self._seen = 0

    def epoch(self, rate: float) -> tuple[list[Tensor], float]:
        """Step after each volume; return the last gradient, and the last loss."""
        for _ in range(self.samples):
            gradient, loss = self.gradient(self._seen)
            self.apply(gradient, rate)
            self._seen += 1
        return gradient, loss


def train(training: Training) -> list[Outcome]:
    """Learn until the time is used up, and return each site's model."""
    with ExitStack() as opened:
        sites = [opened.enter_context(closing(Site(name, training))) for name in SITES]
        watch, rounds = training.watch, 0
        watch.start()
        while not rounds or watch.seconds < training.budget:
            rate = peer.rate_at(RECIPE, watch.seconds / training.budget)
            offers = [site.epoch(rate) for site in sites]
            shared = peer.averaged([gradient for gradient, _ in offers], [1] * len(sites))
            for site in sites:
                site.apply(shared, rate)
            rounds += 1
            loss = sum(value for _, value in offers) / len(offers)
            watch.tell(min(1, watch.seconds / training.budget), f"round {rounds}, loss {loss:.3f}")
        spent = watch.spent
    print(f"  {watch.name}: any two sites' weights differ by up to {apart(sites):.3g}", flush=True)
    count = sum(parameter.numel() for parameter in sites[0].model.parameters())
    sent = rounds * count * _BYTES
    return [
        Outcome(site.name, site.shares, spent, rounds, rounds * (site.samples + 1), sent, sent, count) for site in sites
    ]


def apart(sites: list[Site]) -> float:
    """Return the largest difference of a weight between any two sites; 0 if all hold one model."""
    vectors = [nn.utils.parameters_to_vector(site.model.parameters()).detach().cpu() for site in sites]
    return max(float((one - other).abs().max()) for one, other in combinations(vectors, 2))
