"""What a seed stands for: the run, and the faults that befall it."""

import random
from dataclasses import dataclass

#: Faults after which nothing must be different: who is hit, and where.
HARMLESS = ("kill", "kill-before", "kill-after", "again", "packed", "torn")
#: Faults that cost a site its round: its file does not arrive as it was.
FILES = ("lost", "truncated", "flipped", "longer", "emptied", "stale", "another's", "failed")
#: Faults after which the run must stop and say why.
ENDING = ("garbled", "cut", "stale-message", "full", "full-resumed", "file-from-centre", "message-from-centre")

CENTRE = "remote"


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes
    ----------
    kind : str
        What happens.
    iteration : int
        When, counted as COINSTAC counts.
    client : str
        To whom.
    number : int
        Where: a file operation, a byte.
    """

    kind: str
    iteration: int
    client: str
    number: int


@dataclass(frozen=True)
class Scenario:
    """A run and its faults.

    Attributes
    ----------
    seed : int
        That all of it was drawn from.
    sites : tuple of str
        Their names.
    settings : dict
        That differ from the short run's.
    faults : tuple of Fault
        In order.
    """

    seed: int
    sites: tuple
    settings: dict
    faults: tuple

    def at(self, client, iteration, *kinds):
        """Return the faults of some kinds that befall a node in an iteration."""
        return [one for one in self.faults if (one.client, one.iteration) == (client, iteration) and one.kind in kinds]

    @property
    def harmless(self):
        """Whether the run must end as if nothing had been."""
        return all(one.kind in (*HARMLESS, "full-resumed") for one in self.faults)


def drawn(seed):
    """Return the scenario of a seed."""
    dice = random.Random(seed)
    sites = tuple(f"local{index}" for index in range(dice.choice((2, 3, 3, 4))))
    epochs = dice.randint(2, 4)
    settings = {
        "epochs": epochs,
        "batches": "equal",
        "strategy": dice.choice(("gradient-mean", "gradient-mean", "fedavg")),
        "optimizer": dice.choice(("adamw", "sgd")),
        "norm": dice.choice(("group", "batch")),
        "norm_policy": dice.choice(("sync", "local")),
        "quorum": dice.choice((0.3, 0.5, 0.6, 1.0)),
        "validate_every": dice.randint(1, 4),
        "keep_checkpoints": dice.randint(2, 3),
    }
    settings |= _way(dice, len(sites))
    kinds = dice.choice((HARMLESS, HARMLESS, (*HARMLESS, *FILES), FILES, (*HARMLESS, *FILES, *ENDING), ENDING))
    most = 2 if kinds is ENDING else 10
    # A masked round takes two iterations.
    last = 2 * epochs * (2 if "secure_aggregation" in settings else 1) + 3
    faults = [_fault(dice, dice.choice(kinds), sites, last) for _ in range(dice.randint(1, most))]
    return Scenario(seed, sites, settings, tuple(sorted(faults, key=lambda one: (one.iteration, one.client))))


def _way(dice, sites):
    """Return how contributions become one model, in one run of two otherwise than by a mean that everybody sees."""
    robust = {"rule": dice.choice(("median", "trimmed-mean", "geometric-median")), "byzantine": 1}
    adaptive = {"strategy": dice.choice(("fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad")), "local_steps": 2}
    plain = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "weighting": "equal"}
    scaffold = {"strategy": "scaffold", "local_steps": 2, **plain}
    ways = [{}, {}, {}, adaptive, scaffold, *([robust, {"secure_aggregation": True}] if sites > 2 else [])]
    return dice.choice(ways)


def _fault(dice, kind, sites, iterations):
    anybody = kind in HARMLESS[:4] or kind in ("torn", "full", "full-resumed")
    client = dice.choice((*sites, CENTRE)) if anybody else dice.choice(sites)
    training = kind in FILES or kind == "packed"
    first = 2 if training or kind in ("again", "stale-message", "file-from-centre", "message-from-centre") else 1
    last = iterations - 2 if training else iterations - 1 if kind == "file-from-centre" else iterations
    number = dice.randrange(1, 12 if kind.startswith("full") else 24)
    return Fault(kind, dice.randint(first, last), client, number)
