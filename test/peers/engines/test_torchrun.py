"""Real processes over gloo on the loopback: means, broadcasts and messages are right, and whoever dies is named."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import alike
import numpy as np
import pytest

from computation.errors import PeersError
from peers.counts import ring_sent, ring_whole
from peers.engines import torchrun, virtual
from peers.engines.launch import launch

WORKER = Path(__file__).with_name("worker.py")
FOUR = tuple(f"local{place}" for place in range(4))
#: As in the worker.
SIZES = (1, 2, 3, 7, 64, 2198)


def command(scenarios, folder, names, **options):
    return [
        sys.executable,
        str(WORKER),
        scenarios,
        str(folder),
        ",".join(names),
        json.dumps({"patience": 30, **options}),
    ]


def seen(folder, scenario, name):
    with np.load(folder / f"{scenario}-{name}.npz") as found:
        return {key: found[key] for key in found}


def vector(rank, size, dtype):
    return np.random.default_rng([rank, size]).normal(size=size).astype(dtype)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """Four peers that do one thing after the other."""
    folder = tmp_path_factory.mktemp("four")
    scenarios = "collectives,collectives:backend,compressed,mail,malformed,early,quick,protocols,protocols:backend"
    launch({name: command(scenarios, folder, FOUR) for name in FOUR}, folder)
    return folder


@pytest.mark.parametrize("scenario", ["collectives", "collectives:backend"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_mean_is_that_of_float64_and_has_the_same_bits_everywhere(four, scenario, dtype):
    for size in SIZES:
        every = [seen(four, scenario, name)[f"mean-{dtype}-{size}"] for name in FOUR]
        vectors = np.stack([vector(rank, size, dtype) for rank in range(4)]).astype(np.float64)
        wanted = np.average(vectors, axis=0, weights=np.arange(4) + 0.5)
        assert all(one.dtype == dtype and one.tobytes() == every[0].tobytes() for one in every)
        tolerance = 1e-6 if dtype == "float32" else 1e-14
        np.testing.assert_allclose(every[0], wanted, rtol=tolerance, atol=tolerance * np.abs(vectors).max())


@pytest.mark.parametrize("scenario", ["collectives", "collectives:backend"])
def test_where_nobody_counts_there_is_no_mean(four, scenario):
    assert all(seen(four, scenario, name)["nobody"] for name in FOUR)


def test_a_broadcast_is_the_roots_vector(four):
    for name in FOUR:
        for rank, root in enumerate(FOUR):
            assert (seen(four, "collectives", name)[f"root-{root}"] == vector(rank, 5, "float64")).all()


@pytest.mark.parametrize("scenario", ["collectives", "collectives:backend"])
def test_the_ring_sends_the_closed_form_of_the_vector_and_one_weight(four, scenario):
    """Each worker exactly what `ring_sent` says, to its neighbour alone; all together as much as with a centre."""
    asked = [size + 1 for size in (*SIZES, *SIZES, 3)]  # the sum of the weights rides behind
    broadcast = 5
    total = 0
    for rank, name in enumerate(FOUR):
        links = {one["receiver"]: one for one in json.loads(str(seen(four, scenario, name)["traffic"]))}
        assert {one["sender"] for one in links.values()} == {name}
        right = links.pop(FOUR[(rank + 1) % 4])
        assert right["values"] == sum(ring_sent(size, 4, rank) for size in asked) + broadcast
        assert all(one["values"] == broadcast and one["bytes"] == 8 * broadcast for one in links.values())
        total += right["values"] + sum(one["values"] for one in links.values())
    assert total == sum(ring_whole(size, 4) for size in asked) + 4 * 3 * broadcast


def test_o30_powersgd_of_full_rank_is_the_exact_mean_and_of_rank_1_owes_what_it_did_not_send(four):
    """PyTorch's own, against our ring; Vogels, Karimireddy and Jaggi 2019, arXiv 1905.13727, algorithm 2."""
    for name in FOUR:
        found = seen(four, "compressed", name)
        scale = np.abs(found["full-exact"]).max()
        assert np.abs(found["full-sent"] - found["full-exact"]).max() < 1e-5 * scale
        apart = np.abs(found["one-sent"] - found["one-exact"]).max(axis=1)
        assert (apart[:2] < 1e-6 * scale).all()
        assert (apart[2:] > 1e-3 * scale).all()
        owed = found["one-sent"].sum(0) + found["one-left"]
        assert np.abs(owed - found["one-exact"].sum(0)).max() < 1e-5 * scale * len(found["one-exact"])


def test_messages_keep_their_order_and_what_they_held_when_they_were_sent(four):
    for name in FOUR:
        found = seen(four, "mail", name)
        rows = json.loads(str(found["rows"]))
        assert (int(found["late"]), found["alive"].tolist()) == (0, list(FOUR))
        for rank, sender in enumerate(FOUR):
            if sender != name:
                theirs = [row[1:] for row in rows if row[0] == sender]
                assert theirs == [[sender, step, step, True, 100 * rank + step] for step in range(20)]


def test_what_does_not_decode_is_told_and_not_delivered(four):
    found = seen(four, "malformed", "local1")
    assert found["rounds"].tolist() == [2]
    assert [sender for sender, _ in found["refused"].tolist()] == ["local0", "local0"]
    assert "10 bytes" in found["refused"][0][1]
    assert "another run" in found["refused"][1][1]


def test_a_run_has_one_name_and_the_next_another(four):
    runs = [{str(seen(four, scenario, name)["run"]) for name in FOUR} for scenario in ("collectives", "mail")]
    assert [len(names) for names in runs] == [1, 1]
    assert runs[0] != runs[1]


def test_who_ends_early_is_named_by_those_who_need_it(four):
    assert "error" not in seen(four, "early", "local0")
    for name in FOUR[1:]:
        assert "local0 has ended already" in str(seen(four, "early", name)["error"])


def test_what_was_said_before_the_end_is_read_after_it(four):
    assert all(seen(four, "quick", name)["rounds"].tolist() == list(range(30)) for name in FOUR[1:])


def test_a_clean_end_leaves_nothing_on_the_terminal(four):
    assert [(four / f"{name}.log").read_text() for name in FOUR] == [""] * 4


@pytest.mark.parametrize("scenario", ["protocols", "protocols:backend"])
@pytest.mark.parametrize("name", alike.PROTOCOLS)
def test_o31_a_protocol_leads_where_it_leads_in_virtual_time(four, scenario, name):
    peers = [alike.peer(FOUR, rank) for rank in range(4)]
    virtual.run({one.name: lambda one=one: (one, alike.PROTOCOLS[name](one)) for one in peers})
    for one in peers:
        assert np.abs(seen(four, scenario, one.name)[name] - one.learner.vector()).max() < 1e-12


def test_peers_that_gossip_go_on_when_one_is_killed(tmp_path):
    names = FOUR[:3]
    ended = launch({name: command("gossip_kill", tmp_path, names) for name in names}, tmp_path, one_for_all=False)
    assert (ended[0].name, ended[0].status) == ("local2", -signal.SIGKILL)
    assert "local2 was killed by SIGKILL" in str(ended[0])
    assert {one.name: one.status for one in ended[1:]} == {"local0": 0, "local1": 0}
    for name in names[:2]:
        found = seen(tmp_path, "gossip_kill", name)
        assert int(found["found"]) == 200
        assert "local2" not in found["alive"]


def test_peers_that_gossip_end_though_one_stands_still(tmp_path):
    names, ended = FOUR[:3], []

    def told(one):
        ended.append(one)
        if len(ended) == 2:
            os.kill(int((tmp_path / "stopped").read_text()), signal.SIGKILL)

    commands = {name: command("gossip_stop", tmp_path, names, patience=5) for name in names}
    launch(commands, tmp_path, one_for_all=False, told=told)
    assert [one.status for one in ended] == [0, 0, -signal.SIGKILL]
    assert [int(seen(tmp_path, "gossip_stop", name)["found"]) for name in names[:2]] == [100, 100]
    assert [one.log.read_text() for one in ended] == [""] * 3


def test_a_collective_names_who_was_killed_and_so_does_the_launcher(tmp_path):
    """Whoever launches is told who failed first, and how; the others have said why they ended."""
    with pytest.raises(PeersError, match="local3 was killed by SIGKILL"):
        launch({name: command("collective_kill", tmp_path, FOUR) for name in FOUR}, tmp_path, patience=60)
    for name in FOUR[:3]:
        found = seen(tmp_path, "collective_kill", name)
        assert "came to nothing: local3 is gone; wanted all 4" in str(found["error"])
        assert found["seconds"] < 30


@pytest.fixture(scope="module")
def late(tmp_path_factory):
    """Two peers, of whom one does not come, by both ways to a mean."""
    folder, names = tmp_path_factory.mktemp("late"), FOUR[:2]
    launch({name: command("late,late:backend", folder, names, patience=4) for name in names}, folder)
    return folder


@pytest.mark.parametrize("collective", ["late", "late:backend"])
def test_a_collective_names_who_does_not_come(late, collective):
    assert "local1 did not come to it within 4 seconds" in str(seen(late, collective, "local0")["error"])
    assert "local0 no longer waited for local1" in str(seen(late, collective, "local1")["error"])


def test_it_runs_under_torchs_own_launcher(tmp_path):
    names = FOUR[:2]
    words = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free())]
    subprocess.run([sys.executable, *words, *command("mail", tmp_path, names)[1:]], check=True, timeout=120)
    assert {str(seen(tmp_path, "mail", name).get("error", "")) for name in names} == {""}


def free():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def slurm(rank):
    """Return what `srun` says to one of two processes."""
    return {"SLURM_PROCID": str(rank), "SLURM_NTASKS": "2"}


def test_it_runs_under_slurm_with_a_master(tmp_path):
    """Nobody else keeps a meeting point."""
    names, plain = FOUR[:2], {key: value for key, value in os.environ.items() if not key.startswith(("RANK", "MASTER"))}
    words = command("mail", tmp_path, names, master=f"127.0.0.1:{free()}")
    started = [subprocess.Popen(words, env={**plain, **slurm(rank)}) for rank in (0, 1)]
    assert [process.wait(120) for process in started] == [0, 0]
    one, two = (seen(tmp_path, "mail", name) for name in names)
    assert one["run"] == two["run"]


def alone(monkeypatch, rank, port):
    """Come as one of two of whom the other does not, and return what is said of that."""
    for name, value in slurm(rank).items():
        monkeypatch.setenv(name, value)
    options = torchrun.Options(FOUR[:2], master=f"127.0.0.1:{port}", patience=1)
    with pytest.raises(PeersError) as told, torchrun.joined(options):
        pass
    return str(told.value)


def test_who_never_starts_is_named(monkeypatch):
    assert "of 2 peers local1 did not come" in alone(monkeypatch, 0, free())


def test_a_master_that_never_starts_is_named(monkeypatch):
    assert "local0 (rank 0) does not answer" in alone(monkeypatch, 1, free())


def test_a_port_that_is_taken_is_named(monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert "the port is taken" in alone(monkeypatch, 0, other.getsockname()[1])
