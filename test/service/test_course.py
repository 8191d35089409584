"""Whole runs: the service ends with the bits that COINSTAC's own course ends with."""

import pytest
from consortium import consortium
from places import ANNA, begun, digest, go, opened

from service.cases import reading
from service.worker import Worker


@pytest.fixture
def embedded(tmp_path):
    made = opened(tmp_path / "data")
    yield made
    made.store.close()


@pytest.mark.parametrize(
    ("sites", "settings"),
    [
        (2, {}),
        (3, {"strategy": "fedavg", "local_steps": 2}),
        (2, {"norm": "batch"}),
        (3, {"strategy": "scaffold", "local_steps": 2, "optimizer": "sgd", "momentum": 0, "weighting": "equal"}),
    ],
    ids=str,
)
def test_a_run_ends_with_the_model_of_coinstacs_course(embedded, tmp_path, sites, settings):
    desk, wanted = embedded, consortium(tmp_path / "loop", sites, changes=settings).run()["model_digest"]
    run, made = begun(desk, tmp_path, sites, changes={"settings": settings})
    with Worker(desk, tmp_path / "work") as worker:
        assert go(desk, worker, run, made).state == "completed"
    assert digest(desk, run) == wanted
    names = {file.name for file in reading.step(desk, ANNA, run).result.papers}
    assert names == {"index.html", "model-card.md", "journal.jsonl", "metrics.csv"}
    assert not list((tmp_path / "work").iterdir())
