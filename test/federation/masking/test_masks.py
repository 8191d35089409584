"""What a site's masks refuse, whoever runs the centre; and what a restart does not forget."""

import dataclasses
import json
import stat

import numpy as np
import pytest

from computation.errors import ConsensusError, MessageError, ResumeError
from computation.federation.masking import centre, circle
from computation.federation.masking.book import Book
from computation.federation.masking.centre import Sums, check_offer
from computation.federation.masking.site import Masks, RepeatedError, joined
from computation.secure import keys
from computation.settings import Settings
from computation.tracking import Tracker
from computation.wire.messages import Arrived, Masking, Plan, RoundOffer

DIGEST = "ab" * 32
SITES = ("a", "b", "c", "d")
PARTS = {"parameters": slice(0, 6)}
SETTINGS = Settings(secure_aggregation=True)


def consortium(root, sites=SITES, settings=SETTINGS, swap=None):
    """Return each site's masks and the centre's sums."""
    public = {site: joined(root / site) for site in sites}
    plan = Plan("run", 9, sites, DIGEST, DIGEST, masking=Masking({**public, **(swap or {})}, dict.fromkeys(sites, 5)))
    return {site: masks(root, plan, site, settings) for site in sites}, Sums.of(plan, settings), plan


def masks(root, plan, site, settings=SETTINGS, scans=5):
    return Masks(plan, settings, site, scans, root / site, Tracker(root / site))


def uploaded(sites, number=1, seed=0):
    """Return each site's words and its offer of one round."""
    rng = np.random.default_rng(seed)
    values = {site: rng.normal(size=6).astype("f4") for site in sites}
    done = {site: one.hide(values[site], np.zeros(6, "f4"), PARTS, 1.5, number) for site, one in sites.items()}
    words = {site: words for site, (words, _) in done.items()}
    return values, words, {s: RoundOffer(number, "ok", "", 1, 0.0, DIGEST, masked=m) for s, (_, m) in done.items()}


def asked(sums, offers, words, number=1, skipped=()):
    skipped = dict.fromkeys(skipped, "absent")
    sums.gather(offers, skipped, 6, words.__getitem__)
    return sums.ask(number, offers, skipped)


def test_a_round_comes_to_the_mean_and_its_loss(tmp_path):
    sites, sums, _ = consortium(tmp_path)
    values, words, offers = uploaded(sites)
    arrived = asked(sums, offers, words)
    answers = {site: one.answer(arrived, offers[site]) for site, one in sites.items()}
    combined = sums.combined(1, answers, np.zeros(6, "f4"), PARTS)
    assert np.allclose(combined.values, np.mean(list(values.values()), axis=0), atol=1e-7)
    assert combined.loss == pytest.approx(1.5) and combined.sites == SITES


def test_a_centre_that_asks_one_round_in_two_ways_gets_one_answer_also_after_a_restart(tmp_path):
    sites, sums, plan = consortium(tmp_path)
    _, words, offers = uploaded(sites)
    arrived = asked(sums, offers, words)
    answer = sites["a"].answer(arrived, offers["a"])
    fewer = asked(sums, offers, words, skipped=["d"])
    restarted = masks(tmp_path, plan, "a")
    for one in (sites["a"], restarted):
        with pytest.raises(MessageError, match="in two ways, which would show a single site's update"):
            one.answer(fewer, offers["a"])
        assert one.answer(arrived, offers["a"]) == answer  # a message that was lost is answered again
    swapped = dataclasses.replace(arrived, shares={**arrived.shares, "a": {}})
    with pytest.raises(MessageError, match="in two ways"):
        restarted.answer(swapped, offers["a"])


def test_a_site_that_is_set_back_does_not_mask_other_words_in_the_same_round(tmp_path):
    sites, _, plan = consortium(tmp_path)
    uploaded(sites, 3)
    restarted = masks(tmp_path, plan, "a")
    first, _ = restarted.hide(*_offer(0), 3)  # the same words once more, under another mask of its own
    assert first.size == 7
    with pytest.raises(RepeatedError, match="round 3 was masked before, with other words"):
        restarted.hide(*_offer(1), 3)
    with pytest.raises(MessageError, match="is to mask round 2 and has masked round 3"):
        restarted.hide(*_offer(0), 2)


def _offer(seed):
    values = np.random.default_rng(seed).normal(size=6).astype("f4")
    return values, np.zeros(6, "f4"), PARTS, 1.5


def test_a_site_answers_for_no_round_that_it_did_not_mask_last(tmp_path):
    sites, sums, _ = consortium(tmp_path)
    _, words, offers = uploaded(sites, 1)
    first = asked(sums, offers, words)
    _, _, later = uploaded(sites, 2)
    with pytest.raises(MessageError, match="masks of round 1, which is not under way here"):
        sites["a"].answer(first, later["a"])
    with pytest.raises(MessageError, match="in two ways"):
        sites["a"].answer(first, offers["a"])
    with pytest.raises(MessageError, match="not under way here"):
        sites["a"].answer(first, None)


@pytest.mark.parametrize("there", [(), ("a",), ("a", "b"), ("a", "a", "b"), ("a", "b", "stranger")])
def test_a_sum_of_too_few_or_of_strangers_is_refused(tmp_path, there):
    sites, _, _ = consortium(tmp_path)
    _, _, offers = uploaded(sites)
    with pytest.raises(MessageError, match="wanted at least 3 of the 4 that joined"):
        sites["a"].answer(Arrived(1, there, {}), offers["a"])


def test_a_site_that_skipped_gives_nothing_and_sees_when_words_of_its_own_are_made_up(tmp_path):
    sites, _, _ = consortium(tmp_path)
    skipped = RoundOffer(1, "skipped", "failed", 0, 0.0, DIGEST)
    said = sites["a"].answer(Arrived(1, ("b", "c", "d"), {}), skipped)
    assert not said.shares and not said.seeds
    with pytest.raises(ConsensusError, match="has masked words of site a, which skipped the round"):
        sites["a"].answer(Arrived(1, SITES, {}), skipped)


def test_a_swapped_key_or_weight_or_a_missing_site_is_found_by_the_site_itself(tmp_path):
    with pytest.raises(MessageError, match="another key than that of site b"):
        consortium(tmp_path / "x", swap={"b": keys.public(keys.new()).hex()})
    _, _, plan = consortium(tmp_path)
    with pytest.raises(MessageError, match="another weight than its training scans"):
        masks(tmp_path, plan, "a", scans=6)
    fewer = Masking({s: k for s, k in plan.masking.keys.items() if s != "d"}, plan.masking.weights)
    for wrong in (dataclasses.replace(plan, masking=fewer), dataclasses.replace(plan, masking=None)):
        with pytest.raises(MessageError, match="not a masking key and a weight of each site that trains"):
            masks(tmp_path, wrong, "a")


def test_keys_that_are_swapped_for_one_site_alone_show_as_other_fingerprints_and_closed_shares(tmp_path):
    sites, sums, plan = consortium(tmp_path)
    other = {**plan.masking.keys, "c": keys.public(keys.new()).hex()}
    fooled = masks(tmp_path, dataclasses.replace(plan, masking=Masking(other, plan.masking.weights)), "a")
    assert fooled.terms.circle.fingerprint != sites["b"].terms.circle.fingerprint
    sites["a"] = fooled
    _, words, offers = uploaded(sites)
    arrived = asked(sums, offers, words)
    assert sites["b"].answer(arrived, offers["b"]).closed == ("a",)
    assert fooled.answer(arrived, offers["a"]).closed == ("b", "c", "d")
    text = (tmp_path / "b" / "journal.jsonl").read_text()
    assert "what a sealed for this site cannot be opened: compare the fingerprints" in text


@pytest.mark.parametrize(
    ("weights", "settings"), [({"a": 5, "b": 5, "c": 5, "d": 100_000}, {}), ({}, {"most_share": 0.5})]
)
def test_a_site_that_is_told_other_weights_or_settings_than_the_rest_masks_with_nobody(tmp_path, weights, settings):
    """Of a sum in which one site has nearly all the weight, the centre would know that site's update."""
    sites, sums, plan = consortium(tmp_path)
    other = Masking(plan.masking.keys, {**plan.masking.weights, **weights})
    told = dataclasses.replace(SETTINGS, **settings)
    sites["a"] = masks(tmp_path, dataclasses.replace(plan, masking=other), "a", told)
    assert sites["a"].terms.circle.fingerprint != sites["b"].terms.circle.fingerprint
    _, words, offers = uploaded(sites)
    arrived = asked(sums, offers, words)
    assert sites["b"].answer(arrived, offers["b"]).closed == ("a",)


def test_the_book_is_for_its_owner_alone_and_a_damaged_one_is_told(tmp_path):
    joined(tmp_path)
    path = tmp_path / "masking.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    private = Book(tmp_path).private()
    assert private.hex() in path.read_text() and keys.public(private).hex() not in path.read_text()
    for text in ("", "{}", "[]", json.dumps({"private": "x"}), json.dumps({"private": DIGEST, "more": 1})):
        path.write_text(text)
        with pytest.raises(ResumeError, match="masking key is"):
            Book(tmp_path).private()
    path.unlink()
    with pytest.raises(ResumeError, match="is gone or damaged"):
        Book(tmp_path).private()


def test_the_book_is_one_sector_that_is_written_over_at_once_and_never_through_a_link(tmp_path):
    joined(tmp_path)
    path, book, most = tmp_path / "masking.json", Book(tmp_path), 2**31 - 1
    first, private = path.stat(), book.private()
    assert book.mask(most, DIGEST) and book.mask(most, DIGEST) and not book.mask(most, DIGEST[::-1])
    book.answer(most, DIGEST)
    assert (path.stat().st_ino, path.stat().st_size) == (first.st_ino, 512) and book.private() == private
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_text()
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ResumeError, match="cannot be kept"):
        book.answer(most, DIGEST)
    assert (tmp_path / "elsewhere").read_text() == before


def test_offers_are_masked_where_they_must_be_and_nowhere_else(tmp_path):
    sites, sums, _ = consortium(tmp_path)
    _, _, offers = uploaded(sites)
    check_offer("a", offers["a"], sums.terms)
    plain = dataclasses.replace(offers["a"], masked=None)
    check_offer("a", plain, None)
    for site, offer, terms, said in (
        ("a", plain, sums.terms, "sent no shares of a mask in round 1; wanted one for each other"),
        ("b", offers["a"], sums.terms, "sent other shares of a mask"),
        ("a", offers["a"], None, "sent other shares of a mask in round 1; wanted none"),
        ("a", dataclasses.replace(offers["a"], loss=0.5), sums.terms, "told its loss in round 1"),
    ):
        with pytest.raises(MessageError, match=said):
            check_offer(site, offer, terms)


def test_a_centre_that_restarts_between_the_steps_goes_on_with_the_sum(tmp_path):
    sites, sums, plan = consortium(tmp_path)
    values, words, offers = uploaded(sites)
    arrived = asked(sums, offers, words)
    arrays, record = sums.record()
    again = Sums.of(plan, SETTINGS)
    again.restore({name: array.copy() for name, array in arrays.items()}, json.loads(json.dumps(record)))
    answers = {site: one.answer(arrived, offers[site]) for site, one in sites.items()}
    combined = again.combined(1, answers, np.zeros(6, "f4"), PARTS)
    assert np.allclose(combined.values, np.mean(list(values.values()), axis=0), atol=1e-7)
    sums.close()
    assert sums.record() == ({}, {}) and not sums.open


def test_shares_are_those_of_the_mean_and_capped_as_there(tmp_path):
    plan = Plan("run", 9, SITES, DIGEST, DIGEST)
    public = {site: keys.public(keys.new()).hex() for site in SITES}
    weights = {"a": 100_000, "b": 1, "c": 1, "d": 1}
    terms = circle.Terms.of(
        dataclasses.replace(plan, masking=Masking(public, weights)),
        dataclasses.replace(SETTINGS, most_share=0.5),
    )
    assert terms.shares["a"] == pytest.approx(0.5) and sum(terms.shares.values()) == pytest.approx(1)
    assert centre.fixed.Scale(1000.0, 4).factor == terms.factor
