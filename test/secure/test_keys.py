"""Keys: both ends come to the same, nobody else does, and a swapped key is seen."""

import dataclasses

import pytest
from circles import circle

from computation.errors import MessageError
from computation.secure import keys
from computation.secure.keys import Circle, Ring


def test_two_sites_come_to_the_same_seed_and_other_rounds_pairs_and_runs_have_others():
    rings = circle(3)
    a, b, c = rings.values()
    assert a.seed("site 1", 7) == b.seed("site 0", 7)
    private = keys.new()
    public = {"site 0": keys.public(private), **{site: a.circle.keys[site] for site in ("site 1", "site 2")}}
    seeds = {a.seed("site 1", 7), a.seed("site 1", 8), a.seed("site 2", 7), c.seed("site 1", 7)}
    seeds |= {Ring(Circle(run, public, 3), "site 0", private).seed("site 1", 7) for run in ("a", "b")}
    assert len(seeds) == 6
    assert a.adds("site 1") and not b.adds("site 0")


def test_the_fingerprint_is_the_same_for_all_and_another_for_any_change():
    rings = circle(4)
    whole = rings["site 0"].circle
    assert {ring.circle.fingerprint for ring in rings.values()} == {whole.fingerprint}
    assert [len(part) for part in whole.fingerprint.split()] == [5] * 8
    swapped = {**whole.keys, "site 3": keys.public(keys.new())}
    renamed = {f"{site}!": key for site, key in whole.keys.items()}
    fewer = {site: key for site, key in whole.keys.items() if site != "site 2"}
    others = [dataclasses.replace(whole, keys=table) for table in (swapped, renamed, fewer)]
    changes = ({"run": "another"}, {"least": 4}, {"terms": b"x"})
    others += [dataclasses.replace(whole, **change) for change in changes]
    assert len({one.fingerprint for one in (whole, *others)}) == 7


def test_a_site_sees_that_its_own_key_was_swapped():
    ring = circle(3)["site 0"]
    with pytest.raises(MessageError, match="another key than that of site site 0"):
        Ring(ring.circle, "site 0", keys.new())
    with pytest.raises(MessageError, match="another key than that of site stranger"):
        Ring(ring.circle, "stranger", keys.new())


@pytest.mark.parametrize("bad", [bytes(32), b"", b"k" * 31, bytes([1, *bytes(31)])])
def test_a_key_that_makes_no_secret_is_put_down_to_its_site(bad):
    private = keys.new()
    table = {"a": keys.public(private), "b": bad, "c": keys.public(keys.new())}
    with pytest.raises(MessageError, match="the key of site b makes no secret"):
        Ring(Circle("r", table, 3), "a", private)


def test_a_sealed_share_opens_for_its_receiver_its_round_and_its_sender_alone():
    rings = circle(3)
    a, b, c = rings.values()
    sealed = a.seal("site 1", 5, b"s" * 32)
    assert len(sealed) == keys.SEALED_BYTES
    assert b.open("site 0", 5, sealed) == b"s" * 32
    assert a.seal("site 1", 5, b"s" * 32) != sealed
    for reader, sender, round in ((b, "site 0", 6), (b, "site 2", 5), (c, "site 0", 5), (a, "site 1", 5)):
        with pytest.raises(MessageError, match="cannot be opened; compare the fingerprints"):
            reader.open(sender, round, sealed)
    for altered in (b"", sealed[:20], sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed + b"x"):
        with pytest.raises(MessageError, match="cannot be opened"):
            b.open("site 0", 5, altered)


def test_sites_that_were_shown_different_keys_cannot_read_each_other():
    rings = circle(3)
    a, whole = rings["site 0"], rings["site 1"].circle
    private = keys.new()
    other = Circle(whole.run, {**whole.keys, "site 1": keys.public(private)}, 3)
    b = Ring(other, "site 1", private)
    with pytest.raises(MessageError, match="compare the fingerprints"):
        b.open("site 0", 1, a.seal("site 1", 1, b"s" * 32))
