"""What goes wrong in a run: each fault ends as designed, and the others are told which site and why."""

import json
import shutil
import sqlite3

import numpy as np
import pytest
from consortium import consortium, database

from computation.errors import (
    ConsensusError,
    MeshNetError,
    MessageError,
    PayloadError,
    QuorumError,
    SettingsError,
    StoreError,
)
from computation.training.trainer import Trainer
from computation.wire import payload
from computation.wire.payload import CONTRIBUTION, Payload


def _verdicts(loop):
    return [reply["output"] for client, _, reply in loop.log if client == "remote" and "counted" in reply["output"]]


# --- at the join: nobody trains, everybody learns why ---------------------------------------------------------------


def _fails_at_join(loop, kind=MeshNetError):
    with pytest.raises(kind) as caught:
        loop.run()
    assert not [entry for entry in loop.log if entry[0] == "remote"]
    return caught.value


def _replace(loop, site, blob):
    (loop.folder("input", site) / "site.db").write_bytes(blob)


def test_missing_database(tmp_path):
    loop = consortium(tmp_path)
    (loop.folder("input", "local1") / "site.db").unlink()
    error = _fails_at_join(loop, StoreError)
    assert "missing" in error.public
    assert str(tmp_path) not in error.public


def test_file_that_is_not_sqlite(tmp_path):
    loop = consortium(tmp_path)
    _replace(loop, "local1", b"not a database at all, but long enough to have a header" * 40)
    assert "not a SQLite file" in _fails_at_join(loop, StoreError).public


def test_database_of_another_schema_version(tmp_path):
    loop = consortium(tmp_path)
    with sqlite3.connect(loop.folder("input", "local1") / "site.db") as connection:
        connection.execute("PRAGMA user_version = 999")
    assert "999" in _fails_at_join(loop, StoreError).public


def test_site_without_labelled_scans(tmp_path):
    loop = consortium(tmp_path, scans=[(2, 1, 1), (0, 1, 1)])
    with sqlite3.connect(loop.folder("input", "local1") / "site.db") as connection:
        connection.execute("DELETE FROM volumes WHERE kind = 'label'")
    assert "no labelled scan to train on and none to evaluate" in _fails_at_join(loop, StoreError).public


def test_patch_larger_than_the_volume(tmp_path):
    error = _fails_at_join(consortium(tmp_path, changes={"patch_size": 64}), SettingsError)
    assert "patch_size 64 x 64 x 64 is larger than a scan of 12 x 12 x 12" in error.public


@pytest.mark.parametrize("names", [[], ["a.db", "b.db"]])
def test_no_or_several_databases(tmp_path, names):
    assert f"names {len(names)} files" in _fails_at_join(consortium(tmp_path, changes={"data": names})).public


def test_database_with_a_reserved_name(tmp_path):
    error = _fails_at_join(consortium(tmp_path, changes={"data": ["__cx_model.bin"]}))
    assert "reserved" in error.public


def test_data_may_come_from_a_vaults_csv(tmp_path):
    changes = {"data": [], "data_csv": {"site.db": {"isControl": True}}}
    assert consortium(tmp_path, changes=changes).run()["rounds"] == 4


def test_sites_with_different_settings(tmp_path):
    loop = consortium(tmp_path)
    loop.specs["local1"]["learning_rate"] = 0.02
    with pytest.raises(SettingsError) as caught:
        loop.run()
    assert "setting 'learning_rate' is 0.01 at site local0 and 0.02 at site local1" in caught.value.public


def test_sites_with_different_label_names(tmp_path):
    loop = consortium(tmp_path)
    swapped = database(tmp_path / "swapped.db", names=("background", "grey matter", "white matter"))
    shutil.copy(swapped, loop.folder("input", "local1") / "site.db")
    with pytest.raises(SettingsError) as caught:
        loop.run()
    assert "site local1 are labelled (background, grey matter, white matter)" in caught.value.public
    assert "(background, white matter, grey matter)" in caught.value.public


def test_sites_whose_scans_lie_on_different_grids_are_told(tmp_path):
    loop = consortium(tmp_path)
    shutil.copy(database(tmp_path / "other.db", side=20), loop.folder("input", "local1") / "site.db")
    loop.run()
    journal = (loop.folder("output", "local0") / "journal.jsonl").read_text()
    assert "grid differs: 12 x 12 x 12 at local0, 20 x 20 x 20 at local1" in journal
    assert "axes differs" not in journal and "spacing_mm differs" not in journal and "head differs" not in journal


def test_sites_of_which_one_strips_the_skulls_are_told(tmp_path):
    loop = consortium(tmp_path)
    for site, stripped in enumerate((True, False)):
        made = database(tmp_path / f"{site}.db", stripped=stripped)
        shutil.copy(made, loop.folder("input", f"local{site}") / "site.db")
    loop.run()
    journal = (loop.folder("output", "local0") / "journal.jsonl").read_text()
    assert "head differs: skull-stripped at local0, not stripped at local1" in journal
    for site, stripped in enumerate((True, False)):
        model = json.loads((loop.folder("output", f"local{site}") / "model" / "final.json").read_text())
        assert model["preprocessing"]["stripped"] is stripped
        assert model["preprocessing"]["head_margin"] == 4
        assert "everything outside is background" in model["preprocessing"]["use"]


def test_float_that_the_app_cut_to_zero(tmp_path):
    error = _fails_at_join(consortium(tmp_path, changes={"learning_rate": 0}), SettingsError)
    assert "cuts a member's decimals" in error.public


# --- in a round: the site is skipped, named and told; the run goes on -----------------------------------------------


def _forge(change):
    """Return a hook that changes what local1 sent for round 2 on its way to the centre."""

    def between(loop, client, iteration):
        if (client, iteration) == ("remote", 3):
            loop.liars.add("local1")  # whoever can only change the file is found by less: see test_origin
            change(loop.folder("input", "remote") / "local1" / "__cx_contribution.bin", loop)

    return between


def _rewrite(path, loop, **changes):
    run = loop.handlers["remote"]._run
    fields = {"kind": CONTRIBUTION, "round": 2, "values": np.zeros(run.learner.manifest.size, np.float32)}
    fields |= {"manifest": run.learner.manifest, "model": run.learner.digest(), "site": "local1", "run": run.name}
    fields |= changes
    payload.write(path, Payload(**fields))


def _of_local0(path):
    return path.parents[1] / "local0" / path.name


def _with(value):
    def change(path, loop):
        values = np.zeros(loop.handlers["remote"]._run.learner.manifest.size, np.float32)
        values[3] = value
        _rewrite(path, loop, values=values)

    return change


FORGERIES = {
    "truncated": (lambda path, loop: path.write_bytes(path.read_bytes()[:-4]), "truncated"),
    "oversized": (lambda path, loop: path.write_bytes(path.read_bytes() + b"x"), "oversized"),
    "missing": (lambda path, loop: path.unlink(), "did not arrive"),
    "altered": (lambda path, loop: path.write_bytes(path.read_bytes()[:-1] + b"\x01"), "altered"),
    "of an earlier round": (lambda path, loop: _rewrite(path, loop, round=1), "another round: 1; wanted 2"),
    "of another model": (lambda path, loop: _rewrite(path, loop, model="ab" * 32), "another model"),
    "of another kind": (lambda path, loop: _rewrite(path, loop, kind=payload.MODEL), "another kind"),
    "of another run": (lambda path, loop: _rewrite(path, loop, run="ab" * 16), "another run"),
    "of no site": (lambda path, loop: _rewrite(path, loop, site=""), "another node's"),
    "another site's, copied": (lambda path, loop: shutil.copy(_of_local0(path), path), "another node's"),
    "another site's, linked": (
        lambda path, loop: (path.unlink(), path.hardlink_to(_of_local0(path))),
        "another node's",
    ),
    "of another shape": (
        lambda path, loop: _rewrite(
            path, loop, manifest=payload.Manifest((("all", (loop.handlers["remote"]._run.learner.manifest.size,)),))
        ),
        "another shapes",
    ),
    "of another dtype": (
        lambda path, loop: _rewrite(path, loop, values=np.zeros(loop.handlers["remote"]._run.learner.manifest.size)),
        "oversized",
    ),
    "with NaN": (_with(np.nan), "1 values that are NaN or infinite"),
    "with infinity": (_with(np.inf), "1 values that are NaN or infinite"),
    "a link": (lambda path, loop: (path.unlink(), path.symlink_to("/etc/hostname")), "cannot be opened"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_bad_payload_is_refused_named_and_told_to_all(tmp_path, forgery):
    change, said = FORGERIES[forgery]
    loop = consortium(tmp_path)
    final = loop.run(_forge(change))
    verdict = _verdicts(loop)[1]
    assert verdict["counted"] == ["local0"]
    assert verdict["skipped"].keys() == {"local1"}
    assert verdict["skipped"]["local1"].startswith("refused: ") and said in verdict["skipped"]["local1"]
    assert str(tmp_path) not in json.dumps(verdict)
    assert final["sites"]["local1"]["rounds_counted"] == 3
    assert len({site["model_digest"] for site in final["sites"].values()}) == 1


def _failing(error, rounds=(2,), site="local1"):
    class Failing(Trainer):
        def gradient(self, round):
            if self.site == site and round in rounds:
                raise error
            return super().gradient(round)

    return Failing


def _failing_at(verb, error):
    """Return a trainer with one verb that always fails at local1."""

    def fail(self, *words):
        if self.site == "local1":
            raise error
        return getattr(Trainer, verb)(self, *words)

    return type("Failing", (Trainer,), {verb: fail})


def _with_trainer(trainer):
    from computation import local

    return {"make_local": lambda: local.create(trainer)}


def test_a_site_that_runs_out_of_memory_skips_and_stays(tmp_path):
    loop = consortium(tmp_path, **_with_trainer(_failing(MemoryError("at /secret/path"))))
    final = loop.run()
    assert _verdicts(loop)[1]["skipped"] == {"local1": "out-of-memory"}
    assert final["sites"]["local1"]["rounds_counted"] == 3
    assert "/secret" not in json.dumps([reply for *_, reply in loop.log])


def test_an_unexpected_error_skips_with_one_word_and_stays_in_the_sites_own_journal(tmp_path):
    loop = consortium(tmp_path, **_with_trainer(_failing(RuntimeError("subject Jane Doe"))))
    loop.run()
    assert _verdicts(loop)[1]["skipped"] == {"local1": "failed"}
    assert "Jane" not in json.dumps([reply for *_, reply in loop.log])
    assert "Jane" in (loop.folder("output", "local1") / "journal.jsonl").read_text()


def test_an_error_with_a_reason_of_its_own_skips_like_any_other(tmp_path):
    error = UnicodeDecodeError("utf-8", b"Jane", 0, 1, "invalid start byte")
    loop = consortium(tmp_path, **_with_trainer(_failing(error)))
    loop.run()
    assert _verdicts(loop)[1]["skipped"] == {"local1": "failed"}


ODD = [MemoryError("Jane Doe"), OSError("Jane Doe"), RuntimeError("Jane Doe")]


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
def test_a_site_that_cannot_validate_trains_on_and_says_so_in_its_own_folder(tmp_path, error):
    loop = consortium(tmp_path, **_with_trainer(_failing_at("evaluate", error)))
    final = loop.run()
    assert final["sites"]["local1"]["rounds_counted"] == final["rounds"]
    assert set(final["dice"]) == {"pooled", "local0"}
    assert "Jane" not in json.dumps([reply for *_, reply in loop.log])
    journal = (loop.folder("output", "local1") / "journal.jsonl").read_text()
    assert "Jane Doe" in journal and "split 'valid' was not evaluated: unexpected" in journal
    assert "Jane" not in (loop.folder("output", "local1") / "index.html").read_text()


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
def test_a_scan_that_cannot_be_segmented_at_the_end_costs_nobody_the_run(tmp_path, error):
    loop = consortium(tmp_path, scans=[(2, 0, 1)] * 2, **_with_trainer(_failing_at("predict", error)))
    loop.run()
    output = loop.folder("output", "local1")
    assert (output / "model" / "best.safetensors").exists() and not list((output / "predictions").glob("*.nii.gz"))
    assert "was not segmented: unexpected" in (output / "journal.jsonl").read_text()


def test_a_fallback_while_the_last_scans_are_segmented_is_noted(tmp_path):
    class Falling(Trainer):
        def predict(self, scan):
            if scan.key == 4:
                self.fallbacks.add("smaller tiles were used")
            return super().predict(scan)

    loop = consortium(tmp_path, **_with_trainer(Falling))
    for site in loop.specs:  # without a label, the test scan is segmented and never evaluated
        with sqlite3.connect(loop.folder("input", site) / "site.db") as connection:
            connection.execute("DELETE FROM volumes WHERE scan = 4 AND kind = 'label'")
    loop.run()
    notes = (loop.folder("output", "local1") / "journal.jsonl").read_text()
    assert "smaller tiles were used" in notes
    assert "smaller tiles were used" in (loop.folder("output", "local1") / "index.html").read_text()


def test_a_damaged_scan_is_left_out_and_counted(tmp_path):
    loop = consortium(tmp_path, scans=[(2, 1, 0), (2, 1, 0)], changes={"batch_size": 2})
    path = loop.folder("input", "local1") / "site.db"
    with sqlite3.connect(path) as connection:
        first = connection.execute("SELECT first FROM volumes WHERE scan = 1 AND kind = 'image'").fetchone()[0]
        rows = connection.execute("SELECT block, data FROM blocks WHERE length(data) > 0 AND block >= ?", (first,))
        for block, data in rows.fetchall()[:8]:
            connection.execute("UPDATE blocks SET data = ? WHERE block = ?", (data[:-1] + b"\x00\x01", block))
    final = loop.run()
    contributions = [r["output"] for c, _, r in loop.log if c == "local1" and "unreadable" in r["output"]]
    assert all(item["unreadable"] == 1 and item["samples"] == 1 for item in contributions)
    assert final["sites"]["local1"]["rounds_counted"] == final["rounds"]


def test_quorum_three_void_rounds_end_the_run_with_every_reason(tmp_path):
    trainer = _failing(MemoryError(), rounds=range(1, 9))
    loop = consortium(tmp_path, changes={"quorum": 1, "epochs": 4}, **_with_trainer(trainer))
    with pytest.raises(QuorumError, match=r"fewer than 2 of 2 sites contributed .*local1: out-of-memory"):
        loop.run()


def test_a_void_round_changes_nothing_and_the_next_one_counts(tmp_path):
    loop = consortium(tmp_path, changes={"quorum": 1}, **_with_trainer(_failing(MemoryError())))
    loop.run()
    verdicts = _verdicts(loop)
    assert [verdict["void"] for verdict in verdicts] == [False, True, False, False]
    assert verdicts[1]["model"] == verdicts[0]["model"] != verdicts[2]["model"]
    assert verdicts[1]["loss"] is None


def test_a_site_that_sends_nothing_is_absent_for_that_round(tmp_path):
    loop = consortium(tmp_path)
    call = loop.call

    def silent(client, iteration, message):
        if (client, iteration) == ("remote", 3):
            message = {"local0": message["local0"]}
        return call(client, iteration, message)

    loop.call = silent
    loop.run()
    assert _verdicts(loop)[1]["skipped"] == {"local1": "absent"}


# --- hostile messages ------------------------------------------------------------------------------------------------


def _edit(loop, site, iteration, change):
    loop.liars.add(site)
    call = loop.call

    def edited(client, now, message):
        if client == "remote" and now == iteration:
            message = {**message, site: change(message[site])}
        return call(client, now, message)

    loop.call = edited


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lambda m: {**m, "model": "ab" * 32}, ConsensusError, "the model of site local1"),
        (lambda m: {**m, "round": 1}, MessageError, "site local1 contributed to round 1; wanted round 2"),
        (lambda m: {**m, "loss": None}, MessageError, "site local1 told no loss in round 2"),
        (lambda m: {**m, "subject": "x"}, MessageError, "site local1: the contribution carries an unknown field"),
        (lambda m: [], MessageError, "site local1: the message is not signed"),
        (lambda m: {**m, "protocol": 99}, MessageError, "site local1: field 'protocol'"),
    ],
)
def test_a_message_that_breaks_the_protocol_ends_the_run_and_names_the_site(tmp_path, change, kind, said):
    loop = consortium(tmp_path)
    _edit(loop, "local1", 3, change)
    with pytest.raises(kind) as caught:
        loop.run()
    assert said in caught.value.public


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings": {"colour": 1}}, "site local1: unknown setting 'colour'"),
        ({"scans": {"train": -1, "valid": 1, "test": 1}}, "site local1: field 'scans' of the join message"),
        ({"scans": {"train": 2**53, "valid": 1, "test": 1}}, "site local1: field 'scans' of the join message"),
        ({"steps": 10**9}, "site local1: field 'steps' of the join message"),
        ({"steps": 90_000}, "site local1 says that 2 training scans are 90000 batches of 1; wanted 2"),
        ({"versions": {f"key-{n}": "1" for n in range(1001)}}, "site local1: field 'versions' of the join message"),
        ({"voxels": {"valid": 2**53, "test": 4096}}, "site local1: field 'voxels' of the join message"),
        ({"labelled": {"valid": 9, "test": 1}}, "site local1: the join message has 9 labelled scans"),
    ],
)
def test_a_join_that_cannot_be_names_its_site(tmp_path, changes, said):
    loop = consortium(tmp_path)
    _edit(loop, "local1", 1, lambda message: {**message, **changes})
    with pytest.raises(MeshNetError) as caught:
        loop.run()
    assert said in caught.value.public
    assert "local0" not in caught.value.public
    assert max(iteration for _, iteration, _ in loop.log) == 1


@pytest.mark.parametrize("when", [3, 6, 7])  # in a round, with the last counts, with the confirmations
def test_a_stranger_is_refused(tmp_path, when):
    loop = consortium(tmp_path)
    call = loop.call

    def joined(client, iteration, message):
        if (client, iteration) == ("remote", when):
            message = {**message, "intruder": message["local0"]}
        return call(client, iteration, message)

    loop.call = joined
    with pytest.raises(MessageError, match="site intruder never joined"):
        loop.run()


def test_a_forged_model_from_the_centre_is_refused_by_the_site(tmp_path):
    def between(loop, client, iteration):
        if (client, iteration) == ("local0", 2):
            path = loop.folder("input", "local0") / "__cx_model.bin"
            path.write_bytes(path.read_bytes()[:-1] + b"\x01")

    with pytest.raises(PayloadError, match="altered"):
        consortium(tmp_path).run(between)


def test_nothing_that_leaves_a_site_names_a_subject_a_path_or_a_voxel(tmp_path):
    loop = consortium(tmp_path)
    loop.run()
    sent = json.dumps([reply["output"] for client, _, reply in loop.log if client != "remote"])
    assert "person-" not in sent and str(tmp_path) not in sent and "site.db" not in sent
    allowed = {
        "protocol", "phase", "settings", "classes", "scans", "steps", "preparation", "device", "versions", "notes",
        "round", "status", "reason", "samples", "loss", "model", "unreadable", "seconds", "validation", "step",
        "evaluations", "labelled", "voxels", "key", "masking_key", "nonce", "files", "signature", "masked",
    }  # fmt: skip
    for client, _, reply in loop.log:
        assert client == "remote" or set(reply["output"]) <= allowed
        assert client == "remote" or reply.keys() == {"output", "cache"} or reply.get("success") is None


# --- what the centre must not say: the centre is named ---------------------------------------------------------------

BLAMED = {
    "more sites than any consortium": (1, {"sites": [f"site{number}" for number in range(10_000)]}, "field 'sites'"),
    "notes that are none": (1, {"notes": ["x" * 201]}, "field 'notes'"),
    "another protocol": (1, {"protocol": 1}, "field 'protocol'"),
    "a site that never joined": (2, {"skipped": {"stranger": "absent"}}, "a site that is not in its plan"),
    "a site that never counted": (2, {"counted": ["local0", "local1", "stranger"]}, "a site that is not in its plan"),
    "a class of its own": (2, {"dice": {"tumour": 0.5}}, "a class that is not of this run"),
    "a number that is none": (2, {"loss": 1e39}, "field 'loss'"),
}


@pytest.mark.parametrize("how", BLAMED)
def test_what_the_centre_must_not_say_is_put_down_to_the_centre(tmp_path, how):
    iteration, changes, said = BLAMED[how]
    loop = consortium(tmp_path)
    loop.liars.add("remote")
    called = loop.call

    def call(client, now, message):
        told = {**message, **changes} if client == "local1" and now == iteration + 1 else message
        return called(client, now, told)

    loop.call = call
    with pytest.raises(MessageError) as caught:
        loop.run()
    assert caught.value.public.startswith("the centre") and said in caught.value.public
