"""A site that only evaluates applies every round, counts its scans and gets the model; it changes nobody's model."""

import sqlite3

import pytest
from consortium import SHORT, consortium

from computation.errors import MeshNetError, MessageError, SettingsError
from computation.training.trainer import Trainer
from simulator import embedded

SCANS = [(2, 1, 1), (1, 1, 1), (0, 2, 1)]


def verdicts(loop):
    return [reply["output"] for client, _, reply in loop.log if client == "remote" and "counted" in reply["output"]]


@pytest.mark.parametrize("strategy", ["gradient-mean", "fedavg"])
def test_the_model_is_the_one_that_the_others_train_and_it_counts_in_every_validation(tmp_path, strategy):
    changes = {"strategy": strategy, "quorum": 1}
    pair = consortium(tmp_path / "pair", 2, changes=changes, scans=SCANS[:2]).run()
    loop = consortium(tmp_path / "three", 3, changes=changes, scans=SCANS)
    final = loop.run()
    assert final["model_digest"] == pair["model_digest"]
    assert final["sites"]["local2"] == {
        "model_digest": final["model_digest"],
        "scans": {"train": 0, "valid": 2, "test": 1},
        "rounds_counted": 0,
    }
    for verdict in verdicts(loop):
        assert (verdict["counted"], verdict["skipped"], verdict["void"]) == (["local0", "local1"], {}, False)
        assert verdict["missing"] == {}
    assert set(final["dice"]) == {"pooled", "local0", "local1", "local2"}
    out = loop.folder("output", "local2")
    assert (out / "model" / "best.safetensors").is_file() and len(list((out / "predictions").glob("*.nii.gz"))) == 1
    for client in ("local0", "local2", "remote"):
        folder = loop.folder("output", client)
        assert "local2 has no scan to train on and only evaluates" in (folder / "index.html").read_text()
        assert "2/2 sites" in (folder / "run.log").read_text()


def test_real_processes_end_as_one_process_does(tmp_path):
    changes = {"patience": 1, "validate_every": 1}
    inside = consortium(tmp_path, 3, changes=changes, scans=SCANS).run()
    for site in ("local0", "local1", "local2"):
        target = tmp_path / "sites" / site / "simulatorRun"
        target.mkdir(parents=True)
        (tmp_path / "made" / site / "site.db").rename(target / "site.db")
    spec = {name: {"value": value} for name, value in {**SHORT, **changes}.items()}
    outside = embedded.run(spec, inputs=tmp_path / "sites", output=tmp_path / "out", sites=3, deadline=120).output
    assert outside == inside


def test_it_resumes_like_any_other(tmp_path):
    def restart(loop, client, iteration):
        if iteration > 1:
            loop.restart(client)

    unbroken = consortium(tmp_path / "unbroken", 3, scans=SCANS).run()
    assert consortium(tmp_path / "broken", 3, scans=SCANS).run(restart) == unbroken


def test_it_is_no_part_of_the_quorum(tmp_path):
    class Failing(Trainer):
        def gradient(self, round):
            if self.site == "local1" and round == 2:
                raise MemoryError
            return super().gradient(round)

    from computation import local

    # Two of three would be enough; of the two that train, one is not.
    loop = consortium(tmp_path, 3, scans=SCANS, changes={"quorum": 0.6}, make_local=lambda: local.create(Failing))
    loop.run()
    assert [verdict["void"] for verdict in verdicts(loop)] == [False, True, False, False]


def test_where_nobody_trains_nothing_begins(tmp_path):
    with pytest.raises(SettingsError, match="no site has a labelled scan to train on"):
        consortium(tmp_path, scans=[(0, 1, 1)] * 2).run()


def test_training_scans_without_labels_make_a_site_that_only_evaluates(tmp_path):
    loop = consortium(tmp_path)
    with sqlite3.connect(loop.folder("input", "local1") / "site.db") as connection:
        connection.execute("DELETE FROM volumes WHERE kind = 'label' AND scan <= 2")
    assert loop.run()["sites"]["local1"]["rounds_counted"] == 0


def test_batch_norm_statistics_of_its_own_it_cannot_have(tmp_path):
    changes = {"norm": "batch", "norm_policy": "local"}
    with pytest.raises(SettingsError, match="cannot have batch-norm statistics of its own"):
        consortium(tmp_path / "local", 3, changes=changes, scans=SCANS).run()
    assert consortium(tmp_path / "sync", 3, changes={"norm": "batch"}, scans=SCANS).run()["rounds"] == 4


@pytest.mark.parametrize(
    ("site", "change"),
    [
        ("local2", {"status": "ok", "samples": 1}),
        ("local2", {"status": "skipped", "reason": "failed"}),
        ("local1", {"status": "evaluates", "samples": 0}),
    ],
)
def test_nobody_changes_its_role(tmp_path, site, change):
    loop = consortium(tmp_path, 3, scans=SCANS)
    loop.liars.add(site)
    call = loop.call

    def edited(client, now, message):
        if (client, now) == ("remote", 3):
            message = {**message, site: {**message[site], **change}}
        return call(client, now, message)

    loop.call = edited
    with pytest.raises(MessageError, match=f"site {site} joined with . training scans") as caught:
        loop.run()
    assert isinstance(caught.value, MeshNetError)
    assert not [other for other in {"local0", "local1", "local2"} - {site} if other in caught.value.public]
