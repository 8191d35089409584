"""kill -9 of real processes between any two messages: the restarted run ends in the unbroken run's digest."""

import os
import signal

import pytest
from consortium import SHORT, consortium, database

from simulator import embedded
from simulator.observer import Observer

NODES = ("local0", "local1", "remote")


class Killer(Observer):
    """Kills one node before each iteration and another after each reply, in turn, until every one was hit."""

    def __init__(self):
        self.pids, self.kills = {}, []

    def on_start(self, client, pid):
        self.pids[client] = pid

    def on_call(self, client, iteration):
        if iteration > 1 and client == NODES[iteration % 3]:
            self._kill(client, iteration)

    def on_reply(self, client, iteration, output):
        if client == NODES[(iteration + 1) % 3]:
            self._kill(client, iteration)

    def _kill(self, client, iteration):
        if (client, iteration) not in self.kills:
            self.kills.append((client, iteration))
            os.kill(self.pids[client], signal.SIGKILL)
            # The next kill of the same node is to strike the one that takes its place, not this one while it dies.
            os.waitid(os.P_PID, self.pids[client], os.WEXITED | os.WNOWAIT)


@pytest.fixture
def inputs(tmp_path):
    for index in range(2):
        database(tmp_path / "sites" / f"local{index}" / "simulatorRun" / "site.db", seed=index)
    return tmp_path / "sites"


@pytest.mark.slow
def test_killed_processes_resume_to_the_same_digest(tmp_path, inputs):
    unbroken = consortium(tmp_path / "unbroken", changes={"epochs": 1}).run()
    spec = {name: {"value": value} for name, value in {**SHORT, "epochs": 1}.items()}
    killer = Killer()
    killed = embedded.run(
        spec, inputs=inputs, output=tmp_path / "killed", sites=2, observer=killer, shuffle_seed=1, deadline=120
    )
    assert {client for client, _ in killer.kills} == set(NODES)
    # The last kill strikes a node that has nothing left to do.
    assert sum(killed.restarts.values()) >= len(killer.kills) - 1 >= 6
    assert killed.output == unbroken
