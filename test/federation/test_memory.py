"""What a centre holds while it looks at many large contributions: a few models, however many sites there are."""

import tracemalloc

import numpy as np
import pytest

from computation.coinstac import arrivals
from computation.federation import claims, screening
from computation.settings import Settings
from computation.strategies import Contribution, named
from computation.wire import payload
from computation.wire.payload import CONTRIBUTION, Manifest, Payload

SITES, SIZE, MODEL = 32, 2_000_000, "a" * 64
MANIFEST = Manifest((("weight", (SIZE,)),))


@pytest.fixture
def files(tmp_path):
    generator = np.random.default_rng(0)
    for site in range(SITES):
        values = generator.normal(size=SIZE).astype(np.float32)
        payload.write(
            tmp_path / f"{site:02}.bin", Payload(CONTRIBUTION, 1, MANIFEST, values, "a" * 64, f"{site:02}", "run")
        )
    return tmp_path


def test_32_sites_of_two_million_values_take_no_more_than_three_models(files):
    origin, settings = np.zeros(SIZE, np.float32), Settings()
    tracemalloc.start()
    taken = [_contribution(files, f"{site:02}") for site in range(SITES)]
    bounds, parts = screening.Bounds.of(settings), {"parameters": slice(0, SIZE)}
    done = screening.screen(taken, origin, parts, screening.State(), bounds)
    combined = named(settings).combine(done.kept)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert combined.sites == tuple(f"{site:02}" for site in range(SITES))
    assert most < 3 * 4 * SIZE


def _contribution(folder, site):
    wanted = {"kind": CONTRIBUTION, "round": 1, "manifest": MANIFEST, "dtype": np.dtype(np.float32), "model": MODEL}
    values = arrivals.receive(folder / f"{site}.bin", **wanted, site=site, run="run")
    claims.check_values(MANIFEST, values)
    return Contribution(site, 1, MODEL, 1.0, 0.5, values)
