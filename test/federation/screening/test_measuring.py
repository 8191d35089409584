"""Sizes and angles from one pass over the values, against NumPy's own on the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.federation.screening import measuring


@pytest.mark.parametrize("size", [1, 8_191, 8_192, 8_193, 20_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_are_those_of_the_whole_vectors_in_float64(size, dtype):
    draw = np.random.default_rng(size)
    vectors, origin = draw.normal(size=(3, size)).astype(dtype), draw.normal(size=size).astype(dtype)
    away = vectors.astype(np.float64) - origin.astype(np.float64)
    table = measuring.products(vectors, origin)
    np.testing.assert_allclose(table, away @ away.T, rtol=1e-9, atol=1e-9 * size)
    np.testing.assert_array_equal(table, table.T)
    np.testing.assert_allclose(measuring.norms(table), np.linalg.norm(away, axis=1), rtol=1e-12)


@given(scales=st.lists(st.floats(1e-30, 1e30), min_size=3, max_size=3), seed=st.integers(0, 99))
def test_a_cosine_does_not_depend_on_sizes(scales, seed):
    vectors = np.random.default_rng(seed).normal(size=(3, 50))
    wanted = measuring.cosines(measuring.products(vectors, np.zeros(50)))
    scaled = [vector * scale for vector, scale in zip(vectors, scales, strict=True)]
    np.testing.assert_allclose(measuring.cosines(measuring.products(scaled, np.zeros(50))), wanted, atol=1e-9)
    np.testing.assert_allclose(np.diagonal(wanted), 1, rtol=1e-12)


def test_what_is_nothing_or_beyond_float64_has_no_direction():
    table = measuring.products([np.zeros(3), np.full(3, 1e200), np.array([1e200, -1e200, 0]), np.ones(3)], np.zeros(3))
    found = measuring.cosines(table)
    assert np.isfinite(found).all()
    assert found[0][3] == found[1][2] == found[1][3] == 0
    assert measuring.norms(table)[:3] == [0, np.inf, np.inf]


def test_nobody_is_measured_against_nobody():
    assert measuring.products([], np.zeros(3)).shape == (0, 0) and measuring.cosines(np.zeros((0, 0))) == []


def _plain(vectors, origin, block=8_192):
    """Return the products as their definition has them: pair by pair and block by block, in float64."""
    away = [vector.astype(np.float64) - origin.astype(np.float64) for vector in vectors]
    with np.errstate(all="ignore"):
        return [
            [
                sum((one[at : at + block] * other[at : at + block]).sum() for at in range(0, origin.size, block))
                for one in away
            ]
            for other in away
        ]


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 6),
    size=st.sampled_from([1, 90, 1_000, 5_000, 8_200, 17_000]),
    dtype=st.sampled_from([np.float32, np.float64]),
    origin=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 2**32),
)
def test_however_products_are_taken_their_bits_are_those_of_the_plain_sums(count, size, dtype, origin, seed):
    """Few values or many, from nothing or from a model: on every machine the same sums, in the same order."""
    draw = np.random.default_rng(seed)
    vectors, start = draw.normal(size=(count, size)).astype(dtype), (origin * draw.normal(size=size)).astype(dtype)
    table = measuring.products(list(vectors), start)
    np.testing.assert_array_equal(table, _plain(vectors, start))
    for rows in range(count):
        few = measuring.products(list(vectors), start, rows=rows + 1)
        np.testing.assert_array_equal(few[: rows + 1], table[: rows + 1])
        np.testing.assert_array_equal(few[:, : rows + 1], table[:, : rows + 1])


@given(st.lists(st.floats(width=32), min_size=12, max_size=12), st.floats(0, 2.0**127, width=32))
def test_cosines_are_the_quotients_that_numpy_makes_of_any_numbers(numbers, factor):
    vectors = np.array(numbers, np.float32).reshape(4, 3)
    with np.errstate(all="ignore"):
        vectors[3] = vectors[0] * np.float32(factor)
        table = measuring.products(list(vectors), np.zeros(3, np.float32))
        lengths = np.sqrt(np.diagonal(table))
        wanted = table / lengths[:, None] / lengths
    wanted = np.clip(np.where(np.isfinite(wanted), wanted, 0.0), -1.0, 1.0)
    np.testing.assert_array_equal(measuring.cosines(table), wanted)
