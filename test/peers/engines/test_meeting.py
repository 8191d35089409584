"""Where peers meet: read from torchrun or Slurm, and refused with words where it cannot be."""

import re
import socket
import threading

import pytest

from computation.errors import PeersError
from peers.engines.meeting import Place, interface, place, reach

TORCHRUN = {
    "RANK": "1",
    "WORLD_SIZE": "3",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_RESTART_COUNT": "2",
}
SLURM = {"SLURM_PROCID": "0", "SLURM_NTASKS": "3"}


def test_torchrun_keeps_the_meeting_point_itself():
    found = place(3, "", TORCHRUN | SLURM)
    assert found == Place(1, 3, "10.0.0.1", 29500, True, "2")
    assert not found.keeps


@pytest.mark.parametrize("master", ["node7:29500", "[fe80::1]:29500"])
def test_under_slurm_rank_0_keeps_it(master):
    found = place(3, master, SLURM)
    assert (found.rank, found.size, found.port, found.keeps) == (0, 3, 29500, True)
    assert found.host == master.rpartition(":")[0].strip("[]")


@pytest.mark.parametrize(
    ("peers", "master", "given", "words"),
    [
        (3, "", {}, "nobody says which of the peers this process is"),
        (3, "", SLURM, "give --master HOST:PORT"),
        (2, "", TORCHRUN, "process 1 of 3 (RANK and WORLD_SIZE), and there are 2 peers"),
        (3, "", TORCHRUN | {"RANK": "3"}, "process 3 of 3"),
        (3, "", TORCHRUN | {"RANK": "-1"}, "RANK is '-1'"),
        (3, "", {"RANK": "1"}, "WORLD_SIZE is ''"),
        (3, "", TORCHRUN | {"MASTER_PORT": "http"}, "wanted HOST:PORT"),
        (3, "node7", SLURM, "wanted HOST:PORT"),
        (3, "node7:0", SLURM, "the port from 1 to 65535"),
        (3, "node7:65536", SLURM, "the port from 1 to 65535"),
        (3, ":29500", SLURM, "wanted HOST:PORT"),
    ],
)
def test_what_cannot_be_is_refused_with_words(peers, master, given, words):
    with pytest.raises(PeersError, match=re.escape(words)):
        place(peers, master, given)


def test_an_interface_must_be_here():
    known = [name for _, name in socket.if_nameindex()]
    assert interface(known[0], "10.0.0.1") == known[0]
    with pytest.raises(PeersError, match=f"nosuch0 is unknown here; wanted one of .*{known[0]}"):
        interface("nosuch0", "127.0.0.1")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.1.1", "::1"])
def test_on_the_loopback_it_is_the_loopbacks(host):
    assert interface("", host) in ("lo", "lo0")


def test_elsewhere_it_is_the_one_that_leads_to_the_master():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network but the loopback")
        own = probe.getsockname()[0]
    assert interface("", own) in [name for _, name in socket.if_nameindex()][1:]
    assert interface("", "no.such.host.invalid") == ""


def test_it_waits_until_somebody_answers():
    with socket.socket() as late:
        late.bind(("127.0.0.1", 0))
        threading.Timer(0.3, late.listen).start()
        reach(Place(1, 2, "127.0.0.1", late.getsockname()[1], True, "0"), "local0", 20.0)


def test_nobody_answers():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        here = Place(1, 2, "127.0.0.1", silent.getsockname()[1], True, "0")
        with pytest.raises(PeersError, match="the launcher does not answer"):
            reach(here, "local0", 0.2)
