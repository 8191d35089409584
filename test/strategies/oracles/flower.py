"""Make flower.json: what Flower's strategies come to on the same numbers. Run by hand; nothing else needs Flower.

    pip install flwr==1.42.0
    python test/strategies/oracles/flower.py

Two things are made equal before, as the paper (Reddi et al. 2021, arXiv 2003.00295, algorithm 2) has them: the second
moments begin at tau squared and not at zero, and FedAdam's rate is not corrected for moments that began at zero, which
Flower does with the powers of the round plus one.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi
from flwr.supercore.task_identity import TaskIdentity

SIZE, ROUNDS, WEIGHTS = 9, 6, (1.0, 2.0, 5.0)
RATE, MOMENTUM, TAU, BETA2 = 0.05, 0.9, 1e-3, 0.99
ADAPTIVE = {"eta": RATE, "tau": TAU}
STRATEGIES = {
    "fedavg": FedAvg(),
    "fedavgm": FedAvgM(server_learning_rate=0.5, server_momentum=MOMENTUM),
    "fedadam": FedAdam(**ADAPTIVE, beta_1=MOMENTUM, beta_2=BETA2),
    "fedyogi": FedYogi(**ADAPTIVE, beta_1=MOMENTUM, beta_2=BETA2),
    "fedadagrad": FedAdagrad(**ADAPTIVE),
}


def reply(values, weight):
    """Return a site's answer."""
    content = {"arrays": ArrayRecord({"x": Array(values)}), "metrics": MetricRecord({"num-examples": weight})}
    return Message(content=RecordDict(content), dst_node_id=1, message_type="train")


def prepare(strategy, values, round):
    """Bring a strategy to the beginning of a round."""
    record = ArrayRecord({"x": Array(values)})
    strategy.current_arrays = record if isinstance(strategy, FedAvgM) else {"x": values}
    if round == 1:
        strategy.v_t = {"x": np.full(SIZE, TAU * TAU)}
    if isinstance(strategy, FedAdam):
        strategy.eta = RATE * (1 - MOMENTUM ** (round + 1)) / np.sqrt(1 - BETA2 ** (round + 1))


def main() -> None:
    """Write the file beside this one."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    chance = np.random.default_rng(20)
    start = chance.normal(size=SIZE)
    # Sites that drift somewhere, in coordinates of very different sizes.
    models = start + chance.normal(size=(ROUNDS, len(WEIGHTS), SIZE)) * 10.0 ** np.linspace(-5, 1, SIZE)
    walks = {}
    for name, strategy in STRATEGIES.items():
        values, walk = start, []
        for round, offered in enumerate(models, 1):
            prepare(strategy, values, round)
            record, _ = strategy.aggregate_train(round, [reply(*one) for one in zip(offered, WEIGHTS, strict=True)])
            values = record["x"].numpy()
            walk.append(values.tolist())
        walks[name] = walk
    told = {
        "flwr": version("flwr"),
        "numpy": version("numpy"),
        "rate": {"fedavgm": 0.5, "others": RATE},
        "momentum": {"fedadagrad": 0.0, "others": MOMENTUM},
        "tau": TAU,
        "weights": WEIGHTS,
        "start": start.tolist(),
        "models": models.tolist(),
        "walks": walks,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
