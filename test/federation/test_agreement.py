"""The course that all sites agree on: how many rounds so many epochs are."""

from dataclasses import replace

import pytest

from computation.errors import SettingsError
from computation.federation.agreement import agree, rounds
from computation.settings import Settings
from computation.wire.messages import JoinOffer

SCANS, NONE = {"train": 1, "valid": 0, "test": 0}, {"valid": 0, "test": 0}


def offers(*steps):
    return {
        f"local{place}": JoinOffer({}, ("background", "brain"), SCANS, NONE, NONE, count, {}, "cpu", {})
        for place, count in enumerate(steps)
    }


@pytest.mark.parametrize(
    ("epochs", "steps", "local_steps", "wanted"),
    [
        (5, (4,), 1, 20),
        (5, (3,), 2, 8),  # 15 batches, the last round goes one beyond
        (5, (4,), 8, 3),  # 20 batches: as a round of each epoch it would be 40
        (5, (4,), 100, 1),  # not 500
        (5, (2, 6, 4), 4, 8),  # 30 batches of the largest site
        (1, (1,), 1_000_000, 1),
        (0, (4, 1), 1, 3_000),  # open: 3,000 batches a site, whatever scans it has
        (0, (5_000,), 1, 5_000),  # one epoch at least
        (0, (4,), 8, 375),
    ],
)
def test_epochs_are_batches_of_the_largest_site_whatever_a_round_is(epochs, steps, local_steps, wanted):
    assert rounds(Settings(epochs=epochs, local_steps=local_steps), offers(*steps)) == wanted


def test_more_rounds_than_a_run_can_have_are_refused_with_the_site_that_brings_them():
    with pytest.raises(SettingsError, match="batches of site local1 are"):
        rounds(Settings(epochs=1_000_000), offers(1, 1_000_000))


def joined(train=2, versions=None, **settings):
    labels = {"valid": 1, "test": 0}
    scans = {"train": train, "valid": 1, "test": 0}
    voxels = {"valid": 4096, "test": 0}
    classes = Settings().classes
    return JoinOffer(settings, classes, scans, labels, voxels, train, {}, "cpu", versions or {})


def test_the_odd_site_is_told_apart_from_what_most_were_given_wherever_it_stands():
    sites = {"a": joined(seed=7), "b": joined(), "c": joined(), "d": joined()}
    with pytest.raises(SettingsError) as caught:
        agree(sites)
    assert "setting 'seed' is 0 at site b and 7 at site a;" in caught.value.public


def test_differences_are_told_in_a_plan_that_every_site_can_read():
    """As many different facts as messages allow, at more sites than one: still few and short notes."""
    sites = {f"s{n}": joined(versions={f"v{n}-{k}": "1" for k in range(32)}) for n in range(40)}
    _, notes = agree(sites)
    assert len(notes) == 51 and notes[-1] == "1230 more differences are left out"
    assert all(len(note) <= 200 for note in notes)


def test_a_value_that_all_sites_read_in_an_error_is_cut():
    many = tuple("x" * 64 for _ in range(200))
    with pytest.raises(SettingsError) as caught:
        agree({"a": joined(), "b": replace(joined(), classes=many)})
    assert "site b" in caught.value.public and len(caught.value.public) < 500


def test_patience_without_anything_to_validate_is_told():
    blind = replace(joined(patience=2), labelled=NONE, voxels=NONE)
    assert agree({"a": blind})[1] == (
        "setting 'patience' has no effect, since no site validates",
        "a counts no 'valid' scan: it has fewer than 3 labelled ones (setting 'min_scans')",
    )
    assert agree({"a": joined(patience=2)})[1] == ()


def test_a_site_that_says_it_has_nearly_all_scans_is_told_of():
    sites = {"a": joined(9), "b": joined(1), "c": joined(1)}
    assert agree(sites)[1] == ()
    _, notes = agree({**sites, "b": joined(90_000)})
    assert notes == ("b says that it has 90000 of 90010 training scans, which decides the rounds",)


def test_a_federation_in_which_nobody_trains_is_refused():
    with pytest.raises(SettingsError, match="no site has a labelled scan to train on"):
        agree({"a": joined(0), "b": joined(0)})
    _, notes = agree({"a": joined(0), "b": joined(1)})
    assert notes == (
        "a has no scan to train on and only evaluates",
        "only b trains: every site sees its update as it is, since a mean of one hides nothing",
    )


def test_two_sites_that_train_are_told_that_a_mean_of_two_hides_nothing():
    told = ("only two sites train: a and b can each compute the other's update from the mean",)
    assert agree({"a": joined(), "b": joined()})[1] == told
    assert agree({"a": joined(), "b": joined(), "c": joined()})[1] == ()
    assert told[0] in agree({"a": joined(), "b": joined(), "c": joined(0)})[1]
    assert agree({"a": joined()})[1] == ()


def test_what_is_a_members_own_has_no_place_in_a_join():
    """A number that is not finite, hidden in such a value, would end the centre where it writes its checkpoint."""
    with pytest.raises(SettingsError, match="site b: setting 'device' is its own and stays there"):
        agree({"a": joined(), "b": joined(device={"device": "cpu", "x": 1})})
