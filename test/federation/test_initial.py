"""Starting from a trained model: the owner names its digest, one site brings it, and every site holds it at round 0."""

import json
import shutil

import numpy as np
import pytest
from consortium import consortium

from computation.errors import MeshNetError, ModelError, PayloadError, SettingsError
from computation.federation import initial
from computation.model import vector
from computation.model.export import load_model
from computation.model.exported import identify
from computation.tracking import read
from computation.wire import payload


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a model that a short run made."""
    loop = consortium(tmp_path_factory.mktemp("first"), changes={"epochs": 1})
    loop.run()
    return loop.folder("output", "local0") / "model"


def start(root, trained, sites=2, bring=("local1",), **changes):
    digest, _ = identify(trained / "final.json")
    loop = consortium(root, sites, changes={"initial_model": digest, **changes})
    for site in bring:
        for name in ("final.json", "final.safetensors"):
            shutil.copy(trained / name, loop.folder("input", site) / name)
        loop.specs[site] = {**loop.specs[site], "data": ["final.json", "site.db", "final.safetensors"]}
    return loop, digest


@pytest.mark.parametrize("bring", [("local1",), ("local0", "local1")])
def test_every_site_starts_from_it(tmp_path, trained, bring):
    loop, digest = start(tmp_path, trained, bring=bring)
    plans = []

    def between(loop, client, iteration):
        if iteration == 2 and client == "remote":
            plans.extend(loop.handlers[site]._run.trainer.digest() for site in ("local0", "local1"))

    loop.run(between)
    assert plans == [digest, digest]
    plan = next(entry for entry in read(loop.folder("output", "remote") / "journal.jsonl") if entry["event"] == "plan")
    assert plan["model"] == digest
    told = [e for e in read(loop.folder("output", "remote") / "journal.jsonl") if e["event"] == "initial-model"]
    assert [(entry["site"], entry["digest"]) for entry in told] == [(bring[0], digest)]


def test_restarts_at_every_moment_change_nothing(tmp_path, trained):
    whole, _ = start(tmp_path / "whole", trained)
    expected = whole.run()
    loop, _ = start(tmp_path / "killed", trained)
    killed = loop.run(lambda loop, client, iteration: loop.restart(client) if iteration > 1 else None)
    assert killed == expected


def test_it_goes_on_learning_where_the_first_run_stopped(tmp_path, trained):
    """One step of it is not one step of the seeded model."""
    loop, _ = start(tmp_path, trained, epochs=1)
    seeded = consortium(tmp_path / "seeded", changes={"epochs": 1})
    assert loop.run()["model_digest"] != seeded.run()["model_digest"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "meshnet-10x8"}, "another architecture"),
        ({"activation": "relu"}, "another architecture"),
        ({"precision": "float64"}, "another number format: float32"),
        ({"initial_model": "ab" * 32}, "another digest"),
        ({"initial_model": ""}, "names no digest"),
        ({"norm": "batch", "norm_policy": "local"}, "needs 'norm_policy' sync"),
    ],
)
def test_a_model_of_another_run_is_refused_at_the_site_that_has_it(tmp_path, trained, changes, said):
    loop, _ = start(tmp_path, trained, bring=("local0",), **changes)
    with pytest.raises((ModelError, SettingsError), match=said) as caught:
        loop.run()
    assert str(tmp_path) not in caught.value.public


def test_other_class_names_are_refused(tmp_path, trained):
    card = json.loads((trained / "final.json").read_text())
    shutil.copytree(trained, tmp_path / "model")
    (tmp_path / "model" / "final.json").write_text(json.dumps({**card, "labels": ["a", "b", "c"]}))
    loop, _ = start(tmp_path / "run", tmp_path / "model")
    with pytest.raises(ModelError, match="another class names"):
        loop.run()


def test_a_damaged_model_is_refused(tmp_path, trained):
    loop, _ = start(tmp_path, trained)
    path = loop.folder("input", "local1") / "final.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(ModelError, match="do not have the digest"):
        loop.run()


def test_a_model_that_nobody_brings_ends_the_run_at_the_join(tmp_path, trained):
    loop, digest = start(tmp_path, trained, bring=())
    with pytest.raises(SettingsError, match=f"no site brought the model {digest[:12]}"):
        loop.run()


def test_a_site_that_sends_something_else_is_named_and_another_sites_copy_taken(tmp_path, trained):
    loop, _ = start(tmp_path, trained, bring=("local0", "local1"))

    def between(loop, client, iteration):
        if (client, iteration) == ("remote", 1):
            loop.liars.add("local0")
            path = loop.folder("input", "remote") / "local0" / "__cx_initial.bin"
            manifest = loop.handlers["local0"]._run.trainer.manifest
            values = loop.handlers["local0"]._run.trainer.vector()
            payload.write(path, payload.Payload(payload.MODEL, 0, manifest, values, site="local0"))

    loop.run(between)
    entries = read(loop.folder("output", "remote") / "journal.jsonl")
    assert [e["site"] for e in entries if e["event"] == "initial-model"] == ["local1"]
    assert any("local0 brought another model" in e["text"] for e in entries if e["event"] == "notice")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["site.db", "final.json"], "half a model"),
        (["site.db", "final.safetensors"], "half a model"),
        (["site.db", "a.json", "a.safetensors", "b.json", "b.safetensors"], "half a model or several"),
        (["final.json", "final.safetensors"], "names 0 files besides a model's"),
        (["/elsewhere/site.db"], "outside this site's input folder"),
        (["../local1/simulatorRun/site.db"], "outside this site's input folder"),
        (["deep/../../site.db"], "outside this site's input folder"),
    ],
)
def test_a_site_must_name_what_can_be_meant(tmp_path, names, said):
    """A file of the same name in the site's own folder is not the one that was meant."""
    loop = consortium(tmp_path, changes={"data": names})
    with pytest.raises(MeshNetError, match=said) as caught:
        loop.run()
    assert "elsewhere" not in caught.value.public


def test_a_database_in_a_folder_of_the_input_folder_is_the_one_that_is_opened(tmp_path):
    loop = consortium(tmp_path, changes={"data": ["deep/site.db"], "epochs": 1})
    for site in loop.specs:
        folder = loop.folder("input", site)
        (folder / "deep").mkdir()
        (folder / "site.db").rename(folder / "deep" / "site.db")
        (folder / "site.db").write_bytes(b"another file of that name")
    assert loop.run()["rounds"] == 2


def test_a_batch_norm_model_keeps_its_statistics(tmp_path):
    first = consortium(tmp_path / "first", changes={"epochs": 1, "norm": "batch"})
    first.run()
    model = first.folder("output", "local0") / "model"
    loop, digest = start(tmp_path / "second", model, norm="batch")
    loop.run()
    card, _ = load_model(model / "final.json")
    assert identify(model / "final.json")[0] == digest and card.architecture.norm == "batch"


def owners(loop, trained, **changes):
    """Put the owner's own copy at the centre, as another carrier than the platform does."""
    model, _ = load_model(trained / "final.json")
    manifest = vector.manifest(model, "sync")
    told = {"kind": payload.MODEL, "round": 0, "manifest": manifest, "values": vector.gather(model, manifest)}
    initial.put(loop.folder("input", "remote"), payload.encode(payload.Payload(**{**told, **changes})))


def test_the_owners_own_copy_at_the_centre_is_as_good_as_a_sites(tmp_path, trained):
    brought, _ = start(tmp_path / "brought", trained)
    loop, digest = start(tmp_path / "own", trained, bring=())
    owners(loop, trained)
    assert loop.run()["model_digest"] == brought.run()["model_digest"]
    entries = read(loop.folder("output", "remote") / "journal.jsonl")
    assert [(e["site"], e["digest"]) for e in entries if e["event"] == "initial-model"] == [("", digest)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"round": 1}, "another round"), ({"site": "local0"}, "another node's"), ({"kind": payload.COMBINATION}, "kind")],
)
def test_an_owners_copy_that_is_none_ends_the_run_at_the_join(tmp_path, trained, changes, said):
    loop, _ = start(tmp_path, trained, bring=())
    owners(loop, trained, **changes)
    with pytest.raises(PayloadError, match=said):
        loop.run()


def test_another_model_as_the_owners_copy_ends_the_run_at_the_join(tmp_path, trained):
    loop, digest = start(tmp_path, trained, bring=())
    size = vector.manifest(load_model(trained / "final.json")[0], "sync").size
    owners(loop, trained, values=np.zeros(size, np.float32))
    with pytest.raises(ModelError, match=f"another digest: .*wants {digest}"):
        loop.run()


def test_an_owners_copy_of_another_shape_ends_the_run_at_the_join(tmp_path, trained):
    loop, _ = start(tmp_path, trained, bring=(), model="meshnet-10x8")
    owners(loop, trained)
    with pytest.raises(PayloadError, match="truncated"):
        loop.run()
