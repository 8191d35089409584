"""A slow site is waited for as long as it lives, and all are told; one that is frozen for longer ends the run."""

import os
import signal
import time

import pytest
from neuroflame_runs import WOKEN, hold, hook, inputs, job_process, rounds, run, said, spec, wait

from computation.tracking import read
from neuroflame.processes import is_alive
from simulator import embedded
from simulator.layout import CENTRE

pytestmark = pytest.mark.timeout(480)

SECONDS = 14  # longer than the silence that ends a run
CLIENTS = (CENTRE, "local0", "local1")

#: In one site's job process alone: the gradient of its second round takes long.
SLOW = f"""
import os, sys
if "local1" in os.environ.get("COINSTAC_MESHNET_NODE", "") and any("worker_process" in one for one in sys.orig_argv):
    import time
    from computation.training.trainer import Trainer
    gradient = Trainer.gradient
    def slow(self, round):
        time.sleep({SECONDS} * (round == 2))
        return gradient(self, round)
    Trainer.gradient = slow
"""


def frozen(nodes, layout):
    """Give a site's job process no time for a while that is shorter than the silence that ends a run."""
    wait(lambda: rounds(layout) >= 1)
    pid = job_process(nodes["local1"])
    os.kill(pid, signal.SIGSTOP)
    time.sleep(5)
    os.kill(pid, signal.SIGCONT)


def test_a_slow_site_is_waited_for_and_named_and_changes_no_bit(tmp_path, monkeypatch):
    folder, ended = inputs(tmp_path), {}
    hook(tmp_path, monkeypatch, SLOW)
    result, layout = run(tmp_path, disturb=frozen, ended=ended, limits=("--notice", "3"))
    wanted = embedded.run(spec(), inputs=folder, output=tmp_path / "simulated", sites=2)
    assert result.output["model_digest"] == wanted.output["model_digest"]
    assert ended == dict.fromkeys(CLIENTS, 0)
    for client in CLIENTS:
        told = layout.log(client).read_text().splitlines()
        assert "coinstac-meshnet: waiting for site local1" in told
        assert told[-1] == "coinstac-meshnet: the run has succeeded"
    second = next(one for one in read(layout.output(CENTRE) / "journal.jsonl") if one.get("round") == 2)
    assert second["by_site"]["local1"]["seconds"] > SECONDS


def stop_job(nodes, layout):
    wait(lambda: rounds(layout) >= 2)
    os.kill(job_process(nodes["local1"]), signal.SIGSTOP)


def pause(nodes, layout):
    """Freeze all of a site, as `docker pause` or a lid does, until the others have ended."""
    wait(lambda: rounds(layout) >= 2)
    hold(nodes, "local1")


@pytest.mark.parametrize("how", [stop_job, pause])
def test_a_site_that_is_frozen_for_longer_than_its_bound_ends_the_run_for_all(tmp_path, how):
    inputs(tmp_path)
    ended, seen = {}, []

    def disturb(nodes, layout):
        how(nodes, layout)
        seen.extend(filter(None, [job_process(nodes["local1"])]))

    error, layout = run(tmp_path, disturb=disturb, ended=ended, epochs=2000)
    assert isinstance(error, Exception)
    for client in (CENTRE, "local0"):
        assert "site local1 has given no sign of life for 10 s" in said(layout, client)
    assert any(one in said(layout, "local1") for one in WOKEN), said(layout, "local1")
    assert ended == dict.fromkeys(CLIENTS, 1)
    assert not any(map(is_alive, seen))
