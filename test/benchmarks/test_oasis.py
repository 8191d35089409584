"""The OASIS benchmark's statistics, site effects, resumption, and its account of the earlier prototype."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.oasis import arms, effects, intervals, peer, report, results
from benchmarks.oasis.clock import Watch
from benchmarks.oasis.outcome import Outcome, compare
from benchmarks.oasis.prepare import Bench
from computation.model import architecture, network
from computation.scans.store import open_store
from sqlite_fixtures.build import Subjects, build

MM = 9.0


def test_bootstrap_agrees_with_scipy_and_with_the_normal_law():
    values = np.random.default_rng(1).normal(0.9, 0.03, 400)
    ours = intervals.bootstrap(values.tolist())
    theirs = stats.bootstrap((values,), np.mean, method="percentile", random_state=2).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=3e-4)
    # The bootstrap distribution of a mean has this variance exactly.
    half = 1.959964 * values.std() / np.sqrt(values.size)
    assert (ours.high - ours.low) / 2 == pytest.approx(half, rel=0.03)


def test_bootstrap_of_two_people_has_the_exact_distribution():
    found = intervals.bootstrap([0.0, 1.0])
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)
    # Three draws of three people: all from the lowest with a chance of 1/27 > 2.5 %, all from the highest as well.
    found = intervals.bootstrap([0.2, 0.5, 0.8])
    assert (found.low, found.high) == pytest.approx((0.2, 0.8))


def _rows(arm, dices, *, seed=0, site="", effect="none"):
    outcome = Outcome(site, lambda store, scan: None, 1.5, 3, 3, 10, 20, 276)
    found = {f"p{place}": (1.0, value, value) for place, value in enumerate(dices)}
    ages = dict.fromkeys(found, "20")
    return results.rows_of(results.Job(arm, effect, seed), 2.0, outcome, found, ages, 0.5)


def test_people_are_the_sampling_unit_and_differences_are_paired():
    ours = _rows("gradient-mean", [0.8, 0.6]) + _rows("gradient-mean", [0.9, 0.7], seed=1)
    theirs = _rows("single", [0.7, 0.5], site="site0") + _rows("single", [0.5, 0.3], site="site1")
    assert intervals.per_person(ours, "foreground") == pytest.approx({"p0": 0.85, "p1": 0.65})
    assert intervals.per_person(theirs, "foreground") == pytest.approx({"p0": 0.6, "p1": 0.4})
    gap = intervals.difference(ours, theirs, "foreground")
    assert (gap.mean, gap.low, gap.high) == pytest.approx((0.2, 0.2, 0.2))
    assert "single" in report.table(ours + theirs) and "0.200" in report.comparisons(ours + theirs)


def test_rows_come_back_from_the_file_and_a_missing_class_stays_missing(tmp_path):
    path = tmp_path / "some.csv"
    first, second = _rows("pooled", [0.5, None]), _rows("single", [0.4], site="site2", effect="noise")
    results.append(path, first)
    results.append(path, second)
    assert results.load(path) == first + second
    assert [row.job.site for row in results.load(path)] == ["", "", "site2"]
    with path.open("a") as file:
        file.write("pooled,none,0,2.0,,cut in the mid")
    assert results.load(path) == first + second
    results.append(path, first)
    assert results.load(path) == first + second + first
    assert first[1].white is None and first[1].with_background == 1.0


def test_a_file_of_another_recipe_is_noticed(tmp_path):
    path = tmp_path / "some.csv"
    facts = {"spacing": 2.0, "settings": {"patch_size": (64, 64, 64)}}
    assert results.agree(path, facts) == []
    results.append(path, _rows("pooled", [0.5]))
    assert results.agree(path, facts) == []
    (only,) = results.agree(path, {**facts, "settings": {"patch_size": (32, 32, 32)}})
    assert "settings.patch_size" in only


def test_effects_move_and_change_training_people_only(tmp_path):
    people = [
        effects.Person(str(n), effects.SITES[n % 4], "train" if n < 16 else "test", str(60 - n), Path("a"), Path("b"))
        for n in range(20)
    ]
    unequal = effects.assigned(people, "unequal")
    assert [sum(p.site == site and p.split == "train" for p in unequal) for site in effects.SITES] == [1, 2, 4, 9]
    by_age = effects.assigned(people, "elderly")
    oldest = [int(p.age) for p in by_age if p.site == "site3" and p.split == "train"]
    assert min(oldest) >= max(int(p.age) for p in by_age if p.site == "site0" and p.split == "train")
    for effect in effects.EFFECTS:
        assert [p for p in effects.assigned(people, effect) if p.split == "test"] == people[16:]
        assert effects.changed(people[17], effect, tmp_path) is people[17]


def test_a_scanner_changes_the_brain_and_not_the_background():
    draw = np.random.default_rng(0)
    image = np.where(draw.random((12, 12, 12)) < 0.5, 0, draw.integers(100, 900, (12, 12, 12))).astype(np.float32)
    for how in (effects.Scanner(0.6), effects.Scanner(noise=0.05), effects.Scanner(bias=0.4)):
        seen = effects.scanned(image, how, 1, 7)
        assert np.array_equal(seen > 0, image > 0) and not np.allclose(seen, image)
        assert np.array_equal(seen, effects.scanned(image, how, 1, 7))
    brighter = effects.scanned(image, effects.Scanner(0.5), 0, 1)
    bright = np.quantile(image[image > 0], 0.98)
    np.testing.assert_allclose(brighter[image > 0], np.sqrt(image[image > 0] * bright), rtol=1e-5)
    field = effects.scanned(np.full((12, 12, 12), 100, np.float32), effects.Scanner(bias=0.4), 2, 1)
    assert np.abs(field / 100 - 1).max() == pytest.approx(0.4, rel=1e-5)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    pytest.importorskip("nilearn")
    paths = build(tmp_path_factory.mktemp("demo"), sites=2, subjects=Subjects(2, 1, 1), spacing_mm=MM)
    stores = [open_store(path) for path in paths]
    sites = {site: stores[place % 2] for place, site in enumerate(effects.SITES)}
    bench = Bench(sites, stores[0], stores[1], {})
    yield bench
    bench.close()


def _training(bench, **changes):
    return arms.Training(
        bench, {"patch_size": 8, "model": "meshnet-10x5", **changes}, 0, 2, 1e-9, "cpu", 0, Watch("test")
    )


def test_the_peers_network_has_the_parameters_on_record():
    for channels, count in ((1, 276), (5, 5_688)):
        model = peer.network(channels, 3, 0.1, 0)
        assert sum(parameter.numel() for parameter in model.parameters()) == count
    product = network.build(architecture.named("meshnet-10x5", classes=3), 0).eval()
    ours = peer.network(5, 3, 0.1, 0).eval()
    for mine, other in zip(ours.parameters(), product.parameters(), strict=True):
        mine.data.copy_(other.data)
    volume = torch.randn(1, 1, 9, 9, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(volume), product(volume), rtol=1e-4, atol=1e-5)


def test_the_literal_peer_starts_apart_and_drops_its_last_gradient(bench):
    training = _training(bench)
    apart = [peer.Site(site, peer.LITERAL, training, 8) for site in effects.SITES]
    together = [peer.Site(site, peer.INTENDED, training, 8) for site in effects.SITES]
    weights = [[next(site.model.parameters()).detach().clone() for site in some] for some in (apart, together)]
    assert all(not torch.equal(weights[0][0], other) for other in weights[0][1:])
    assert all(torch.equal(weights[1][0], other) for other in weights[1][1:])
    for site in apart + together:
        site.close()
    outcomes = peer.train(training, peer.LITERAL, 8)
    assert [(outcome.rounds, outcome.steps) for outcome in outcomes] == [(1, 0)] * 4
    outcomes = peer.train(training, peer.INTENDED, 8)
    assert [(outcome.rounds, outcome.steps) for outcome in outcomes] == [(1, 1)] * 4


def test_the_peers_labels_are_whole_and_its_dice_is_found_for_each_person(bench):
    training = _training(bench)
    site = peer.Site("site0", peer.INTENDED, training, 8)
    assert set(np.unique(site._batch(0).labels)) <= {0, 1, 2}
    site.close()
    for outcome in peer.train(training, replace(peer.INTENDED, channels=1), 8):
        (values,) = compare(outcome.label, bench.test, "test", 3).values()
        assert len(values) == 3 and outcome.sent > 276 * 4


def test_the_peers_average_is_weighted_only_where_meant():
    one, other = [torch.tensor([1.0, 2.0])], [torch.tensor([4.0, 8.0])]
    torch.testing.assert_close(peer.averaged([one, other], [1, 1]), [torch.tensor([2.5, 5.0])])
    torch.testing.assert_close(peer.averaged([one, other], [1, 2]), [torch.tensor([3.0, 6.0])])


def test_the_peers_one_cycle_follows_the_share_of_the_time():
    rates = [peer.rate_at(peer.INTENDED, share) for share in (0.0, 0.05, 0.1, 0.5, 1.0, 1.7)]
    top = peer.INTENDED.rate
    assert rates[0] == pytest.approx(top / 100) and rates[2] == pytest.approx(top)
    assert rates[0] < rates[1] < rates[2] > rates[3] > rates[4] == rates[5] > 0
    assert peer.rate_at(peer.LITERAL, 0.0) == peer.rate_at(peer.LITERAL, 0.9) == peer.LITERAL.rate


def test_the_products_arms_end_with_bytes_and_models_as_they_should(bench):
    training = _training(bench)
    (mean,) = arms.gradient_mean(training)
    one = 128 + 4 * mean.parameters
    assert (mean.rounds, mean.steps, mean.sent, mean.received) == (2, 2, 2 * one, 3 * one)
    (averaged,) = arms.fedavg(_training(bench, local_steps=2))
    assert (averaged.rounds, averaged.steps, averaged.sent) == (1, 2, one)
    assert [outcome.site for outcome in arms.single(training, "site2")] == ["site2"]
    assert arms.pooled(training)[0].sent == 0
