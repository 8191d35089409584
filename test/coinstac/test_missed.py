"""A site that was away is fed what it missed: it ends as one that was there and skipped, bit for bit."""

from functools import partial
from typing import ClassVar

import numpy as np
import pytest
from carriage import Carriage

from computation import local
from computation.training import checkpoint
from computation.training.trainer import Trainer

#: Of iterations: 2 to 5 are the rounds, 6 brings the last counts and 7 the confirmation.
FEDAVG = {"strategy": "fedavg", "local_steps": 2, "epochs": 4}
ADAM = {**FEDAVG, "strategy": "fedadam"}
SCAFFOLD = {**FEDAVG, "strategy": "scaffold", "optimizer": "sgd", "momentum": 0, "weighting": "equal"}
LOCAL = {"norm_policy": "local", "validate_every": 1}


class Skipping(Trainer):
    """Fails in some rounds before anything has moved."""

    def __init__(self, *given, skips=(), **named):
        super().__init__(*given, **named)
        self.skips = skips

    def _batches(self, round):
        if self.site == "b" and round in self.skips:
            raise RuntimeError("skipped")
        return super()._batches(round)


class Counting(Trainer):
    """Notes the rounds that it learns from and the parts that it evaluates."""

    seen: ClassVar[list] = []

    def _batches(self, round):
        self.seen.append((self.site, round))
        return super()._batches(round)

    def evaluate(self, split):
        self.seen.append((self.site, split))
        return super().evaluate(split)


def kept(carriage, iteration):
    """Return what site b's checkpoint holds, without clocks and the words on why it skipped."""
    arrays, values = checkpoint.load(carriage.sides["b"].output / "checkpoints", iteration)
    return arrays, {name: values["state"][name] for name in ("trainer", "strategy", "round", "ended")}


def same(one, other):
    assert one[1] == other[1] and one[0].keys() == other[0].keys()
    for name, array in one[0].items():
        np.testing.assert_array_equal(array, other[0][name], err_msg=name)


def models(carriage, site):
    folder = carriage.sides[site].output / "model"
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".safetensors"}


@pytest.mark.parametrize("away", [{3}, {2, 3, 4, 5}], ids=str)
@pytest.mark.parametrize("changes", [{}, FEDAVG, ADAM, SCAFFOLD, LOCAL, {"quorum": 1.0}], ids=str)
def test_who_was_away_ends_as_one_who_was_there_and_skipped(tmp_path, changes, away):
    changes = {"quorum": 0.5, **changes}
    if changes["quorum"] == 1.0 and len(away) > 2:
        pytest.skip("three void rounds in a row end a run")
    scans = ((2, 1, 1), (2, 0, 1))  # b validates nothing, so that its absence does not change which model is the best
    rounds = {iteration - 1 for iteration in away}
    there = Carriage(
        tmp_path / "there",
        scans=scans,
        make=partial(local.create, partial(Skipping, skips=rounds)),
        **changes,
    )
    gone = Carriage(tmp_path / "gone", scans=scans, **changes)
    assert gone.run(away=away) == there.run()
    same(kept(gone, 7), kept(there, 7))
    same(kept(gone, 6), kept(there, 6))
    assert models(gone, "b") == models(there, "b")
    skipped = [verdict["skipped"] for verdict in gone.verdicts if "skipped" in verdict]
    assert skipped == [{"b": "absent"} if round in rounds else {} for round in range(1, 5)]
    gone.close()
    there.close()


def test_who_is_fed_computes_only_for_the_open_step(tmp_path):
    Counting.seen = []
    carriage = Carriage(tmp_path, make=partial(local.create, Counting), quorum=0.5)
    carriage.run(away={2, 3, 4})
    assert [what for site, what in Counting.seen if site == "b"] == [4, "valid", "test"]
    carriage.close()


@pytest.mark.parametrize("away", [{4}, {6}, {6, 7}, {3, 4, 5, 6, 7}], ids=str)
def test_who_was_away_validates_nothing_and_still_has_all_results(tmp_path, away):
    carriage = Carriage(tmp_path, quorum=0.5)
    final = carriage.run(away=away)
    assert kept(carriage, 7)[1]["trainer"]["digest"] == final
    assert models(carriage, "b") == models(carriage, "a site")
    page = (carriage.sides["b"].output / "index.html").read_text()
    assert "while this site was away" in page
    if 4 in away:  # the model after round 2 is validated with round 3's messages
        assert carriage.verdicts[3]["missing"] == {"b": "no counts"}
    carriage.close()


def test_who_is_killed_while_it_is_fed_goes_on_to_the_same_end(tmp_path):
    def between(carriage, side, iteration):
        if side == "b" and iteration > 1:
            carriage.restart(side)

    unbroken, killed = Carriage(tmp_path / "unbroken", quorum=0.5), Carriage(tmp_path / "killed", quorum=0.5)
    assert killed.run(away={3, 4}, between=between) == unbroken.run(away={3, 4})
    same(kept(killed, 7), kept(unbroken, 7))
    killed.close()
    unbroken.close()


def test_the_centre_cannot_tell_a_site_that_it_missed_a_step(tmp_path):
    carriage = Carriage(tmp_path)
    for side in carriage.sides.values():
        side.close()
    carriage.restart("b")
    with pytest.raises(Exception, match="unknown setting 'missed'"):
        carriage.sides["b"].call(1, {**carriage.settings, "missed": True})
    carriage.close()
