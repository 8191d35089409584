"""The best model is chosen among validations over the same voxels; every other is told and shown with who is in it."""

import json

import pytest
from consortium import consortium

from computation import local
from computation.errors import ScanError
from computation.federation import selection
from computation.federation.selection import Selection, pooled
from computation.settings import Settings
from computation.tracking import notices, read, rounds
from computation.training.trainer import Trainer
from computation.wire.messages import Evaluation, JoinOffer

SETTINGS = Settings(classes=("background", "brain"))


def joined(valid, train=2):
    labels, voxels = {"valid": valid, "test": 0}, {"valid": 4096 * valid, "test": 0}
    scans = {"train": train, "valid": valid, "test": 0}
    return JoinOffer({}, SETTINGS.classes, scans, labels, voxels, train, {}, "cpu", {})


def counted(right, *, scans=1, size=1000, true=400):
    """Counts of a brain of which `right` voxels were found and nothing else."""
    other = size - true
    return Evaluation(1, (other, right), (size - right, right), (other, true), scans)


def dice_of(right, true=400):
    return 2 * right / (right + true)


def test_a_validation_without_a_site_is_pooled_without_it_and_never_the_best():
    choice = Selection(SETTINGS, {"a": joined(1), "b": joined(1), "c": joined(0)}, "initial")
    first = choice.take(10, {"a": counted(200), "b": counted(100)}, "ten")
    assert (first.missing, choice.best, choice.values) == ({}, 10, "ten")
    assert first.dice["brain"] == pytest.approx(2 * 300 / 1100)
    partial = choice.take(20, {"a": counted(390)}, "twenty")
    assert partial.missing == {"b": "no counts"}
    assert partial.dice["brain"] == pytest.approx(dice_of(390))
    assert (choice.best, choice.values, choice.stale) == (10, "ten", 0)
    choice.take(30, {"a": counted(300), "b": counted(300)}, "thirty")
    assert (choice.best, choice.values, choice.dice) == (30, "thirty", pytest.approx(dice_of(300)))


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (counted(300, scans=1), "1 of 2 scans"),
        (counted(300, scans=2, true=300), "other voxels than at first"),
        (None, "no counts"),
    ],
)
def test_counts_of_other_voxels_are_left_out(counts, said):
    choice = Selection(SETTINGS, {"a": joined(2), "b": joined(2)}, "initial")
    choice.take(10, {"a": counted(200, scans=2), "b": counted(200, scans=2)}, "ten")
    there = {"a": counted(100, scans=2), **({"b": counts} if counts else {})}
    done = choice.take(20, there, "twenty")
    assert done.missing == {"b": said} and done.dice["brain"] == pytest.approx(dice_of(100))
    assert choice.best == 10


@pytest.mark.parametrize("partial_between", [False, True])
def test_more_scans_than_at_first_begin_the_comparison_anew(partial_between):
    """A scan that only the first validation could not read: what is chosen over fewer scans is not compared on."""
    choice = Selection(SETTINGS, {"a": joined(2), "b": joined(1)}, "initial")
    choice.take(10, {"a": counted(400), "b": counted(400)}, "ten")
    if partial_between:
        assert choice.take(15, {"a": counted(10, scans=2)}, "fifteen").missing == {"b": "no counts"}
        assert choice.best == 10
    restored = Selection(SETTINGS, {"a": joined(2), "b": joined(1)}, "initial")
    restored.restore(json.loads(json.dumps(choice.record())), choice.values)
    for one in (choice, restored):
        done = one.take(20, {"a": counted(200, scans=2), "b": counted(200)}, "twenty")
        assert (done.anew, one.best, one.values) == (True, 20, "twenty")
        assert not one.take(30, {"a": counted(210, scans=2), "b": counted(200)}, "thirty").anew
        assert (one.best, one.stale) == (30, 0)


def test_a_site_that_counts_one_scan_more_each_time_does_not_begin_every_comparison_anew():
    choice = Selection(SETTINGS, {"a": joined(99), "b": joined(1)}, "initial")
    done = [choice.take(n, {"a": counted(399, scans=n), "b": counted(300 - n)}, n) for n in range(1, 8)]
    assert [one.anew for one in done] == [False, True, True, True, False, False, False]
    assert [one.missing for one in done[4:]] == [{"a": "other voxels than at first"}] * 3
    assert choice.best == 4


def test_a_site_whose_first_validation_lacks_a_scan_is_compared_with_itself():
    choice = Selection(SETTINGS, {"a": joined(3)}, "initial")
    assert choice.take(10, {"a": counted(100, scans=2)}, "ten").missing == {}
    assert choice.take(20, {"a": counted(200, scans=2)}, "twenty").missing == {}
    assert choice.best == 20


def test_one_site_alone_does_not_decide_the_pooled_dice():
    honest, claimed = counted(100), counted(2**45, size=2**46, true=2**45)
    assert pooled({"a": honest, "b": honest}, SETTINGS)["brain"] == dice_of(100)
    dice = pooled({"a": honest, "b": claimed}, Settings(classes=SETTINGS.classes, most_share=0.5))["brain"]
    # Both count as if they had as many voxels: a finds 0.1 of 0.4 and calls 0.1 brain, b finds all of 0.5.
    assert dice == pytest.approx(2 * (0.1 + 0.5) / (0.1 + 0.4 + 0.5 + 0.5))
    perfect = {"a": counted(400), "b": counted(2**45, size=2**46, true=2**45)}
    assert pooled(perfect, SETTINGS)["brain"] == 1.0


def blind(when, site="local1", verb="evaluate"):
    """Return a maker of sites of which one cannot validate in some of its validations, counted from 1."""

    class Blind(Trainer):
        seen = 0

        def evaluate(self, split):
            if split == "valid" and self.site == site:
                type(self).seen += 1
                if type(self).seen in when:
                    raise ScanError("for a moment, no scan could be read")
            return super().evaluate(split)

    return {"make_local": lambda: local.create(Blind)}


def verdicts(loop):
    return [reply["output"] for client, _, reply in loop.log if client == "remote" and "counted" in reply["output"]]


def sent(loop, site, field="validation"):
    return [reply["output"].get(field) for client, _, reply in loop.log if client == site]


def test_a_site_that_misses_one_validation_is_told_everywhere_and_chooses_nothing(tmp_path, monkeypatch):
    # The model that the partial validation is of would be the best by far.
    values = iter((0.2, 0.9, 0.3))
    monkeypatch.setattr(selection, "foreground_mean", lambda dice: next(values))
    loop = consortium(tmp_path, changes={"epochs": 4}, **blind({2}))
    loop.run()
    done = [one for one in verdicts(loop) if one["validated"] >= 0]
    assert [one["missing"] for one in done] == [{}, {"local1": "no counts"}, {}]
    assert [one["best"] for one in done] == [2, 2, 6], "the second value is of the third validation"
    alone = [one for one in sent(loop, "local0") if one][1]
    assert done[1]["dice"]["white matter"] == pytest.approx(
        2 * alone["intersection"][1] / (alone["predicted"][1] + alone["truth"][1])
    )
    for client in ("local0", "local1", "remote"):
        folder = loop.folder("output", client)
        entries = read(folder / "journal.jsonl")
        assert [note.text for note in notices(entries) if note.kind == "partial validation"] == [
            "local1 was not whole in a validation (no counts), which therefore was not compared with others"
        ]
        assert [item.missing for item in rounds(entries) if item.missing] == [{"local1": "no counts"}]
        assert "without local1" in (folder / "run.log").read_text()
        page = (folder / "index.html").read_text()
        assert "local1 (no counts)" in page and "was not whole in a validation" in page


def test_a_last_validation_without_a_site_says_so_in_summary_and_pages(tmp_path):
    loop = consortium(tmp_path, **blind({2}))
    final = loop.run()
    assert final["not_in_dice"] == {"local1": "no counts"} and final["not_in_test_dice"] == {}
    assert final["dice"]["pooled"] == final["dice"]["local0"] and "local1" not in final["dice"]
    assert final["best_round"] == 2
    for client in ("local0", "remote"):
        page = (loop.folder("output", client) / "index.html").read_text()
        assert "validation scans of the sites that are in it (local1: no counts)" in page
        assert "test scans of all sites" in page


def test_without_one_whole_validation_the_last_model_is_the_best_and_that_is_said(tmp_path):
    loop = consortium(tmp_path, **blind({1, 2}))
    final = loop.run()
    assert (final["best_round"], final["best_foreground_dice"]) == (final["rounds"], None)
    out = loop.folder("output", "local0")
    assert "no validation was whole" in (out / "index.html").read_text()
    assert "no complete validation chose a best one" in (out / "predictions" / "README.txt").read_text()
    assert (out / "model" / "best.safetensors").read_bytes() == (out / "model" / "final.safetensors").read_bytes()


def test_summary_and_predictions_say_which_model_they_describe(tmp_path, monkeypatch):
    falling = iter((0.9, 0.5))
    monkeypatch.setattr(selection, "foreground_mean", lambda values: next(falling))
    loop = consortium(tmp_path)
    final = loop.run()
    assert final["describes"] == {
        "dice, test_dice, model_digest": "the final model, after round 4",
        "best_foreground_dice, predictions": "the best model, after round 2, chosen by its pooled validation Dice",
    }
    told = (loop.folder("output", "local0") / "predictions" / "README.txt").read_text()
    best = loop.handlers["remote"]._run.results.best_model
    assert best != final["model_digest"]
    assert told == (
        "Segmentations of this site's test scans by the best model, after round 2, chosen by its pooled validation "
        f"Dice\nSHA-256: {best}\n"
    )
