"""What is frozen before its first sign of life, and a centre that is: the run ends for all, and nothing is left behind.

What is frozen later is in test_provisioned_slow.py.
"""

import os
import signal

import pytest
from neuroflame_runs import WOKEN, hold, inputs, job_process, rounds, run, said, wait

from neuroflame.processes import is_alive
from simulator.layout import CENTRE

pytestmark = pytest.mark.timeout(480)

START = 45  # seconds for the first sign of life; more than any job process takes
CLIENTS = (CENTRE, "local0", "local1")


def frozen_job(nodes, layout):
    """Freeze a site's job process as soon as there is one: it takes seconds to its first sign of life."""
    os.kill(wait(lambda: job_process(nodes["local1"])), signal.SIGSTOP)


def frozen_site(nodes, layout):
    wait(lambda: job_process(nodes["local1"]))
    hold(nodes, "local1")


@pytest.mark.parametrize("how", [frozen_job, frozen_site])
def test_a_site_that_is_frozen_before_its_first_sign_of_life_is_named(tmp_path, how):
    error, layout, ended, left = disturbed(tmp_path, how, "local1")
    assert isinstance(error, Exception) and ended == dict.fromkeys(CLIENTS, 1) and not left
    for client in (CENTRE, "local0"):
        assert f"site local1 has given no sign of life for {START} s" in said(layout, client)
    assert any(one in said(layout, "local1") for one in WOKEN), said(layout, "local1")


def frozen_centre(nodes, layout):
    wait(lambda: rounds(layout) >= 2)
    os.kill(job_process(nodes[CENTRE]), signal.SIGSTOP)


def test_a_centre_whose_job_process_is_frozen_ends_the_run_for_all(tmp_path):
    error, layout, ended, left = disturbed(tmp_path, frozen_centre, CENTRE)
    assert isinstance(error, Exception) and ended == dict.fromkeys(CLIENTS, 1) and not left
    assert "the centre's job process has given no sign of life for 10 s" in said(layout, CENTRE)
    for client in ("local0", "local1"):
        assert any(one in said(layout, client) for one in WOKEN), said(layout, client)


def disturbed(root, how, client):
    """Return how the run ended, its folders, all statuses, and what of a node's job process is there afterwards."""
    inputs(root)
    ended, seen = {}, []

    def disturb(nodes, layout):
        seen.append(wait(lambda: job_process(nodes[client])))
        how(nodes, layout)

    error, layout = run(root, disturb=disturb, ended=ended, limits=("--start", str(START)), epochs=2000)
    return error, layout, ended, [pid for pid in seen if is_alive(pid)]
