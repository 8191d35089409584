"""One of the workers whose training time is taken: the loop of `peers.examples.cnn` and a clock."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Subset

from peers.batches import Shuffled
from peers.callbacks import Distributed
from peers.engines import torchrun
from peers.examples import data
from peers.examples.cnn import simple_cnn
from peers.splits import contiguous


def main(told: str) -> None:
    asked = json.loads(told)
    torch.set_num_threads(1)
    digits = data.mnist(Path(asked["data"]))[0] if asked["data"] else data.digits(asked["made"], asked["seed"])
    with torchrun.joined(torchrun.Options(tuple(asked["names"]), asked["collective"])) as group:
        torch.manual_seed(asked["seed"])
        parts = contiguous(len(digits), len(group.names))
        steps = -(-max(map(len, parts)) // asked["batch"])
        own = Subset(digits, parts[group.rank].tolist())
        batches = Shuffled(own, asked["batch"], asked["seed"], group.name, steps)
        model = simple_cnn()
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        distributed = Distributed(model, optimizer, group)
        distributed.on_train_begin()
        began = time.perf_counter()
        for epoch in range(1, asked["epochs"] + 1):
            for pictures, labels in batches(epoch):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(pictures), labels)
                loss.backward()
                distributed.on_batch_end(loss, len(labels))
            pooled = distributed.on_epoch_end()
        seconds = time.perf_counter() - began
        if group.rank == 0:
            row = {
                "samples": len(digits),
                "steps": steps,
                "seconds": round(seconds, 3),
                "loss": round(pooled["loss"], 5),
            }
            Path(asked["result"]).write_text(json.dumps(row))


if __name__ == "__main__":
    main(sys.argv[1])
