"""Secret random numbers: the same again for the same use, others for another, and of the distribution they say."""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from scipy import stats

from computation.training.privacy.stream import Stream

SECRET = bytes(range(32))


def test_a_use_has_the_same_numbers_again_and_another_use_or_secret_has_others():
    first = Stream(SECRET, "noise 1").normals(70_000)
    assert np.array_equal(first, Stream(SECRET, "noise 1").normals(70_000))
    for other in (Stream(SECRET, "noise 2"), Stream(SECRET[::-1], "noise 1")):
        assert abs(np.corrcoef(first, other.normals(70_000))[0, 1]) < 0.02


def test_words_are_the_ciphers_and_go_on_where_they_ended():
    stream = Stream(SECRET, "words")
    assert np.array_equal(
        np.concatenate([stream.words(3), stream.words(5)]),
        Stream(SECRET, "words").words(8),
    )
    key = Stream(SECRET, "words")._cipher
    assert type(key) is type(Cipher(algorithms.ChaCha20(SECRET, bytes(16)), None).encryptor())


def test_normals_are_normal():
    drawn = Stream(SECRET, "noise").normals(200_000)
    assert stats.kstest(drawn, "norm").pvalue > 0.01
    assert abs(stats.kurtosis(drawn)) < 0.05
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.01


def test_uniforms_reach_one_and_never_zero():
    drawn = Stream(SECRET, "scans").uniforms(100_000)
    assert drawn.min() > 0 and drawn.max() <= 1
    assert stats.kstest(drawn, "uniform").pvalue > 0.01


def test_normals_have_more_values_than_one_draw_has():
    """Of one draw in floating point the low bits follow from the size; of four the sum does not lie on such a grid."""
    drawn = Stream(SECRET, "noise").normals(50_000)
    assert np.unique(drawn).size == drawn.size
