"""A round: the sum of those who are there, exactly, and nothing of any one of them."""

import dataclasses
from itertools import combinations

import numpy as np
import pytest
from circles import answers, circle, plain_sum, random_words, sealed_for, uploads
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import ContributionError, MessageError
from computation.secure import fixed, round, sharing
from computation.secure.fixed import Scale
from computation.secure.round import Answer


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_unmasked_sum_is_the_plain_sum_whoever_is_missing_in_either_step(data):
    count = data.draw(st.integers(3, 8), "sites")
    least = data.draw(st.integers(3, count), "least")
    rings = circle(count, least)
    words = random_words(rings, data.draw(st.integers(1, 50), "values"), count)
    masked, sent = uploads(rings, 3, words)
    there = sorted(data.draw(st.sets(st.sampled_from(sorted(rings)), min_size=least), "there"))
    given_ = answers(rings, 3, sent, there)
    if len(there) == count:  # nobody's seeds are needed, so some may be missing in the second step
        keep = data.draw(st.sets(st.sampled_from(there), min_size=least), "answer")
        given_ = {site: given_[site] for site in keep}
    total = plain_sum(masked, there)
    round.unmask(rings["site 0"].circle, total, {site: sent[site] for site in there}, given_)
    assert np.array_equal(total, plain_sum(words, there))


@settings(deadline=None, max_examples=20)
@given(st.integers(3, 6), st.integers(0, 2**32))
def test_the_mean_of_real_updates_is_the_plain_fixed_point_mean(count, seed):
    rng = np.random.default_rng(seed)
    rings, scale, size = circle(count), Scale(100.0, count), 300
    updates = {site: rng.normal(0, 1, size).astype(np.float32) for site in rings}
    words = {site: np.empty(size, np.uint64) for site in rings}
    for site, update in updates.items():
        fixed.whole(update, np.zeros(size), scale.factor / count, words[site])
    masked, sent = uploads(rings, 1, words)
    total = plain_sum(masked, rings)
    round.unmask(rings["site 0"].circle, total, sent, answers(rings, 1, sent, sorted(rings)))
    mean = np.mean([update.astype(np.float64) for update in updates.values()], axis=0)
    assert np.array_equal(total, plain_sum(words, rings))
    assert np.allclose(fixed.real(total, scale.factor), mean, rtol=0, atol=1e-15)


def test_masked_words_and_sums_of_too_few_tell_nothing():
    rings = circle(4)
    words = {site: np.zeros(10_000, np.uint64) for site in rings}
    masked, _ = uploads(rings, 1, words)
    again, _ = uploads(rings, 1, words)
    for some in (one for size in (1, 2, 3, 4) for one in combinations(rings, size)):
        bits = np.unpackbits(plain_sum(masked, some).view(np.uint8))
        assert abs(bits.mean() - 0.5) < 0.01
    for site in rings:  # in the same round once more, too
        assert not np.array_equal(masked[site], again[site])


def test_words_that_come_late_stay_hidden_under_the_mask_of_their_own():
    rings = circle(4)
    words = random_words(rings, 100)
    masked, sent = uploads(rings, 1, words)
    there = ["site 0", "site 1", "site 2"]
    given_ = answers(rings, 1, sent, there)
    late = masked["site 3"].copy()
    for site in there:  # the centre takes off all the pairs' masks, whose seeds it was given
        (round.masks.add if site < "site 3" else round.masks.subtract)(late, given_[site].seeds["site 3"])
    assert not np.array_equal(late, words["site 3"])
    assert all("site 3" not in one.shares for one in given_.values())


def test_a_site_gives_a_share_or_a_seed_of_another_and_never_both():
    rings = circle(5)
    _, sent = uploads(rings, 1, random_words(rings, 5))
    for there in combinations(sorted(rings), 3):
        for site, one in answers(rings, 1, sent, there).items():
            assert set(one.shares) == set(there) - {site}
            assert set(one.seeds) == set(rings) - set(there)


@pytest.mark.parametrize("there", [[], ["site 0"], ["site 0", "site 1"], ["site 0", "site 1", "site 1"]])
def test_a_site_refuses_a_sum_of_too_few(there):
    rings = circle(4)
    _, sent = uploads(rings, 1, random_words(rings, 5))
    with pytest.raises(MessageError, match="wanted at least 3 of the 4 that joined"):
        round.answer(rings["site 0"], 1, sealed_for("site 0", sent), there)


def test_a_site_refuses_a_sum_with_a_stranger_and_gives_nothing_to_one_without_it():
    rings = circle(4)
    _, sent = uploads(rings, 1, random_words(rings, 5))
    with pytest.raises(MessageError, match="that joined"):
        round.answer(rings["site 0"], 1, sealed_for("site 0", sent), [*rings, "stranger"])
    without = ["site 1", "site 2", "site 3"]
    assert round.answer(rings["site 0"], 1, sealed_for("site 0", sent), without) == (Answer(), [])


def test_a_share_that_cannot_be_opened_or_never_came_is_named_and_left_out():
    rings = circle(5, least=3)
    words = random_words(rings, 5)
    masked, sent = uploads(rings, 1, words)
    heard = sealed_for("site 0", sent)
    heard["site 2"] = b"x" * len(heard["site 2"])
    del heard["site 3"]
    one, closed = round.answer(rings["site 0"], 1, heard, sorted(rings))
    assert closed == ["site 2", "site 3"] and set(one.shares) == {"site 1", "site 4"}
    total = plain_sum(masked, rings)
    round.unmask(rings["site 0"].circle, total, sent, {**answers(rings, 1, sent, sorted(rings)), "site 0": one})
    assert np.array_equal(total, plain_sum(words, rings))


def test_a_false_share_is_known_by_its_mark_and_does_no_harm_while_others_are_whole():
    rings = circle(5, least=3)
    words = random_words(rings, 5)
    masked, sent = uploads(rings, 1, words)
    given_ = answers(rings, 1, sent, sorted(rings))
    liar = dataclasses.replace(given_["site 4"], shares=dict.fromkeys(given_["site 4"].shares, sharing.made()))
    total = plain_sum(masked, rings)
    round.unmask(rings["site 0"].circle, total, sent, {**given_, "site 4": liar})
    assert np.array_equal(total, plain_sum(words, rings))


def test_a_mask_that_is_lost_is_told_and_the_words_are_left_alone():
    rings = circle(4, least=4)
    masked, sent = uploads(rings, 1, random_words(rings, 5))
    given_ = answers(rings, 1, sent, sorted(rings))
    del given_["site 2"]
    total = plain_sum(masked, rings)
    before = total.copy()
    with pytest.raises(ContributionError, match="the mask of site site 0 is lost: 2 of its shares came back whole"):
        round.unmask(rings["site 0"].circle, total, sent, given_)
    assert np.array_equal(total, before)


def test_a_site_that_leaves_between_the_steps_while_another_is_missing_costs_the_round():
    rings = circle(5)
    masked, sent = uploads(rings, 1, random_words(rings, 5))
    there = ["site 0", "site 1", "site 2", "site 3"]
    given_ = answers(rings, 1, sent, there)
    del given_["site 1"]
    total = plain_sum(masked, there)
    with pytest.raises(ContributionError, match="site site 1 was there and did not give the seed of its pair"):
        round.unmask(rings["site 0"].circle, total, {site: sent[site] for site in there}, given_)
