"""What travelled: counts add up, whoever counts them and in whatever order."""

import json
import threading

from hypothesis import given
from hypothesis import strategies as st

from peers.traffic import Count, Traffic

NAMES = st.sampled_from(["local0", "local1", "local2"])
COUNTS = st.builds(Count, *(st.integers(0, 1 << 40) for _ in range(4)))


def _traffic(rows):
    traffic = Traffic()
    for row in rows:
        traffic.count(*row)
    return traffic


@given(st.lists(st.tuples(NAMES, NAMES, COUNTS)), st.integers(0, 10))
def test_the_parts_make_the_whole_in_any_order(rows, cut):
    whole, other, one = _traffic(reversed(rows)), _traffic(rows[cut:]), _traffic(rows[:cut])
    one.merge(other)
    assert one == whole
    names = ("local0", "local1", "local2")
    for part in (whole.sent, whole.received):
        assert sum((part(name) for name in names), Count()) == whole.total()
    assert whole.total().bytes == sum(count.bytes for *_, count in rows)


def test_it_is_plain_json_by_link():
    traffic = _traffic([("b", "a", Count(1, 2, 8)), ("a", "b", Count(1, 3, 12, 1)), ("b", "a", Count(1, 1, 4))])
    assert json.loads(json.dumps(traffic.as_json())) == [
        {
            "sender": "a",
            "receiver": "b",
            "messages": 1,
            "values": 3,
            "bytes": 12,
            "duplicates": 1,
            "lost": 0,
            "again": 0,
        },
        {
            "sender": "b",
            "receiver": "a",
            "messages": 2,
            "values": 3,
            "bytes": 12,
            "duplicates": 0,
            "lost": 0,
            "again": 0,
        },
    ]


def test_threads_lose_nothing():
    traffic = Traffic()
    work = [threading.Thread(target=lambda: [traffic.count("a", "b", Count(1)) for _ in range(2000)]) for _ in range(4)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert traffic.sent("a") == Count(8000)
