"""Peers over ZeroMQ's sockets on the loopback: the same bits as in virtual time, and nothing for strangers."""

import socket
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from quadratic import cohort

zmq = pytest.importorskip("zmq", reason="THE MESH IS NOT TESTED: its extra is not installed")

from computation.errors import PeersError  # noqa: E402
from peers.engines import virtual, zeromq  # noqa: E402
from peers.mesh import letters, post  # noqa: E402
from peers.mesh.keys import Known, pair  # noqa: E402
from peers.protocols.leader import SHARE, Leader  # noqa: E402
from peers.requests import Mean, Message, Peers, Poll, Send, Wait, passed_on  # noqa: E402


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def options(tmp_path):
    """Return options for so many peers, by name."""

    def made(count, lease=5.0):
        names = [f"p{index:04d}" for index in range(count)]
        pairs = {name: pair(tmp_path, name) for name in names}
        ports = free_ports(count)
        addresses = {name: f"tcp://127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)}
        known = Known(tmp_path)
        return {name: zeromq.Options(pairs[name], known, addresses, "run", lease, 20.0) for name in names}

    return made


def played(here, chosen, script):
    """Run a script for each peer in a thread of its own; return what each came to."""
    found = {}

    def work(name):
        try:
            with zeromq.joined(chosen[name]) as group:
                found[name] = group.run(here.peers[name], script(here.peers[name]))
        except Exception as error:
            found[name] = error

    threads = [threading.Thread(target=work, args=(name,)) for name in here.peers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def three(rounds=5):
    points = np.random.default_rng(2).normal(size=(3, 5))
    return cohort(np.zeros((3, 5)), points, rate=0.3, rounds=rounds, weights=[1.0, 2.0, 3.0])


def test_the_synchronous_leader_has_the_bits_of_virtual_time(options):
    here, other = three(), three()
    found = played(here, options(3), Leader(0))
    assert set(found.values()) == {None}
    virtual.run(other.starts(Leader(0)))
    assert here.vectors().tobytes() == other.vectors().tobytes()


def test_an_asynchronous_leader_ends_with_one_model(options):
    here = three(rounds=20)
    found = played(here, options(3), Leader(3, together=True))
    assert set(found.values()) == {None}
    vectors = here.vectors()
    assert (vectors == vectors[0]).all()


def test_who_falls_silent_is_dead_after_its_lease_and_who_says_goodbye_at_once(options):
    here = cohort(np.zeros((3, 5)))
    chosen = options(3, lease=1.0)
    stop = threading.Event()

    def script(peer):
        for other in peer.others:
            yield Send(other, Message("here"))
        senders = set()
        while len(senders) < 2:
            senders |= {message.sender for message in (yield Wait(20.0))}
        if peer.name == "p0001":
            return "left"
        if peer.name == "p0002":
            # Silent and not gone: its signs of life are kept back.
            group_of[peer.name]._over.set()
            stop.wait(20)
            return "silent"
        seen = []
        while "p0002" in (alive := (yield Peers())):
            seen.append(alive)
            yield Wait(0.2)
        stop.set()
        return seen[-1], alive

    group_of = {}
    usual = zeromq.Group.run

    def noted(group, peer, steps):
        group_of[group.name] = group
        return usual(group, peer, steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zeromq.Group, "run", noted)
        found = played(here, chosen, script)
    assert found["p0001"] == "left"
    assert found["p0000"] == (("p0000", "p0002"), ("p0000",))


def test_who_sends_no_numbers_holds_up_nobody(options):
    """Not even before the first mean, for which the leader waits for everybody."""
    here, heard = cohort(np.zeros((3, 5)), np.ones((3, 5)), rate=0.5, rounds=3, weights=[0.0, 1.0, 1.0]), []
    here.peers["p0000"].refused = lambda sender, fault: heard.append((sender, fault))

    def lie(request):
        if isinstance(request, Send) and request.message.topic == SHARE:
            return replace(request, message=replace(request.message, values=np.full(5, np.nan)))
        return request

    def script(peer):
        steps = Leader(2)(peer)
        return passed_on(steps, lie) if peer.name == "p0002" else steps

    found = played(here, options(3), script)
    assert found == dict.fromkeys(here.peers)
    assert {sender for sender, _ in heard} == {"p0002"} and "NaN or infinite" in heard[0][1]
    assert (here.peers["p0001"].learner.vector() == 1 - 0.5**3).all()


def test_a_stranger_gets_nothing_and_garbage_harms_nobody(options, tmp_path):
    chosen = options(2)
    stranger = pair(tmp_path / "elsewhere", "p0001")
    address, other = (chosen["p0000"].addresses[name] for name in ("p0000", "p0001"))
    here = cohort(np.zeros((2, 5)))
    heard = []
    here.peers["p0000"].refused = lambda sender, fault: heard.append((sender, fault))
    with zeromq.joined(chosen["p0000"]) as group:
        context = zmq.Context()
        for key, blobs in {
            stranger: [b"x"],
            chosen["p0001"].pair: [
                b"garbage",
                letters.letter("p0000", other, modelStateDictParams={"state": b"x"}).SerializeToString(),
                letters.letter("p0001", other, taskResponse={"status": "x"}).SerializeToString(),
                letters.letter("p0001", other, modelStateDictParams={"state": b"CXPEER garbage"}).SerializeToString(),
            ],
        }.items():
            one = post.dealer(context, key, address, chosen["p0000"].pair.public)
            one.linger = 1000
            for blob in blobs:
                one.send(blob)
            assert not one.poll(300)
        found = group.run(here.peers["p0000"], _waiting())
        context.destroy()
    assert found == []
    assert [sender for sender, _ in heard] == ["p0001"]


def _waiting():
    return (yield Wait(1.0))


def test_what_the_engine_does_not_carry_and_names_that_are_none_are_refused(options, tmp_path):
    chosen = options(2)
    here = cohort(np.zeros((2, 5)))

    def mean(peer):
        yield Mean(np.zeros(5), 1.0)

    def odd(peer):
        yield Poll()
        yield Send("nobody", Message("x"))

    with zeromq.joined(chosen["p0000"]) as group:
        for script, text in ((mean, "does not carry collective"), (odd, "none of the other peers")):
            with pytest.raises(PeersError, match=text):
                group.run(here.peers["p0000"], script(here.peers["p0000"]))
        with pytest.raises(PeersError, match="runs as p0000"):
            group.run(here.peers["p0001"], mean(None))
        with pytest.raises(PeersError, match="is taken"), zeromq.joined(chosen["p0000"]):
            pass
    missing = {**chosen["p0000"].addresses, "nobody": "tcp://127.0.0.1:9"}
    with (
        pytest.raises(PeersError, match=r"known/nobody\.key"),
        zeromq.joined(replace(chosen["p0000"], addresses=missing)),
    ):
        pass


def test_a_message_that_is_too_long_closes_its_link_only(options):
    chosen = {name: replace(one, longest=20_000) for name, one in options(2).items()}
    address, other = (chosen["p0000"].addresses[name] for name in ("p0000", "p0001"))
    key = chosen["p0000"].pair.public
    here = cohort(np.zeros((2, 5)))
    with zeromq.joined(chosen["p0000"]) as group:
        context = zmq.Context()
        one = post.dealer(context, chosen["p0001"].pair, address, key)
        one.linger = 1000
        one.send(b"x" * 30_000)
        time.sleep(0.5)
        two = post.dealer(context, chosen["p0001"].pair, address, key)
        two.linger = 1000
        blob = b"CXPEER"
        two.send(letters.letter("p0001", other, modelStateDictParams={"state": blob}).SerializeToString())
        heard = []
        here.peers["p0000"].refused = lambda sender, fault: heard.append(sender)
        group._options = replace(group._options, longest=1 << 30)
        group.run(here.peers["p0000"], _waiting())
        context.destroy()
    assert heard == ["p0001"]
