"""A small convolutional network for digits, learnt by several processes: an ordinary loop and five lines.

::

    torchrun --nproc-per-node 2 -m peers.examples.cnn
    torchrun --nproc-per-node 2 -m peers.examples.cnn --data MNIST-FOLDER

The network is that of S. Raja's thesis on ring all-reduce (2019): 1,199,882 parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.data import Subset

from peers.batches import Shuffled
from peers.callbacks import Distributed
from peers.engines import torchrun
from peers.examples import data, options
from peers.splits import contiguous

__all__ = ["main", "simple_cnn"]


def simple_cnn(classes: int = 10) -> nn.Sequential:
    """Return the network: `(N, 1, 28, 28)` to `(N, classes)`, before the softmax."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(64 * 12 * 12, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, classes),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Learn digits, and print each epoch's pooled loss and accuracy."""
    asked = options.parse(__doc__, arguments, epochs=2, batch=32, rate=0.05, count=2000)
    digits = data.mnist(asked.data)[0] if asked.data else data.digits(asked.count, asked.seed)
    with torchrun.joined(options.group()) as group:  # 1
        torch.manual_seed(asked.seed + group.rank)
        # Every peer has its own part and as many batches as the largest part fills: who runs out begins anew.
        parts = contiguous(len(digits), len(group.names))
        steps = -(-max(map(len, parts)) // asked.batch)
        own = Subset(digits, parts[group.rank].tolist())
        batches = Shuffled(own, asked.batch, asked.seed, group.name, steps)
        model = simple_cnn()
        optimizer = torch.optim.SGD(model.parameters(), asked.rate)
        distributed = Distributed(model, optimizer, group)  # 2
        distributed.on_train_begin()  # 3
        for epoch in range(1, asked.epochs + 1):
            right = seen = 0
            for pictures, labels in batches(epoch):
                optimizer.zero_grad()
                scores = model(pictures)
                loss = nn.functional.cross_entropy(scores, labels)
                loss.backward()  # type: ignore[no-untyped-call]
                distributed.on_batch_end(loss, len(labels))  # 4
                right, seen = right + int((scores.argmax(1) == labels).sum()), seen + len(labels)
            told = distributed.on_epoch_end(accuracy=right / seen)  # 5
            if group.rank == 0:
                print(f"epoch {epoch}: loss {told['loss']:.4f}, accuracy {told['accuracy']:.4f}", flush=True)


if __name__ == "__main__":
    main()
