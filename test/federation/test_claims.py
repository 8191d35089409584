"""What a site says beyond what it joined with: it is named, nobody else is, and nobody else's run is harmed."""

import numpy as np
import pytest
from consortium import consortium

from computation.errors import MessageError
from computation.training.trainer import Trainer
from computation.wire import payload
from computation.wire.payload import CONTRIBUTION, Payload


def verdicts(loop):
    return [reply["output"] for client, _, reply in loop.log if client == "remote" and "counted" in reply["output"]]


def lie(loop, site, change, when):
    """Change what one site says on its way to the centre, in the iterations for which `when` is true."""
    loop.liars.add(site)
    call = loop.call

    def edited(client, now, message):
        if client == "remote" and when(now):
            message = {**message, site: change(message[site])}
        return call(client, now, message)

    loop.call = edited


def counts(**changes):
    return lambda message: {**message, "validation": {**(message["validation"] or BOLD), **changes}}


BOLD = {"round": 1, "intersection": [9, 1, 1], "predicted": [9, 1, 1], "truth": [9, 1, 1], "scans": 1}
HUGE = [2**40, 2**40, 2**40]


@pytest.mark.parametrize(
    ("when", "change", "said"),
    [
        (3, lambda m: {**m, "samples": 2}, "site local1 says 2 sub-volumes in round 2; wanted at most 1"),
        (3, lambda m: {**m, "unreadable": 9}, "site local1 says 9 unreadable scans in round 2; wanted at most 1"),
        (3, counts(), "site local1 sent counts in round 2, in which nothing is validated"),
        (4, counts(intersection=HUGE, predicted=HUGE, truth=HUGE), "site local1 counted .* it joined with 1728 voxels"),
        (4, counts(scans=2), "site local1 counted .* voxels of 2 scans .* 1 labelled scans"),
        (4, counts(round=1), "site local1 evaluated round 1 in 3 classes; wanted round 2"),
        (
            4,
            counts(**{k: BOLD[k][:2] for k in ("intersection", "predicted", "truth")}),
            "site local1: .*|.*in 2 classes",
        ),
    ],
)
def test_more_than_was_joined_names_its_site(tmp_path, when, change, said):
    loop = consortium(tmp_path)
    lie(loop, "local1", change, lambda now: now == when)
    with pytest.raises(MessageError, match=said) as caught:
        loop.run()
    assert "local1" in caught.value.public and "local0" not in caught.value.public


@pytest.mark.parametrize("split", ["valid", "test"])
def test_more_than_was_joined_at_the_end_names_its_site(tmp_path, split):
    def change(message):
        bold = {**BOLD, "round": 4, "intersection": HUGE, "predicted": HUGE, "truth": HUGE}
        return {**message, "evaluations": {**message["evaluations"], split: bold}}

    loop = consortium(tmp_path)
    lie(loop, "local1", change, lambda now: now == 6)
    with pytest.raises(MessageError, match=f"site local1 counted .* in '{split}'") as caught:
        loop.run()
    assert "local0" not in caught.value.public


def test_another_truth_than_at_first_is_not_believed(tmp_path):
    """A site that calls everything background from its second validation on would have a Dice of 1."""
    size = 12**3
    perfect = [size, 0, 0]
    loop = consortium(tmp_path, changes={"epochs": 3})
    lie(loop, "local1", counts(intersection=perfect, predicted=perfect, truth=perfect), lambda now: now == 6)
    loop.run()
    done = [one for one in verdicts(loop) if one["validated"] >= 0]
    assert [one["missing"] for one in done] == [{}, {"local1": "other voxels than at first"}]
    assert done[1]["best"] == 2


def test_a_claim_of_many_scans_has_the_share_that_the_owner_allows_and_no_more(tmp_path):
    loop = consortium(tmp_path, changes={"most_share": 0.75, "epochs": 1})
    claimed = {"train": 90_000, "valid": 1, "test": 1}
    lie(loop, "local1", lambda m: {**m, "scans": claimed, "steps": 90_000}, lambda now: now == 1)

    class Enough(Exception):
        pass

    def stop(loop, client, iteration):
        if iteration == 4:
            raise Enough

    with pytest.raises(Enough):
        loop.run(stop)
    losses = {client: reply["output"]["loss"] for client, now, reply in loop.log if now == 2}
    assert losses["remote"] == pytest.approx(0.25 * losses["local0"] + 0.75 * losses["local1"], rel=1e-12)
    journal = (loop.folder("output", "remote") / "journal.jsonl").read_text()
    assert journal.count("the weight of local1 was held at setting 'most_share'") == 2
    assert "the weight of local0" not in journal


def test_unequal_sites_below_the_cap_weigh_as_many_scans_as_they_have(tmp_path):
    loop = consortium(tmp_path, scans=[(1, 1, 0), (4, 1, 0)], changes={"epochs": 1})
    loop.run()
    losses = {client: reply["output"]["loss"] for client, now, reply in loop.log if now == 2}
    assert losses["remote"] == pytest.approx((losses["local0"] + 4 * losses["local1"]) / 5, rel=1e-12)
    assert "was held at" not in (loop.folder("output", "remote") / "journal.jsonl").read_text()


# --- finite values with which nobody can compute -----------------------------------------------------------------


def poisoned(change, **settings):
    """Return a hook that changes the values that local1 sends for round 2."""

    def between(loop, client, iteration):
        if (client, iteration) != ("remote", 3):
            return
        loop.liars.add("local1")
        run = loop.handlers["remote"]._run
        path = loop.folder("input", "remote") / "local1" / "__cx_contribution.bin"
        learner = run.learner
        expected = {"kind": CONTRIBUTION, "round": 2, "manifest": learner.manifest, "dtype": learner.dtype}
        marks = {"model": learner.digest(), "site": "local1", "run": run.name}
        values = np.array(payload.read(path, **expected, **marks))
        change(values, learner.manifest)
        payload.write(path, Payload(CONTRIBUTION, 2, learner.manifest, values, **marks))

    return between


def _huge(values, manifest):
    values[5] = 3.4e38


def _negative(values, manifest):
    name = next(name for name in manifest.slices if name.endswith("running_var"))
    values[manifest.slices[name]] = -1


@pytest.mark.parametrize("sites", [2, 4])
@pytest.mark.parametrize(
    ("settings", "change", "said"),
    [
        ({"strategy": "fedavg"}, _huge, "refused: the payload holds values up to 3.4e+38; wanted at most 1e+09"),
        ({"optimizer": "sgd"}, _huge, "refused: the payload holds values up to 3.4e+38; wanted at most 1e+09"),
        ({"optimizer": "adamw"}, _huge, "refused: the payload holds values up to 3.4e+38; wanted at most 1e+09"),
        ({"norm": "batch"}, _negative, "refused: a batch-norm variance of the model is negative"),
        ({"norm": "batch", "strategy": "fedavg"}, _negative, "refused: a batch-norm variance of the model is negative"),
    ],
)
def test_poison_names_who_sent_it_and_harms_nobody_else(tmp_path, sites, settings, change, said):
    loop = consortium(tmp_path, sites, changes=settings)
    final = loop.run(poisoned(change))
    for verdict in verdicts(loop):
        assert set(verdict["skipped"]) == ({"local1"} if verdict["round"] == 2 else set())
        assert not verdict["void"] and np.isfinite(verdict["loss"])
    assert verdicts(loop)[1]["skipped"]["local1"].startswith(said)
    counted = {site: one["rounds_counted"] for site, one in final["sites"].items()}
    assert counted == {site: 4 - (site == "local1") for site in counted}
    assert {one["model_digest"] for one in final["sites"].values()} == {final["model_digest"]}


def test_an_absurd_loss_is_refused_and_hides_nobody_elses(tmp_path):
    loop = consortium(tmp_path)
    lie(loop, "local1", lambda m: {**m, "loss": 3.4e38}, lambda now: now == 3)
    loop.run()
    assert verdicts(loop)[1]["skipped"] == {"local1": "refused: the loss is 3.4e+38; wanted at most 1e+18"}
    assert verdicts(loop)[1]["loss"] < 10


def test_a_scan_that_cannot_be_evaluated_is_told_at_its_site(tmp_path):
    from computation import local
    from computation.errors import ScanError

    class Partly(Trainer):
        def predict(self, scan):
            if self.site == "local1" and scan.split == "valid" and scan.key == 3:
                raise ScanError("a block is damaged")
            return super().predict(scan)

    loop = consortium(tmp_path, scans=[(2, 1, 0), (2, 2, 0)], make_local=lambda: local.create(Partly))
    loop.run()
    journal = (loop.folder("output", "local1") / "journal.jsonl").read_text()
    assert "1 scans of split 'valid' could not be read and were not evaluated" in journal
