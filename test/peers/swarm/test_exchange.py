"""Blocks among liars: garbage ends a stream and nothing else, and who lies or is silent is passed by."""

import hashlib
from functools import partial

import numpy as np
import pytest
import waiting

pytest.importorskip("libp2p", reason="THE SWARM IS NOT TESTED: its extra is not installed")

import trio
import varint
from libp2p.bitswap.pb.bitswap_pb2 import Message

from peers import cid
from peers.engines.libp2p import Wire
from peers.engines.p2p import exchange
from peers.requests import Drop, Get, Peers, Put
from peers.swarm.channel import Channel
from peers.swarm.store import Store

CHANNEL = Channel("exchange", b"k" * 32)
CONTENT = np.random.default_rng(5).bytes(100_000)
WRONG = Message()
WRONG.payload.add(prefix=bytes.fromhex("01551220"), data=b"another block")
until = partial(waiting.until, seconds=60.0)


@pytest.fixture
def wires(tmp_path):
    found = []
    for place in range(3):
        identity = hashlib.sha256(b"exchange %d" % place).digest()
        others = [found[0].address] if found else []
        wire = Wire(CHANNEL, Store(tmp_path / str(place), 1 << 26), ("a",), identity, others=others)
        found.append(wire.__enter__())
    until(lambda: all(len(wire.perform(Peers())) == 3 for wire in found))
    yield found
    for wire in found:
        wire.__exit__()


def inside(wire, function):
    return trio.from_thread.run(function, trio_token=wire._token)


def framed(message):
    data = message.SerializeToString()
    return varint.encode(len(data)) + data


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\x00", b"\xff" * 20, varint.encode(1 << 30), varint.encode(100) + b"half", b"\x05hello", framed(WRONG)],
    ids=["nothing", "empty", "endless", "huge", "half", "no message", "unasked block"],
)
def test_garbage_ends_its_stream_and_the_node_serves_on(wires, garbage):
    server, rude, asker = wires
    address = server.perform(Put(CONTENT))
    held = len(server.store)

    async def throw():
        stream = await rude.host.new_stream(server.host.get_id(), [exchange._PROTOCOL])
        if garbage:
            await stream.write(garbage)
        await stream.close()

    for _ in range(5):
        inside(rude, throw)
    assert asker.perform(Get(address, 30.0, server.name)) == CONTENT
    assert len(server.store) == held


def test_for_resilience_neighbours_are_asked_whether_they_hold_it_and_give_nothing(wires):
    asker, one, other = wires
    address = one.perform(Put(CONTENT, lasting=False))  # the table is told of neither
    assert other.perform(Put(CONTENT, lasting=False)) == address
    block = next(iter(one.store.cids()))
    sent = one.counts.sent + other.counts.sent

    async def asked(peer, what):
        return await asker.contents.exchange.holds(peer.host.get_id(), what)

    for peer in (one, other):
        assert trio.from_thread.run(asked, peer, block, trio_token=asker._token)
        assert not trio.from_thread.run(asked, peer, b"\x01" + block[1:-1] + b"!", trio_token=asker._token)
    assert one.counts.sent + other.counts.sent == sent and len(asker.store) == 0
    assert asker.perform(Get(address, 30.0, one.name)) == CONTENT  # on the same stream
    until(lambda: asker.counts.holders)
    assert list(asker.counts.holders) == [2]


async def says_nothing(stream):
    await trio.sleep_forever()


def says(data):
    async def handler(stream):
        await stream.write(data)
        await stream.close()

    return handler


@pytest.mark.parametrize(
    "liar",
    [says(framed(WRONG)), says(varint.encode(1 << 30)), says(b"\x0ahalf"), says(framed(Message())), says_nothing],
    ids=["another block", "huge", "half", "an empty answer", "silence"],
)
def test_who_lies_or_is_silent_is_passed_by_and_the_content_comes_from_another(wires, liar):
    asker, false, holder = wires
    address = holder.perform(Put(CONTENT, lasting=False))
    false.host.set_stream_handler(exchange._PROTOCOL, liar)
    assert asker.perform(Get(address, 30.0, false.name)) == CONTENT
    assert len(asker.store) == 1  # nothing else was kept


def test_a_block_of_the_right_length_but_other_bytes_is_no_content(wires):
    asker, false, _ = wires
    answer = Message()
    answer.payload.add(prefix=bytes.fromhex("01551220"), data=bytes(len(CONTENT)))
    false.host.set_stream_handler(exchange._PROTOCOL, says(framed(answer)))
    assert asker.perform(Get(cid.raw(CONTENT), 2.0, false.name)) is None
    assert len(asker.store) == 0


def test_an_address_of_another_kind_is_nothing_and_dropping_it_does_no_harm(wires):
    odd = "b" + "a" * 58
    assert wires[0].perform(Get(odd, 1.0)) is None
    wires[0].perform(Drop(odd))
    assert wires[0].perform(Get(wires[1].perform(Put(b"x")), 30.0)) == b"x"


def test_an_address_is_a_cid_and_nothing_that_only_looks_like_one():
    good = cid.raw(b"x")
    assert cid.is_address(good)
    turned = good[:-1] + chr(ord(good[-1]) + 1)  # the same bytes, but for bits that lead nowhere
    for odd in ("b" + "a" * 58, good.upper(), good[:-1], good + "a", turned, None, 5, "bafkrei" + "7" * 52):
        assert not cid.is_address(odd), odd
