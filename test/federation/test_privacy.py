"""Differential privacy over whole runs: what leaves a site, what it costs, when it ends, and what is refused."""

import json
import math
from dataclasses import replace
from functools import partial

import pytest
from consortium import consortium

from computation import remote
from computation.errors import MessageError, QuorumError, ResumeError, SettingsError
from computation.federation import privacy
from computation.federation.screening import Bounds
from computation.settings import Settings, parse
from computation.wire.messages import Masking, Plan

pytest.importorskip("dp_accounting", reason="DIFFERENTIAL PRIVACY IS NOT TESTED: its extra is not installed")

DP = {"dp": True, "dp_noise": 2.0, "dp_epsilon": 20.0, "epochs": 4}


def _rounds(loop, client):
    lines = (loop.folder("output", client) / "journal.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["event"] == "round"]


def _offers(loop):
    return [
        reply["output"]
        for client, _, reply in loop.log
        if client != "remote" and reply["output"].get("phase") == "train"
    ]


def test_what_has_no_noise_does_not_leave_a_site(tmp_path):
    loop = consortium(tmp_path, scans=[(3, 1, 1), (2, 1, 1)], changes=DP)
    loop.run()
    offers = _offers(loop)
    assert offers and all((one["loss"], one["unreadable"], one["seconds"]) == (None, 0, 0) for one in offers)
    assert {one["samples"] for one in offers} == {1}
    assert all(entry["loss"] is None for client in ("local0", "remote") for entry in _rounds(loop, client))
    key = (loop.folder("output", "local0") / "checkpoints/privacy.key").read_bytes()
    others = [path for path in (loop.root / "input").rglob("*") if path.is_file() and key in path.read_bytes()]
    assert others == []


def test_epsilon_is_told_after_every_round(tmp_path):
    loop = consortium(tmp_path, scans=[(3, 1, 1), (2, 1, 1)], changes=DP)
    loop.run()
    told = {client: [entry["epsilon"] for entry in _rounds(loop, client)] for client in ("local0", "local1", "remote")}
    assert all(values == sorted(values) and values[-1] <= 20 for values in told.values())
    # Of two scans one in each round is the larger share: the centre tells the larger epsilon.
    assert told["local0"][-1] < told["local1"][-1]
    assert told["remote"] == told["local1"]
    output = loop.folder("output", "local1")
    card = (output / "model/README.md").read_text()
    assert f"epsilon {told['local1'][-1]:.4g} at delta 1e-05" in card
    assert "epsilon so far" in (output / "index.html").read_text()


def test_the_budget_ends_the_run_before_it_is_exceeded(tmp_path):
    loop = consortium(tmp_path, changes={**DP, "epochs": 50, "dp_epsilon": 5.0})
    final = loop.run()
    last = _rounds(loop, "local0")[-1]
    assert final["rounds"] == last["round"] < 100
    assert last["epsilon"] <= 5.0
    assert "dp_epsilon" in final["stopped"]
    page = (loop.folder("output", "local0") / "index.html").read_text()
    assert f"allows {final['rounds']} of 100 rounds" in page.replace("&#x27;", "'")


def test_a_killed_site_repeats_its_noise(tmp_path):
    def kill(loop, client, iteration):
        if client == "local0" and iteration == 2:
            _give_secrets(loop)
        if client == "local0" and iteration in (2, 4):
            loop.restart(client)

    def give(loop, client, iteration):
        if (client, iteration) == ("local0", 2):
            _give_secrets(loop)

    made = {"changes": DP, "make_remote": partial(remote.create, "run")}
    broken = consortium(tmp_path / "broken", **made).run(kill)
    whole = consortium(tmp_path / "whole", **made).run(give)
    assert broken["model_digest"] == whole["model_digest"]
    # It is the secret that makes it so: of its own, each run has other noise.
    assert consortium(tmp_path / "own", **made).run()["model_digest"] != whole["model_digest"]


def _give_secrets(loop):
    """Give each site a secret that is known here, before it makes its own."""
    for client in loop.specs:
        (loop.folder("output", client) / "checkpoints/privacy.key").write_bytes(client.encode().ljust(32))


def test_a_run_does_not_go_on_with_other_noise(tmp_path):
    def lose(loop, client, iteration):
        if (client, iteration) == ("local0", 4):
            (loop.folder("output", client) / "checkpoints/privacy.key").unlink()
            loop.restart(client)

    with pytest.raises(ResumeError, match="secret of this site's noise is gone"):
        consortium(tmp_path, changes=DP).run(lose)


def test_a_site_refuses_a_plan_that_costs_too_much():
    settings = parse(DP)[0]
    privacy.check_plan(settings, 100, 1, 10)
    with pytest.raises(SettingsError, match="would cost this site an epsilon of"):
        privacy.check_plan(settings, 2, 1, 10_000)


def test_one_round_that_costs_too_much_is_refused_at_the_join(tmp_path):
    with pytest.raises(SettingsError, match="one round with site local0 costs more"):
        consortium(tmp_path, changes={**DP, "dp_noise": 0.5, "dp_epsilon": 0.5}).run()


def test_a_loss_that_is_told_all_the_same_names_its_site(tmp_path):
    loop = consortium(tmp_path, changes=DP)
    honest = loop.handlers["local1"]

    def telling(data):
        reply = honest(data)
        telling._run = honest._run  # whose key it signs with
        if reply["output"].get("phase") == "train":
            reply["output"]["loss"] = 0.5
        return reply

    loop.handlers["local1"] = telling
    loop.liars.add("local1")
    with pytest.raises(MessageError, match="site local1 told a loss in round 1; wanted none"):
        loop.run()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strategy": "fedavg"}, "'gradient-mean'"),
        ({"time_limit": 5}, "wanted 0"),
        ({"norm": "batch"}, "its statistics have no noise"),
    ],
)
def test_what_cannot_be_private_is_refused(changes, said):
    with pytest.raises(SettingsError, match=said):
        parse({**DP, **changes})


def test_a_published_batch_norm_is_refused_at_the_join(tmp_path):
    with pytest.raises(SettingsError, match="the model has batch norm"):
        consortium(tmp_path, changes={**DP, "norm": "published"}).run()


def test_noise_without_dp_is_refused_and_not_ignored():
    with pytest.raises(SettingsError, match="'dp_noise' has no effect without 'dp'"):
        parse({"dp_noise": 2.0})
    assert parse(Settings().as_json())[0] == Settings()


def test_noise_that_is_larger_at_a_small_site_is_no_outlier(tmp_path):
    """Batches in proportion to scans make the noise of the smallest site's mean nine times that of the others."""
    scans = [(1, 1, 1), (15, 0, 0), (15, 0, 0)]
    loop = consortium(tmp_path, 3, scans=scans, changes={**DP, "dp_noise": 10.0, "epochs": 4, "local_steps": 6})
    loop.run()
    done = _rounds(loop, "remote")
    assert len(done) >= 4
    assert all(entry["skipped"] == {} and entry["clipped"] == [] for entry in done)


def test_bounds_are_as_wide_as_the_batches_are_unequal():
    plan = Plan("run", 10, ("a", "b"), "0" * 64, "0" * 64, batches={"a": 2, "b": 8})
    bounds = Bounds.of(Settings())
    assert privacy.widened(bounds, Settings(), plan) == bounds
    wide = privacy.widened(bounds, parse(DP)[0], plan)
    assert (wide.clip, wide.refuse, wide.suspect, wide.rounds) == (48.0, 120.0, 24.0, bounds.rounds)


@pytest.mark.parametrize(
    ("batches", "share"),
    [({"a": 1, "b": 1, "c": 1, "d": 1}, math.sqrt(1 / 2)), ({"a": 2, "b": 1, "c": 1, "d": 1}, 1.0)],
)
def test_sites_that_are_summed_unseen_share_the_noise(batches, share):
    settings = parse({**DP, "secure_aggregation": True})[0]
    keys = {site: site.encode().hex() * 32 for site in batches}
    plan = Plan("run", 10, tuple(batches), "0" * 64, "0" * 64, batches=batches)
    assert privacy.noise_share(settings, plan) == 1.0
    masked = replace(plan, masking=Masking(keys, dict.fromkeys(batches, 4)))
    # Of four sites three are in a sum at least, and one of them may be who asks.
    assert privacy.noise_share(settings, masked) == pytest.approx(share)
    assert privacy.noise_share(replace(settings, weighting="equal"), masked) == 1.0


def test_a_masked_run_is_private_too(tmp_path):
    loop = consortium(tmp_path, 3, changes={**DP, "secure_aggregation": True, "epochs": 3})
    loop.run()
    assert all(one["loss"] is None for one in _offers(loop) if "loss" in one)
    for client in ("local0", "remote"):
        done = _rounds(loop, client)
        assert done[-1]["epsilon"] <= 20
        assert all(entry["loss"] is None and not entry["void"] for entry in done)


def test_a_centre_that_does_not_end_gets_no_round_beyond_the_budget(tmp_path):
    loop = consortium(tmp_path, changes={**DP, "epochs": 2})
    centre = loop.handlers["remote"]

    def endless(data):
        if data["state"]["iteration"] > 3:
            centre._run.plan = replace(centre._run.plan, rounds=100)
        return centre(data)

    loop.handlers["remote"] = endless
    with pytest.raises(QuorumError, match="local0: failed; local1: failed"):
        loop.run()
    assert [len(_used(loop, site)) for site in ("local0", "local1")] == [4, 4]


def _used(loop, site):
    return (loop.folder("output", site) / "checkpoints/privacy.log").read_text().splitlines()
