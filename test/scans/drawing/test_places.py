"""Sub-volumes lie inside, cover what they should, and follow the foreground."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.scans.drawing import places
from computation.scans.store.blocks import BlockGrid

SIDES = st.tuples(*[st.integers(1, 20)] * 3)
QUICK = settings(max_examples=100, deadline=None)


@QUICK
@given(SIDES, st.data())
def test_a_grid_covers_every_voxel_and_neighbours_overlap_as_asked(shape, data):
    size = tuple(data.draw(st.integers(1, side)) for side in shape)
    overlap = tuple(data.draw(st.integers(0, side - 1)) for side in size)
    seen = np.zeros(shape, int)
    starts = places.grid(shape, size, overlap)
    for start in starts:
        assert all(a >= 0 and a + b <= c for a, b, c in zip(start, size, shape, strict=True))
        seen[tuple(slice(a, a + b) for a, b in zip(start, size, strict=True))] += 1
    assert seen.min() >= 1 and len(set(starts)) == len(starts)
    for axis in range(3):
        along = sorted({start[axis] for start in starts})
        assert all(a + size[axis] - b >= overlap[axis] for a, b in pairwise(along))


def test_a_grid_that_fits_exactly_visits_each_voxel_once():
    assert places.grid((4, 4, 6), (2, 4, 3)) == ((0, 0, 0), (0, 0, 3), (2, 0, 0), (2, 0, 3))


@QUICK
@given(SIDES, st.data(), st.integers(0, 99))
def test_every_way_of_drawing_stays_inside(shape, data, seed):
    size = tuple(data.draw(st.integers(1, side)) for side in shape)
    room = tuple(a - b for a, b in zip(shape, size, strict=True))
    grid = BlockGrid(shape, 4)
    counts = np.random.default_rng(seed).integers(0, 5, grid.counts).astype(np.uint32)
    for draw in (
        lambda rng: places.uniform(room, rng),
        lambda rng: places.centred(room, rng),
        lambda rng: places.foreground(room, size, counts, grid, rng),
    ):
        first, again = (draw(np.random.default_rng(seed)) for _ in range(2))
        assert first == again
        assert all(0 <= start <= most for start, most in zip(first, room, strict=True))


def test_centred_places_have_a_quarter_of_the_room_as_their_spread():
    rng = np.random.default_rng(1)
    drawn = np.array([places.centred((100, 100, 100), rng) for _ in range(800)])
    # A normal cut off at two standard deviations has 0.880 of its spread left.
    assert abs(drawn.mean() - 50) < 1.5 and drawn.std() == pytest.approx(25 * 0.880, rel=0.05)


def test_foreground_places_look_at_the_one_block_that_has_some():
    grid = BlockGrid((40, 40, 40), 8)
    counts = np.zeros(grid.counts, np.uint32)
    counts[3, 2, 1] = 7
    rng = np.random.default_rng(2)
    for _ in range(50):
        start = places.foreground((32, 32, 32), (8, 8, 8), counts, grid, rng)
        middle = np.array(start) + 4
        assert (middle // 8 == (3, 2, 1)).all()


def test_foreground_places_are_drawn_in_proportion():
    grid = BlockGrid((16, 8, 8), 8)
    counts = np.array([3, 1], np.uint32).reshape(grid.counts)
    rng = np.random.default_rng(3)
    first = [places.foreground((15, 7, 7), (1, 1, 1), counts, grid, rng)[0] < 8 for _ in range(2000)]
    assert np.mean(first) == pytest.approx(0.75, abs=0.03)


def test_a_scan_without_foreground_is_drawn_from_uniformly():
    grid = BlockGrid((8, 8, 8), 4)
    rng = np.random.default_rng(4)
    drawn = {places.foreground((4, 4, 4), (4, 4, 4), np.zeros(grid.counts, np.uint32), grid, rng) for _ in range(300)}
    assert len(drawn) > 80
