"""A rule in whole runs: refused where too few sites train, void where too few came, and worth its while."""

import json

import numpy as np
import pytest
from consortium import consortium

from benchmarks.poison import ATTACKER, poisoned
from computation import local
from computation.errors import QuorumError, SettingsError
from computation.federation import portions, shares, voices
from computation.settings import Settings, parse
from computation.strategies import GradientMean, named

OFF = {"clip_above": 0, "refuse_above": 0, "suspect_above": 0}


def _run(tmp_path, sites, attack="none", **changes):
    trainer = poisoned(attack)
    wanted = {"epochs": 3, "validate_every": 100, **changes}
    return consortium(tmp_path, sites, changes=wanted, make_local=lambda: local.create(trainer))


def _entries(loop, client="remote"):
    return [json.loads(line) for line in (loop.folder("output", client) / "journal.jsonl").open()]


@pytest.mark.parametrize(
    ("rule", "sites", "said"),
    [("krum", 4, "among 5 that train or more; here are 4: local0, local1, local2, local3"), ("median", 2, "among 3")],
)
def test_too_few_sites_for_the_rule_are_refused_at_join(tmp_path, rule, sites, said):
    with pytest.raises(SettingsError, match=f"rule {rule!r} withstands 1 false sites {said}"):
        _run(tmp_path, sites, rule=rule).run()


@pytest.mark.parametrize(("strategy", "rule"), [("gradient-mean", "geometric-median"), ("fedavg", "trimmed-mean")])
def test_with_nothing_screened_an_attacker_moves_the_mean_and_no_rule(tmp_path, strategy, rule):
    def last(name, **how):
        """Return the honest sites' loss in the last round."""
        loop = _run(tmp_path / name, 4, "flip x10", strategy=strategy, epochs=6, **OFF, **how)
        loop.run()
        done = [entry["by_site"] for entry in _entries(loop) if entry["event"] == "round"]
        losses = [np.mean([numbers["loss"] for site, numbers in sites.items() if site != ATTACKER]) for sites in done]
        return losses[-1] - losses[0]

    assert last("robust", rule=rule, mixing_neighbours=True) < 0 < last("mean")


def test_sites_are_told_that_each_has_one_voice_and_do_equal_work(tmp_path):
    loop = _run(tmp_path, 3, rule="median")
    final = loop.run()
    assert len({site["model_digest"] for site in final["sites"].values()}) == 1
    for client in ("remote", "local0"):
        told = [entry["text"] for entry in _entries(loop, client) if entry.get("kind") == "difference"]
        assert "with rule 'median' each site has one voice, whatever scans it says it has" in told
    settings, _ = parse({"rule": "median"})
    assert portions.batches(settings, {"a": 1, "b": 9}) == {"a": 1, "b": 1}
    assert portions.batches(Settings(), {"a": 1, "b": 9})["b"] > 1


def test_a_site_that_screening_leaves_out_is_one_that_krum_need_not_withstand(tmp_path):
    loop = _run(tmp_path, 5, "x1000", rule="krum")
    loop.run()
    done = [entry for entry in _entries(loop) if entry["event"] == "round"]
    assert done and not any(entry["void"] for entry in done)
    assert all(entry["counted"] == ["local0", "local1", "local2", "local4"] for entry in done)


def test_a_round_of_too_few_is_void(tmp_path):
    class Absent(poisoned("none")):
        def gradient(self, round):
            if (self.site == "local1" and round in (2, 3)) or (self.site == "local2" and round > 5):
                raise MemoryError
            return super().gradient(round)

    changes = {"rule": "median", "quorum": 0.1, "epochs": 6, "validate_every": 100}
    loop = consortium(tmp_path, 3, changes=changes, make_local=lambda: local.create(Absent))
    with pytest.raises(QuorumError, match=r"fewer than 3 of 3 sites .*; mend those sites or lower 'quorum' or 'byzan"):
        loop.run()
    assert [entry["void"] for entry in _entries(loop) if entry["event"] == "round"] == [0, 1, 1, 0, 0, 1, 1]


def test_a_weight_is_a_claim_and_counts_for_nothing():
    settings, _ = parse({"rule": "median"})
    assert shares.weight(settings, None, 7) == 1.0


def test_only_what_was_found_false_lowers_what_a_rule_withstands():
    class Replica:
        def __init__(self):
            self.parts = {"parameters": slice(0, 2)}

        def vector(self):
            return np.ones(2, np.float32)

    skipped = {"a": "outlier", "b": "absent", "c": "refused: it holds NaN", "d": "excluded", "e": "unreadable"}
    ground = voices.ground(named(parse({"rule": "krum"})[0]), Replica(), skipped)
    assert ground.found == 3 and list(ground.parts) == ["parameters"] and not ground.origin.any()
    assert voices.ground(GradientMean(), Replica(), skipped).origin is None
