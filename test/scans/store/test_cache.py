"""The cache never holds more than its limit, and lets go of what was not used for longest."""

from hypothesis import given, settings
from hypothesis import strategies as st

from computation.scans.store.blocks import Box
from computation.scans.store.cache import OVERHEAD, BlockCache
from computation.scans.store.opening import open_store


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 900), st.lists(st.tuples(st.integers(0, 6), st.integers(1, 30)), max_size=40))
def test_within_its_limit_whatever_is_put(limit, puts):
    cache = BlockCache(limit)
    for key, size in puts:
        cache.put(key, bytes([key]) * size)
        held = [cache.get(key) for key in range(7)]
        assert cache.nbytes == sum(OVERHEAD + len(one) for one in held if one is not None) <= limit
        assert all(set(one) == {key} for key, one in enumerate(held) if one is not None)


def test_a_block_of_zeros_costs_next_to_nothing():
    cache = BlockCache(4096)
    cache.put(1, b"")
    assert cache.nbytes == OVERHEAD and cache.get(1) == b""


def test_what_was_used_last_stays():
    cache = BlockCache(2 * (OVERHEAD + 1))
    for key in "ab":
        cache.put(ord(key), b"x")
    cache.get(ord("a"))
    cache.put(ord("c"), b"x")
    assert cache.get(ord("b")) is None and cache.get(ord("a")) is not None
    cache.clear()
    assert cache.nbytes == 0 and cache.get(ord("a")) is None


def test_a_store_with_and_without_cache_reads_the_same_and_the_second_time_without_the_file(tools, monkeypatch):
    path = tools.database()
    with open_store(path) as cached, open_store(path, cache_bytes=0) as plain:
        scan = cached.scans()[0]
        whole = Box((0, 0, 0), scan.shape)
        first = cached.stored(scan, "image", whole)
        monkeypatch.setattr(cached, "_rows", None)
        again = cached.stored(scan, "image", whole)
        assert (first == plain.stored(scan, "image", whole)).all() and (again == first).all()
        again[:] = 0
        assert (cached.stored(scan, "image", whole) == first).all(), "what a caller gets is its own"
