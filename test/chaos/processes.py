"""Real processes, and `kill -9` at moments that a seed draws: before a call, in the midst of one, and after it."""

import os
import random
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

from chaos import entry, judge
from chaos.judge import Ended, Wrong
from chaos.scenario import CENTRE, Fault, drawn
from simulator import embedded
from simulator.observer import Observer

KINDS = ("kill-before", "kill", "kill-after")
#: Seconds from the beginning of a call within which a kill in its midst comes.
_CALL = 0.06


def drawn_here(seed):
    """Return the scenario of a seed, for processes: two sites, and each call of a node is struck at most once."""
    dice, base = random.Random(f"{seed} in processes"), drawn(seed)
    struck = {(dice.randint(1, 7), dice.choice(("local0", "local1", CENTRE))) for _ in range(dice.randint(3, 8))}
    faults = [Fault(dice.choice(KINDS), *place, dice.randrange(1, 24)) for place in sorted(struck)]
    # What wants three sites has not enough of them here.
    settings = {name: value for name, value in base.settings.items() if name not in ("rule", "byzantine")}
    settings = {**settings, "epochs": 2, "secure_aggregation": False}
    return replace(base, sites=("local0", "local1"), settings=settings, faults=tuple(faults))


class Killer(Observer):
    """Kills as the scenario says."""

    def __init__(self, scenario):
        self.scenario, self.pids, self.kills = scenario, {}, set()

    def on_start(self, client, pid):
        self.pids[client] = pid

    def on_call(self, client, iteration):
        for fault in self.scenario.at(client, iteration, "kill-before", "kill"):
            wait = _CALL * fault.number / 24 if fault.kind == "kill" else 0.0
            self._once(fault, wait)

    def on_reply(self, client, iteration, output):
        for fault in self.scenario.at(client, iteration, "kill-after"):
            self._once(fault, 0.0)

    def _once(self, fault, seconds):
        if fault in self.kills:
            return
        self.kills.add(fault)
        if seconds:
            threading.Timer(seconds, os.kill, (self.pids[fault.client], signal.SIGKILL)).start()
        else:
            os.kill(self.pids[fault.client], signal.SIGKILL)


def judge_here(seed, folder):
    """Run a seed's scenario in real processes, and return how it ended; raises `Wrong`."""
    scenario = drawn_here(seed)
    for name in scenario.sites:
        place = folder / "in" / name / "simulatorRun" / "site.db"
        place.parent.mkdir(parents=True)
        place.hardlink_to(judge.made(name))
    killer = Killer(scenario)
    ended = embedded.run(
        {name: {"value": value} for name, value in judge.inputs(scenario).items()},
        sites=len(scenario.sites),
        inputs=folder / "in",
        output=folder / "run",
        command=(sys.executable, str(Path(entry.__file__).resolve())),
        observer=killer,
        shuffle_seed=seed,
        deadline=120,
    )
    wanted = judge.platform(replace(scenario, faults=()), folder / "clean").run()
    if ended.output != wanted:
        raise Wrong(f"ended in {ended.output['model_digest'][:12]}; wanted {wanted['model_digest'][:12]}")
    if not any(ended.restarts.values()):
        raise Wrong("nothing was killed")
    return Ended("unbroken", ended.output["model_digest"])
