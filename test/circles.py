"""Circles of sites with keys, and a whole round among them."""

import numpy as np

from computation.secure import fixed, keys, round
from computation.secure.keys import Circle, Ring


def circle(count, least=3, run="a run"):
    """Return the rings of so many sites."""
    private = {f"site {number}": keys.new() for number in range(count)}
    made = Circle(run, {site: keys.public(key) for site, key in private.items()}, least)
    return {site: Ring(made, site, key) for site, key in private.items()}


def uploads(rings, number, words):
    """Return each site's masked words, and what goes with them."""
    masked = {site: plain.copy() for site, plain in words.items()}
    return masked, {site: round.upload(rings[site], number, masked[site]) for site in words}


def sealed_for(site, sent):
    return {other: upload.shares[site] for other, upload in sent.items() if other != site}


def answers(rings, number, sent, there):
    """Return what those give who are there, each of whom hears of the same ones."""
    heard = {site: sent[site] for site in there}
    given = {site: round.answer(rings[site], number, sealed_for(site, heard), there) for site in there}
    assert not any(closed for _, closed in given.values())
    return {site: one for site, (one, _) in given.items()}


def random_words(sites, size, seed=0):
    rng = np.random.default_rng(seed)
    return {site: rng.integers(0, 2**64, size, np.uint64) for site in sites}


def plain_sum(words, there):
    return fixed.total([words[site] for site in there])
