"""Shares of a secret: enough give it back, fewer fit every secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computation.errors import ContributionError
from computation.secure import sharing


@given(st.data())
def test_any_so_many_shares_give_the_secret_back(data):
    count = data.draw(st.integers(1, 12))
    needed = data.draw(st.integers(1, count))
    secret = sharing.made()
    shares = sharing.split(secret, range(1, count + 1), needed)
    some = data.draw(st.permutations(sorted(shares)))[:needed]
    assert sharing.joined({place: shares[place] for place in some}) == secret


@given(st.integers(2, 8))
def test_one_share_less_fits_every_secret(needed):
    shares = sharing.split(sharing.made(), range(1, needed + 1), needed)
    known = {place: shares[place] for place in range(1, needed)}
    # Whatever the last share is, there is a secret, and another one for another share.
    guesses = {sharing.joined({**known, needed: sharing.made()}) for _ in range(5)}
    assert len(guesses) == 5
    assert sharing.joined(known) != sharing.joined(shares)


def test_secrets_are_fresh_and_their_shares_too():
    secret = sharing.made()
    assert sharing.made() != secret
    assert sharing.split(secret, [1, 2, 3], 2)[1] != sharing.split(secret, [1, 2, 3], 2)[1]


@pytest.mark.parametrize(("places", "needed"), [([], 1), ([0, 1], 1), ([1, 1], 1), ([1, 2], 3), ([1, 2], 0)])
def test_shares_that_cannot_be_are_refused(places, needed):
    with pytest.raises(ValueError, match="cannot be made"):
        sharing.split(sharing.made(), places, needed)


@pytest.mark.parametrize("share", [b"", b"x" * 31, b"\xff" * 32, b"x" * 33])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ContributionError, match="a share of a mask is none"):
        sharing.joined({1: share})
