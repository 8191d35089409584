"""The OASIS benchmark's statistics, site effects, resumption, and its account of the earlier prototype."""

import argparse
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.oasis import (
    arms,
    effects,
    figure,
    intervals,
    ledger,
    meshfl,
    options,
    peer,
    prepare,
    report,
    results,
    run,
)
from benchmarks.oasis.clock import Spent, Watch
from benchmarks.oasis.native import Score, examine, farthest
from benchmarks.oasis.outcome import Outcome, compare
from benchmarks.oasis.prepare import Bench
from computation.federation import screening
from computation.model import architecture, network
from computation.scans.making import ingest
from computation.scans.store.opening import open_store
from computation.wire import payload
from sqlite_fixtures.build import Subjects, build

MM = 9.0
#: Columns that older files do not have.
NEW = ("cpu_seconds", "commit", "native_white", "native_grey", "native", "far_mm", "multiple", "touched")
IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@b")


def test_the_interval_is_students_t_as_scipy_has_it():
    values = [0.91, 0.93, 0.92, 0.88, 0.95]
    ours = intervals.student(values)
    theirs = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert ours.mean == pytest.approx(np.mean(values))
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs))


def test_the_interval_covers_five_people_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(0.9, 0.03, (4_000, 5))
    found = [intervals.student(values.tolist()) for values in draws]
    # Three standard errors of the share of 4,000 are 0.0103.
    assert np.mean([some.low <= 0.9 <= some.high for some in found]) == pytest.approx(0.95, abs=0.0103)


def test_people_who_are_alike_leave_no_doubt_and_one_person_leaves_it_open():
    assert intervals.student([0.5, 0.5, 0.5]) == intervals.Interval(0.5, 0.5, 0.5)
    one = intervals.student([0.5])
    assert one.mean == 0.5 and np.isnan(one.low) and np.isnan(one.high)


def _rows(arm, dices, *, seed=0, site="", effect="none"):
    outcome = Outcome(site, lambda store, scan: None, Spent(1.5, 2.5), 3, 3, 10, 20, 276)
    found = {f"p{place}": Score((1.0, value, value), (1.0, value, value), 1.5) for place, value in enumerate(dices)}
    ages = dict.fromkeys(found, "20")
    job = results.Job(arm, effect, seed)
    return results.rows_of(job, outcome, found, ages, spacing=2.0, load=0.5, commit="abc1234")


def test_people_are_the_sampling_unit_and_differences_are_paired():
    ours = _rows("gradient-mean", [0.8, 0.6]) + _rows("gradient-mean", [0.9, 0.7], seed=1)
    theirs = _rows("single", [0.7, 0.5], site="site0") + _rows("single", [0.5, 0.3], site="site1")
    assert intervals.per_person(ours, "foreground") == pytest.approx({"p0": 0.85, "p1": 0.65})
    assert intervals.per_person(theirs, "foreground") == pytest.approx({"p0": 0.6, "p1": 0.4})
    gap = intervals.difference(ours, theirs, "foreground")
    assert (gap.mean, gap.low, gap.high) == pytest.approx((0.2, 0.2, 0.2))
    assert gap.seeds == 1 and str(gap).endswith("1 common seed")
    assert "single" in report.table(ours + theirs) and "0.200" in report.comparisons(ours + theirs)


def test_a_seed_that_lacks_a_site_does_not_count():
    whole = _rows("single", [0.8, 0.6], site="site0") + _rows("single", [0.6, 0.4], site="site1")
    cut = _rows("single", [0.1, 0.1], site="site1", seed=1)
    assert intervals.per_person(whole + cut, "foreground") == pytest.approx({"p0": 0.7, "p1": 0.5})
    reference = _rows("gradient-mean", [0.9, 0.7]) + _rows("gradient-mean", [0.2, 0.2], seed=1)
    gap = intervals.difference(reference, whole + cut, "foreground")
    assert (gap.mean, gap.seeds) == (pytest.approx(0.2), 1)
    assert intervals.difference(_rows("gradient-mean", [0.9, 0.7], seed=1), whole + cut, "foreground") is None
    said = report.table(reference + whole + cut)
    assert "not counted: single (none), seed 1" in said and "not counted: gradient-mean" not in said
    # With nothing to compare it with, a seed counts as it is.
    assert intervals.per_person(cut, "foreground") == pytest.approx({"p0": 0.1, "p1": 0.1})


def test_differences_say_on_how_many_seeds_they_rest():
    ours = [row for seed in range(3) for row in _rows("gradient-mean", [0.8, 0.6], seed=seed)]
    theirs = [row for seed in range(1, 4) for row in _rows("unet", [0.7, 0.4], seed=seed)]
    assert report.comparisons(ours + theirs).endswith("2 common seeds")


def test_arms_stand_in_their_order_whatever_ran_first():
    rows = _rows("unet", [0.5]) + _rows("pooled", [0.5], effect="noise") + _rows("gradient-mean", [0.5])
    assert list(report.groups(rows)) == [("none", "gradient-mean"), ("none", "unet"), ("noise", "pooled")]


def test_the_figures_second_panel_holds_the_arms_near_the_best_and_labels_name_their_seeds(tmp_path):
    pytest.importorskip("matplotlib")
    rows = _rows("gradient-mean", [0.93, 0.91]) + _rows("gradient-mean", [0.93, 0.91], seed=1)
    rows += _rows("pooled", [0.87, 0.87], effect="noise") + _rows("peer-literal", [0.2, 0.2])
    found = report.groups(rows)
    assert list(figure.near(found)) == [("none", "gradient-mean"), ("noise", "pooled")]
    labels = [figure.label(*item) for item in found.items()]
    assert labels == ["gradient-mean\n2 seeds", "peer-literal\n1 seed", "pooled\n(noise)\n1 seed"]
    figure.draw(rows, tmp_path / "some.svg")
    assert "means within 0.06 of the best" in (tmp_path / "some.svg").read_text()
    figure.draw(_rows("pooled", [0.9]), tmp_path / "one.svg")
    assert "means within" not in (tmp_path / "one.svg").read_text()


def test_rows_come_back_from_the_file_and_a_missing_class_stays_missing(tmp_path):
    path = tmp_path / "some.csv"
    first, second = _rows("pooled", [0.5, None]), _rows("single", [0.4], site="site2", effect="noise")
    ledger.append(path, first)
    ledger.append(path, second)
    assert results.load(path) == first + second
    assert [row.job.site for row in results.load(path)] == ["", "", "site2"]
    with path.open("a") as file:
        file.write("pooled,none,0,2.0,,cut in the mid")
    assert results.load(path) == first + second
    third = _rows("pooled", [0.5, None], seed=1)
    ledger.append(path, third)
    assert results.load(path) == first + second + third
    assert first[1].white is None and first[1].with_background == 1.0
    assert (first[0].seconds, first[0].cpu_seconds, first[0].commit) == (1.5, 2.5, "abc1234")


def test_a_row_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "some.csv"
    rows = _rows("single", [0.5, 0.6], site="site1")
    ledger.append(path, rows)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="arm single, effect none, seed 0, site site1, person p0"):
        ledger.append(path, rows, results.KEY)
    assert path.read_bytes() == before
    ledger.append(path, rows)
    with pytest.raises(ValueError, match="two rows of arm single"):
        results.load(path)


def test_a_file_from_before_a_column_still_loads_and_gets_it(tmp_path):
    path = tmp_path / "some.csv"
    first, second = _rows("pooled", [0.5, 0.6]), _rows("unet", [0.7])
    table = [{name: value for name, value in asdict(row).items() if name not in NEW} for row in first]
    ledger.append(path, table)
    assert "commit" not in path.read_text()
    old = [replace(row, **dict.fromkeys(NEW) | {"commit": ""}) for row in first]
    assert results.load(path) == old
    with path.open("a") as file:
        file.write("pooled,none,0,2.0,,cut in the mid")
    ledger.append(path, second)
    assert results.load(path) == old + second
    assert [item.name for item in tmp_path.iterdir()] == ["some.csv"]
    assert "cpu s" in report.table(old + second)


def test_two_that_append_at_once_keep_each_others_rows(tmp_path, monkeypatch):
    path = tmp_path / "some.csv"
    whole = ledger._whole

    def slow(content):
        time.sleep(0.01)
        return whole(content)

    def append(place):
        start.wait()
        for number in range(8):
            # New columns, so that each may be the one that puts a new file in its place.
            ledger.append(path, [{"place": place, "number": number, f"column{place}": 1}])

    monkeypatch.setattr(ledger, "_whole", slow)
    ledger.append(path, [{"place": 9}])
    start = threading.Barrier(3)
    # The lock is that of an open file: between threads it is what it is between processes.
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(append, range(3)))
    found = [(row["place"], row["number"]) for row in ledger.read(path)]
    assert sorted(found) == [*((str(place), str(number)) for place in range(3) for number in range(8)), ("9", "")]


def test_a_job_that_another_process_did_meanwhile_is_left_alone(tmp_path, monkeypatch):
    out, did = tmp_path / "some.csv", []

    def one(job, work, options):
        did.append(job)
        for row in (*_rows("pooled", [0.5]), *_rows("gradient-mean", [0.5])):
            if row.job not in {row.job for row in results.load(out)}:
                ledger.append(out, [row], results.KEY)

    monkeypatch.setattr(run, "_one", one)
    asked = argparse.Namespace(
        seeds=1, first_seed=0, effects=["none"], arms=["gradient-mean", "pooled"], out=out, work=tmp_path / "work"
    )
    assert run._run(asked) == [] and [job.arm for job in did] == ["gradient-mean"]


def test_the_commit_is_the_checked_out_one_and_outside_git_unknown(monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setattr(options, "__file__", str(tmp_path / "options.py"))
    assert options.commit() == "unknown"
    for words in (["init", "-q"], [*IDENTITY, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert len(options.commit()) >= 7 and head.startswith(options.commit())


def test_a_file_of_another_recipe_is_noticed(tmp_path):
    path = tmp_path / "some.csv"
    facts = {"spacing": 2.0, "settings": {"patch_size": (64, 64, 64)}}
    assert results.agree(path, facts) == []
    ledger.append(path, _rows("pooled", [0.5]))
    assert results.agree(path, facts) == []
    (only,) = results.agree(path, {**facts, "settings": {"patch_size": (32, 32, 32)}})
    assert "settings.patch_size" in only


def test_rows_of_an_unknown_recipe_are_not_adopted(tmp_path):
    path = tmp_path / "some.csv"
    ledger.append(path, _rows("pooled", [0.5]))
    (only,) = results.agree(path, {"spacing": 2.0})
    assert "no some.json" in only and not path.with_suffix(".json").exists()


def test_a_prepared_folder_is_named_after_every_byte_that_went_into_it(tmp_path):
    person = effects.Person("1", "site0", "train", "20", tmp_path / "image.nii", tmp_path / "label.nii")

    def name(image, label, **changes):
        person.image.write_bytes(image)
        person.label.write_bytes(label)
        return prepare._digest([replace(person, **changes)], 2.0, "none", "quantile")

    assert name(b"image", b"label") == name(b"image", b"label")
    # The same sizes, other bytes; and the age, by which an effect moves people.
    assert len({name(b"image", b"label"), name(b"imagE", b"label"), name(b"image", b"labeL")}) == 3
    assert name(b"image", b"label", age="30") != name(b"image", b"label")


def test_what_is_held_counts_neither_on_the_clock_nor_for_the_processor():
    def work(seconds):
        until = time.process_time() + seconds
        while time.process_time() < until:
            pass

    watch = Watch("test")
    work(0.1)
    with watch.held():
        work(0.5)
    spent = watch.spent
    # os.times counts hundredths.
    assert 0.08 <= spent.cpu_seconds < 0.4 and spent.seconds >= 0.09
    watch.start()
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    assert watch.spent.cpu_seconds > 0


def test_a_watch_by_the_processor_does_not_count_what_is_waited_for():
    watch = Watch("test", by_processor=True)
    before = os.times()
    time.sleep(0.3)
    after = os.times()
    # os.times counts hundredths.
    assert watch.seconds <= sum(after[:4]) - sum(before[:4]) + 0.05 and watch.spent.seconds >= 0.3


@pytest.mark.parametrize(("clock", "wanted"), [("wall", 100.0), ("processor", 20.0)])
def test_the_arms_by_the_clock_have_the_time_of_gradient_averaging_on_that_clock(tmp_path, clock, wanted):
    out = tmp_path / "rows.csv"
    row = replace(_rows("gradient-mean", [0.9])[0], seconds=10.0, cpu_seconds=2.0)
    ledger.append(out, [row], results.KEY)
    options = argparse.Namespace(clock=clock, budget=None, out=out)
    assert run._budget(results.Job("meshfl-10x", "none", 0), options) == wanted
    ledger.append(out, [replace(row, seed=1, seconds=20.0, cpu_seconds=None)], results.KEY)
    assert run._budget(results.Job("meshfl-10x", "none", 0), options) == wanted
    assert run._budget(results.Job("meshfl", "none", 1), options) == (20.0 if clock == "wall" else 2.0)


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


def test_dice_is_found_on_the_scans_own_grid_against_the_labels_as_drawn(tmp_path):
    draw = np.random.default_rng(0)
    ball = np.linalg.norm(np.indices((24, 24, 24)) - 11.5, axis=0)
    drawn = np.where(ball < 5, 3, np.where(ball < 9, 2, 0)).astype(np.uint8)
    voxels = np.where(drawn > 0, 100.0 * drawn + draw.integers(0, 9, drawn.shape), 0).astype(np.float32)
    for name, values in (("t1", voxels), ("tissue", drawn)):
        nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, 1, 1, 1])), tmp_path / f"{name}.nii.gz")
    (tmp_path / "all.csv").write_text("subject,image,label,split\n1,t1.nii.gz,tissue.nii.gz,test\n")
    ingest.import_table(
        tmp_path / "all.csv", tmp_path / "all.db", spacing=2, grid=16, label_set=prepare.LABELS, strict=True
    )
    person = effects.Person("1", "", "test", "20", tmp_path / "t1.nii.gz", tmp_path / "tissue.nii.gz")

    def shares(store, scan):
        # What the database holds, and one voxel of white matter far away in the air.
        label = store.read_label(scan, (0, 0, 0), scan.shape).copy()
        label[2, 8, 8] = 1
        return np.eye(3, dtype=np.float32)[label].transpose(3, 0, 1, 2)

    outcome = Outcome("", shares, Spent(1.0, 1.0), 1, 1, 0, 0, 1)
    with open_store(tmp_path / "all.db") as store:
        (score,) = examine(outcome, store, "test", 3, {"1": person}, prepare.LABELS).values()
    assert score.conformed[2] == 1 and 0.98 < score.conformed[1] < 1
    # Labels of every other voxel make a smooth ball again, but not the very ball.
    assert 0.85 < score.native[1] < 1 and 0.85 < score.native[2] < 1
    centre = 2 * (2 - 7.5)  # millimetres from the middle, of a voxel whose neighbours win half a voxel around it
    assert score.far == pytest.approx(abs(centre) - 9, abs=2)


def test_the_farthest_voxel_is_measured_in_millimetres_from_the_head():
    head, labelled = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), np.uint8)
    head[4, 4, 4] = True
    assert farthest(labelled, head, (1.0, 1.0, 1.0)) == 0
    labelled[4, 4, 4] = labelled[4, 7, 8] = 1
    assert farthest(labelled, head, (1.0, 1.0, 1.0)) == pytest.approx(5)
    assert farthest(labelled, head, (1.0, 2.0, 0.5)) == pytest.approx(np.hypot(6, 2))


def _training(bench, **changes):
    changes = {"patch_size": 8, "model": "meshnet-10x5", **changes}
    return arms.Training(bench=bench, changes=changes, seed=0, batches=2, watch=Watch("test"), budget=1e-9)


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


def test_meshfl_steps_at_each_site_and_leaves_the_sites_with_models_of_their_own(bench, capsys):
    training = _training(bench)
    outcomes = meshfl.train(training)
    samples = [len(bench.sites[site].scans("train")) for site in effects.SITES]
    assert [(outcome.rounds, outcome.steps) for outcome in outcomes] == [(1, count + 1) for count in samples]
    assert "differ by up to" in capsys.readouterr().out
    apart = [meshfl.Site(site, training) for site in effects.SITES]
    assert meshfl.apart(apart) == 0  # one start
    for site in apart:
        site.close()
    (values,) = compare(outcomes[0].label, bench.test, "test", 3).values()
    assert len(values) == 3


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
    one = payload.HEADER_BYTES + 4 * mean.parameters
    assert (mean.rounds, mean.steps, mean.sent, mean.received) == (2, 2, 2 * one, 3 * one)
    assert mean.multiple > 0 and mean.touched == 0
    (averaged,) = arms.fedavg(_training(bench, local_steps=2))
    assert (averaged.rounds, averaged.steps, averaged.sent) == (1, 2, one)
    assert [outcome.site for outcome in arms.single(training, "site2")] == ["site2"]
    assert arms.pooled(training)[0].sent == 0


def _closed(monkeypatch):
    """Return a list that grows by each trainer as it is closed."""
    closed = []
    close = arms.Trainer.close

    def note(trainer):
        closed.append(trainer)
        close(trainer)

    monkeypatch.setattr(arms.Trainer, "close", note)
    return closed


def test_every_trainer_is_closed_also_after_an_error(bench, monkeypatch):
    closed = _closed(monkeypatch)
    arms.gradient_mean(_training(bench))
    assert len(set(closed)) == len(closed) == 4

    def fail(*_):
        raise OSError("no more")

    monkeypatch.setattr(arms, "_round", fail)
    with pytest.raises(OSError, match="no more"):
        arms.gradient_mean(_training(bench))
    assert len(set(closed)) == len(closed) == 8
    monkeypatch.setattr(arms.Trainer, "gradient", fail)
    with pytest.raises(OSError, match="no more"):
        arms.pooled(_training(bench))
    assert len(closed) == 9


def test_sites_that_end_with_different_models_are_an_error(bench, monkeypatch):
    monkeypatch.setattr(arms.Trainer, "digest", lambda trainer: str(id(trainer)))
    nothing = screening.Screened((), {}, {}, screening.State())
    monkeypatch.setattr(arms, "_round", lambda *_: (0.5, nothing))
    with pytest.raises(RuntimeError, match="models are not the same"):
        arms.gradient_mean(_training(bench))
