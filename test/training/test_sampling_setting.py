"""Where a site draws its sub-volumes is the owner's setting."""

import numpy as np
import pytest

from computation.scans.drawing.places import PLACES
from computation.scans.drawing.sampling import PatchSampler
from computation.scans.store.opening import open_store
from computation.settings import Settings, options
from sqlite_fixtures.build import Subjects, build


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    paths = build(tmp_path_factory.mktemp("scans"), sites=1, subjects=Subjects(2, 1, 0), spacing_mm=8.0)
    return paths[0]


def test_the_setting_has_the_samplers_places():
    assert options(Settings)["sampling"][1].values == PLACES


@pytest.mark.parametrize("place", PLACES)
def test_sub_volumes_are_drawn_where_the_setting_says(database, trainer, place):
    with open_store(database) as store:
        ours = trainer(store, sampling=place)
        drawn = ours.gradient(1)
        ours.close()
        sampler = PatchSampler(store, "train", patch_size=(8, 8, 8), batch_size=1, seed=3, site="local0", place=place)
        expected = trainer(store, sampler=sampler).gradient(1)
        assert np.array_equal(drawn.vector, expected.vector)
        others = [
            PatchSampler(store, "train", patch_size=(8, 8, 8), batch_size=1, seed=3, site="local0", place=other)
            for other in PLACES
            if other != place
        ]
        assert any(
            not np.array_equal(drawn.vector, trainer(store, sampler=other).gradient(1).vector) for other in others
        )
