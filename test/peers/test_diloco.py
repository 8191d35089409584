"""DiLoCo, written down in plain PyTorch, is federated averaging and gradient averaging where it says it is.

Douillard et al. 2023, "DiLoCo: distributed low-communication training of language models", arXiv 2311.08105, algorithm
1: each worker takes H steps of an inner optimiser of its own; an outer optimiser steps on the mean of how far they
came, the other way.
"""

import numpy as np
import pytest
import torch
from torch import nn

from computation.strategies.fedavg import FedAvg
from computation.strategies.gradient_mean import GradientMean
from peers.engines import virtual
from peers.learners import ModuleLearner
from peers.peer import Peer
from peers.protocols.centred import Centred

ROUNDS, WORKERS = 5, 3
ADAMW = {"cls": torch.optim.AdamW, "lr": 0.02, "weight_decay": 0.1}
SGD = {"cls": torch.optim.SGD, "lr": 0.1}


def network():
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def optimiser(model, chosen):
    return chosen["cls"](model.parameters(), **{key: value for key, value in chosen.items() if key != "cls"})


def batches(worker, steps):
    """Return what yields a worker's batches of a round; no two workers have the same."""

    def of(round):
        stream = torch.Generator().manual_seed(1000 * worker + round)
        for _ in range(steps):
            yield torch.randn(8, 4, generator=stream).double(), torch.randint(0, 3, (8,), generator=stream)

    return of


def diloco(steps, inner, **outer):
    """Return the parameters after all rounds."""
    shared, workers = network(), [network() for _ in range(WORKERS)]
    inners, outside = [optimiser(one, inner) for one in workers], torch.optim.SGD(shared.parameters(), **outer)
    for round in range(1, ROUNDS + 1):
        for index, (model, inside) in enumerate(zip(workers, inners, strict=True)):
            model.load_state_dict(shared.state_dict())
            for inputs, targets in batches(index, steps)(round):
                inside.zero_grad()
                nn.functional.cross_entropy(model(inputs), targets).backward()
                inside.step()
        with torch.no_grad():
            for parameter, *theirs in zip(shared.parameters(), *(one.parameters() for one in workers), strict=True):
                parameter.grad = torch.stack([parameter - one for one in theirs]).mean(0)
        outside.step()
    return nn.utils.parameters_to_vector(shared.parameters()).detach().numpy()


def ours(strategy, steps, inner):
    """Return the parameters at each peer after all rounds."""
    weights, peers = {f"p{index}": 1.0 for index in range(WORKERS)}, []
    for index, name in enumerate(weights):
        model = network()
        loss = nn.functional.cross_entropy
        learner = ModuleLearner(model, optimiser(model, inner), loss, batches(index, steps), name=name)
        peers.append(Peer(name, weights, learner, ROUNDS))
    virtual.run({peer.name: lambda peer=peer: (peer, Centred(strategy)(peer)) for peer in peers})
    return np.stack([peer.learner.vector() for peer in peers])


@pytest.mark.parametrize("inner", [ADAMW, SGD], ids=["adamw", "sgd"])
def test_o29_with_an_outer_rate_of_1_and_no_momentum_it_is_federated_averaging(inner):
    found = ours(FedAvg(), 4, inner)
    assert np.abs(found - diloco(4, inner, lr=1.0)).max() < 1e-12
    assert np.abs(found - diloco(4, inner, lr=0.7, momentum=0.9, nesterov=True)).max() > 1e-3


def test_o29_with_one_inner_step_of_plain_descent_it_is_gradient_averaging():
    expected = diloco(1, SGD, lr=1.0)
    assert np.abs(ours(GradientMean(), 1, SGD) - expected).max() < 1e-12
    assert np.abs(ours(GradientMean(), 1, ADAMW) - diloco(1, ADAMW, lr=1.0)).max() > 1e-3
