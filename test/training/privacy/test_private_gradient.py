"""A trainer's private gradient: without noise it is the plain one, and without a mechanism there is none."""

import numpy as np
import pytest

from computation.errors import PrivacyError
from computation.training.privacy.mechanism import Mechanism, Noise
from computation.training.privacy.secret import Secret

WHOLE = {"patch_size": (0, 0, 0), "precision": "float64"}


def _private(trainer, folder, **options):
    noise = {"scans": trainer.samples, "expected": trainer.samples, "clip": 1e3, "multiplier": 0.0, **options}
    trainer.privacy = Mechanism(Noise(**noise), Secret(folder), "run", 10)
    return trainer


def test_without_noise_or_bound_it_is_the_mean_over_all_scans(trainer, tmp_path):
    ours = _private(trainer(dp=True, **WHOLE), tmp_path).gradient(1)
    plain = trainer(local_steps=3, **WHOLE).gradient(1)
    np.testing.assert_allclose(ours.vector, plain.vector, rtol=1e-9, atol=1e-14)
    assert (ours.loss, ours.samples, ours.skipped) == (0.0, 1, ())


def test_all_sub_volumes_of_a_scan_are_bounded_as_one(trainer, memory_store, tmp_path):
    store = memory_store(("train", "valid"))
    ours = _private(trainer(store, dp=True, batch_size=4), tmp_path, clip=1e-3).gradient(1)
    assert np.linalg.norm(ours.vector.astype(np.float64)) == pytest.approx(1e-3, rel=1e-6)
    assert ours.samples == 4


def test_rounds_have_other_sub_volumes_and_the_same_round_the_same(trainer, memory_store, tmp_path):
    ours = _private(trainer(memory_store(("train",)), dp=True, batch_size=2), tmp_path)
    first = ours.gradient(1).vector
    assert np.array_equal(first, ours.gradient(1).vector)
    assert not np.array_equal(first, ours.gradient(2).vector)


def test_a_scan_that_cannot_be_read_shows_at_home_alone(trainer, store, tmp_path):
    store.bad = {1, 2}
    ours = _private(trainer(store, dp=True), tmp_path)
    done = ours.gradient(1)
    assert np.isfinite(done.vector).all() and done.skipped == () and ours.skipped == []
    assert ours.fallbacks == {"a training scan could not be read or its gradient was not finite: it counted as nothing"}


def test_no_mechanism_no_gradient_and_local_steps_never(trainer, tmp_path):
    ours = trainer(dp=True)
    with pytest.raises(PrivacyError, match="no noise"):
        ours.gradient(1)
    with pytest.raises(PrivacyError, match="local steps"):
        _private(ours, tmp_path).local_steps(1)


def test_statistics_that_would_travel_are_refused(trainer, tmp_path):
    with pytest.raises(PrivacyError, match="no statistics"):
        _private(trainer(dp=True, norm="batch"), tmp_path).gradient(1)
    _private(trainer(dp=True, norm="batch", norm_policy="frozen"), tmp_path).gradient(1)
