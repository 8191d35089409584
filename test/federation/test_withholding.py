"""Voxel counts of a few people are those people's tissue volumes: they do not leave a site, and that is told."""

import json
import shutil

import numpy as np
import pytest
from consortium import consortium, database

from computation import local
from computation.errors import ResumeError, StoreError
from computation.federation.withholding import Threshold
from computation.tracking import notices, read
from computation.training.metrics import Counts
from computation.training.trainer import Trainer

FEW = {"min_scans": 3}


def evaluations(loop, site):
    """Return all counts that left a site, in order."""
    output = [reply["output"] for client, _, reply in loop.log if client == site]
    return [
        one
        for message in output
        for one in (message.get("validation"), *message.get("evaluations", {}).values())
        if one
    ]


def withheld(loop, site):
    return [
        note.text for note in notices(read(loop.folder("output", site) / "journal.jsonl")) if note.kind == "withheld"
    ]


def test_counts_of_fewer_scans_than_the_owner_allows_stay_and_the_others_choose_the_model(tmp_path):
    loop = consortium(tmp_path, changes=FEW, scans=[(2, 2, 1), (2, 3, 3)])
    final = loop.run()
    assert evaluations(loop, "local0") == []
    assert [one["scans"] for one in evaluations(loop, "local1")] == [3, 3, 3]
    assert set(final["dice"]) == {"pooled", "local1"} and final["best_foreground_dice"] is not None
    assert final["not_in_dice"] == final["not_in_test_dice"] == {}, "nothing was expected of it"
    told = withheld(loop, "local0")
    assert [text.partition(":")[0] for text in told] == [
        "split 'valid' has 2 labelled scans, fewer than setting 'min_scans', 3",
        "split 'test' has 1 labelled scan, fewer than setting 'min_scans', 3",
    ]
    assert withheld(loop, "local1") == []
    for client in ("local0", "local1", "remote"):
        page = (loop.folder("output", client) / "index.html").read_text()
        assert "local0 counts no &#x27;valid&#x27; scan: it has fewer than 3 labelled ones" in page


@pytest.mark.parametrize(("seed", "scans"), [(0, (2, 4, 3)), (0, (2, 3, 2)), (0, (1, 3, 3)), (7, (2, 3, 3))])
def test_a_site_goes_on_with_the_scans_with_which_it_joined_and_no_others(tmp_path, seed, scans):
    """Counts of one scan more than in the round before are that person's volumes."""
    loop = consortium(tmp_path, changes=FEW, scans=[(2, 3, 3)] * 2)
    other = database(tmp_path / "other" / "site.db", seed=seed, scans=scans)

    def replace(loop, client, iteration):
        if (client, iteration) == ("local0", 3):
            shutil.copy(other, loop.folder("input", client) / "site.db")
            loop.restart(client)

    with pytest.raises(ResumeError, match="not the one with which this site joined"):
        loop.run(replace)


def test_no_counts_leave_of_scans_that_were_put_in_the_place_of_others_during_the_run(tmp_path):
    """The run goes on for the others."""
    loop = consortium(tmp_path, changes=FEW, scans=[(2, 3, 3)] * 2)
    other = database(tmp_path / "other" / "site.db", seed=7, scans=(2, 3, 3), side=16)

    def replace(loop, client, iteration):
        if (client, iteration) == ("local0", 3):
            shutil.copyfile(other, loop.folder("input", client) / "site.db")

    assert "local1" in loop.run(replace)["dice"]
    journal = (loop.folder("output", "local0") / "journal.jsonl").read_text()
    assert "database-changed" in journal
    assert evaluations(loop, "local0") == [] and evaluations(loop, "local1")


def test_the_same_scans_in_another_file_are_the_same(tmp_path):
    loop = consortium(tmp_path, changes=FEW, scans=[(2, 3, 3)] * 2)

    def copy(loop, client, iteration):
        if client != "remote" and iteration > 1:
            path = loop.folder("input", client) / "site.db"
            shutil.copy(path, path.with_suffix(".copy"))
            path.with_suffix(".copy").replace(path)
            loop.restart(client)

    unbroken = consortium(tmp_path / "unbroken", changes=FEW, scans=[(2, 3, 3)] * 2).run()
    assert loop.run(copy) == unbroken


def test_no_message_and_no_file_at_the_centre_has_a_count_of_such_a_site(tmp_path):
    loop = consortium(tmp_path, changes=FEW, scans=[(2, 2, 2), (2, 3, 3)])
    loop.run()
    join = next(reply["output"] for client, _, reply in loop.log if client == "local0")
    assert join["labelled"] == join["voxels"] == {"valid": 0, "test": 0}
    assert join["scans"] == {"train": 2, "valid": 2, "test": 2}
    assert "truth" not in json.dumps([reply["output"] for client, _, reply in loop.log if client == "local0"])


def test_where_nobody_may_validate_the_last_model_is_the_best(tmp_path):
    loop = consortium(tmp_path, changes=FEW, scans=[(2, 2, 2), (2, 1, 0)])
    final = loop.run()
    assert (final["best_round"], final["best_foreground_dice"], final["dice"]) == (4, None, {"pooled": {}})
    assert "no complete validation chose a best one" in final["describes"]["best_foreground_dice, predictions"]


def test_a_bound_changes_no_bit_of_the_model(tmp_path):
    digests = {
        consortium(tmp_path / str(least), changes={"min_scans": least}).run()["model_digest"] for least in (1, 3)
    }
    assert len(digests) == 1


def test_a_site_that_only_evaluates_and_has_too_few_scans_is_refused_at_join(tmp_path):
    loop = consortium(tmp_path, changes=FEW, scans=[(2, 3, 0), (0, 2, 2)])
    with pytest.raises(StoreError, match=r"none to evaluate of which counts may leave; .* setting 'min_scans' says, 3"):
        loop.run()


def unreadable(when, keys, site="local0"):
    """Return a maker of sites of which one cannot read some scans in some of its validations, counted from 1."""

    class Partly(Trainer):
        seen = 0

        def evaluate(self, split):
            Partly.seen += self.site == site and split == "valid"
            self.now = self.site == site and split == "valid" and Partly.seen in when
            return super().evaluate(split)

        def _counted(self, scan):
            skip = self.now and scan.key in keys
            return Counts.none(self.architecture.classes, skipped=(scan.key,)) if skip else super()._counted(scan)

    return {"make_local": lambda: local.create(Partly)}


def test_a_scan_that_is_read_now_and_not_then_is_not_told_by_the_difference(tmp_path):
    loop = consortium(tmp_path, changes={**FEW, "epochs": 4}, scans=[(2, 4, 0), (2, 3, 0)], **unreadable({2}, {3}))
    loop.run()
    assert [one["scans"] for one in evaluations(loop, "local0")] == [4, 4, 4]
    assert len({tuple(one["truth"]) for one in evaluations(loop, "local0")}) == 1
    (told,) = withheld(loop, "local0")
    assert "other scans could be read than when its counts first left" in told


def test_what_is_left_of_a_split_counts_and_not_what_it_had(tmp_path):
    loop = consortium(tmp_path, changes={**FEW, "epochs": 4}, scans=[(2, 4, 0), (2, 3, 0)], **unreadable({1}, {3, 4}))
    loop.run()
    assert [one["scans"] for one in evaluations(loop, "local0")] == [4, 4, 4]
    assert "only 2 labelled scans could be read" in withheld(loop, "local0")[0]


def test_a_restarted_site_remembers_which_scans_it_counted():
    def counts(*skipped):
        return Counts(*np.full((3, 2), 9), scans=4 - len(skipped), skipped=skipped)

    before = Threshold(3, {"valid": 4, "test": 0}, {"valid": 99, "test": 0})
    assert before.lack("valid", counts(7)) == "" and before.lack("test", counts()) == ""
    after = Threshold(3, {"valid": 4, "test": 0}, {"valid": 99, "test": 0})
    after.restore(json.loads(json.dumps(before.record())))
    assert after.lack("valid", counts(7)) == "" and after.lack("valid", counts()) and after.lack("valid", counts(6))


def test_one_scan_is_enough_where_the_owner_says_so():
    free = Threshold(1, {"valid": 1, "test": 0}, {"valid": 99, "test": 0})
    assert not free.shut("valid") and (free.labelled, free.voxels["valid"]) == ({"valid": 1, "test": 0}, 99)
    assert free.lack("valid", Counts(*np.full((3, 2), 9), scans=1)) == ""
