"""Masks are the cipher's key stream, whole and only once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from computation.secure import masks

#: RFC 8439, appendix A.1, test vector 1.
ZERO_KEY = bytes.fromhex(
    "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
    "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
)


def test_a_mask_is_the_key_stream_of_chacha20():
    words = np.zeros(8, np.uint64)
    masks.add(words, bytes(32))
    assert words.astype("<u8").tobytes() == ZERO_KEY


@pytest.mark.parametrize("size", [0, 1, 32_767, 32_768, 32_769, 100_000])
def test_a_mask_that_is_taken_off_again_leaves_the_words_as_they_were(size):
    words = np.arange(size, dtype=np.uint64)
    masks.add(words, b"k" * 32)
    assert size < 2 or not np.array_equal(words[:2], [0, 1])
    masks.subtract(words, b"k" * 32)
    assert np.array_equal(words, np.arange(size))


@given(st.integers(1, 70_000))
def test_a_longer_mask_begins_like_a_shorter_one(size):
    whole, part = np.zeros(70_000, np.uint64), np.zeros(size, np.uint64)
    masks.add(whole, b"q" * 32)
    masks.add(part, b"q" * 32)
    assert np.array_equal(whole[:size], part)


def test_words_in_the_middle_of_others_are_masked_where_they_are():
    words = np.zeros(10, np.uint64)
    masks.add(words[2:8], b"k" * 32)
    assert words[:2].tolist() == words[8:].tolist() == [0, 0] and words[2:8].all()


def test_masks_look_like_noise():
    words = np.zeros(100_000, np.uint64)
    masks.add(words, b"n" * 32)
    bits = np.unpackbits(words.view(np.uint8))
    assert abs(bits.mean() - 0.5) < 0.001
    assert len(np.unique(words)) == words.size
