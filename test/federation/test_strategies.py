"""Whole runs of each strategy: one model everywhere, and the same bits whoever is restarted when."""

import json

import numpy as np
import pytest
from consortium import consortium

from computation import local
from computation.training.trainer import Trainer

SCAFFOLD = {"optimizer": "sgd", "momentum": 0, "weighting": "equal"}
STRATEGIES = {
    "fedprox": {"proximal": 0.5},
    "fedavgm": {"norm": "batch"},
    "fedadam": {"norm": "batch"},
    "fedyogi": {},
    "fedadagrad": {"server_momentum": 0},
    "scaffold": SCAFFOLD,
}


def _run(root, strategy, changes, between=None, sites=2, **options):
    given = {"strategy": strategy, "local_steps": 2, "epochs": 6, "schedule": "constant", **changes}
    loop = consortium(root, sites, changes=given, scans=[(2, 0, 0)] * sites, **options)
    return loop, loop.run(between)


def _digests(loop, client):
    lines = (loop.folder("output", client) / "journal.jsonl").read_text().splitlines()
    return [entry["digest"] for entry in map(json.loads, lines) if entry["event"] == "round"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_model_everywhere_and_a_restart_before_every_call_changes_no_bit(tmp_path, strategy):
    unbroken, final = _run(tmp_path / "unbroken", strategy, STRATEGIES[strategy])
    digests = {client: _digests(unbroken, client) for client in ("local0", "local1", "remote")}
    assert digests["local0"] == digests["local1"] == digests["remote"]
    assert len(set(digests["remote"])) == final["rounds"] > 3
    _, again = _run(
        tmp_path / "broken", strategy, STRATEGIES[strategy], lambda loop, client, iteration: loop.restart(client)
    )
    assert again["model_digest"] == final["model_digest"]


def _final(root, strategy, changes):
    return _run(root, strategy, changes)[1]["model_digest"]


def test_what_must_be_federated_averaging_is(tmp_path):
    plain = _final(tmp_path / "plain", "fedavg", {})
    assert _final(tmp_path / "prox", "fedprox", {"proximal": 0}) == plain
    assert _final(tmp_path / "momentum", "fedavgm", {"server_momentum": 0}) == plain
    assert _final(tmp_path / "drawn", "fedprox", {"proximal": 1}) != plain


def _shaped(site, round, change):
    """Return the trainer of a consortium in which one site's local steps of one round end differently."""

    class Shaped(Trainer):
        def local_steps(self, now, correct=None):
            before = self.vector()
            done = super().local_steps(now, correct)
            if (self.site, now) == (site, round):
                self._take(change(before, self.vector()))
            return done

    return lambda: local.create(Shaped)


def _variates(loop, sites=3):
    return [loop.handlers[f"local{index}"]._run.strategy.state()[0] for index in range(sites)]


def test_a_clipped_update_has_all_sites_begin_their_corrections_anew(tmp_path):
    seen = {}

    def look(loop, client, iteration):
        if client == "remote" and iteration > 3:
            seen[iteration] = [set(arrays) for arrays in _variates(loop)]

    def large(before, after):
        return (before + 20 * (after.astype(float) - before)).astype(after.dtype)

    loop, _ = _run(tmp_path, "scaffold", SCAFFOLD, look, 3, make_local=_shaped("local1", 5, large))
    journal = (loop.folder("output", "local0") / "journal.jsonl").read_text()
    rounds = [entry for entry in map(json.loads, journal.splitlines()) if entry["event"] == "round"]
    assert [entry["round"] for entry in rounds if entry["clipped"]] == [5]
    # Iteration r + 1 is round r; before it, the sites hold what rounds up to r - 1 left.
    assert seen[6] == [{"common", "own", "offered"}] * 3
    assert seen[7] == [{"offered"}] * 3
    assert seen[8] == [{"common", "own", "offered"}] * 3


def test_a_site_that_skips_rounds_keeps_the_common_variate_the_mean(tmp_path):
    def fail(before, after):
        raise OSError("no scan")

    def look(loop, client, iteration):
        if client == "remote" and iteration > 3:
            arrays = _variates(loop)
            mean = np.mean([one["own"] for one in arrays], 0)
            largest = np.abs(mean).max()
            np.testing.assert_allclose(arrays[0]["common"], mean, rtol=0, atol=1e-3 * largest)
            assert all(np.array_equal(one["common"], arrays[0]["common"]) for one in arrays)

    _run(tmp_path, "scaffold", SCAFFOLD, look, 3, make_local=_shaped("local1", 3, fail))
