"""The same numbers as Flower's strategies come to; oracles/flower.py made them, and says how."""

import json
from pathlib import Path

import numpy as np
import pytest
from hills import Hill

from computation.strategies.base import Contribution
from computation.strategies.fedadagrad import FedAdagrad
from computation.strategies.fedadam import FedAdam
from computation.strategies.fedavg import FedAvg
from computation.strategies.fedavgm import FedAvgM
from computation.strategies.fedyogi import FedYogi

FLOWER = json.loads((Path(__file__).parent / "oracles" / "flower.json").read_text())
RATE, MOMENTUM, TAU = FLOWER["rate"]["others"], FLOWER["momentum"]["others"], FLOWER["tau"]
OURS = {
    "fedavg": FedAvg,
    "fedavgm": lambda: FedAvgM(FLOWER["rate"]["fedavgm"], MOMENTUM),
    "fedadam": lambda: FedAdam(RATE, MOMENTUM, TAU),
    "fedyogi": lambda: FedYogi(RATE, MOMENTUM, TAU),
    "fedadagrad": lambda: FedAdagrad(RATE, FLOWER["momentum"]["fedadagrad"], TAU),
}


@pytest.mark.parametrize("name", OURS)
def test_every_round_is_flowers(name):
    strategy, learner = OURS[name](), Hill(FLOWER["start"])
    for round, (models, wanted) in enumerate(zip(FLOWER["models"], FLOWER["walks"][name], strict=True), 1):
        offered = [
            Contribution(f"s{index}", round, "m", weight, 0.0, np.array(values))
            for index, (values, weight) in enumerate(zip(models, FLOWER["weights"], strict=True))
        ]
        strategy.apply(learner, strategy.combine(offered))
        np.testing.assert_allclose(learner.vector(), wanted, rtol=1e-12, atol=1e-15)
