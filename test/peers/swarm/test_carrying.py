"""Feeds on their way: from a thin feeder to a full node, from there to others, and to those who come late."""

import hashlib
import socket
from functools import partial

import pytest
import waiting
from full_disk import small_files

pytest.importorskip("libp2p", reason="THE SWARM IS NOT TESTED: its extra is not installed")

from computation.cli import main
from computation.errors import MessageError, PeersError
from peers.engines.libp2p import Wire
from peers.requests import Peers
from peers.swarm import carrying
from peers.swarm.carrying import Carrier
from peers.swarm.channel import Channel
from peers.swarm.feed import Log, Ticket, Writer
from peers.swarm.feeding import authors
from peers.swarm.intake import Intake, bring
from peers.swarm.store import Store

CHANNEL = Channel("feeds", b"k" * 32)
until = partial(waiting.until, seconds=100.0)


class Full:
    """A full node that does nothing but carry feeds."""

    def __init__(self, folder, name, author, *others):
        self.refused = []
        identity = hashlib.sha256(name.encode()).digest()
        store = Store(folder / name / "store", 1 << 26)
        self.wire = Wire(CHANNEL, store, (carrying.TOPIC,), identity, others=others).__enter__()
        self.folder = folder / name / "feeds"
        log = Log([author], self.folder, most=1000)
        self.carrier = Carrier(log, self.wire.perform, lambda *fault: self.refused.append(fault))
        self.wire.aside[carrying.TOPIC] = self.carrier.hear
        self.carrier.__enter__()

    def end(self):
        self.carrier.__exit__()
        self.wire.__exit__()


@pytest.fixture
def full(tmp_path):
    nodes = []

    def begin(author):
        first = [nodes[0].wire.address] if nodes else []
        nodes.append(Full(tmp_path, f"n{len(nodes)}", author, *first))
        return nodes[-1]

    yield begin
    for node in nodes:
        node.end()


def test_a_feed_goes_from_its_feeder_to_all_full_nodes_and_who_comes_late_fetches_what_it_missed(full):
    writer = Writer.new(bytes(32), "private")
    ticket, author = writer.ticket, writer.ticket.author
    entries = [writer.append(b"warm %d" % place).whole for place in range(30)]
    first, second = full(author), full(author)
    until(lambda: len(first.wire.perform(Peers())) == 2)
    with Intake(first.carrier, "127.0.0.1", 0) as intake:
        assert bring(*intake.server_address, author, entries[:20]) == 20
        until(lambda: second.carrier.count(author) == 20)
        late = full(author)
        until(lambda: len(late.wire.perform(Peers())) == 3)
        assert bring(*intake.server_address, author, entries) == 10
        until(lambda: late.carrier.count(author) == 30)
        assert bring(*intake.server_address, author, entries) == 0
    kept = Log([author], late.folder)
    assert list(kept.entries(author)) == entries
    assert ticket.read(kept.chains[author].__class__(author, 0).take(entries[0])) == b"warm 0"


class Taker:
    def __init__(self, author):
        self.log = Log([author])

    def count(self, author):
        chain = self.log.chains.get(author)
        return chain.number if chain else None

    def bring(self, blob):
        self.log.take(blob)


def test_who_is_not_on_the_list_or_tells_another_story_or_sends_garbage_is_hung_up_on():
    own, other = Writer.new(bytes(32), "public"), Writer.new(b"x" * 32, "public")
    author = own.ticket.author
    entry, fork = own.append(b"one").whole, Writer.new(bytes(32), "public").append(b"otherwise").whole
    taker = Taker(author)
    with Intake(taker, "127.0.0.1", 0) as intake:
        place = intake.server_address
        with pytest.raises(PeersError, match="on its list"):
            bring(*place, other.ticket.author, [other.append(b"hello").whole])
        assert bring(*place, author, [entry]) == 1
        with pytest.raises(MessageError, match="refuses message 1"):
            bring(*place, author, [entry, fork])
        for garbage in (b"", b"short", author + b"\xff\xff\xff\xff", author + (5).to_bytes(4, "big") + b"hello"):
            with socket.create_connection(place, 5.0) as rude:
                rude.sendall(garbage)
                rude.shutdown(socket.SHUT_WR)
                while rude.recv(100):
                    pass
        assert taker.log.chains[author].number == 1
        assert bring(*place, author, [entry]) == 0  # and others are still served
    with pytest.raises(PeersError, match="cannot be brought"):
        bring("127.0.0.1", 1, author, [entry])


def test_one_feeder_too_many_is_hung_up_on_and_the_next_finds_room():
    author = Writer.new(bytes(32), "public").ticket.author
    with Intake(Taker(author), "127.0.0.1", 0) as intake:
        idle = [socket.create_connection(intake.server_address, 5.0) for _ in range(16)]
        until(lambda: intake._room._value == 0)
        with pytest.raises(PeersError):
            bring(*intake.server_address, author, [])
        for one in idle:
            one.close()
        until(lambda: intake._room._value == 16)
        assert bring(*intake.server_address, author, []) == 0


def test_what_cannot_be_written_down_is_not_counted_as_there(tmp_path):
    writer = Writer.new(bytes(32), "public")
    one, two = (writer.append(bytes([place])).whole for place in range(2))
    author = writer.ticket.author
    (tmp_path / "log").write_text("no folder")
    log = Log([author], tmp_path / "log")
    with pytest.raises(PeersError, match="cannot be kept"):
        log.take(one)
    (tmp_path / "log").unlink()
    assert [log.take(blob).number for blob in (one, two)] == [0, 1]
    assert list(log.entries(author)) == [one, two]


def test_a_full_disk_leaves_no_half_of_a_message(tmp_path):
    writer = Writer.new(bytes(32), "public")
    entries = [writer.append(bytes(1000)).whole for _ in range(3)]
    author = writer.ticket.author
    log = Log([author], tmp_path)
    log.take(entries[0])
    with small_files(1500), pytest.raises(PeersError, match="cannot be kept"):
        log.take(entries[1])
    for blob in entries[1:]:
        log.take(blob)
    assert list(Log([author], tmp_path).entries(author)) == entries


@pytest.mark.parametrize("text", ["zz", "00", "00" * 31])
def test_a_list_of_authors_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "list").write_text(text)
    with pytest.raises(PeersError, match="list of feeds"):
        authors(tmp_path / "list")


def test_a_reading_key_is_a_line_of_that_list_and_reads_what_a_node_has_kept(tmp_path, capsys):
    (tmp_path / "seed").write_bytes(bytes(32))
    state = str(tmp_path / "state.json")
    assert main(["swarm", "feed", state, "--new", "private", "--seed", str(tmp_path / "seed")]) == 0
    text = capsys.readouterr().out.strip()
    (tmp_path / "list").write_text(text + "\n")
    assert authors(tmp_path / "list") == [Ticket.parsed(text).author]
    for place in range(3):
        (tmp_path / "message").write_bytes(b"warm %d" % place)
        assert main(["swarm", "feed", state, str(tmp_path / "message")]) == 0
    words = ["swarm", "read", str(tmp_path / "feed")]
    assert main([*words, text, str(tmp_path / "out")]) == 0
    assert [path.read_bytes() for path in sorted((tmp_path / "out").iterdir())] == [b"warm 0", b"warm 1", b"warm 2"]
    assert main([*words, text.replace(text[:4], "0000"), str(tmp_path / "out")]) == 2
