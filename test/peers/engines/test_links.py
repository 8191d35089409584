"""Links over a wire of queues: order, room, goodbyes, and what a peer that does not keep to the frames comes to."""

import queue
import threading
import time

import numpy as np
import pytest

from computation.errors import PeersError
from peers.engines.links import ENDED, FAILED, WAITING, WORKING, Links, Note
from peers.traffic import Count, Traffic

NAMES = ("a", "b", "c")


class Queues:
    """What one place sees of a wire in memory; a cut link raises at both ends."""

    def __init__(self, place, every):
        self.place, self.every = place, every

    def send(self, place, content):
        self._queue(self.place, place).put(content.tobytes())

    def receive(self, place, content):
        found = self._queue(place, self.place).get()
        if found is None:
            raise RuntimeError("cut")
        content[:] = np.frombuffer(found, np.uint8)

    def cut(self, place):
        for two in ((self.place, place), (place, self.place)):
            self._queue(*two).put(None)

    def _queue(self, sender, receiver):
        # As a connection's buffers: what the other side does not take in fills them, and then the sender waits.
        return self.every.setdefault((sender, receiver), queue.Queue(8))


@pytest.fixture
def three():
    every = {}
    wires = [Queues(place, every) for place in range(3)]
    links = [Links(wire, NAMES, name, Traffic()) for wire, name in zip(wires, NAMES, strict=True)]
    for one in links:
        one.start(1000)
    return wires, links


def taken(links, count):
    found = []
    while len(found) < count:
        found += links.take(10.0)
    return found


def until(condition):
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.001)


def test_each_pair_keeps_its_order_and_what_was_sent_is_counted(three):
    _, (a, b, c) = three
    for step in range(100):
        a.put("b", b"a%d" % step, 3)
        c.put("b", b"c%d" % step, 0)
    found = taken(b, 200)
    for sender in ("a", "c"):
        assert [content for name, content, _ in found if name == sender] == [
            b"%s%d" % (sender.encode(), step) for step in range(100)
        ]
    until(lambda: a._traffic.total().messages == 100)
    assert a._traffic.links == {("a", "b"): Count(100, 300, 100 * 16 + 10 * 2 + 90 * 3)}


def test_who_is_slow_is_waited_for_outside_and_refused_in_the_end(three):
    _, (a, b, c) = three
    sent = 0
    while a.put("b", b"x", 0):
        sent += 1
        time.sleep(0.0001)
    assert sent >= 2 * 256
    assert a.put("c", b"for another", 0)  # who is not held up
    assert taken(c, 1) == [("a", b"for another", "")]
    assert len(taken(b, sent)) == sent


def test_goodbye_is_said_once_by_both_and_nothing_before_it_is_lost(three):
    _, (a, b, c) = three
    b.state = WAITING
    for step in range(50):
        a.put("b", b"%d" % step, 0)
    assert a.leave(Note(ENDED, ("x", "c")), 10)
    assert a.notes == {"b": Note(WAITING), "c": Note(WORKING)}
    assert b.notes == {"a": Note(ENDED, ("c",))}  # of names that are none of a peer's, none
    assert "a" in b.alive  # its messages lie there
    assert [content for _, content, _ in taken(b, 50)] == [b"%d" % step for step in range(50)]
    assert b.alive == ("c",)
    assert b.put("a", b"to nobody", 0)
    assert b.leave(Note(ENDED), 10)
    assert c.leave(Note(ENDED), 10)
    assert b.broken == c.broken == ()


def test_a_wait_ends_when_a_peer_goes(three):
    wires, (a, b, _) = three
    threading.Timer(0.05, wires[2].cut, [0]).start()
    assert a.take(20.0) == []
    assert (a.alive, a.broken) == (("b",), ("c",))
    a.put("b", b"on", 0)
    assert taken(b, 1) == [("a", b"on", "")]


@pytest.mark.parametrize("frame", [(1, 1001), (1, 0), (1, -5), (2, 1 << 17), (3, 10), (0, 0)])
def test_who_announces_what_it_must_not_is_cut_off_and_told_of(three, frame):
    wires, (a, b, _) = three
    wires[2].send(0, np.array(frame, "<i8").view(np.uint8))
    ((sender, _, fault),) = a.take(10.0)
    assert sender == "c"
    assert "announces" in fault
    assert a.alive == ("b",)
    a.put("b", b"on", 0)
    assert taken(b, 1) == [("a", b"on", "")]


def test_a_peer_that_never_answers_does_not_hold_up_the_end():
    one = Links(Queues(0, {}), NAMES, "a", Traffic())
    assert not one.leave(Note(ENDED), 0.2)
    assert one.alive == ("b", "c")


def test_a_message_for_nobody(three):
    with pytest.raises(PeersError, match="none of the other peers"):
        three[1][0].put("a", b"", 0)


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b"{}", b'{"state": "x"}', b"[" * 9999, b'{"state": ["ended"]}']
)
def test_of_a_note_that_is_none_nothing_is_believed(content):
    assert Note.decode(content, NAMES) == Note(FAILED)
