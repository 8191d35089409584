"""Three nodes on the loopback address: they meet, give each other content, and outlive each other."""

import hashlib
import json
import math
import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import waiting
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("libp2p", reason="THE SWARM IS NOT TESTED: its extra is not installed")

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from computation.cli import main
from computation.errors import PeersError
from peers import cid
from peers.engines.libp2p import Wire
from peers.engines.p2p.buffered import Buffered
from peers.requests import Drop, Get, Mean, Peers, Publish, Put, Wait
from peers.swarm.channel import Channel
from peers.swarm.data import digits
from peers.swarm.store import Store

ROOT = Path(__file__).parents[3]
CHANNEL = Channel("test", b"k" * 32)
until = partial(waiting.until, seconds=100.0)


def swarm(*words):
    return [sys.executable, "-m", "computation.cli", "swarm", *map(str, words)]


def wires(folder, count, topics=("a",), channel=CHANNEL):
    """Yield nodes' wires, one after another, each knowing the first."""
    found = []
    for index in range(count):
        identity = hashlib.sha256(bytes([index])).digest()
        others = [found[0].address] if found else []
        wire = Wire(channel, Store(folder / str(index), 1 << 26), topics, identity, others=others)
        found.append(wire.__enter__())
    return found


@pytest.fixture
def three(tmp_path):
    found = wires(tmp_path, 3)
    until(lambda: all(len(wire.perform(Peers())) == 3 for wire in found))
    yield found
    for wire in found:
        wire.__exit__()


def test_o24_the_address_of_a_content_is_its_cid(three):
    content = np.random.default_rng(0).bytes(386_000)
    assert three[0].perform(Put(content)) == cid.raw(content)
    assert three[2].perform(Get(cid.raw(content), 60.0)) == content


def test_o26_content_of_a_node_that_went_is_served_by_who_fetched_it_and_otherwise_named_as_gone(three):
    kept, lost = (np.random.default_rng(seed).bytes(50_000) for seed in (1, 2))
    addresses = [three[1].perform(Put(content)) for content in (kept, lost)]
    assert three[2].perform(Get(addresses[0], 60.0)) == kept
    three[1].__exit__()
    assert three[0].perform(Get(addresses[0], 60.0)) == kept
    assert three[0].perform(Get(addresses[1], 3.0)) is None


def test_content_of_many_blocks_and_notes_travel_and_what_is_dropped_is_gone(three):
    content = np.random.default_rng(3).bytes(1_200_000)
    address = three[1].perform(Put(content))
    assert three[0].perform(Get(address, 90.0)) == content
    three[0].perform(Drop(address))
    assert len(three[0].store) == 0

    def heard():
        three[1].perform(Publish("a", "hello"))
        return [(one.text, one.sender, one.topic) for one in three[0].perform(Wait(0.5))]

    assert until(heard)[0] == ("hello", three[1].name, "a")


def test_fetching_goes_on_while_a_protocol_does_something_else(three):
    address = three[1].perform(Put(b"a slice"))
    assert three[0].perform(Get(address, 0.0)) is None
    assert until(lambda: three[0].perform(Get(address, 0.0))) == b"a slice"


def test_what_is_here_or_on_its_way_is_answered_while_the_networks_thread_is_busy(three):
    here, lost = three[0].perform(Put(b"here")), cid.raw(b"nowhere")
    assert three[0].perform(Get(lost, 0.0)) is None
    busy, over = threading.Event(), threading.Event()
    three[0]._token.run_sync_soon(lambda: (busy.set(), over.wait(60.0)))
    assert busy.wait(60.0)
    assert three[0].perform(Get(here, 0.0)) == b"here"
    assert three[0].perform(Get(lost, 0.0)) is None
    assert not over.is_set()
    over.set()


def test_only_what_is_told_of_in_the_table_is_looked_up_there_and_only_where_no_neighbour_has_it(three):
    looked, usual = [], three[0].places.holders

    async def holders(address):
        looked.append(address)
        return await usual(address)

    three[0].places.holders = holders
    three[0].contents._counted = math.inf  # nor are holders counted
    near, model, slice = three[1].perform(Put(b"near")), cid.raw(b"a model"), cid.raw(b"a slice")
    assert three[0].perform(Get(near, 60.0)) == b"near"
    assert three[0].perform(Get(model, 2.0, lasting=False)) is None
    assert looked == []
    assert three[0].perform(Get(slice, 2.0)) is None
    assert set(looked) == {slice}


def test_who_takes_calls_and_says_nothing_keeps_nobody_from_joining_the_others(tmp_path):
    (there,) = wires(tmp_path / "there", 1)
    nobody = ID.from_pubkey(create_new_key_pair(b"n" * 32).public_key)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/p2p/{nobody}"
        late = Wire(CHANNEL, Store(tmp_path / "l", 1 << 20), ("a",), b"l" * 32, others=[address, there.address])
        with late:
            waiting.until(lambda: there.name in late.perform(Peers()), 20.0)
    there.__exit__()


def test_a_stream_is_agreed_on_for_as_long_as_a_busy_machine_may_need(three):
    config = three[0].host.get_network().connection_config
    assert config.outbound_stream_protocol_negotiation_timeout == 60.0
    assert config.inbound_stream_protocol_negotiation_timeout == 60.0


@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(1, 80), max_size=8), sizes=st.integers(1, 90))
def test_a_stream_that_is_read_in_any_parts_gives_all_bytes_in_order_and_then_its_end(data, cuts, sizes):
    class Stream:
        peer = "someone"

        async def read(self, size):
            nonlocal data
            if not data:
                raise EOFError
            end = min(size, cuts.pop() if cuts else 300)
            part, data = data[:end], data[end:]
            return part

    async def everything():
        stream, found = Buffered(Stream()), b""
        assert stream.peer == "someone"
        while True:
            try:
                part = await stream.read(sizes)
            except EOFError:
                return found
            assert 0 < len(part) <= sizes
            found += part

    whole = data
    assert trio.run(everything) == whole


def test_without_the_channels_key_nobody_gets_in(tmp_path):
    (inside,) = wires(tmp_path / "in", 1)
    identity = hashlib.sha256(b"stranger").digest()
    stranger = Channel("test", b"x" * 32)
    with Wire(stranger, Store(tmp_path / "out", 1 << 20), ("a",), identity, others=[inside.address]) as outside:
        time.sleep(3.0)
        assert outside.perform(Peers()) == (outside.name,)
        assert inside.perform(Peers()) == (inside.name,)
    inside.__exit__()


def test_what_the_network_does_not_carry_is_refused(tmp_path):
    (wire,) = wires(tmp_path, 1)
    with pytest.raises(PeersError, match="does not carry mean"):
        wire.perform(Mean(np.zeros(1), 1.0))
    with pytest.raises(PeersError, match="at most 65536"):
        wire.perform(Publish("a", "x" * 70_000))
    wire.__exit__()
    with pytest.raises(PeersError, match="off the network"):
        wire.perform(Put(b"x"))


@pytest.mark.parametrize("port", [-1, 70_000])
def test_a_port_that_cannot_be_is_refused(tmp_path, port):
    with pytest.raises(PeersError, match="port"):
        Wire(CHANNEL, Store(tmp_path, 1), (), bytes(32), port=port)


def test_a_port_that_is_taken_is_told(tmp_path):
    (wire,) = wires(tmp_path / "a", 1)
    port = int(wire.address.split("/")[4])
    with (
        pytest.raises(PeersError, match="port is taken"),
        Wire(CHANNEL, Store(tmp_path / "b", 1), (), bytes(32), port=port),
    ):
        pass
    wire.__exit__()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--listen", "nowhere"], "no place"),
        (["--listen", "127.0.0.1:70000"], "no place"),
        (["--model", "giant"], "wanted one of"),
        (["--slices", "--share-slices", "--people"], "never shared"),
        (["--key", "nothing"], "key cannot be read"),
        (["--data", "nothing"], "data cannot be read"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, capfd, words, fault):
    (tmp_path / "key").write_text("5a" * 32)
    np.savez(tmp_path / "d.npz", **digits(30, 0, 1))
    given = ("--key", tmp_path / "key", "--data", tmp_path / "d.npz", "--output", tmp_path / "out", "--turns", 1)
    assert main(["swarm", "node", *map(str, given), *words]) == 2
    assert fault in " ".join(capfd.readouterr().err.split())


def test_a_node_that_is_started_again_goes_on_with_its_model(tmp_path, capfd):
    (tmp_path / "key").write_text("5a" * 32)
    np.savez(tmp_path / "d.npz", **digits(30, 0, 1))
    given = ("--key", tmp_path / "key", "--data", tmp_path / "d.npz", "--output", tmp_path / "out", "--pace", 0)
    words = ["swarm", "node", *map(str, given), "--rate", "0"]
    assert main([*words, "--turns", "2", "--seed", "1"]) == 0
    first = json.loads((tmp_path / "out" / "result.json").read_text())
    assert main([*words, "--turns", "3", "--seed", "2"]) == 0  # another seed begins with other numbers
    second = json.loads((tmp_path / "out" / "result.json").read_text())
    assert first["maturity"] == 2 and second["maturity"] > 2
    assert second["digest"] == first["digest"]  # at a rate of 0 nothing is learnt
    assert main([*words[:-4], "--output", "/proc/nowhere", "--turns", "1"]) == 2
    assert "output folder" in " ".join(capfd.readouterr().err.split())
