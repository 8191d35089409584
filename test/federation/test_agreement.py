"""The course that all sites agree on: how many rounds so many epochs are."""

import pytest

from computation.errors import SettingsError
from computation.federation.agreement import rounds
from computation.settings import Settings
from computation.wire.messages import JoinOffer


def offers(*steps):
    return {
        f"local{place}": JoinOffer(
            {}, ("background", "brain"), {"train": 1, "valid": 0, "test": 0}, count, {}, "cpu", {}
        )
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
    ],
)
def test_epochs_are_batches_of_the_largest_site_whatever_a_round_is(epochs, steps, local_steps, wanted):
    assert rounds(Settings(epochs=epochs, local_steps=local_steps), offers(*steps)) == wanted


def test_more_rounds_than_a_run_can_have_are_refused_with_the_site_that_brings_them():
    with pytest.raises(SettingsError, match="batches of site local1 are"):
        rounds(Settings(epochs=1_000_000), offers(1, 1_000_000))
