"""What goes wrong ends a run for all in bounded time, with a status and a sentence; and nothing private travels."""

import json
import sqlite3
import time

import pytest
from neuroflame_runs import hook, inputs, job_process, kill, kill_all, rounds, run, said, wait

from simulator.layout import CENTRE

LONG = {"epochs": 400}


def late(victim, how):
    """Return what hurts a node in the middle of a run."""

    def disturb(nodes, layout):
        wait(lambda: rounds(layout) >= 2)
        how(nodes[victim])

    return disturb


def lose_job(node):
    kill(wait(lambda: job_process(node)))


def early(nodes, layout):
    wait(lambda: job_process(nodes["local1"]))
    time.sleep(1.0)  # seen by its parent, and far from its first sign of life
    lose_job(nodes["local1"])


SITE_GONE = ("site local1's job process has ended", "site local1 has given no sign of life for 10 s")
NO_CENTRE = ("the centre cannot be reached for 10 s", "the centre has not answered for 10 s")
OWN_JOB = ("this site's job process has ended before the run did",)


@pytest.mark.parametrize(
    ("disturb", "sentences"),
    [
        (early, {CENTRE: SITE_GONE, "local0": SITE_GONE, "local1": OWN_JOB}),
        (late("local1", lose_job), {CENTRE: SITE_GONE, "local0": SITE_GONE, "local1": OWN_JOB}),
        (late("local1", kill_all), {CENTRE: SITE_GONE, "local0": SITE_GONE}),
        (late(CENTRE, kill_all), {"local0": NO_CENTRE, "local1": NO_CENTRE}),
        (
            late(CENTRE, lose_job),
            {
                CENTRE: ("the centre's job process has ended",),
                "local0": ("the run was ended at the centre", *NO_CENTRE),
            },
        ),
    ],
    ids=["site's job early", "site's job late", "site", "centre", "centre's job"],
)
def test_a_death_ends_the_run_for_all_and_each_says_why(tmp_path, disturb, sentences):
    inputs(tmp_path)
    ended = {}
    error, layout = run(tmp_path, disturb=disturb, ended=ended, **LONG)
    assert isinstance(error, Exception)
    for client, expected in sentences.items():
        assert any(one in said(layout, client) for one in expected), said(layout, client)
        assert ended[client] == 1


def test_a_site_that_raises_is_named_and_nothing_of_it_is_anywhere_else(tmp_path):
    folder = inputs(tmp_path)
    victim = folder / "local1/simulatorRun"
    (victim / "site.db").unlink()
    with sqlite3.connect(victim / "planted-path.db") as connection:
        connection.execute("create table planted_subject (x)")
        connection.execute("insert into planted_subject values ('planted-subject')")
    connection.close()
    wandb = {"project": "p", "mode": "offline", "api_key": "planted-key"}
    (victim / "member.json").write_text(json.dumps({"data": ["planted-path.db"], "wandb": wandb}))
    error, layout = run(tmp_path, data=None)
    assert isinstance(error, Exception)
    sentences = {client: said(layout, client) for client in (CENTRE, "local0", "local1")}
    assert "site local1: the site's iteration 1" in sentences[CENTRE] and "local1" in sentences["local0"]
    own = (layout.output("local1"), layout.base("local1"), layout.log("local1"))
    for path in layout.root.rglob("*"):
        if path.is_file() and not any(path.is_relative_to(place) for place in own):
            assert b"planted" not in path.read_bytes(), path
    assert "planted" not in layout.log("local1").read_text()
    assert "planted-path" in (layout.output("local1") / "error.log").read_text()


#: A site's NVFlare client fails as it does where a machine is so busy that its limit of 15 s passes; just once.
UNBORN = """
import os, sys
told = os.environ.get("COINSTAC_MESHNET_NODE", "")
if "local1" in told and any("client_train" in one for one in sys.orig_argv):
    from nvflare.private.fed.client.communicator import Communicator
    try:
        open(told + ".tried", "x").close()
        def fail(*arguments):
            raise RuntimeError("Client cell could not be created.")
        Communicator.client_registration = fail
    except FileExistsError:
        pass
"""


def test_a_client_that_fails_before_it_begins_is_started_again(tmp_path, monkeypatch):
    inputs(tmp_path)
    hook(tmp_path, monkeypatch, UNBORN)
    ended = {}
    result, layout = run(tmp_path, ended=ended)
    assert result.output["model_digest"] and ended == {CENTRE: 0, "local0": 0, "local1": 0}
    assert "Client cell could not be created" in (layout.output("local1") / "nvflare.log").read_text()


def test_a_member_that_never_comes_is_named(tmp_path):
    inputs(tmp_path)
    error, layout = run(tmp_path, disturb=lambda nodes, _: kill_all(nodes["local1"]), limits=("--joining", "20"))
    assert "not all members have come within 20 s; missing: local1" in str(error)
    assert "the run failed: the run was ended at the centre" in said(layout, "local0")
