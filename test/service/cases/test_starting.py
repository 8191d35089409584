"""A run that starts from an uploaded model: consent covers it, the centre has it, and nothing else is taken for it."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from exports import exported, hostile
from places import ANNA, EVE, Site, digest, go, spec, who

from computation.tracking import read
from service.blobs.base import BlobError
from service.cases import coordinator, reading, starting
from service.protocol import Conflict, Forbidden, Malformed, TooLarge, Unknown


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("model"))


def draft(desk, **changes):
    return coordinator.create(desk, ANNA, spec(2, **changes)).id


def begin(desk, folder, run):
    """Invite, let real sites accept, start."""
    coordinator.invite(desk, ANNA, run)
    made = [Site(desk, folder, f"local{index}", run, seed=index) for index in range(2)]
    for one in made:
        one.accept()
    coordinator.start(desk, ANNA, run)
    return made


def planned(desk, run):
    return json.loads(reading.step(desk, ANNA, run, 0).result.message)["model"]


def test_a_real_run_starts_from_the_uploaded_model(desk, worker, tmp_path, model):
    card, tensors, wanted = model
    run = draft(desk)
    before = reading.run(desk, ANNA, run)
    changed = coordinator.start_from(desk, ANNA, run, card, tensors)
    assert changed.wanted.settings["initial_model"] == wanted and changed.digest != before.digest
    sites = begin(desk, tmp_path, run)
    worker.work(run)
    assert planned(desk, run) == wanted
    told = read(tmp_path / "work" / worker.name / run / "output" / "journal.jsonl")
    assert [e["digest"] for e in told if e["event"] == "initial-model"] == [wanted]
    assert go(desk, worker, run, sites).state == "completed"
    seeded = draft(desk)
    assert go(desk, worker, seeded, begin(desk, tmp_path / "seeded", seeded)).state == "completed"
    assert digest(desk, run) != digest(desk, seeded)


def test_a_failed_attempt_at_the_join_is_made_up_for(desk, worker, tmp_path, model, monkeypatch):
    """The disk is full at the first attempt, and another one has the model again."""
    run = draft(desk)
    coordinator.start_from(desk, ANNA, run, *model[:2])
    begin(desk, tmp_path, run)
    with monkeypatch.context() as patched:
        patched.setattr(desk.blobs, "read", lambda key, most: (_ for _ in ()).throw(BlobError("full")))
        assert worker.work(run) == 0
    desk.clock.pass_(120)
    assert worker.work(run) == 1 and planned(desk, run) == model[2]


def test_once_more_and_by_many_at_once_is_as_good_as_once(desk, model):
    run = draft(desk)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: coordinator.start_from(desk, ANNA, run, *model[:2]).digest, range(4)))
    assert len(set(made)) == 1
    assert starting.kept(desk, run, reading.run(desk, ANNA, run).wanted) is not None


def test_another_model_takes_its_place_and_goes_with_the_draft(desk, tmp_path, model):
    run = draft(desk)
    coordinator.start_from(desk, ANNA, run, *model[:2])
    card, tensors, other = exported(tmp_path / "other", 10)
    now = coordinator.start_from(desk, ANNA, run, card, tensors)
    assert now.wanted.settings["initial_model"] == other != model[2]
    assert starting.kept(desk, run, now.wanted) is not None
    coordinator.forget(desk, ANNA, run, now.digest)
    assert starting.kept(desk, run, now.wanted) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "meshnet-10x8"}, "another architecture"),
        ({"activation": "relu"}, "another architecture"),
        ({"classes": ["background", "white matter", "other"]}, "another class names"),
        ({"classes": ["background", "white matter"]}, "another architecture"),
        ({"precision": "float64"}, "another number format: float32"),
    ],
)
def test_a_model_of_another_run_is_refused_at_its_upload(desk, model, changes, said):
    run = draft(desk, settings=changes)
    before = reading.run(desk, ANNA, run)
    with pytest.raises(Malformed, match=said) as caught:
        coordinator.start_from(desk, ANNA, run, *model[:2])
    assert caught.value.detail == {"field": "model"}
    assert reading.run(desk, ANNA, run) == before


def test_statistics_that_would_not_travel_are_refused_at_the_upload(desk, tmp_path):
    card, tensors, _ = exported(tmp_path, norm="batch")
    run = draft(desk, settings={"norm": "batch", "norm_policy": "local"})
    with pytest.raises(Malformed, match="needs 'norm_policy' sync"):
        coordinator.start_from(desk, ANNA, run, card, tensors)


def test_hostile_files_are_refused_by_name_and_change_nothing(desk, model):
    run = draft(desk)
    before = reading.run(desk, ANNA, run)
    for name, card, tensors, said in hostile(*model[:2]):
        with pytest.raises(Malformed) as caught:
            coordinator.start_from(desk, ANNA, run, card, tensors)
        assert said in caught.value.public, (name, caught.value.public)
    with pytest.raises(TooLarge, match="wanted at most"):
        coordinator.start_from(desk, ANNA, run, model[0], bytes(starting.MOST + 1))
    assert reading.run(desk, ANNA, run) == before


def test_only_the_runs_own_coordinator_uploads_and_only_into_a_draft(desk, model):
    run = draft(desk)
    for nobody in (EVE, who("local0")):
        with pytest.raises(Unknown):
            coordinator.start_from(desk, nobody, run, *model[:2])
    coordinator.invite(desk, ANNA, run)
    with pytest.raises(Forbidden):
        coordinator.start_from(desk, who("local0"), run, *model[:2])
    with pytest.raises(Conflict, match="inviting"):
        coordinator.start_from(desk, ANNA, run, *model[:2])


def test_a_draft_that_becomes_another_has_no_uploaded_model_any_more(desk, worker, tmp_path, model):
    run = draft(desk)
    now = coordinator.start_from(desk, ANNA, run, *model[:2])
    kept = {"initial_model": model[2]}
    other = coordinator.revise(desk, ANNA, run, spec(2, settings={**kept, "epochs": 3}))
    assert starting.kept(desk, run, other.wanted) == starting.kept(desk, run, now.wanted) is not None
    other = coordinator.revise(desk, ANNA, run, spec(2, settings={**kept, "activation": "relu"}))
    assert starting.kept(desk, run, other.wanted) is None
    begin(desk, tmp_path, run)
    worker.work(run)
    ended = reading.run(desk, ANNA, run)
    assert ended.state == "failed" and "no site brought the model" in ended.detail
