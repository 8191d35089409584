"""The platform itself, with the smallest computation: what the other tests rely on, and what they cost at least."""

import pytest
from driving import ECHO, HERE, drive

ROUNDS, SIZE = 10, 22_752


def echo(folder, mode, sites=2, rounds=ROUNDS, size=SIZE, seconds=0, **more):
    inputs = [{"rounds": rounds, "size": size, "seconds": seconds}] * sites
    return drive(folder, mode, inputs, kind=ECHO, compspec=HERE / "echo" / "compspec.json", **more)


@pytest.mark.parametrize("sites", [1, 2, 4])
def test_every_node_ends_with_the_centre_s_last_word(tmp_path, mode, sites):
    run = echo(tmp_path, mode, sites)
    assert run.status == 0 and not run.unhandled
    assert [end["rounds"] for end in run.results.values()] == [ROUNDS] * (sites + 1)
    assert {end["sites"] for end in run.results.values()} == {sites}


def test_files_of_many_parts_arrive_whole(tmp_path, mode):
    run = echo(tmp_path, mode, rounds=2, size=30_000_000)
    assert run.status == 0
    assert run.results["remote"]["stale"] == 0


def test_each_message_is_seen_once_though_it_comes_twice_and_out_of_order(tmp_path, mode):
    run = echo(tmp_path, mode, network={"duplicate": True, "delay": {"local0": 150}})
    assert run.status == 0
    assert [call["iteration"] for call in run.calls["remote"]] == list(range(1, ROUNDS + 1))


def test_a_message_that_its_files_overtake_leaves_them_packed(tmp_path, mode):
    """The platform's own fault, which the product has to live with; see echo/entry.py."""
    run = echo(tmp_path, mode, network={"delay": {"local0": 300, "local1": 300}})
    assert run.status == 0
    assert run.results["remote"]["stale"] == 2 * ROUNDS
    assert list(run.inputs("remote").glob("local0/*-tempOutput.tar.gz.0"))


def test_a_node_killed_in_a_call_ends_the_run_everywhere(tmp_path, mode):
    fault = {"node": "local1", "iteration": 3, "action": "kill", "after": 300}
    run = echo(tmp_path, mode, seconds=1, faults=[fault])
    assert run.status == 1
    assert set(run.errors) == {"remote", "local0", "local1"}
    # A site that is computing when the run fails learns of it only by asking afterwards, and then gets no reason.
    assert all("Abnormal Container websocket close" in run.errors[node] for node in ("remote", "local1"))


def test_a_node_that_hangs_is_waited_for_until_the_deadline(tmp_path, mode):
    run = echo(tmp_path, mode, faults=[{"node": "local1", "iteration": 3, "action": "pause"}], deadline=12)
    assert run.status == 3
    assert "local1" in run.reason
